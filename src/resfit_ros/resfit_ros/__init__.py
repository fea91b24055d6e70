"""The ROS edge that all nodes share."""

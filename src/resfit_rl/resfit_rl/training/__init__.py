"""Training runs without ROS: collection, learning and evaluation in processes of one machine."""

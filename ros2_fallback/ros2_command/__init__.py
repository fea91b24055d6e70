"""The subset of the `ros2` command line that this project's README uses."""

"""The subset of ROS 2's `launch_ros` that this project's launch files use."""

from . import actions, descriptions, parameter_descriptions, substitutions

__all__ = ["actions", "descriptions", "parameter_descriptions", "substitutions"]

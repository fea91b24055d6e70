"""The logic of the control loop, without ROS: when chunks are predicted and how actions combine."""

from resfit_rl.control.chunk_schedule import ChunkSchedule

__all__ = ["ChunkSchedule"]

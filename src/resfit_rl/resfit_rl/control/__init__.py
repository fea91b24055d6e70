"""The logic of the control loop, without ROS: when chunks are predicted and how actions combine."""

from resfit_rl.control.chunk_schedule import ChunkSchedule
from resfit_rl.control.chunked_base import BaseAction, ChunkedBase, LateChunkError

__all__ = ["BaseAction", "ChunkSchedule", "ChunkedBase", "LateChunkError"]

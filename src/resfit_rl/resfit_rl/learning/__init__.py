"""The learner without ROS: episodes taken in, updates owed, weights published, checkpoints."""

from resfit_rl.learning.checkpoint import CheckpointError
from resfit_rl.learning.learner import Learner
from resfit_rl.learning.loop import LearningLoop
from resfit_rl.learning.publication import Publication

__all__ = ["CheckpointError", "Learner", "LearningLoop", "Publication"]

"""What a policy sees at one control step."""

from resfit_rl.observation.frozen import FrozenCheck, RepeatCounter
from resfit_rl.observation.observation import Observation

__all__ = ["FrozenCheck", "Observation", "RepeatCounter"]

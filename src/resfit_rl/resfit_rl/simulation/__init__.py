"""robosuite behind one class: seeded resets, cameras, wrist wrenches, success, contacts."""

from resfit_rl.simulation.frame import Frame
from resfit_rl.simulation.rendering import RenderOptions
from resfit_rl.simulation.simulation import Simulation, SimulationError

__all__ = ["Frame", "RenderOptions", "Simulation", "SimulationError"]

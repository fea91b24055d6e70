"""robosuite and Vega's twin behind one interface: seeded resets, cameras, wrenches, success."""

from resfit_rl.simulation.frame import Frame
from resfit_rl.simulation.rendering import RenderOptions
from resfit_rl.simulation.simulation import Simulation, SimulationError
from resfit_rl.simulation.simulator import Simulator, make_simulation

__all__ = [
    "Frame",
    "RenderOptions",
    "Simulation",
    "SimulationError",
    "Simulator",
    "make_simulation",
]

"""robosuite and Vega's twin behind one interface: seeded resets, cameras, wrenches, success."""

from typing import TYPE_CHECKING, Any

from resfit_rl.simulation.error import SimulationError
from resfit_rl.simulation.frame import Frame
from resfit_rl.simulation.rendering import RenderOptions
from resfit_rl.simulation.simulator import Simulator, make_simulation

if TYPE_CHECKING:
    from resfit_rl.simulation.simulation import Simulation

__all__ = [
    "Frame",
    "RenderOptions",
    "Simulation",
    "SimulationError",
    "Simulator",
    "make_simulation",
]


def __getattr__(name: str) -> Any:
    # Only when asked for: robosuite takes seconds to import, and a real robot does not need it.
    if name == "Simulation":
        from resfit_rl.simulation.simulation import Simulation

        return Simulation
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""One way to a task's simulation, whichever simulator its implementation names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from numpy.typing import ArrayLike, NDArray

from resfit_rl.simulation.frame import Frame
from resfit_rl.simulation.parts import ModelParts
from resfit_rl.simulation.rendering import RenderOptions
from resfit_rl.tasks import Task
from resfit_rl.tasks.implementation import Implementation

_CHEAPEST = RenderOptions()


class Simulator(Protocol):
    """What Simulation and VegaTwin have in common; see Simulation."""

    task: Task
    start_action: NDArray
    joint_limits: dict[str, tuple[float, float]]

    @property
    def render_seconds(self) -> float: ...

    def field_of_view(self, camera: str) -> float: ...

    def parts(self) -> ModelParts: ...

    def reset(self, seed: int) -> Frame: ...

    def step(self, action: ArrayLike) -> Frame: ...

    def close(self) -> None: ...


def make_simulation(
    task: Task,
    *,
    image_size: tuple[int, int] = (84, 84),
    cameras: Sequence[str] | None = None,
    rendering: RenderOptions | None = _CHEAPEST,
) -> Simulator:
    """The simulation of `task`; arguments and errors are Simulation's."""
    if Implementation.parse(task.implementation).simulator == "vega":
        # Here, as the other tasks do not need it; nor does Vega the one below.
        from resfit_rl.simulation.vega import VegaTwin

        return VegaTwin(task, image_size=image_size, cameras=cameras, rendering=rendering)
    from resfit_rl.simulation.simulation import Simulation

    return Simulation(task, image_size=image_size, cameras=cameras, rendering=rendering)

"""Parameters of the nodes that draw the robot and its arrows, and what they make of them."""

from dataclasses import dataclass

from numpy.typing import ArrayLike
from rclpy.node import Node

from resfit_rl.robots.vega import RobotDescriptionError
from resfit_rl.simulation import SimulationError
from resfit_rl.tasks import Task
from resfit_ros.parameters import ConfigurationError, declare
from resfit_viewing.arrows import ActionArrows, Arrow, wrench_arrows
from resfit_viewing.robot import ShownRobot, shown_robot


@dataclass(frozen=True)
class Drawing:
    """The robot, and arrows in the lengths that were asked for."""

    robot: ShownRobot
    actions: ActionArrows
    force_scale: float
    torque_scale: float

    def wrench(self, wrist: str, wrench: ArrayLike) -> tuple[Arrow, Arrow]:
        """Force and torque at a wrist where the robot is now; (6,) N and N m."""
        return wrench_arrows(self.robot, wrist, wrench, self.force_scale, self.torque_scale)


def declare_drawing(node: Node, task: Task) -> Drawing:
    """Declare the parameters and load the robot, which takes seconds.

    Raises:
        ConfigurationError: a parameter is wrong, or the robot's model is not here.
    """
    scene = declare(
        node,
        "scene",
        True,
        "Whether the robot stands in its simulation's scene; false: Vega by itself.",
    )
    action_scale = declare(
        node,
        "action_scale",
        6.0,
        "Length of an action's arrow over the way that it asks for in one step.",
        range=(0.1, 1000.0),
    )
    force_scale = declare(
        node, "force_scale", 0.005, "Length of a force's arrow, m per N.", range=(0.0, 10.0)
    )
    torque_scale = declare(
        node, "torque_scale", 0.05, "Length of a torque's arrow, m per N m.", range=(0.0, 10.0)
    )
    try:
        robot = shown_robot(task, scene)
    except (RobotDescriptionError, SimulationError) as error:
        raise ConfigurationError(str(error)) from None
    return Drawing(robot, ActionArrows(robot, action_scale), force_scale, torque_scale)

"""WoollyBallPnP: the right hand puts a ball of wool into a bin."""

from __future__ import annotations

import mujoco
import numpy as np

from resfit_rl.simulation.vega.scene import TABLE_TOP, VegaScene, put

RADIUS = 0.035  # m, of the ball
_MASS = 0.03  # kg
# m, x and y, world frame.
_BALL_LOWER, _BALL_UPPER = (0.45, -0.3), (0.63, -0.1)
_BIN_LOWER, _BIN_UPPER = (0.48, 0.09), (0.6, 0.21)
_SLOW = 0.1  # m/s; what is slower lies


class WoollyBallPnP(VegaScene):
    """A light, soft, rough ball on the right, a low bin on the left of it, both anywhere in a box.

    Success: the ball lies in the bin and no finger touches it.
    """

    objects = ("ball", "bin")

    def build(self, spec: mujoco.MjSpec) -> None:
        self.add_bin(spec, (0.25, 0.45, 0.75))
        ball = spec.worldbody.add_body(name="ball", pos=(0.5, -0.2, TABLE_TOP + RADIUS))
        ball.add_freejoint()
        ball.add_geom(
            type=mujoco.mjtGeom.mjGEOM_SPHERE,
            size=(RADIUS, 0, 0),
            mass=_MASS,
            # Wool neither slips nor rolls far.
            condim=6,
            friction=(1.2, 0.02, 0.004),
            solref=(0.02, 1.0),
            solimp=(0.8, 0.95, 0.003, 0.5, 2.0),
            priority=1,
            rgba=(0.8, 0.22, 0.18, 1.0),
            group=1,
        )
        for turn in ((1.0, 0.0, 0.0, 0.0), (0.7, 0.5, 0.5, 0.1), (0.7, -0.5, 0.3, 0.4)):
            ball.add_geom(  # a strand
                type=mujoco.mjtGeom.mjGEOM_CYLINDER,
                size=(RADIUS + 0.0008, 0.0025, 0),
                quat=turn,
                mass=0.0,
                contype=0,
                conaffinity=0,
                rgba=(0.95, 0.6, 0.5, 1.0),
                group=1,
            )

    def place(self, data: mujoco.MjData, rng: np.random.Generator) -> None:
        ball, bin_ = rng.uniform(_BALL_LOWER, _BALL_UPPER), rng.uniform(_BIN_LOWER, _BIN_UPPER)
        put(data, "ball", (*ball, TABLE_TOP + RADIUS + 0.001), rng.uniform(-np.pi, np.pi))
        put(data, "bin", (*bin_, TABLE_TOP), rng.uniform(-0.2, 0.2))

    def success(self, model: mujoco.MjModel, data: mujoco.MjData) -> bool:
        ball = data.body("ball")
        slow = np.linalg.norm(ball.cvel[3:]) < _SLOW
        return bool(slow and self.in_bin(data, ball.xpos) and not self.held(model, data, "ball"))

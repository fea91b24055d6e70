"""PackageHandover: the right hand takes a soft package, the left hand puts it into a bin."""

from __future__ import annotations

import mujoco
import numpy as np

from resfit_rl.simulation.vega.scene import BOX, TABLE_TOP, VegaScene, put

LENGTH = 0.25  # m, of the package, along its y
_WIDTH, _THICKNESS = 0.06, 0.044  # m, along its x and z
_SEGMENTS = ("package_right", "package_1", "package", "package_2", "package_left")
_MASS = 0.1  # kg
# Of the joints between segments: held at one end, the other one hangs 1 to 2 cm lower.
_STIFFNESS, _JOINT_DAMPING, _BEND = 0.25, 0.006, 0.9  # N m/rad, N m s/rad, rad
# m, x and y, world frame.
_PACKAGE_LOWER, _PACKAGE_UPPER = (0.48, -0.25), (0.57, -0.18)
_BIN_LOWER, _BIN_UPPER = (0.5, 0.28), (0.57, 0.34)
_YAW = 0.12  # rad
_SLOW = 0.1  # m/s; what is slower lies


class PackageHandover(VegaScene):
    """A padded pouch on the right, a bin on the left where the right hand does not reach.

    The pouch is five boxes linked by soft joints that bend and twist, with soft contacts; its ends
    are the bodies package_right and package_left. A MuJoCo flex was tried: with the hands' meshes
    it ran 2 to 7 control steps a second, with the trilinear elements it was not stable.

    Success: all of the package lies in the bin and no finger touches it.
    """

    objects = ("package", "package_left", "package_right", "bin")
    bin_half = (0.085, 0.16, 0.035)

    def build(self, spec: mujoco.MjSpec) -> None:
        self.add_bin(spec, (0.3, 0.55, 0.4))
        middle = _SEGMENTS.index("package")
        root = spec.worldbody.add_body(name="package", pos=(0.5, -0.2, TABLE_TOP + 0.03))
        root.add_freejoint()
        _add_padding(root, 1.0)
        for side in (-1, 1):
            body, pitch = root, side * LENGTH / len(_SEGMENTS)
            for index in range(1, middle + 1):
                body = body.add_body(name=_SEGMENTS[middle + side * index], pos=(0, pitch, 0))
                for axis in ((1, 0, 0), (0, 1, 0)):
                    body.add_joint(
                        type=mujoco.mjtJoint.mjJNT_HINGE,
                        axis=axis,
                        pos=(0, -pitch / 2, 0),
                        stiffness=_STIFFNESS,
                        damping=_JOINT_DAMPING,
                        range=(-_BEND, _BEND),
                    )
                _add_padding(body, 0.9 if index == 1 else 1.0)

    def place(self, data: mujoco.MjData, rng: np.random.Generator) -> None:
        package = rng.uniform(_PACKAGE_LOWER, _PACKAGE_UPPER)
        bin_ = rng.uniform(_BIN_LOWER, _BIN_UPPER)
        height = TABLE_TOP + _THICKNESS / 2 + 0.001
        put(data, "package", (*package, height), rng.uniform(-_YAW, _YAW))
        put(data, "bin", (*bin_, TABLE_TOP), rng.uniform(-_YAW, _YAW))

    def success(self, model: mujoco.MjModel, data: mujoco.MjData) -> bool:
        parts = [data.body(name) for name in _SEGMENTS]
        return (
            all(self.in_bin(data, part.xpos) for part in parts)
            and all(np.linalg.norm(part.cvel[3:]) < _SLOW for part in parts)
            and not self.held(model, data, "package")
        )


def _add_padding(body: mujoco.MjsBody, shade: float) -> None:
    """One box of the pouch."""
    body.add_geom(
        type=BOX,
        size=(_WIDTH / 2, LENGTH / len(_SEGMENTS) / 2, _THICKNESS / 2),
        mass=_MASS / len(_SEGMENTS),
        condim=4,
        friction=(1.2, 0.02, 0.001),
        solref=(0.02, 1.0),
        solimp=(0.7, 0.95, 0.005, 0.5, 2.0),  # padding gives way by millimetres
        priority=1,
        rgba=(0.85 * shade, 0.55 * shade, 0.2 * shade, 1.0),
        group=1,
    )

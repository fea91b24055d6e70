import numpy as np
import pytest

from resfit_driver.sensors import FrameError, camera_matrix, require_finite
from resfit_rl.simulation import Frame


def test_the_edges_of_the_picture_are_half_a_field_of_view_from_its_axis():
    matrix = camera_matrix(45.0, height=84, width=120)
    # The outer edge of the outermost pixels lies half a pixel beyond their centres.
    for row in (-0.5, 83.5):
        ray = np.linalg.solve(matrix, [59.5, row, 1.0])
        assert abs(np.degrees(np.arctan2(ray[1], ray[2]))) == pytest.approx(22.5)
    assert matrix[0, 0] == matrix[1, 1]


def test_values_that_are_not_finite_are_named():
    def frame(**changes):
        values = dict(
            images={},
            joint_names=("a",),
            joint_position=np.zeros(1),
            joint_velocity=np.zeros(1),
            end_effectors={"right": np.zeros(7)},
            wrenches={"right": np.zeros(6)},
            privileged={"nut": np.zeros(7)},
            success=False,
            self_collisions=(),
        )
        return Frame(**(values | changes))

    require_finite(frame())
    for changes, expected in (
        ({"joint_position": np.array([np.nan])}, "joint positions"),
        ({"joint_velocity": np.array([np.inf])}, "joint velocities"),
        ({"end_effectors": {"right": np.full(7, np.nan)}}, "end effector right"),
        ({"wrenches": {"right": np.full(6, np.inf)}}, "wrench right"),
        ({"privileged": {"nut": np.full(7, np.nan)}}, "pose of nut"),
    ):
        with pytest.raises(FrameError, match=f"{expected}: expected finite values, found"):
            require_finite(frame(**changes))

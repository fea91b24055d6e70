"""The cell's file: what it gives the gate, and what is refused."""

import numpy as np
import pytest
from vega_cell import home

from resfit_rl.robots.vega import COMMANDED_JOINTS, TORSO_JOINTS
from resfit_safety.vega_cell import load_vega_cell

TEXT = """
torso: [0.5, 1.8, 1.3]
torso_tolerance: 0.02
margin: 0.01
resolution: 0.005
acceleration: 40.0
arm_step: 0.4
hand_step: 2.0
hands_may_touch: [table]
boxes:
  - {name: table, center: [0.66, 0.0, 0.825], size: [0.66, 1.3, 0.04]}
half_spaces:
  - {name: floor, normal: [0.0, 0.0, 1.0], offset: -0.055}
"""


def written(tmp_path, old="", new=""):
    file = tmp_path / "cell.yaml"
    file.write_text(TEXT.replace(old, new) if old else TEXT)
    return file


def test_table_is_in_the_way_of_an_arm_but_not_of_a_hand(tmp_path):
    cell = load_vega_cell(written(tmp_path), 0.05)
    assert list(cell.torso_limits) == list(TORSO_JOINTS)
    assert cell.torso_limits["torso_j2"] == pytest.approx((1.78, 1.82))
    links = {link for link, other in cell.checker.pairs if other == "table"}
    assert "R_arm_l5" in links and not any("hand" in link for link in links)
    assert any(pair == ("R_hand_base", "floor") for pair in cell.checker.pairs)
    assert cell.checker.violation(home(), home()) == ""
    down = home()
    down[COMMANDED_JOINTS.index("R_arm_j4")] = 0.0  # the forearm through the table
    assert "table" in cell.checker.violation(home(), down)
    steps = dict(zip(COMMANDED_JOINTS, cell.motion_limits.measured_step, strict=True))
    assert (steps["L_arm_j7"], steps["head_j1"], steps["L_ff_j1"]) == (0.4, 0.4, 2.0)
    np.testing.assert_allclose(
        cell.motion_limits.acceleration, 40 * np.array(cell.motion_limits.velocity)
    )


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("torso: [0.5, 1.8, 1.3]", "torso: [0.5, 1.8]", r"torso: expected 3 numbers, found"),
        ("margin: 0.01", "margins: 0.01", "margins: unknown key"),
        ("arm_step: 0.4", "arm_step: 0.0", "arm_step: expected > 0, found 0.0"),
        ("[table]", "[shelf]", r"hands_may_touch: expected some of .*table.*found shelf"),
        ("size: [0.66, 1.3, 0.04]", "size: [0.66, 1.3]", r"boxes\[0\]: size: expected 3 numbers"),
        ("[0.0, 0.0, 1.0]", "[0.0, 0.0, 2.0]", "obstacle floor: normal"),
        ("offset: -0.055", "offset: low", r"half_spaces\[0\]: offset: expected float"),
    ],
)
def test_wrong_entry_is_named(tmp_path, old, new, error):
    with pytest.raises(ValueError, match=rf"cell.yaml: .*{error}"):
        load_vega_cell(written(tmp_path, old, new), 0.05)

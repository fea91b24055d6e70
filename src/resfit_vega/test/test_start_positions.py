"""Where episodes start, and the plan that leads there."""

import time
from pathlib import Path

import numpy as np
import pytest

from resfit_rl.robots.vega import ARM_JOINTS, COMMANDED_JOINTS, vega_description
from resfit_rl.simulation.vega.model import start_posture
from resfit_safety.reset_path import ResetPathError
from resfit_safety.vega_cell import load_vega_cell
from resfit_vega.reset import ResetPlan, start_positions

CELL = Path(__file__).parents[3] / "config" / "cells" / "vega_twin.yaml"
LIMITS = (vega_description().position_lower, vega_description().position_upper)
POSTURE = np.array([start_posture()[joint] for joint in COMMANDED_JOINTS])
ARMS = [COMMANDED_JOINTS.index(joint) for side in "RL" for joint in ARM_JOINTS[side]]


@pytest.fixture(scope="module")
def cell():
    return load_vega_cell(CELL, 0.05)


def test_starts_are_seeded_near_the_posture_and_free(cell):
    starts = np.array([start_positions(seed, 0.05, cell, *LIMITS) for seed in range(30)])
    np.testing.assert_array_equal(starts[3], start_positions(3, 0.05, cell, *LIMITS))
    offsets = starts - POSTURE
    others = np.delete(offsets, ARMS, axis=1)
    assert not others.any() and 0.04 < np.abs(offsets).max() <= 0.05
    assert len({tuple(start) for start in starts}) == 30
    assert all(cell.checker.nearest(start) is None for start in starts)


def test_a_posture_that_is_not_free_is_refused(tmp_path):
    file = tmp_path / "cell.yaml"
    file.write_text(CELL.read_text().replace("[0.66, 0.0, 0.825]", "[0.66, 0.0, 1.2]"))
    with pytest.raises(ResetPathError, match=r"reset: start positions: collision .* and table"):
        start_positions(0, 0.02, load_vega_cell(file, 0.05), *LIMITS)


def plan(cell, start, **changes):
    values = dict(cell=cell, lower=LIMITS[0], upper=LIMITS[1], speed=0.3, spread=0.02)
    found = ResetPlan(start, 7, **(values | changes))
    end = time.monotonic() + 30
    while not found.done:
        assert time.monotonic() < end
        time.sleep(0.005)
    return found


def test_a_plan_leads_there_or_says_why_not(cell):
    away = POSTURE.copy()
    away[COMMANDED_JOINTS.index("R_arm_j4")] = -2.3
    found = plan(cell, away)
    assert found.problem == ""
    np.testing.assert_array_equal(found.path[-1], start_positions(7, 0.02, cell, *LIMITS))
    into_the_table = POSTURE.copy()
    into_the_table[COMMANDED_JOINTS.index("R_arm_j4")] = -0.9
    found = plan(cell, into_the_table)
    assert "reset path: start: collision" in found.problem and len(found.path) == 0
    # What nobody thought of must not look like a path without steps.
    found = plan(cell, away, speed=-1.0)
    assert "reset path: ValueError" in found.problem

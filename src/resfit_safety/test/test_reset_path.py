import functools
import itertools
import re

import mujoco
import numpy as np
import pytest
from vega_cell import (
    PERIOD,
    bounds,
    checker,
    contacts,
    free_positions,
    home,
    index,
    limits,
)

from resfit_rl.robots.vega import COMMANDED_JOINTS, vega_description
from resfit_safety.collision import Proximity
from resfit_safety.motion_limits import MotionLimits
from resfit_safety.reset_path import ResetPathError, reset_path

LOWER, UPPER = bounds()
VELOCITY = vega_description().velocity


def moved(positions=None, **changes):
    changed = (home() if positions is None else positions).copy()
    for joint, change in changes.items():
        changed[index(joint)] += change
    return changed


def path(start, goal=None, **changes):
    values = {"checker": checker(), "limits": limits(), "lower": LOWER, "upper": UPPER}
    return reset_path(start, home() if goal is None else goal, **(values | changes))


def require_good(commands, start, goal, speed=0.5):
    """Limits by plain arithmetic, contacts by MuJoCo's list between the commands too."""
    np.testing.assert_array_equal(commands[-1], goal)
    whole = np.vstack([start, start, commands, goal])
    assert (np.abs(np.diff(whole, axis=0)) <= speed * VELOCITY * PERIOD + 1e-6).all()
    bend = np.abs(np.diff(whole, n=2, axis=0))
    assert (bend <= speed * 8 * VELOCITY * PERIOD**2 + 1e-6).all()
    assert (commands >= LOWER).all() and (commands <= UPPER).all()
    data = mujoco.MjData(checker().robot.model)
    for last, command in itertools.pairwise(whole[1:]):
        assert checker().check(last, command) is None
        assert not contacts(checker(), data, (last + command) / 2)


def test_straight_where_that_is_free():
    start = moved(R_arm_j1=-0.5, head_j2=0.4)
    commands = path(start)
    require_good(commands, start, home())
    way = (commands - start) @ (home() - start) / ((home() - start) @ (home() - start))
    np.testing.assert_allclose(commands, start + way[:, None] * (home() - start), atol=1e-9)
    # 0.5 rad at 1.2 rad/s, and 0.125 s to gather that speed: 10.8 periods.
    assert len(commands) == 11
    assert len(path(start, speed=1.0)) < 8
    require_good(path(start, speed=1.0), start, home(), speed=1.0)


def test_nothing_to_do():
    assert path(home()).shape == (0, len(COMMANDED_JOINTS))


@functools.cache
def blocked():
    """Free positions from which the straight way home is not free."""
    rng, found = np.random.default_rng(8), []
    while len(found) < 4:
        positions = free_positions(rng, 0.5)
        if checker().check(positions, home()) is not None:
            found.append(positions)
    return found


def test_a_search_finds_a_way_round_and_the_seed_decides_which():
    for k, start in enumerate(blocked()):
        commands = path(start, seed=1)
        require_good(commands, start, home())
        if k == 0:
            np.testing.assert_array_equal(path(start, seed=1), commands)


class Disc:
    """Two joints; what is within `radius` of the origin is taken."""

    joints = ("a", "b")

    def __init__(self, radius=0.5):
        self.radius = radius

    def check(self, start, end):
        share = np.linspace(0, 1, 200)[:, None]
        away = np.linalg.norm(start + share * (np.array(end) - start), axis=1) - self.radius
        if away.min() >= 0:
            return None
        return Proximity("arm", "disc", away.min(), 0.0, share[away.argmin(), 0])

    def nearest(self, positions):
        return self.check(positions, positions)


def in_the_plane(radius=0.5, **changes):
    two = MotionLimits(("a", "b"), PERIOD, (2.0, 2.0), (10.0, 10.0), (1.0, 1.0))
    values = {"checker": Disc(radius), "limits": two, "lower": (-1, -1), "upper": (1, 1)}
    return reset_path((-0.9, 0.1), (0.9, 0.1), **(values | changes))


def test_by_the_first_configured_position_that_will_do():
    commands = in_the_plane(via=[(0.0, 0.3), (0.0, 0.9), (0.0, -0.9)], max_tries=0)
    assert (commands == (0.0, 0.9)).all(axis=1).any()
    assert (commands[:, 1] > 0).all() and tuple(commands[-1]) == (0.9, 0.1)


def test_a_search_is_the_last_resort():
    commands = in_the_plane(via=[(0.0, 0.3)], seed=3)
    assert tuple(commands[-1]) == (0.9, 0.1)
    assert (np.linalg.norm(commands, axis=1) >= 0.5).all()
    # Shortcuts leave hardly more than it takes.
    assert np.linalg.norm(np.diff(commands, axis=0), axis=1).sum() < 2.6


def test_without_a_way_what_is_straight_on_is_named():
    with pytest.raises(
        ResetPathError, match="none after 200 tries; straight on: collision arm and"
    ):
        in_the_plane(radius=0.9, max_tries=200, lower=(-1, -0.5), upper=(1, 0.5))


def test_without_a_way_the_pair_in_between_is_named():
    start = blocked()[0]
    straight = checker().check(start, home())
    with pytest.raises(ResetPathError, match="found none after 0 tries; straight on: ") as error:
        path(start, max_tries=0)
    assert re.search(r"collision \w+ and [\w ]+: expected a distance", str(error.value))
    assert straight.first in str(error.value) or straight.second in str(error.value)


def test_start_and_goal_must_be_free():
    on_table = moved(R_arm_j4=0.9)
    with pytest.raises(ResetPathError, match=r"reset path: start: collision R_.* and table"):
        path(on_table)
    with pytest.raises(ResetPathError, match=r"reset path: goal: collision R_.* and table"):
        path(home(), on_table)
    beyond = moved(head_j1=2.0)
    with pytest.raises(ResetPathError, match="goal: joint head_j1: expected a position in"):
        path(home(), beyond)
    with pytest.raises(ResetPathError, match="via: joint head_j1"):
        path(home(), via=[beyond])
    with pytest.raises(ValueError, match="speed: expected a share"):
        path(home(), speed=0.0)
    with pytest.raises(ValueError, match="expected 29 finite positions"):
        path(home()[:3])


def test_a_start_a_little_beyond_a_limit_counts_as_at_it():
    start = home()
    start[index("head_j3")] = UPPER[index("head_j3")] + 0.01
    commands = path(start)
    np.testing.assert_array_equal(commands, path(np.minimum(start, UPPER)))
    require_good(commands, np.minimum(start, UPPER), home())

import itertools
import math

import mujoco
import numpy as np
import pytest
from vega_cell import (
    FIXED,
    OBSTACLES,
    PERIOD,
    all_distances,
    bounds,
    checker,
    contacts,
    free_positions,
    home,
    index,
    make_checker,
    some_positions,
)

from resfit_rl.robots.vega import COMMANDED_JOINTS, vega_description
from resfit_safety.collision import Box, HalfSpace
from resfit_safety.collision.checker import _Interval, _Motion
from resfit_safety.collision.separation import separation


def some_motion(rng, spread=0.5, speed=None):
    """From a free position, a period long, at up to `speed` times the largest speeds."""
    start = free_positions(rng, spread)
    speed = rng.choice([0.3, 1.0, 3.0]) if speed is None else speed
    velocity = vega_description().velocity
    lower, upper = bounds()
    change = speed * PERIOD * velocity * rng.uniform(-1, 1, len(velocity))
    return start, np.clip(start + change, lower, upper)


# -- distance of two hulls ------------------------------------------------------------------------


def cube(center, half=0.5):
    return np.array(center) + half * np.array(list(itertools.product([-1, 1], repeat=3)))


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [
        (cube((0, 0, 0)), cube((2, 0, 0)), 1.0),
        (cube((0, 0, 0)), cube((2, 2, 0)), math.sqrt(2)),
        (cube((0, 0, 0)), cube((2, 2, 2)), math.sqrt(3)),
        (cube((0, 0, 0)), cube((1.25, 0.3, -0.2)), 0.25),
        (cube((0, 0, 0)), cube((1, 0, 0)), 0.0),
        (cube((0, 0, 0)), cube((0.3, 0.1, 0)), 0.0),
        (cube((0, 0, 0)), cube((0, 0, 0)), 0.0),
        (np.zeros((1, 3)), np.array([[3.0, 4.0, 0.0]]), 5.0),
        (np.array([[-1.0, 0, 0], [1, 0, 0]]), np.array([[0, -1.0, 2], [0, 1, 2]]), 2.0),
    ],
)
def test_separation_by_hand(first, second, distance):
    assert separation(first, second) == pytest.approx(distance, abs=1e-8)
    assert separation(second, first) == pytest.approx(distance, abs=1e-8)


def test_separation_stops_early_with_a_lower_bound():
    rng = np.random.default_rng(0)
    for _ in range(50):
        first, second = rng.normal(size=(200, 3)), rng.normal(size=(300, 3))
        second += np.array([9.0, 4.0, 0.0])
        whole = separation(first, second)
        early = separation(first, second, whole / 2)
        assert whole / 2 < early <= whole + 1e-9
        # A plane between the two is proof; the nearest of some points of the hulls is a limit.
        weights = rng.dirichlet(np.full(200, 0.01), 500), rng.dirichlet(np.full(300, 0.01), 500)
        a, b = weights[0] @ first, weights[1] @ second
        assert whole <= np.linalg.norm(a[:, None] - b[None], axis=2).min()


# -- pairs and bounds -----------------------------------------------------------------------------


def test_pairs_that_may_touch_are_not_checked_and_all_others_that_move_are():
    description = vega_description()
    checked = {frozenset(pair) for pair in checker().pairs}
    assert not checked & description.allowed_pairs
    assert frozenset(("R_arm_l7", "L_mf_l2")) in checked
    assert frozenset(("R_hand_base", "torso_l3")) in checked
    assert frozenset(("L_ff_l2", "table")) in checked and frozenset(("head_l3", "floor")) in checked
    shaped = {shape.name for shape in checker().robot.shapes} - {"table"}
    moving = {name for name in shaped if name[:2] in ("R_", "L_") and "wheel" not in name}
    moving |= {"head_l1", "head_l2", "head_l3"}
    expected = {
        frozenset(pair)
        for pair in itertools.product(moving, shaped)
        # Both are bolted together.
        if pair[0] != pair[1] and not {name[2:] for name in pair} <= {"arm_l7", "arm_l8"}
    }
    expected |= {frozenset(("R_arm_l7", "L_arm_l8")), frozenset(("L_arm_l7", "R_arm_l8"))}
    expected |= {frozenset(("R_arm_l7", "L_arm_l7")), frozenset(("L_arm_l8", "R_arm_l8"))}
    assert {pair for pair in checked if pair <= shaped} == expected - description.allowed_pairs


def test_more_pairs_may_be_allowed():
    pair = frozenset(("R_hand_base", "L_hand_base"))
    allowing = make_checker(
        allowed_pairs=[pair],
        obstacles=[Box("table", (0.75, 0, 0.8), (0.7, 1, 0.04), may_touch=frozenset(["R_ff_l2"]))],
    )
    checked = {frozenset(names) for names in allowing.pairs}
    assert pair not in checked and frozenset(("R_ff_l2", "table")) not in checked
    assert frozenset(("L_ff_l2", "table")) in checked


def test_fingers_follow_the_joints_that_they_mimic():
    robot, description = checker().robot, vega_description()
    rng = np.random.default_rng(0)
    positions = rng.uniform(*bounds())
    robot.place(positions)
    for joint, mimic in description.mimics.items():
        expected = mimic.multiplier * positions[index(mimic.joint)] + mimic.offset
        assert robot.data.joint(joint).qpos[0] == pytest.approx(expected)
    for joint, position in FIXED.items():
        assert robot.data.joint(joint).qpos[0] == position


def test_no_point_of_the_robot_moves_more_than_the_bounds_say():
    robot, pairs = checker().robot, checker()._pairs
    rng = np.random.default_rng(1)
    tightest = 0.0
    for _ in range(25):
        start, end = rng.uniform(*bounds()), rng.uniform(*bounds())
        motion = _Motion(robot, start, start + rng.choice([0.02, 0.1, 0.5]) * (end - start))
        middle, half = rng.uniform(0.3, 0.7), rng.choice([0.05, 0.3])
        interval = _Interval(
            middle, half, motion.centers(middle - half), motion.centers(middle + half)
        )
        shift = motion.shift(interval, motion.centers(middle))
        approach = pairs.approach(motion) * half
        travel = pairs.travel(shift, approach)
        motion.centers(middle)
        before = [robot.placed_vertices(shape) for shape in robot.shapes]
        chosen = rng.integers(0, len(pairs._pairs), 40)
        enough = np.full(len(chosen), 10.0)
        distances = pairs.distances(chosen, enough)
        for time in rng.uniform(middle - half, middle + half, 4):
            motion.centers(time)
            for shape, vertices in zip(robot.shapes, before, strict=True):
                moved = np.linalg.norm(robot.placed_vertices(shape) - vertices, axis=1).max()
                assert moved <= shift[shape.geom] + 1e-9
                tightest = max(tightest, moved / max(shift[shape.geom], 1e-9))
            assert (
                np.abs(pairs.distances(chosen, enough) - distances) <= travel[chosen] + 2e-6
            ).all()
    assert tightest > 0.8  # they are of use


# -- against brute force --------------------------------------------------------------------------


def test_configurations_against_all_pairs_without_balls():
    rng = np.random.default_rng(2)
    near, data = 0, mujoco.MjData(checker().robot.model)
    margin = checker()._pairs.margin
    for i in range(250):
        positions = some_positions(rng, 0.3 + 0.7 * (i % 2))
        distances = all_distances(checker(), positions)
        found = checker().nearest(positions)
        lacking = margin - distances
        if lacking.max() <= 0:
            assert found is None
        else:
            near += 1
            assert found.distance == pytest.approx(distances[np.argmax(lacking)], abs=2e-6)
            assert (found.first, found.second) in checker().pairs
        touching = {frozenset(checker().pairs[k]) for k in np.flatnonzero(distances < -1e-6)}
        assert contacts(checker(), data, positions) <= touching | {
            frozenset(checker().pairs[k]) for k in np.flatnonzero(distances <= 1e-6)
        }
    assert 50 < near < 200


def test_distances_against_an_algorithm_of_our_own():
    """All pairs of a few positions, and those nearer than 5 cm of many."""
    rng = np.random.default_rng(3)
    robot, pairs = checker().robot, checker()._pairs
    compared = zeros = 0
    for i in range(60):
        distances = all_distances(checker(), rng.uniform(*bounds()))
        chosen = distances < 0.05 if i else rng.uniform(size=len(distances)) < 0.5
        for k in np.flatnonzero(chosen[: len(pairs._pairs)]):
            first, second = pairs._pairs[k]
            plain = separation(
                robot.placed_vertices(robot.shapes[first]),
                robot.placed_vertices(robot.shapes[second]),
            )
            # A prism stands for a cylinder, 30 micrometres larger.
            assert max(distances[k], 0.0) == pytest.approx(plain, abs=4e-5)
            compared += 1
        for first, second in pairs._pairs[:: 7 if i else 1]:
            raw = mujoco.mj_geomDistance(robot.model, robot.data, first, second, 10.0, None)
            zeros += raw == 0.0
    assert compared > 1500
    # MuJoCo 3.3.7 says 0 for some pairs that are far apart; none of them was among the above.
    if mujoco.__version__ == "3.3.7":
        assert zeros > 0


def test_motions_against_dense_sampling_of_all_pairs():
    rng = np.random.default_rng(4)
    margin, resolution = checker()._pairs.margin, checker().resolution
    passed = refused = 0
    for _ in range(250):
        start, end = some_motion(rng)
        found = checker().check(start, end)
        if found is None:
            # Most are clear of everything: look at those only that a larger margin would refuse.
            if wide_checker().check(start, end) is None and rng.uniform() > 0.05:
                continue
            passed += 1
            for time in np.linspace(0, 1, 9):
                distances = all_distances(checker(), start + time * (end - start))
                assert (distances > margin - resolution).all()
        else:
            refused += 1
            distances = all_distances(checker(), start + found.fraction * (end - start))
            named = [k for k, p in enumerate(checker().pairs) if p == (found.first, found.second)]
            # Of the shapes of both links one pair, not the nearest perhaps.
            assert np.abs(distances[named] - found.distance).min() < 2e-5
            assert found.distance < found.required <= margin.max()
    assert passed > 15 and refused > 10


_WIDE = []


def wide_checker():
    if not _WIDE:
        _WIDE.append(make_checker(margin=0.04))
    return _WIDE[0]


def test_what_a_margin_refuses_a_larger_one_refuses():
    rng = np.random.default_rng(5)
    refused = 0
    for _ in range(300):
        start, end = some_motion(rng, speed=3.0)
        if wide_checker().nearest(start) is None and checker().check(start, end) is not None:
            refused += 1
            assert wide_checker().check(start, end) is not None
    assert refused > 5


# -- by hand --------------------------------------------------------------------------------------


def moved(positions, **changes):
    changed = positions.copy()
    for joint, change in changes.items():
        changed[index(joint)] += change
    return changed


def test_table_wall_and_own_body_are_named():
    start = home()
    assert checker().check(start, start) is None
    down = moved(start, R_arm_j4=0.9)
    found = checker().check(start, down)
    assert found.second == "table" and found.first.startswith("R_")
    assert 0 < found.fraction <= 1 and found.distance < found.required == 0.01
    text = checker().violation(start, down)
    assert text.startswith(f"collision {found.first} and table: expected a distance of at least ")
    aside = moved(start, L_arm_j2=1.2, L_arm_j4=1.6)
    assert checker().check(start, aside).second == "left wall"
    inwards = moved(start, R_arm_j3=-1.4)
    assert str(checker().check(start, inwards)).startswith("collision R_arm_l4 and torso_l")
    together = moved(start, R_arm_j3=-0.5, L_arm_j3=0.5, R_arm_j4=-0.4, L_arm_j4=-0.4)
    found = checker().check(start, together)
    assert {found.first, found.second} == {"R_hand_base", "L_hand_base"}


def test_a_plate_thinner_than_any_step_is_not_jumped_over():
    # The fingers swing through it from one side to the other.
    plate = Box("plate", (0.73, -0.19, 1.18), (0.06, 0.001, 0.3), margin=0.002)
    guarded = make_checker(obstacles=[plate], margin=0.005, resolution=0.001)
    start, end = home(), moved(home(), R_arm_j2=0.7)
    assert guarded.nearest(start) is None and guarded.nearest(end) is None
    found = guarded.check(start, end)
    assert found.second == "plate" and 0 < found.fraction < 1


def test_a_turned_box_and_a_tilted_plane():
    half = math.sqrt(0.5)
    turned = make_checker(
        obstacles=[
            Box("beam", (0.5, 0, 1.25), (0.05, 2.0, 0.05), (half, 0, 0, half)),
            HalfSpace("roof", (-0.6, 0.0, -0.8), -1.0),
        ]
    )
    turned.robot.place(home())
    names = [p for p in turned.pairs]
    beam = [k for k, p in enumerate(names) if p == ("R_hand_base", "beam")]
    roof = [k for k, p in enumerate(names) if p == ("head_l3", "roof")]
    # The beam was turned to lie along x, at y = 0.
    distances = all_distances(turned, home())
    hand = np.concatenate(
        [turned.robot.placed_vertices(s) for s in turned.robot.shapes if s.name == "R_hand_base"]
    )
    height = np.maximum(np.abs(hand[:, 2] - 1.25) - 0.025, 0)
    expected = np.hypot(np.abs(hand[:, 1]) - 0.025, height).min()
    assert distances[beam].min() == pytest.approx(expected, abs=2e-3)
    head = np.concatenate(
        [turned.robot.placed_vertices(s) for s in turned.robot.shapes if s.name == "head_l3"]
    )
    assert distances[roof].min() == pytest.approx((head @ [-0.6, 0, -0.8]).min() + 1.0, abs=1e-9)


def inside_margin():
    """A position whose right hand is a few millimetres over the table, and one joint's way up."""
    low, high = 0.0, 0.9
    for _ in range(40):
        middle = (low + high) / 2
        if checker().nearest(moved(home(), R_arm_j4=middle)) is None:
            low = middle
        else:
            high = middle
    positions = moved(home(), R_arm_j4=high + 0.01)
    assert 0 < checker().nearest(positions).distance < 0.009
    return positions


def test_who_starts_within_the_margin_may_leave_it_and_not_go_deeper():
    start = inside_margin()
    assert checker().check(start, start) is None
    assert checker().check(start, moved(start, R_arm_j4=-0.02)) is None
    assert checker().check(start, moved(start, R_arm_j4=-0.3)) is None
    assert checker().check(start, moved(start, head_j2=0.1, L_arm_j7=0.1)) is None
    found = checker().check(start, moved(start, R_arm_j4=0.001))
    assert found.second == "table" and found.distance < found.required < 0.01
    # Down and up again: not on the way either.
    assert checker().check(moved(start, R_arm_j4=0.002), start) is None
    positions = start
    for _ in range(200):  # nor by ever smaller steps
        lower = moved(positions, R_arm_j4=1e-7)
        positions = lower if checker().check(positions, lower) is None else positions
    deepest = checker().nearest(positions).distance
    assert deepest > checker().nearest(start).distance - 2e-4


def test_who_touches_already_is_not_moved():
    start = moved(home(), R_arm_j4=0.9)
    found = checker().check(start, home())
    assert found.second == "table" and found.distance <= 0 and found.fraction == 0


def test_more_samples_than_allowed_are_a_refusal(monkeypatch):
    rng = np.random.default_rng(6)
    motions = [some_motion(rng, speed=3.0) for _ in range(150)]
    known = [checker().check(*motion) is None for motion in motions]
    monkeypatch.setattr(checker(), "max_samples", 0)
    hasty = [checker().check(*motion) is None for motion in motions]
    assert sum(hasty) < sum(known)
    assert all(passed for passed, early in zip(known, hasty, strict=True) if early)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution": 0.01}, "0 < resolution < margin"),
        ({"resolution": 0.0}, "0 < resolution < margin"),
        ({"margin": math.nan}, "0 < resolution < margin"),
        ({"allowed_pairs": [frozenset(("R_hand", "base"))]}, "link R_hand: expected one of"),
        ({"obstacles": [*OBSTACLES, OBSTACLES[0]]}, "obstacle table: expected a name of its own"),
        ({"obstacles": [HalfSpace("base", (0, 0, 1), 0)]}, "obstacle base: expected a name"),
        ({"fixed": {"torso_j9": 0.0}}, "joint torso_j9: expected one, found none"),
        ({"fixed": {"R_arm_j1": 0.0}}, "joint R_arm_j1: expected it commanded or fixed"),
        ({"joints": (*COMMANDED_JOINTS, "wing")}, "joint wing: expected one, found none"),
    ],
)
def test_a_wrong_configuration_is_refused(changes, message):
    with pytest.raises(Exception, match=message):
        make_checker(**changes)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Box("b", (0, 0, 0), (1, 0, 1)),
        lambda: Box("b", (0, 0, math.inf), (1, 1, 1)),
        lambda: Box("b", (0, 0, 0), (1, 1, 1), (1, 1, 0, 0)),
        lambda: Box("b", (0, 0, 0), (1, 1, 1), margin=-0.1),
        lambda: HalfSpace("b", (0, 0, 2), 0),
        lambda: HalfSpace("b", (0, 0, 1), math.nan),
        lambda: HalfSpace("b", (0, 0, 1), 0, margin=0.0),
    ],
)
def test_an_impossible_obstacle_is_refused(make):
    with pytest.raises(ValueError, match="obstacle b: "):
        make()

"""Vega at a table between walls, for tests: in the frame of its base."""

import functools
import math
from dataclasses import replace

import mujoco
import numpy as np

from resfit_rl.robots.vega import COMMANDED_JOINTS, TORSO_JOINTS, vega_description
from resfit_safety.action_gate import GateConfig
from resfit_safety.collision import Box, HalfSpace, MotionChecker
from resfit_safety.motion_limits import MotionLimits

PERIOD = 0.05
FIXED = dict(zip(TORSO_JOINTS, (0.5, 1.8, 1.3), strict=True))  # upright
OBSTACLES = (
    Box("table", (0.75, 0.0, 0.8), (0.7, 1.6, 0.04)),
    HalfSpace("floor", (0.0, 0.0, 1.0), -0.055),
    HalfSpace("left wall", (0.0, -1.0, 0.0), -0.9),
    HalfSpace("right wall", (0.0, 1.0, 0.0), -0.9),
)
ARM = {"j1": 1.35, "j2": 0.25, "j3": 0.0, "j4": -1.75, "j5": 0.0, "j6": 0.3, "j7": 0.0}
MIRRORED = ("j1", "j2", "j6")


def index(joint):
    return COMMANDED_JOINTS.index(joint)


def home():
    """(29,) rad: upper arms down, forearms forward, hands open."""
    positions = np.zeros(len(COMMANDED_JOINTS))
    for side in "RL":
        for joint, angle in ARM.items():
            sign = -1.0 if side == "R" and joint in MIRRORED else 1.0
            positions[index(f"{side}_arm_{joint}")] = sign * angle
    positions[index("head_j1")] = 1.0
    return positions


@functools.cache
def checker():
    return make_checker()


def make_checker(**changes):
    return MotionChecker(vega_description(), **({"fixed": FIXED, "obstacles": OBSTACLES} | changes))


def limits(**changes):
    velocity = vega_description().velocity
    values = {
        "velocity": tuple(velocity),
        "acceleration": tuple(8 * velocity),
        "measured_step": (0.4,) * len(COMMANDED_JOINTS),
    }
    return MotionLimits(COMMANDED_JOINTS, PERIOD, **(values | changes))


def bounds():
    description = vega_description()
    return description.position_lower, description.position_upper


def some_positions(rng, spread):
    """(29,) rad around home, within the limits; free or not."""
    lower, upper = bounds()
    wander = rng.uniform(-spread, spread, len(COMMANDED_JOINTS)) * (upper - lower) / 2
    return np.clip(home() + wander, lower, upper)


def free_positions(rng, spread):
    while True:
        positions = some_positions(rng, spread)
        if checker().nearest(positions) is None:
            return positions


def all_distances(robot_checker, positions):
    """(P,) m of every pair that is checked, with no ball before it; MuJoCo's, but for its zeros."""
    robot_checker.robot.place(positions)
    pairs = robot_checker._pairs
    everything = np.arange(len(pairs.names))
    return pairs.distances(everything, np.full(len(everything), 10.0))


def contacts(robot_checker, data, positions):
    """Pairs in MuJoCo's own contact list, those that may touch left out."""
    robot_checker.robot.place(positions)
    model = robot_checker.robot.model
    data.qpos[:] = robot_checker.robot.data.qpos
    mujoco.mj_fwdPosition(model, data)
    names = [shape.name for shape in robot_checker.robot.shapes]
    checked = {frozenset(pair) for pair in robot_checker.pairs}
    found = set()
    for contact in data.contact[: data.ncon]:
        pair = frozenset((names[contact.geom1], names[contact.geom2]))
        if pair in checked and contact.dist < 0:
            found.add(pair)
    return found


def gate_config(**changes):
    """Of the gate with Vega's 29 absolute joint positions."""
    lower, upper = bounds()
    size = len(COMMANDED_JOINTS)
    normal = GateConfig(
        action_names=COMMANDED_JOINTS,
        action_lower=tuple(lower),
        action_upper=tuple(upper),
        action_change=tuple(vega_description().velocity * PERIOD),
        hold_template=(math.nan,) * size,
        joint_limits={"torso_j1": (0.49, 0.51)},
        motion_limits=limits(),
    )
    return replace(normal, **changes)


def with_torso(measured):
    """Commanded joint -> position, and the torso's as in gate_config's limits."""
    return dict(zip(COMMANDED_JOINTS, measured, strict=True)) | {"torso_j1": 0.5}


def adversary(kind, rng, start, acceleration=8.0, goals=()):
    """Next commands of one kind of policy, (29,) rad, for ever; each is told what was applied last.

    'jump' and 'broken' are refused at once; the others keep the limits of motion as long as what
    they send is applied, but for 'edge', which goes a little beyond them now and then.

    Args:
        acceleration: of a joint's largest velocity, 1/s.
        goals: (29,) each, for 'aimed': where it goes as fast as it may.
    """
    velocity = vega_description().velocity
    lower, upper = bounds()
    size = len(COMMANDED_JOINTS)
    fastest, sharpest = velocity * PERIOD, acceleration * velocity * PERIOD**2
    arms = np.arange(size) < 14
    drift = rng.uniform(-1, 1, size)
    if kind == "down":  # onto the table
        drift = np.zeros(size)
        drift[[index("R_arm_j4"), index("L_arm_j4")]] = 1.0
        drift[[index("R_arm_j1"), index("L_arm_j1")]] = (1.0, -1.0)
    elif kind == "together":  # one hand into the other, or into the body
        drift = np.zeros(size)
        drift[[index("R_arm_j2"), index("L_arm_j2")]] = (1.0, -1.0)
        drift[[index("R_arm_j3"), index("L_arm_j3")]] = rng.choice([-1.0, 1.0], 2)
    elif kind == "flip":  # some joints at full speed one way, then the other
        drift = rng.choice([-1.0, 0.0, 1.0], size)
    goal = goals[rng.integers(len(goals))] if kind == "aimed" else None
    last, step, count = start, np.zeros(size), 0
    while True:
        if kind == "jump":
            action = rng.uniform(lower, upper)
        elif kind == "broken":
            action = last.copy()
            action[rng.integers(size)] = rng.choice([math.nan, math.inf, -1e9, 4.0])
        elif kind == "edge":  # just within or just beyond a limit
            step = step + rng.choice([0.99, 1.0, 1.001]) * sharpest * drift
            step = np.clip(step, -1.0005 * fastest, 1.0005 * fastest)
            action = np.clip(last + step, lower, upper)
        else:
            if kind == "aimed":
                wanted = np.clip(goal - last, -fastest, fastest)
            elif kind == "flip":
                wanted = fastest * drift * (1 if count // 2 % 2 else -1)
            elif kind == "walk":
                wanted = rng.uniform(-1, 1, size) * fastest * np.where(arms, 1, 0.2)
            elif kind == "slow":
                wanted = 0.1 * drift * fastest
            else:
                wanted = drift * fastest * rng.uniform(0.3, 1.0)
            step = step + np.clip(wanted - step, -sharpest, sharpest)
            action = np.clip(last + step, lower, upper)
        count += 1
        applied = yield action
        # What was not applied gave no speed.
        step, last = applied - last, applied

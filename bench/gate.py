"""Latency of the gate before every command, for Vega's 29 joints at a table between walls.

    ./resfit bench gate
    ./resfit bench gate cases:=5000 json:=gate.json

One process on one core. Two sets of commands: work as in an episode (both arms, head and hands move
smoothly over the table at up to 30 % of the joints' largest speeds; they are measured a little
behind) and the worst (all 29 at once, each at a random speed up to its largest, from anywhere that
is free). CPU time beside wall time: on a machine with other work the tail of wall time is theirs.
Alternatives are measured on the same commands, in the same run.
"""

import argparse
import gc
import json
import math
import os
import platform
import subprocess
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import mujoco
import numpy as np

from resfit_rl.robots.vega import COMMANDED_JOINTS, TORSO_JOINTS, vega_description
from resfit_safety.action_gate import ActionGate, Command, GateConfig, SafetyVerdict, Situation
from resfit_safety.collision import Box, HalfSpace, MotionChecker
from resfit_safety.motion_limits import MotionLimits

ROOT = Path(__file__).parents[1]
PERIOD = 0.05  # s
SIZE = len(COMMANDED_JOINTS)
FIXED = dict(zip(TORSO_JOINTS, (0.5, 1.8, 1.3), strict=True))
OBSTACLES = (
    Box("table", (0.75, 0.0, 0.8), (0.7, 1.6, 0.04)),
    HalfSpace("floor", (0.0, 0.0, 1.0), -0.055),
    HalfSpace("left wall", (0.0, -1.0, 0.0), -1.0),
    HalfSpace("right wall", (0.0, 1.0, 0.0), -1.0),
)
ARM = {"j1": 1.35, "j2": 0.25, "j4": -1.75, "j6": 0.3}
SAFE = SafetyVerdict(episode_id=1, stamp=1, motion_allowed=True, reason="", received=0.0)
HEARTBEATS = ("policy", "safety", "supervisor")

Case = tuple[np.ndarray, np.ndarray, np.ndarray]  # last command, measured, next command; (29,)


def home() -> np.ndarray:
    positions = np.zeros(SIZE)
    for side, signs in (("R", (-1, -1, 1, -1)), ("L", (1, 1, 1, 1))):
        for (joint, angle), sign in zip(ARM.items(), signs, strict=True):
            positions[COMMANDED_JOINTS.index(f"{side}_arm_{joint}")] = sign * angle
    positions[COMMANDED_JOINTS.index("head_j1")] = 1.0
    return positions


def working(checker: MotionChecker, count: int, rng: np.random.Generator) -> list[Case]:
    """Sums of three slow sines around home; episodes that would end by a collision are left."""
    description = vega_description()
    lower, upper, velocity = (
        description.position_lower,
        description.position_upper,
        description.velocity,
    )
    cases: list[Case] = []
    while len(cases) < count:
        rates = rng.uniform(0.5, 3.0, (3, SIZE))  # rad/s
        phases = rng.uniform(0, 2 * np.pi, (3, SIZE))
        swing = 0.3 * velocity * rng.dirichlet(np.ones(3), SIZE).T / rates

        def at(step: int, rates=rates, phases=phases, swing=swing) -> np.ndarray:
            waves = np.sin(rates * step * PERIOD + phases) - np.sin(phases)
            return np.clip(home() + (swing * waves).sum(axis=0), lower, upper)

        for step in range(1, 61):
            last, target = at(step), at(step + 1)
            if checker.check(last, target) is not None:
                break
            cases.append((last, last - 0.3 * (last - at(step - 1)), target))
    return cases[:count]


def worst(checker: MotionChecker, count: int, rng: np.random.Generator) -> list[Case]:
    description = vega_description()
    lower, upper = description.position_lower, description.position_upper
    cases: list[Case] = []
    while len(cases) < count:
        wander = rng.uniform(-0.4, 0.4, SIZE) * (upper - lower) / 2
        last = np.clip(home() + wander, lower, upper)
        if checker.nearest(last) is not None:
            continue
        step = PERIOD * description.velocity * rng.uniform(-1, 1, SIZE)
        cases.append((last, last - 0.3 * step, np.clip(last + step, lower, upper)))
    return cases


def timed(call, arguments: list) -> dict[str, float]:
    """ms of one call, over all arguments; the first few not counted."""
    for one in arguments[:20]:
        call(*one)
    wall, cpu = [], []
    for one in arguments:
        start, start_cpu = time.perf_counter_ns(), time.thread_time_ns()
        call(*one)
        cpu.append(time.thread_time_ns() - start_cpu)
        wall.append(time.perf_counter_ns() - start)
    values = {}
    for name, times in (("wall", wall), ("cpu", cpu)):
        p50, p99, largest = np.percentile(np.array(times) / 1e6, [50, 99, 100])
        values |= {f"{name}_p50": p50, f"{name}_p99": p99, f"{name}_max": largest}
    return values


class EveryPair(MotionChecker):
    """No balls before the distances."""

    def __init__(self, *arguments, **keywords) -> None:
        super().__init__(*arguments, **keywords)
        everything = np.arange(len(self.pairs))
        self._pairs.near = lambda centers, travel: everything  # type: ignore[method-assign]


def fine_samples(checker: MotionChecker, last: np.ndarray, target: np.ndarray) -> bool:
    """Equal steps in which no point moves farther than the resolution; balls, then distances."""
    model, pairs = checker.robot, checker._pairs
    travel = float((model.reaches @ np.abs(model.turns(target - last))).max())
    nothing = np.zeros(len(pairs.margin))
    for share in np.linspace(0, 1, 1 + max(1, math.ceil(travel / checker.resolution))):
        model.place(last + share * (target - last))
        near = pairs.near(model.data.site_xpos, nothing)
        if (pairs.distances(near, pairs.margin[near]) < pairs.margin[near]).any():
            return False
    return True


def measure(cases: list[Case], checker: MotionChecker, every: MotionChecker) -> list[dict]:
    description = vega_description()
    limits = MotionLimits(
        COMMANDED_JOINTS,
        PERIOD,
        tuple(description.velocity),
        tuple(1e3 * description.velocity),  # each case starts anew, at rest
        (0.5,) * SIZE,
    )
    bare = GateConfig(
        COMMANDED_JOINTS,
        tuple(description.position_lower),
        tuple(description.position_upper),
        tuple(description.velocity * PERIOD * 1.001),
        (math.nan,) * SIZE,
        needed_roles=HEARTBEATS,
    )
    whole = replace(bare, motion_limits=limits)
    situations = [
        Situation(
            now=0.0,
            episode_id=1,
            step=1,
            stamp=1,
            safety=SAFE,
            joint_positions=dict(zip(COMMANDED_JOINTS, measured.tolist(), strict=True)),
            heartbeat_ages=dict.fromkeys(HEARTBEATS, 0.1),
        )
        for _, measured, _ in cases
    ]
    judged = []
    for config, own in ((whole, checker), (bare, None)):
        gates = [ActionGate(config, last, own) for last, _, _ in cases]
        judged.append(
            [
                (gate, Command(1, 1, 1, target), situation)
                for gate, (_, _, target), situation in zip(gates, cases, situations, strict=True)
            ]
        )
    kinds = [gate.judge(command, now).kind for gate, command, now in judged[0]]
    print(f"{kinds.count('apply')} of {len(kinds)} commands pass")

    def judge(gate: ActionGate, command: Command, now: Situation) -> None:
        gate.judge(command, now)

    def motion_limits(last: np.ndarray, measured: np.ndarray, target: np.ndarray) -> None:
        limits.violation(target, last, last)
        limits.step_violation(target, measured)

    from_last = [(last, target) for last, _, target in cases]
    few = from_last[: max(50, len(from_last) // 20)]
    robot, pairs = checker.robot, checker._pairs
    centers = robot.data.site_xpos
    travel = np.full(len(pairs.margin), 0.02)
    placed = mujoco.MjData(robot.model)
    placed.qpos[:] = robot.data.qpos

    def contacts(last: np.ndarray, target: np.ndarray) -> None:
        robot.place(target)
        placed.qpos[:] = robot.data.qpos
        mujoco.mj_kinematics(robot.model, placed)
        mujoco.mj_comPos(robot.model, placed)
        mujoco.mj_collision(robot.model, placed)

    rows = [
        ("the whole gate", judge, judged[0]),
        ("- all but motion limits and collisions", judge, judged[1]),
        ("- velocity, acceleration, step", motion_limits, cases),
        ("- collisions, from the last command", checker.check, from_last),
        ("- collisions, from the measured", checker.check, [(m, t) for _, m, t in cases]),
        ("-- placing the robot once", robot.place, [(target,) for _, target in from_last]),
        ("-- balls of all pairs once", lambda *_: pairs.near(centers, travel), from_last),
        ("alternative: no balls", every.check, few),
        ("alternative: equal fine samples", lambda *way: fine_samples(checker, *way), few),
        ("alternative: contacts at the end only", contacts, few),
    ]
    found = [{"what": what} | timed(call, arguments) for what, call, arguments in rows]
    base = next(row for row in found if row["what"].startswith("- collisions, from the last"))
    for row in found:
        if row["what"].startswith("alternative"):
            row["ratio"] = row["cpu_p50"] / base["cpu_p50"]
    return found


def table(title: str, rows: list[dict]) -> None:
    columns = [f"{clock}_{value}" for clock in ("wall", "cpu") for value in ("p50", "p99", "max")]
    print(f"\n{title}, ms\n")
    for cells in (
        ["", *(column.replace("_", " ") for column in columns), "p50 against collisions"],
        ["---"] * (len(columns) + 2),
        *(
            [
                row["what"],
                *(f"{row[column]:.3f}" for column in columns),
                f"{row['ratio']:.1f}" if "ratio" in row else "",
            ]
            for row in rows
        ),
    ):
        print("| " + " | ".join(cells) + " |", flush=True)


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    load = os.getloadavg()[0]
    return f"{names[0] if names else platform.processor()}, one core; load average {load:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=3000, help="commands of each set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file to write the numbers to as well")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    head = f"{machine()}; mujoco {version('mujoco')}; commit {commit or 'unknown'}"
    print(head)
    description = vega_description()
    start = time.perf_counter()
    checker = MotionChecker(description, fixed=FIXED, obstacles=OBSTACLES)
    made = time.perf_counter() - start
    every = EveryPair(description, fixed=FIXED, obstacles=OBSTACLES)
    print(
        f"{SIZE} joints, {len(checker.robot.shapes)} shapes, {len(checker.pairs)} pairs, margin "
        f"{checker.margin} m, resolution {checker.resolution} m; made in {made:.1f} s"
    )
    # A full collection of garbage takes 10 ms and more; a driver spares itself that likewise.
    gc.collect()
    gc.freeze()
    found = {}
    for name, make in (("working", working), ("worst", worst)):
        cases = make(checker, arguments.cases, np.random.default_rng(arguments.seed))
        found[name] = measure(cases, checker, every)
        table(f"{name}: {len(cases)} commands", found[name])
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"machine": head, "ms": found}, indent=2) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()

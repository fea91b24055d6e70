"""Steps a second of each task's simulation, without pictures and with those of its cameras.

    ./resfit bench environments                         (all registered tasks)
    ./resfit bench environments tasks:=can json:=environments.json

One process; small random actions from a seeded start, the same in both rows. The rates are the best
of a few spells, as other work on the machine only ever makes one slower.
"""

import argparse
import json
import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from resfit_rl.simulation import RenderOptions, make_simulation
from resfit_rl.tasks import get_task, task_names

ROOT = Path(__file__).parents[1]
SIZE = (84, 84)
SPELLS = 5


def measure(name: str, rendering: RenderOptions | None, seconds: float) -> dict[str, float]:
    """Steps a second, and seconds that making and one reset take."""
    start = time.perf_counter()
    task = get_task(name)
    simulation = make_simulation(task, image_size=SIZE, rendering=rendering)
    made = time.perf_counter() - start
    start = time.perf_counter()
    simulation.reset(0)
    reset = time.perf_counter() - start
    rng = np.random.default_rng(0)
    # Around what holds the robot, whose place differs from task to task.
    hold = np.array(simulation.start_action)
    swing = 0.02 * (np.array(task.action_upper) - np.array(task.action_lower))
    best = 0.0
    for _ in range(SPELLS):
        start, done = time.perf_counter(), 0
        while time.perf_counter() - start < seconds / SPELLS:
            simulation.step(hold + rng.uniform(-swing, swing))
            done += 1
        best = max(best, done / (time.perf_counter() - start))
    simulation.close()
    return {"steps_per_second": best, "reset_s": reset, "made_s": made}


def table(title: str, head: list[str], rows: list[list[str]]) -> None:
    print(f"\n{title}\n")
    for row in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(row) + " |", flush=True)


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {len(os.sched_getaffinity(0))} cores"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", default=list(task_names()))
    parser.add_argument("--seconds", type=float, default=10.0, help="measured for each row")
    parser.add_argument("--json", type=Path, help="file to write the numbers to as well")
    arguments = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    head = (
        f"{machine()}; robosuite {version('robosuite')}, mujoco {version('mujoco')}, "
        f"MUJOCO_GL={os.environ.get('MUJOCO_GL', '')}; commit {commit or 'unknown'}"
    )
    print(head)
    found = {}
    for name in arguments.tasks:
        task = get_task(name)
        blind = measure(name, None, arguments.seconds)
        seeing = measure(name, RenderOptions(), arguments.seconds)
        found[name] = {
            "cameras": list(task.cameras),
            "control_frequency": task.control_frequency,
            "no_rendering": blind,
            "rendering": seeing,
            "ratio": seeing["steps_per_second"] / blind["steps_per_second"],
        }
    table(
        f"Steps a second of one simulation (real time: each task's own rate), cameras at "
        f"{SIZE[0]}x{SIZE[1]}",
        ["task", "cameras", "real time", "no rendering", "with cameras", "ratio", "reset s"],
        [
            [
                name,
                str(len(one["cameras"])),
                f"{one['control_frequency']:.0f}",
                f"{one['no_rendering']['steps_per_second']:.1f}",
                f"{one['rendering']['steps_per_second']:.1f}",
                f"{one['ratio']:.2f}",
                f"{one['rendering']['reset_s']:.2f}",
            ]
            for name, one in found.items()
        ],
    )
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"machine": head, "tasks": found}, indent=2) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()

"""The whole training loop: overlapped, and in turn; what each spends its time on.

    ./resfit bench training                                       (Lift without cameras, CPU)
    ./resfit bench training task:=can device:=cuda steps:=6000    (the paper's networks)

Runs ./resfit train a few times, with a short warm-up and otherwise the given hyperparameters.
Control steps a second are those between the storing of episodes, once updates are being made. The
last row is the usual design: one process that collects and learns in turn; on a GPU in float32,
nothing compiled or captured (on a CPU it is like that anyway).
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import yaml
from environments import machine, table

from resfit_rl.agent import load_agent_config
from resfit_rl.episode_store import EpisodeStore
from resfit_rl.training import time_shares

ROOT = Path(__file__).parents[1]
WARM_UP = 1000  # control steps
SETTLE = 3  # episodes after it that are not counted: compilation, the first recorded graph
DESIGNS = {
    "overlapped": {},
    "in turn, with speed-ups": {"overlap": "false"},
    "in turn": {"overlap": "false", "speed_ups": "false"},
}


@contextlib.contextmanager
def gpu_utilisation(wanted: bool) -> Iterator[list[float]]:
    """Per cent of the time that the GPU was busy, sampled each second while inside."""
    found: list[float] = []
    if not wanted or shutil.which("nvidia-smi") is None:
        yield found
        return
    query = [
        "nvidia-smi",
        "--query-gpu=utilization.gpu",
        "--format=csv,noheader,nounits",
        "-l",
        "1",
    ]
    with subprocess.Popen(query, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield found
        finally:
            process.terminate()
            found += [float(line) for line in process.communicate()[0].split()]


def measure(options: argparse.Namespace, changes: dict[str, str], folder: Path) -> dict:
    """Rates and time shares of one run in `folder`."""
    config = load_agent_config(options.agent_config)
    file = folder / "agent.yaml"
    values = {"base": str(options.agent_config.absolute()), "warmup_steps": WARM_UP}
    file.write_text(yaml.safe_dump(values | {"critic_warmup_updates": 0}))
    arguments = {
        "task": options.task,
        "agent_config": file,
        "demonstrations": options.demonstrations,
        "run": folder / "run",
        "base_actions": options.base_actions,
        "device": options.device,
        "threads": options.threads,
        "environments": 1 if "overlap" in changes else options.environments,
        "steps": WARM_UP + options.steps,
        "evaluate_every": 0,
    } | changes
    command = [sys.executable, "-m", "resfit_rl.training"]
    for key, value in arguments.items():
        command += [f"--{key.replace('_', '-')}", str(value)]
    with gpu_utilisation(options.device == "cuda") as utilisation:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    store = EpisodeStore(folder / "run")
    done, stored = 0, []
    for episode in store.list():
        done += episode.steps
        if done > WARM_UP:
            stored.append((done, episode.path.stat().st_mtime))
    if len(stored) < SETTLE + 3:
        sys.exit(f"error: steps: expected more episodes than {len(stored)} after the warm-up")
    (first, start), (last, end) = stored[SETTLE], stored[-1]
    rate = (last - first) / (end - start)
    return {
        "steps_per_second": rate,
        "updates_per_second": config.utd_ratio * rate,
        "steps_counted": last - first,
        "seconds": json.loads((folder / "run/time_shares.json").read_text()),
        "gpu_busy": sum(utilisation) / len(utilisation) / 100 if utilisation else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", default="lift_state")
    parser.add_argument("--agent-config", type=Path, help="(None: config/agents/TASK.yaml)")
    parser.add_argument("--demonstrations", help="(None: data/demos/TASK); none")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--environments", type=int, default=1, help="when overlapped")
    parser.add_argument("--steps", type=int, default=3000, help="control steps with updates")
    parser.add_argument("--designs", nargs="+", choices=DESIGNS, help="(None: all that differ)")
    parser.add_argument("--json", type=Path, help="file to write the numbers to as well")
    options = parser.parse_args()
    options.agent_config = options.agent_config or Path(f"config/agents/{options.task}.yaml")
    options.demonstrations = options.demonstrations or f"data/demos/{options.task}"
    if not options.designs:
        same = "in turn, with speed-ups" if options.device == "cpu" else ""
        options.designs = [name for name in DESIGNS if name != same]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    gpu = ""
    if options.device == "cuda":
        import torch

        gpu = f"{torch.cuda.get_device_name()}; "
    print(f"{gpu}{machine()}; {options.task}, {options.agent_config}; commit {commit or 'unknown'}")
    found = {}
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as temporary:
        options.base_actions = Path(temporary) / "base_actions"
        for number, name in enumerate(options.designs):
            folder = Path(temporary) / str(number)
            folder.mkdir()
            found[name] = measure(options, DESIGNS[name], folder)
            print(f"{name}: {found[name]['steps_per_second']:.1f} steps/s", flush=True)
    slowest = found[options.designs[-1]]["steps_per_second"]
    table(
        "The whole loop, while updates are made",
        ["design", "steps/s", "updates/s", "ratio", "GPU idle"],
        [
            [
                name,
                f"{one['steps_per_second']:.1f}",
                f"{one['updates_per_second']:.1f}",
                f"{one['steps_per_second'] / slowest:.2f}",
                "-" if one["gpu_busy"] is None else f"{100 * (1 - one['gpu_busy']):.0f} %",
            ]
            for name, one in found.items()
        ],
    )
    for name, one in found.items():
        seconds = {
            process: {
                activity: s - (own.get("loading", 0.0) if activity == "all" else 0.0)
                for activity, s in own.items()
                if activity != "loading"
            }
            for process, own in one["seconds"].items()
        }
        print(f"\n{name}, without loading\n{time_shares.table(seconds)}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

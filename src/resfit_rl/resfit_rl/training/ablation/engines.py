"""Where the runs of an ablation take place."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Protocol

from resfit_rl.processes import end, end_with_parent
from resfit_rl.training.ablation.plan import Job


class Engine(Protocol):
    """Runs jobs beside each other."""

    @property
    def running(self) -> list[Job]:
        """Jobs begun and not finished."""

    @property
    def free(self) -> bool:
        """Whether one more can be begun."""

    def begin(self, job: Job) -> None: ...

    def finished(self, timeout: float) -> list[tuple[Job, int]]:
        """Jobs that have ended since the last call, with their exit codes; waits up to `timeout`
        s when there are none."""

    def stop(self) -> None:
        """Have the running jobs save and end; they have ended then."""


class LocalEngine:
    """Processes of this machine, `at_once` of them; they end with this one, however it ends."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._processes: list[tuple[Job, Any]] = []

    @property
    def running(self) -> list[Job]:
        return [job for job, _ in self._processes]

    @property
    def free(self) -> bool:
        return len(self._processes) < self._at_once

    def begin(self, job: Job) -> None:
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=_train, args=(job.arguments, job.log), name=job.name)
        process.start()
        self._processes.append((job, process))

    def finished(self, timeout: float) -> list[tuple[Job, int]]:
        wait([process.sentinel for _, process in self._processes], timeout)
        ended = [(job, process) for job, process in self._processes if not process.is_alive()]
        self._processes = [pair for pair in self._processes if pair not in ended]
        return [(job, process.exitcode) for job, process in ended]

    def stop(self) -> None:
        for _, process in self._processes:
            process.terminate()
        for _, process in self._processes:
            # A checkpoint may take a while.
            process.join(120.0)
            end(process)
        self._processes = []


class RayEngine:
    """Tasks of a Ray cluster whose machines see the same files under the same paths.

    Args:
        address: of the cluster.
        gpus: that a run takes.

    Raises:
        ValueError: Ray is not installed, or no cluster answers.
    """

    def __init__(self, address: str, gpus: float) -> None:
        try:
            import ray
        except ImportError:
            raise ValueError(
                "ray_address: expected the package ray, found none (pip install ray)"
            ) from None
        try:
            ray.init(address=address, log_to_driver=False)
        except Exception as error:
            raise ValueError(
                f"ray_address: expected a cluster at {address}, found: {error}"
            ) from error
        self._ray = ray
        self._task = ray.remote(max_retries=0, num_cpus=2, num_gpus=gpus)(_train_on_machine)
        self._running: dict[Any, Job] = {}

    @property
    def running(self) -> list[Job]:
        return list(self._running.values())

    @property
    def free(self) -> bool:
        # The cluster has its own queue; not all at once, so that little is to be taken back.
        return len(self._running) < 64

    def begin(self, job: Job) -> None:
        reference = self._task.remote(job.arguments, str(job.log), os.getcwd())
        self._running[reference] = job

    def finished(self, timeout: float) -> list[tuple[Job, int]]:
        if not self._running:
            return []
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout)
        found = []
        for reference in ready:
            job = self._running.pop(reference)
            try:
                code = int(self._ray.get(reference))
            except Exception as error:  # a lost machine, a worker out of memory
                _append(job.log, f"ray: {error}\n")
                code = 1
            found.append((job, code))
        return found

    def stop(self) -> None:
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._running = {}
        self._ray.shutdown()


def _train(arguments: Sequence[str], log: Path) -> None:
    """Main function of a run's process."""
    end_with_parent()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    # Here, as it brings torch, and its errors are the run's.
    from resfit_rl.training.command import main

    sys.exit(main(arguments))


def _train_on_machine(arguments: Sequence[str], log: str, folder: str) -> int:
    """A task of Ray: the exit code of a run in a process of its own."""
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", encoding="utf-8") as file:
        command = [sys.executable, "-m", "resfit_rl.training", *arguments]
        return subprocess.run(command, cwd=folder, stdout=file, stderr=file).returncode


def _append(log: Path, text: str) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(text)

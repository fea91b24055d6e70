"""What a user can get wrong at start: one clear error, and the launch ends."""

import os
import subprocess

import pytest

from resfit_rl.episode_store import EpisodeStore
from resfit_rl.learning.checkpoint import checkpoint_files


def _refused(launch_sim, expected: str, *arguments: str) -> None:
    graph = launch_sim(*arguments)
    assert graph.process.wait(90) in (0, 1), graph.log
    assert expected in graph.log, graph.log[-4000:]
    assert "Traceback" not in graph.log, graph.log[-4000:]
    assert graph.left_over() == []


def test_unknown_task(launch_sim, tmp_path):
    _refused(launch_sim, "found 'sqare'", "task:=sqare", f"run_dir:={tmp_path / 'run'}")


def test_run_directory_of_another_task(launch_sim, tmp_path):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "run.json").write_text(
        '{"task": "can", "implementation": "robosuite-1.5.2/PickPlaceCan/Panda", '
        '"base_policy": "scripted:can:1"}'
    )
    _refused(launch_sim, "expected", "task:=square", "base_policy:=scripted", f"run_dir:={run_dir}")


@pytest.mark.timeout(400)
def test_truncated_checkpoint_and_checkpoint_of_another_configuration(
    launch_sim, tmp_path, quick_agent
):
    run_dir = tmp_path / "run"
    arguments = [
        "task:=can",
        "base_policy:=scripted",
        f"run_dir:={run_dir}",
        f"agent_config:={quick_agent}",
        "demonstrations:=none",
    ]
    graph = launch_sim(*arguments, "episodes:=1")
    assert graph.process.wait(180) == 0, graph.log[-4000:]
    checkpoint = checkpoint_files(run_dir / "checkpoints")[-1]
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    graph = launch_sim(*arguments)
    graph.wait_for(rf"\[learner-\d+\].*{checkpoint.name}", 90)
    graph.interrupt()

    other = tmp_path / "other.yaml"
    other.write_text(quick_agent.read_text().replace("n_step: 3", "n_step: 0"))
    _refused(launch_sim, "n_step", *arguments[:3], f"agent_config:={other}")


@pytest.mark.timeout(400)
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_full_disk_loses_no_episode(launch_sim, tmp_path):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", run_dir], check=True)
    try:
        graph = launch_sim(
            "task:=can",
            "base_policy:=scripted",
            f"run_dir:={run_dir}",
            "learner:=false",
            "episodes:=2",
        )
        graph.wait_for(r"\[episode_recorder-\d+\].*(free|space)", 120)
        started = len(graph.log)
        graph.wait_for(r"\[auto_labeler-\d+\].*recorder", 30, after=0)
        assert EpisodeStore(run_dir).list() == []
        subprocess.run(["mount", "-o", "remount,size=200m", run_dir], check=True)
        graph.wait_for(r"\[episode_recorder-\d+\].*episode 1 stored", 30, after=started)
        assert graph.process.wait(120) == 0, graph.log[-4000:]
        assert len(EpisodeStore(run_dir).list()) == 2
    finally:
        subprocess.run(["umount", "-l", run_dir], check=True)

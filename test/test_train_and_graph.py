"""What ./resfit train began goes on in the graph, and the other way round."""

import subprocess
import sys
from pathlib import Path

import pytest

from resfit_rl.episode_store import EpisodeStore

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_one_run_directory(launch_sim, tmp_path):
    run_dir, agent = tmp_path / "run", tmp_path / "agent.yaml"
    agent.write_text(
        f"base: {ROOT}/config/agents/lift_state.yaml\n"
        "warmup_steps: 150\ncritic_warmup_updates: 20\nbatch_size: 32\n"
    )

    def train(steps):
        command = [sys.executable, "-m", "resfit_rl.training", "--task", "lift_state"]
        command += ["--base-policy-path", str(ROOT / "models/act_lift_state")]
        command += ["--demonstrations", "none", "--agent-config", str(agent)]
        command += ["--run", str(run_dir), "--steps", str(steps), "--evaluate-every", "0"]
        found = subprocess.run(command, capture_output=True, text=True)
        assert found.returncode == 0, found.stdout + found.stderr
        return found.stdout

    train(400)
    before = EpisodeStore(run_dir).ids()
    graph = launch_sim(
        "task:=lift_state", f"run_dir:={run_dir}", f"agent_config:={agent}", "demonstrations:=none",
        "episodes:=2",
    )  # fmt: skip
    graph.wait_for(r"\[learner-\d+\].*resumed from .*checkpoint_", 300)
    graph.wait_for(r"\[policy-\d+\].*weights version \d+ taken over", 300)
    graph.wait_for(r"\[learner-\d+\].*updates made at", 600, 2)
    graph.interrupt()
    store = EpisodeStore(run_dir)
    after = store.ids()
    assert after[: len(before)] == before and len(after) >= len(before) + 2
    # Collected in the graph with the weights that were trained without it.
    assert store.read(after[len(before)]).policy_version[0] >= 1

    steps = sum(episode.steps for episode in store.list())
    printed = train(steps + 100)
    assert f"{len(after):,} episodes, {steps:,} steps" in printed
    assert len(EpisodeStore(run_dir).ids()) > len(after)

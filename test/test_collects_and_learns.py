"""One command runs the suite: it collects, labels, learns, and the policy takes weights over."""

import re

import pytest

from resfit_rl.episode_store import EpisodeStore
from resfit_rl.learning.checkpoint import checkpoint_files

EPISODES = 5


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("task", "base"),
    # Each base policy at least once; the scripted one also shows success, reward 1.
    [("square", "act"), ("can", "scripted")],
)
def test_five_episodes(launch_sim, tmp_path, quick_agent, task, base):
    run_dir = tmp_path / "run"
    graph = launch_sim(
        f"task:={task}",
        f"base_policy:={base}",
        f"run_dir:={run_dir}",
        f"agent_config:={quick_agent}",
        f"episodes:={EPISODES + 1}",
        "demonstrations:=none",
    )
    graph.wait_for(r"\[episode_recorder-\d+\].*episode \d+ stored", 500, EPISODES)
    graph.wait_for(r"\[policy-\d+\].*weights version \d+ taken over", 60, 3)
    log = graph.log
    ended = re.findall(r"\[auto_labeler-\d+\].*episode \d+: ([a-z ]+) after (\d+) steps", log)
    assert len(ended) >= EPISODES, log[-4000:]
    assert re.search(r"\[learner-\d+\].*updates made at [0-9.]+/s", log), log[-4000:]
    assert "process has died" not in log
    assert graph.interrupt() == 0
    assert graph.left_over() == []

    store = EpisodeStore(run_dir)
    stored = store.list()
    episodes = [store.read(entry.episode_id) for entry in stored]
    assert [e.episode_id for e in episodes] == sorted({e.episode_id for e in episodes})
    assert [(e.outcome.replace("_", " "), str(len(e))) for e in episodes][:EPISODES] == ended[
        :EPISODES
    ]
    assert all(len(e.base_action) == len(e) + 1 for e in episodes)
    assert max(e.policy_version.max() for e in episodes) >= 1
    if base == "scripted":
        assert any(e.outcome == "success" and e.reward == 1.0 and e.done for e in episodes)
    assert checkpoint_files(run_dir / "checkpoints")

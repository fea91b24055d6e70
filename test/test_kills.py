"""kill -9 of any node at any time: no finished episode is lost, and the graph goes on."""

import json
import re
import time

import pytest

from resfit_interfaces.msg import EpisodeState
from resfit_rl.episode_store import EpisodeStore
from resfit_ros import qos


@pytest.mark.timeout(600)
def test_every_finished_episode_is_there_once(launch_sim, observer, tmp_path, quick_agent):
    run_dir = tmp_path / "run"
    graph = launch_sim(
        "task:=can",
        "base_policy:=scripted",
        f"run_dir:={run_dir}",
        f"agent_config:={quick_agent}",
        "demonstrations:=none",
    )
    states: list[EpisodeState] = observer.collect(EpisodeState, "episode_state", qos.LATCHED)
    graph.wait_for(r"\[episode_recorder-\d+\].*episode \d+ stored", 180)
    # The learner saves after an episode's updates, and at least each minute.
    graph.wait_until(lambda: list(run_dir.glob("checkpoints/*.pt")), 150, "a checkpoint")
    for node in ("learner", "policy", "sim_bridge", "episode_supervisor", "episode_recorder"):
        already = len(graph.log)
        # In the middle of an episode.
        before = sum(state.state == EpisodeState.RUNNING for state in states)
        graph.wait_until(
            lambda before=before: sum(s.state == EpisodeState.RUNNING for s in states) > before,
            90,
            "another episode",
        )
        time.sleep(1.0)
        graph.kill(node)
        graph.wait_for(rf"\[{node}-\d+\]: process has died .*exit code -9", 20, after=already)
        graph.wait_for(rf"\[{node}-\d+\]: process started", 20, after=already)
        graph.wait_for(r"\[episode_recorder-\d+\].*episode \d+ stored", 150, after=already)
        if node == "learner":
            graph.wait_for(r"\[learner-\d+\].*resumed from .*checkpoint", 60, after=already)
    assert graph.interrupt() == 0
    assert graph.left_over() == []

    finished = {
        (s.episode_id, s.outcome, s.end_step)
        for s in states
        if s.state == EpisodeState.FINISHED and s.outcome != EpisodeState.OUTCOME_ABORTED
    }
    store = EpisodeStore(run_dir)
    stored = [store.read(entry.episode_id) for entry in store.list()]
    ids = [episode.episode_id for episode in stored]
    # Whole: read() verifies each file's checksum. Once: file names are ids.
    assert len(ids) == len(set(ids))
    # The recorder's own kill may cost the episode under way; the last one may not be written yet.
    killed_at = re.search(r"\[episode_recorder-\d+\]: process has died", graph.log)
    assert killed_at
    lost = {episode_id for episode_id, _, _ in finished} - set(ids)
    assert len(lost) <= 2, (finished, ids)
    assert not lost or min(lost) > min(ids)
    for episode in stored:
        assert (episode.episode_id, len(episode)) in {(i, n) for i, _, n in finished}
    assert json.loads((run_dir / "run.json").read_text())["task"] == "can"

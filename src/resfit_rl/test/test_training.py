"""./resfit train: collecting, learning and evaluating in processes, killed and gone on with."""

import dataclasses
import importlib.util
import json
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from resfit_rl.base_policies import base_policy_identity
from resfit_rl.episode_store import EpisodeStore
from resfit_rl.evaluation import Candidate, EvaluationError
from resfit_rl.learning.announcement import Announcement, load_announced
from resfit_rl.learning.publication import newest_publication
from resfit_rl.tasks import get_task
from resfit_rl.training.collector import Assignment, CollectorSettings
from resfit_rl.training.collectors import CollectionError, CollectorProcesses, OwnCollector
from resfit_rl.training.command import main
from resfit_rl.training.evaluations import EvaluationJob, Evaluator
from resfit_rl.training.progress import Progress
from resfit_rl.training.scores import Score, ScoresError, read_scores, write_scores
from resfit_rl.training.weights_log import WeightsLog

ROOT = Path(__file__).parents[3]
SMALL = f"""
base: {ROOT}/config/agents/lift_state.yaml
warmup_steps: 40
critic_warmup_updates: 8
batch_size: 16
ensemble_size: 2
spatial_dim: 16
critic_hidden_dim: 16
actor_hidden_dim: 16
"""


def write_recording(folder):
    """A base policy that starts quickly: LeRobot takes a process many seconds to import."""
    path = folder / "actions.npy"
    np.save(path, np.random.default_rng(0).uniform(-0.5, 0.5, (10, 7)).astype(np.float32))
    return path


def settings(folder):
    return CollectorSettings(
        task="lift_state", base_policy="replayed", base_policy_path=str(write_recording(folder)),
        replan_interval=3, lead=2, image_size=(84, 84), max_steps=10, seed=3, device="cpu",
        threads=1,
    )  # fmt: skip


def arguments(folder, **changes):
    """Of a run of 10 episodes of 10 steps in `folder`/run, without evaluations."""
    config = folder / "small.yaml"
    config.write_text(SMALL)
    values = {
        "task": "lift_state", "base_policy": "replayed",
        "base_policy_path": write_recording(folder), "demonstrations": "none",
        "agent_config": config, "run": folder / "run", "max_steps": 10, "steps": 100,
        "evaluate_every": 0, "seed": 3, "overlap": "false",
    } | changes  # fmt: skip
    pairs = ((f"--{key}".replace("_", "-"), str(value)) for key, value in values.items())
    return [text for pair in pairs for text in pair]


def newest_weights(run_dir):
    return load_file(max((run_dir / "weights").iterdir()))


@pytest.mark.timeout(1800)
def test_from_collection_to_curve_though_a_collector_dies(tmp_path, capfd):
    run_dir = tmp_path / "run"

    def kill_the_collector():
        while not EpisodeStore(run_dir).path(3).exists():
            time.sleep(0.01)
        (process,) = (p for p in multiprocessing.active_children() if p.name == "collector 0")
        os.kill(process.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_the_collector)
    killer.start()
    options = {"overlap": "true", "evaluate_every": 100, "evaluation_episodes": 2}
    assert main(arguments(tmp_path, **options, evaluation_workers=1)) == 0
    killer.join()
    printed = capfd.readouterr().out
    assert re.search(
        r"collector 0 died (at episode \d+|between episodes) \(exit code -9\)", printed
    )
    assert "evaluation at 0 steps (base policy): success" in printed
    assert "steps 100/100" in printed and "collector: " in printed

    scores = read_scores(run_dir)
    assert [(s.milestone, s.environment_steps, s.episodes) for s in scores] == [
        (0, 0, 2), (100, 100, 2),
    ]  # fmt: skip
    assert scores[0].policy == "base" and scores[1].updates == 8 + 4 * 60
    assert (run_dir / "curve.png").read_bytes().startswith(b"\x89PNG")
    store = EpisodeStore(run_dir)
    episodes = [store.read(episode_id) for episode_id in range(1, 11)]
    assert [len(episode) for episode in episodes] == [10] * 10
    assert all(not e.done and e.outcome == "timeout" and e.reward == 0 for e in episodes)
    assert len({e.seed for e in episodes}) == 10
    # Collected one episode ahead: the newest weights are not yet those of the last one learned.
    versions = [int(e.policy_version[0]) for e in episodes]
    assert versions == sorted(versions) and versions[0] == versions[3] == 1
    assert len(set(versions[5:])) == 5

    # What acts in the graph takes the weights: the policy node's own way.
    task = get_task("lift_state")
    identity = base_policy_identity("replayed", task, write_recording(tmp_path))
    publication = newest_publication(run_dir / "weights", task, task.agent_spec(), identity)
    announced = Announcement(publication.version, str(publication.path), publication.sha256)
    policy = load_announced(announced, task, task.agent_spec(), identity, "cpu")
    assert any(tensor.abs().sum() > 0 for tensor in list(policy.actor.parameters())[-2:])

    curves = EventAccumulator(str(run_dir / "tensorboard"))
    curves.Reload()
    tags = curves.Tags()["scalars"]
    assert {"learner/critic_loss", "evaluation/success", "collection/success"} <= set(tags)
    assert curves.Scalars("learner/critic_loss")[-1].step == 100
    shares = json.loads((run_dir / "time_shares.json").read_text())
    assert shares["collector"]["environment"] > 0 and shares["learner"]["update"] > 0
    for seconds in shares.values():
        assert sum(s for a, s in seconds.items() if a != "all") == pytest.approx(seconds["all"])


@pytest.mark.timeout(1800)
def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    command = [sys.executable, "-m", "resfit_rl.training"]
    # Checkpoints at every look: the kill comes between some of its writings.
    command += arguments(killed, checkpoint_period=0.01)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not EpisodeStore(killed / "run").path(7).exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert main(arguments(killed)) == 0
    assert main(arguments(whole)) == 0
    for one, other in zip(
        *(map(EpisodeStore(f / "run").read, range(1, 11)) for f in (whole, killed)), strict=True
    ):
        np.testing.assert_array_equal(one.executed_action, other.executed_action)
        np.testing.assert_array_equal(one.state, other.state)
    one, other = (newest_weights(folder / "run") for folder in (whole, killed))
    assert one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)


def test_a_run_is_not_mixed_with_another_seeds(tmp_path, capsys):
    begun = tmp_path / "run" / "training.json"
    begun.parent.mkdir()
    values = {"agent": "resfit", "replan_interval": 3, "lead": 2, "max_steps": 10}
    begun.write_text(json.dumps(values | {"seed": 5}))
    assert main(arguments(tmp_path)) == 1
    printed = capsys.readouterr().err
    assert "training.json: seed: expected 5, as this run was begun, found 3" in printed


def test_what_is_missing_is_named(tmp_path, capsys):
    assert main(arguments(tmp_path, demonstrations=tmp_path / "nowhere")) == 1
    assert "nowhere, found none (./resfit demos task:=lift_state" in capsys.readouterr().err
    if importlib.util.find_spec("wandb") is None:
        assert main(arguments(tmp_path, wandb="project")) == 1
        assert "wandb: expected the package wandb, found none" in capsys.readouterr().err
    assert main(arguments(tmp_path, base_policy_path=tmp_path / "no_model")) == 1
    assert "no_model" in capsys.readouterr().err
    assert main(arguments(tmp_path, agent_config=tmp_path / "no.yaml")) == 1
    assert "no.yaml: expected a readable YAML file" in capsys.readouterr().err


def test_a_collector_that_always_dies_ends_the_run(tmp_path):
    said = []
    collectors = CollectorProcesses(settings(tmp_path), tmp_path, 1, said.append)
    try:
        collectors.assign(Assignment(1, Announcement(1, "weights", ""), True))
        with pytest.raises(CollectionError, match=r"collector 0 died .* 3 times in a row"):
            while True:
                for process in multiprocessing.active_children():
                    process.kill()
                collectors.take(0.1)
        assert len(said) == 2 and "at episode 1 (exit code -9); starting it anew" in said[0]
    finally:
        collectors.close()
    assert not multiprocessing.active_children()


def test_an_evaluation_that_always_dies_ends_the_run(tmp_path):
    said = []
    candidate = Candidate("lift_state", "replayed", str(write_recording(tmp_path)), max_steps=10)
    evaluator = Evaluator(candidate, range(2), 1, said.append)
    try:
        evaluator.add(EvaluationJob(10, 12, 0, None))
        assert evaluator.pending == 1
        assert evaluator.under_way == "evaluation at 10 steps: 0 of 2 episodes"
        with pytest.raises(
            EvaluationError, match=r"at 10 steps: .* died \(exit code -9\), 3 times"
        ):
            while True:
                for process in multiprocessing.active_children():
                    process.kill()
                assert evaluator.take() == []
        assert len(said) == 2 and "running it again" in said[0]
    finally:
        evaluator.close()


@pytest.mark.timeout(1800)
def test_a_failing_collector_says_why(tmp_path):
    without = dataclasses.replace(settings(tmp_path), base_policy_path=str(tmp_path / "none"))
    collectors = CollectorProcesses(without, tmp_path, 1, print)
    try:
        with pytest.raises(CollectionError, match=str(tmp_path / "none")):
            collectors.assign(Assignment(1, Announcement(1, "weights", ""), True))
            while True:
                collectors.take(1.0)
    finally:
        collectors.close()


def test_progress():
    progress = Progress(1000, [True, False])
    assert "of the last episodes" in progress.line("warm_up", 0, 0, 100)
    assert "left" not in progress.line("warm_up", 0, 0, 100)
    progress._points.extend([(0.0, 0, 0), (10.0, 100, 10)])
    assert progress.rates() == (10.0, 1.0)
    # 900 steps take 90 s, 300 updates 300 s.
    line = progress.line("learning", 100, 10, 300)
    assert "steps 100/1,000 (learning)" in line and "success 1/2" in line and "5 min left" in line


def test_scores_are_kept(tmp_path):
    scores = [
        Score(0, 0, 0, "base", 1, 4, 7, [0, 1, 0, 0], 1.5),
        Score(50, 61, 8, "step.safetensors", 3, 4, 7, [1, 1, 1, 0], 2.0),
    ]
    write_scores(tmp_path, scores, "title")
    assert read_scores(tmp_path) == scores
    lines = (tmp_path / "scores.jsonl").read_text().splitlines()
    assert json.loads(lines[1])["success"] == 0.75
    (tmp_path / "scores.jsonl").write_text(lines[0] + '\n{"milestone": 3}\n')
    with pytest.raises(ScoresError, match=r"scores\.jsonl, line 2: expected a score"):
        read_scores(tmp_path)


def test_weights_log(tmp_path):
    files = [tmp_path / f"{k}" for k in range(6)]
    for file in files:
        file.touch()
    log = WeightsLog(tmp_path, ahead=1)
    assert not log
    for k, file in enumerate(files):
        log.add(k, Announcement(k, str(file), ""), k < 3)
    again = WeightsLog(tmp_path, ahead=1)
    for kept in (log, again):
        assert kept.at(4) == (Announcement(4, str(files[4]), ""), False)
        assert kept.at(0)[0].version == 3 and 2 not in kept and 3 in kept
    files[3].unlink()
    assert again.at(0)[0].version == 4


def test_file_size_limit_is_a_full_disk(tmp_path):
    """What cannot be written is kept, said once, and written later."""
    said = []
    collector = OwnCollector(settings(tmp_path), tmp_path, said.append)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        weights = _initial_weights(tmp_path)
        collector.assign(Assignment(1, weights, True))
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        assert collector.take(0.0) == [] == collector.take(0.0)
        assert not collector.free and collector.in_flight == {1}
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        (stored,) = collector.take(0.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        collector.close()
    assert stored.steps == 10 and collector.free and not collector.in_flight
    assert len(said) == 1 and "trying again" in said[0]


def _initial_weights(folder):
    from resfit_rl.agent import Normaliser, ResidualPolicy, load_agent_config
    from resfit_rl.learning.publication import publish

    config = folder / "small.yaml"
    config.write_text(SMALL)
    task = get_task("lift_state")
    spec = task.agent_spec()
    policy = ResidualPolicy.initial(load_agent_config(config), spec, Normaliser.from_spec(spec))
    found = publish(
        folder, 1, policy, task, base_policy_identity("replayed", task, write_recording(folder))
    )
    return Announcement(1, str(found.path), found.sha256)

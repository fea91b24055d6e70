import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from resfit_rl.agent import AgentConfig, DivergedError, load_policy
from resfit_rl.episode_store import EpisodeStore
from resfit_rl.learning import CheckpointError, Learner, LearningLoop
from resfit_rl.learning.checkpoint import checkpoint_files
from resfit_rl.tasks import get_task

TASK = get_task("square")
SIZE = (20, 24)
SPEC = TASK.agent_spec(SIZE)
BASE = "scripted:square:1"
CONFIG = AgentConfig(
    algorithm="residual_td3", total_steps=10000, offline_episodes=10, base_policy=True,
    zero_init_residual=True,
    batch_size=4, offline_fraction=0.5, buffer_capacity=20, utd_ratio=2, n_step=3, gamma=0.9,
    tau=0.1, critic_lr=1e-3, actor_lr=1e-3, encoder_lr=1e-3, grad_clip=1.0, ensemble_size=3,
    target_subset=2, shift_pad=2, residual_scale=0.2, exploration_std=0.1, noise_clip=0.15,
    warmup_steps=8, warmup_noise=0.3, critic_warmup_updates=5, embed_dim=8, encoder_layers=1,
    encoder_heads=2, encoder_mlp_ratio=2, spatial_dim=8, critic_hidden_dim=8,
    critic_hidden_layers=1, actor_feature_dim=8, actor_hidden_dim=8, actor_hidden_layers=1,
    layer_norm=True,
)  # fmt: skip


@pytest.fixture
def demonstrations(make_episode):
    return [make_episode(6, episode_id=k, seed=50 + k) for k in range(2)]


@pytest.fixture
def new_learner(tmp_path, demonstrations):
    def make(run_dir=tmp_path, config=CONFIG, offline=demonstrations, **changes):
        arguments = {"task": TASK, "base_policy": BASE, "spec": SPEC, "seed": 1} | changes
        return Learner(run_dir, config=config, offline=offline, **arguments)

    return make


@pytest.fixture
def store(tmp_path):
    return EpisodeStore(tmp_path)


def learn(learner):
    """All that the store holds, as the node does it. Ids taken in."""
    taken = []
    while True:
        learner.update(1000)
        episode = learner.ingest()
        if episode is None:
            return taken
        taken.append(episode.episode_id)


def flat(value):
    """All tensors and numbers of a nested state, with their places."""
    if isinstance(value, dict):
        return {(k, *rest): v for k, part in value.items() for rest, v in flat(part).items()}
    if isinstance(value, list | tuple):
        return flat(dict(enumerate(value)))
    return {(): value}


def drawn_batch(buffer):
    batch = buffer.gather(buffer.draw(torch.Generator().manual_seed(0), 64, 0.5))
    plain = ("state", "next_state", "base_action", "action", "reward", "discount")
    return batch.images | batch.next_images | {name: getattr(batch, name) for name in plain}


def assert_same(one, other):
    a, b = flat(one.agent.state_dict()), flat(other.agent.state_dict())
    assert a.keys() == b.keys()
    for key, value in a.items():
        same = torch.equal(value, b[key]) if torch.is_tensor(value) else value == b[key]
        assert same, key
    assert one.buffer.online_episode_ids == other.buffer.online_episode_ids
    x, y = (drawn_batch(learner.buffer) for learner in (one, other))
    for name, value in x.items():
        assert torch.equal(value, y[name]), name
    for name in ("environment_steps", "updates", "updates_owed", "phase", "metrics"):
        assert getattr(one, name) == getattr(other, name), name


def test_updates_owed_and_phases(new_learner, store, make_episode):
    learner = new_learner()
    assert (learner.phase, learner.updates_owed, learner.warm_up) == ("warm_up", 0, True)
    assert learner.update(10) == 0
    store.write(make_episode(5, episode_id=1))
    assert len(learner.ingest()) == 5
    assert (learner.phase, learner.updates_owed) == ("warm_up", 0)
    store.write(make_episode(7, episode_id=2))
    learner.ingest()
    # 12 steps, 8 of them warm-up: 5 updates of the critic at once and 2 for each of the other 4.
    assert (learner.phase, learner.updates_owed) == ("critic_warm_up", 13)
    assert not learner.warm_up
    assert learner.update(5) == 5
    assert (learner.phase, learner.updates_owed) == ("learning", 8)
    assert learner.update(100) == 8
    assert (learner.phase, learner.updates_owed, learner.updates) == ("waiting", 0, 13)
    store.write(make_episode(3, episode_id=3, outcome="timeout"))
    learner.ingest()
    assert learner.updates_owed == 6
    assert learner.update(100, time_budget=0.0) == 2  # A block.
    assert {"critic_loss", "actor_loss", "q_mean", "residual_norm"} <= learner.metrics.keys()


def test_nothing_is_owed_of_nothing(new_learner):
    config = dataclasses.replace(CONFIG, warmup_steps=0)
    assert new_learner(config=config, offline=[]).updates_owed == 0
    learner = new_learner(config=config)
    assert learner.updates_owed == 5 and learner.update(100) == 5


def test_each_episode_is_taken_in_once_in_order(new_learner, store, make_episode):
    learner = new_learner()
    for episode_id in (2, 1, 4):
        store.write(make_episode(4, episode_id=episode_id))
    assert learn(learner) == [1, 2, 4]
    store.write(make_episode(4, episode_id=3))
    store.write(make_episode(4, episode_id=5))
    store.path(3).write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="episode_000003"):
        assert learn(learner) == [5]
    assert learner.episode_ids == [1, 2, 4, 5] and learner.environment_steps == 16
    assert learn(learner) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base_policy": "act:1"}, f"base_policy: expected {BASE}, found act:1"),
        ({"task": "can"}, "task: expected square, found can"),
        ({"size": (16, 16)}, "camera agentview: expected shape"),
        ({"length": 21}, "at most 20 transitions"),
    ],
)
def test_an_episode_of_another_kind_is_passed_over(
    new_learner, store, make_episode, change, message
):
    learner = new_learner()
    store.write(make_episode(**({"length": 4, "episode_id": 1} | change)))
    store.write(make_episode(4, episode_id=2))
    with pytest.warns(UserWarning, match=message):
        assert learn(learner) == [2]
    learner.save_checkpoint()
    again = new_learner()
    again.resume()
    assert again.ingest() is None  # Nor a warning: pytest would show it as an error.


@pytest.mark.parametrize("stop_at", [0, 1, 3, 5])
def test_killed_and_resumed_equals_uninterrupted(
    tmp_path, new_learner, store, make_episode, stop_at
):
    """The buffer of 20 transitions drops episodes before the checkpoint and after it."""
    for episode_id in range(1, 8):
        outcome = ("success", "timeout", "failure")[episode_id % 3]
        store.write(make_episode(3 + episode_id % 4, episode_id=episode_id, outcome=outcome))
    other = tmp_path / "other"
    uninterrupted = new_learner()
    learn(uninterrupted)
    other_store = EpisodeStore(other)
    other_store.folder.mkdir(parents=True)
    first = new_learner(other)
    for episode_id in range(1, stop_at + 1):
        shutil.copy(store.path(episode_id), other_store.path(episode_id))
    learn(first)
    first.save_checkpoint()
    for episode_id in range(stop_at + 1, 8):
        shutil.copy(store.path(episode_id), other_store.path(episode_id))
    # What comes after the checkpoint is lost with the process.
    first.ingest()
    first.update(3)
    del first
    resumed = new_learner(other)
    assert resumed.resume() == checkpoint_files(other / "checkpoints")[0]
    assert learn(resumed) == list(range(stop_at + 1, 8))
    assert uninterrupted.updates > 20
    assert_same(resumed, uninterrupted)


def test_a_checkpoint_amid_owed_updates_continues_too(new_learner, store, make_episode):
    for episode_id in (1, 2, 3):
        store.write(make_episode(6, episode_id=episode_id))
    one = new_learner()
    one.ingest()
    one.ingest()
    one.update(4)
    one.save_checkpoint()
    two = new_learner()
    two.resume()
    assert_same(one, two)
    assert learn(one) == learn(two) == [3]
    assert_same(one, two)


_KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_learning as t
learner = t.Learner(Path(sys.argv[1]), t.TASK, t.BASE, t.CONFIG, t.SPEC, [], 1)
learner.resume()
learner.publish_weights()
while True:
    if not learner.update(2):
        learner.ingest()
    print(learner.save_checkpoint(), flush=True)
    learner.publish_weights()
"""


def test_killed_while_saving_there_is_always_a_good_checkpoint(
    tmp_path, new_learner, store, make_episode
):
    for episode_id in range(1, 30):
        store.write(make_episode(6, episode_id=episode_id))
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    arguments = [sys.executable, "-c", textwrap.dedent(_KILLED), str(tmp_path)]
    for lines in (6,):
        process = subprocess.Popen(
            [*arguments, os.path.dirname(__file__)],
            stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        for _ in range(lines):
            saved = process.stdout.readline().strip()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        learner = new_learner(offline=[])
        assert learner.resume().name >= os.path.basename(saved)
        publication = learner.newest_publication()
        assert publication.version >= lines
        load_policy(publication.path, "square", SPEC, expected_base_policy=BASE)
        assert learner.publish_weights().version == publication.version + 1


def damage(path, how):
    data = bytearray(path.read_bytes())
    if how == "truncated":
        data = data[:-1000]
    elif how == "empty":
        data = b""
    else:
        data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.fixture
def two_checkpoints(new_learner, store, make_episode):
    learner = new_learner()
    for episode_id in range(1, 5):
        store.write(make_episode(6, episode_id=episode_id))
        learn(learner)
        learner.save_checkpoint()
    return checkpoint_files(store.folder.parent / "checkpoints")


@pytest.mark.parametrize("how", ["truncated", "empty", "flipped"])
def test_a_damaged_newest_checkpoint_falls_back(new_learner, two_checkpoints, how):
    newest, previous = two_checkpoints  # Four were saved, two are kept.
    damage(newest, how)
    learner = new_learner()
    with pytest.warns(UserWarning, match=f"{newest.name}: expected a whole checkpoint"):
        assert learner.resume() == previous
    assert learn(learner) == [4]


def test_without_a_good_checkpoint_there_is_no_start(new_learner, two_checkpoints):
    for path in two_checkpoints:
        damage(path, "truncated")
    with (
        pytest.warns(UserWarning, match="expected a whole checkpoint"),
        pytest.raises(CheckpointError, match="expected a good checkpoint") as info,
    ):
        new_learner().resume()
    assert all(str(path) in str(info.value) for path in two_checkpoints)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": dataclasses.replace(TASK, name="can")}, "task: expected can, found square"),
        ({"base_policy": "act:1"}, f"base_policy: expected act:1, found {BASE}"),
        ({"config": dataclasses.replace(CONFIG, gamma=0.5)}, "gamma: expected 0.5, found 0.9"),
        ({"spec": TASK.agent_spec((20, 20)), "offline": []}, "demonstrations: expected none"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(new_learner, two_checkpoints, changes, message):
    with pytest.raises(CheckpointError, match=f"{two_checkpoints[0].name}: .*{message}"):
        new_learner(**changes).resume()


def test_a_checkpoint_of_another_image_size_is_refused(tmp_path, new_learner):
    new_learner(offline=[]).save_checkpoint()
    with pytest.raises(CheckpointError, match=r"spec\.cameras: expected"):
        new_learner(offline=[], spec=TASK.agent_spec((20, 20))).resume()


def test_an_episode_that_a_checkpoint_needs_is_gone(new_learner, store, two_checkpoints):
    store.path(3).unlink()
    learner = new_learner()
    with pytest.warns(UserWarning, match="episode_000003"):
        learner.resume()
    assert learner.buffer.online_episode_ids == [2, 4]


def test_versions_grow_over_restarts_and_files_never_change(tmp_path, new_learner):
    learner = new_learner()
    assert learner.newest_publication() is None and learner.resume() is None
    first = learner.publish_weights()
    assert (first.version, first.path.name) == (1, "policy_v000001.safetensors")
    data = first.path.read_bytes()
    assert first.size_bytes == len(data)
    again = new_learner()
    assert again.newest_publication() == first
    assert again.publish_weights().version == 2 and first.path.read_bytes() == data
    for _ in range(6):
        newest = again.publish_weights()
    assert newest.version == 8 and not first.path.exists()
    assert len(list(first.path.parent.iterdir())) == 5
    newest.path.write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="policy_v000008"):
        assert again.newest_publication().version == 7
    assert new_learner().publish_weights().version == 9


def test_weights_that_are_not_finite_are_never_published(new_learner, store, make_episode):
    learner = new_learner()
    good = learner.publish_weights()
    with torch.no_grad():
        learner.agent.actor.last.bias[0] = float("nan")
    with pytest.raises(DivergedError, match="NaN"):
        learner.publish_weights()
    assert learner.phase == "error" and learner.newest_publication() == good
    with pytest.raises(DivergedError):
        learner.save_checkpoint()


def test_divergence_is_the_phase_error(new_learner, store, make_episode):
    learner = new_learner()
    for episode_id in (1, 2):
        store.write(make_episode(6, episode_id=episode_id))
        learner.ingest()
    with torch.no_grad():
        learner.agent.target_critic.channel_map[0, 0] = float("inf")
    with pytest.raises(DivergedError, match="update 1"):
        learner.update(5)
    assert learner.phase == "error"


def test_scaling_without_demonstrations_is_the_robots(new_learner):
    lower, upper = new_learner(offline=[]).agent.normaliser.bounds()
    np.testing.assert_array_equal(lower, TASK.action_lower)
    np.testing.assert_array_equal(upper, TASK.action_upper)


# -- the loop -------------------------------------------------------------------------------------


class Recorded:
    """What a loop said and published."""

    def __init__(self, learner, publish_every=8, checkpoint_period=1e6):
        self.publications, self.lines = [], []
        self.loop = LearningLoop(
            learner,
            publish_every=publish_every,
            checkpoint_period=checkpoint_period,
            on_publication=lambda *publication: self.publications.append(publication),
            log=self.lines.append,
        )

    def run(self):
        while self.loop.step(time_budget=10.0):
            pass

    @property
    def announced(self):
        return [(p.version, warm_up) for p, warm_up in self.publications]


def test_the_loop_publishes_learns_and_saves(tmp_path, new_learner, store, make_episode):
    learner = new_learner()
    recorded = Recorded(learner)
    recorded.run()
    assert recorded.announced == [(1, True)]
    store.write(make_episode(6, episode_id=1))
    store.write(make_episode(10, episode_id=2))
    recorded.run()
    # 21 updates: a version at the end of the warm-up, after 8, after 16 and after all.
    assert learner.updates == 21
    assert recorded.announced == [(1, True), (2, False), (3, False), (4, False), (5, False)]
    assert recorded.loop.updates_per_second > 0
    (newest, _) = checkpoint_files(tmp_path / "checkpoints")
    again = new_learner()
    assert again.resume() == newest
    assert_same(again, learner)
    assert any("episode 2 taken in: success, 10 steps" in line for line in recorded.lines)
    assert any("21 updates made at" in line for line in recorded.lines)
    restarted = Recorded(again)
    restarted.run()
    assert restarted.announced == [(5, False)]


def test_a_checkpoint_amid_many_updates(tmp_path, new_learner, store, make_episode):
    recorded = Recorded(new_learner(), checkpoint_period=0.0)
    store.write(make_episode(16, episode_id=1))
    recorded.run()
    names = [path.name for path in checkpoint_files(tmp_path / "checkpoints")]
    assert names == ["checkpoint_000000021.pt", "checkpoint_000000017.pt"]


@pytest.mark.parametrize("folder", ["checkpoints", "weights"])
def test_what_could_not_be_written_is_written_later(
    tmp_path, new_learner, store, make_episode, folder
):
    recorded = Recorded(new_learner())
    store.write(make_episode(16, episode_id=1))
    (tmp_path / folder).write_text("in the way")
    with pytest.raises(OSError, match=folder):
        recorded.run()
    with pytest.raises(OSError, match=folder):
        recorded.run()
    (tmp_path / folder).unlink()
    recorded.run()
    assert recorded.announced[0] == (1, True) and recorded.loop.learner.updates == 21
    assert checkpoint_files(tmp_path / "checkpoints")[0].name == "checkpoint_000000021.pt"

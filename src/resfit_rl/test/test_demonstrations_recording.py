"""Recording that is stopped, killed and resumed; disturbed experts."""

import errno
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from resfit_rl.base_policies.scripted import ScriptedExpert
from resfit_rl.demonstrations import (
    Demonstration,
    DemonstrationsError,
    DemonstrationsIdentity,
    load_demonstrations,
    read_identity,
)
from resfit_rl.demonstrations import __main__ as command
from resfit_rl.demonstrations import recording as recording_module
from resfit_rl.demonstrations.disturbance import DisturbedExpert
from resfit_rl.demonstrations.episode_files import Attempt, EpisodeFiles
from resfit_rl.demonstrations.recording import Recording, record
from resfit_rl.tasks import get_task

_SIZE = (12, 16)
_TASK = get_task("can")
_IDENTITY = DemonstrationsIdentity("can", _TASK.implementation, "scripted:can:1", _SIZE, 5, 3)


def _made(length=4, seed=0):
    rng = np.random.default_rng(seed)
    return Demonstration(
        images={c: rng.integers(0, 256, (length, *_SIZE, 3), np.uint8) for c in _TASK.cameras},
        state=rng.normal(size=(length, 9)).astype(np.float32),
        action=rng.uniform(-1, 1, (length, 7)).astype(np.float32),
    )


def _require_equal(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.state, other.state)
        np.testing.assert_array_equal(one.action, other.action)
        for camera, images in other.images.items():
            np.testing.assert_array_equal(one.images[camera], images)


def _arguments(out, *more):
    size = [str(n) for n in _SIZE]
    common = ["--task", "can", "--out", str(out), "--seed", "3", "--image-size", *size]
    return [*common, "--episodes", "2", *more]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole") / "can"
    assert command.main(_arguments(root, "--workers", "2")) == 0
    assert [path.name for path in root.parent.iterdir()] == ["can"]
    return root


def _start(out, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "resfit_rl.demonstrations", *_arguments(out, "--workers", "1")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def _wait_for_line(process, text):
    while text not in (line := process.stdout.readline()):
        assert line, process.communicate()


def _workers_of(group):
    """Process ids of the living of a process group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # ended meanwhile
            continue
        if int(its_group) == group and state != "Z":
            found.append(int(path.parent.name))
    return found


def test_stopped_killed_and_resumed_gives_the_same_data_set(uninterrupted, tmp_path, capfd):
    out = tmp_path / "can"
    stopped = _start(out)
    _wait_for_line(stopped, "episode 1/2 seed 3")
    # As a terminal does it: to all processes of the group.
    subprocess.run(["kill", "-INT", "--", f"-{stopped.pid}"], check=True)
    _, error = stopped.communicate(timeout=60)
    assert stopped.returncode == 130
    assert error.count("\n") == 1 and f"kept in {tmp_path}/.can.incomplete" in error

    killed = _start(out)
    _wait_for_line(killed, "kept from before")
    while len(_workers_of(killed.pid)) < 2:
        time.sleep(0.1)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    end = time.monotonic() + 30
    while _workers_of(killed.pid):
        assert time.monotonic() < end, "workers outlived their killed parent"
        time.sleep(0.1)
    assert not out.exists()

    assert command.main(_arguments(out, "--workers", "1")) == 0
    text = capfd.readouterr().out
    assert text.count("kept from before\n") == 1 and "(1 kept from before)" in text
    assert read_identity(out) == read_identity(uninterrupted)
    _require_equal(
        load_demonstrations(out, _TASK, _SIZE), load_demonstrations(uninterrupted, _TASK, _SIZE)
    )
    assert [path.name for path in tmp_path.iterdir()] == ["can"]


def test_what_cannot_be_written_is_one_clear_error_and_nothing_is_lost(tmp_path):
    out = tmp_path / "can"
    files = EpisodeFiles(out.with_name(".can.incomplete"), _TASK, _recorded_identity())
    files.write(3, _made())
    limit = (20_000, 20_000)  # bytes of a file: the next episode does not fit
    process = _start(out, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1
    assert error.count("\n") == 1 and "File too large" in error and "is kept in" in error
    _require_equal([files.read(3)], [_made()])
    assert sorted(path.name for path in files.folder.iterdir()) == ["seed_000000003.npz"]


def _recorded_identity():
    expert = ScriptedExpert("can").identity
    return DemonstrationsIdentity("can", _TASK.implementation, expert, _SIZE, 3, 3)


def test_full_disk_is_one_clear_error(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "disk full: expected 9 bytes of space, found 0", "file")
        yield

    monkeypatch.setattr(command, "record", full)
    assert command.main(_arguments(tmp_path / "can")) == 1
    error = capsys.readouterr().err
    assert "disk full: expected 9 bytes" in error and "is kept in" in error
    assert error.count("\n") == 1


def test_second_recorder_and_other_arguments_are_refused(tmp_path, capsys):
    folder = tmp_path / ".can.incomplete"
    EpisodeFiles(folder, _TASK, _recorded_identity()).write(3, _made())
    with command.claim_role(folder, "recorder"):
        assert command.main(_arguments(tmp_path / "can")) == 1
    assert "expected one recorder, found another running" in capsys.readouterr().err
    assert command.main([*_arguments(tmp_path / "can"), "--seed", "4"]) == 1
    error = capsys.readouterr().err
    assert "expected seed 4, found 3" in error and "go on with its arguments" in error
    assert command.main([*_arguments(tmp_path / "can"), "--disturbance", "0.2"]) == 1
    assert ":disturbed-0.2, found scripted:can:" in capsys.readouterr().err


def test_episode_files_keep_what_is_whole(tmp_path, capsys):
    files = EpisodeFiles(tmp_path, _TASK, _IDENTITY)
    assert files.write(7, _made(4)) == Attempt(7, 4)
    assert files.write(8, None) == Attempt(8, None)
    files.write(9, _made(5, seed=1))
    files.write(10, _made(6, seed=2))
    path = files.folder / "seed_000000009.npz"
    path.write_bytes(path.read_bytes()[:-300])
    path = files.folder / "seed_000000010.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    (files.folder / ".seed_000000011.npz.abc.tmp").write_bytes(b"half")
    again = EpisodeFiles(tmp_path, _TASK, _IDENTITY)
    assert again.kept() == {7: Attempt(7, 4, kept=True), 8: Attempt(8, None, kept=True)}
    error = capsys.readouterr().err
    assert error.count("warning: ") == 2 and "seed_000000009.npz: expected a whole" in error
    assert len(list(files.folder.iterdir())) == 2
    _require_equal([again.read(7)], [_made(4)])


def test_damaged_record_of_what_is_recorded_is_refused(tmp_path):
    EpisodeFiles(tmp_path, _TASK, _IDENTITY)
    (tmp_path / "recording.json").write_text("{")
    with pytest.raises(DemonstrationsError, match=r"recording\.json: expected"):
        EpisodeFiles(tmp_path, _TASK, _IDENTITY)


class _NoPool:
    def shutdown(self, **_):
        pass


@pytest.mark.parametrize("workers", [1, 4])
def test_the_first_successes_in_the_order_of_the_seeds(tmp_path, monkeypatch, workers):
    submitted = []

    def submit(_, seed):
        submitted.append(seed)
        future = Future()
        future.set_result(Attempt(seed, None if seed in (6, 9) else 10))
        return future

    monkeypatch.setattr(recording_module, "_pool", lambda *_: _NoPool())
    monkeypatch.setattr(recording_module, "_submit", submit)
    files = EpisodeFiles(tmp_path, _TASK, _IDENTITY)
    files.write(7, _made(4))
    files.write(8, None)
    attempts = list(record(Recording("can", _SIZE, 0.0, 5, 4), files, workers))
    assert [(a.seed, a.steps) for a in attempts] == [
        (5, 10), (6, None), (7, 4), (8, None), (9, None), (10, 10), (11, 10),
    ]  # fmt: skip
    assert submitted == [5, 6, 9, 10, 11]  # none too many, and nothing that is on disk


class _Steady:
    """Always the same action, at the upper limit in x."""

    chunk_size = 1
    identity = "steady"

    def reset(self, seed):
        pass

    def predict_chunk(self, observation):
        return np.array([[1, 0, 0.5, 0, 0, 0, -1]], np.float32)


def _disturbed(size, steps=6000, seed=3):
    expert = DisturbedExpert(_Steady(), _TASK, size)
    expert.reset(seed)
    return expert, np.concatenate([expert.predict_chunk(None) for _ in range(steps)])


def test_disturbance_is_held_for_a_while_and_spares_the_gripper():
    expert, given = _disturbed(0.2)
    own = expert.own_actions()
    np.testing.assert_array_equal(own, np.tile([1, 0, 0.5, 0, 0, 0, -1], (6000, 1)))
    offset = given - own
    np.testing.assert_array_equal(offset[:, 6], 0)
    assert given.max() <= 1 and np.abs(offset).max() <= 0.2 + 1e-6
    pushed = np.abs(offset[:, 1]) > 0
    assert 0.15 < pushed.mean() < 0.25
    changes = np.flatnonzero(np.diff(offset[:, 1])) + 1
    lengths = np.diff(changes)[pushed[changes[:-1]]]
    assert lengths.min() >= 3 and lengths.max() <= 10
    assert offset[pushed, 1].std() > 0.08  # uniform in +-0.2: 0.115


def test_disturbance_is_the_seeds_and_none_of_size_0():
    np.testing.assert_array_equal(_disturbed(0.2, 200)[1], _disturbed(0.2, 200)[1])
    assert np.abs(_disturbed(0.2, 200)[1] - _disturbed(0.2, 200, seed=4)[1]).max() > 0
    expert, given = _disturbed(0.0, 200)
    np.testing.assert_array_equal(given, expert.own_actions())
    assert expert.identity == "steady"
    assert DisturbedExpert(_Steady(), _TASK, 0.25).identity == "steady:disturbed-0.25"


def test_disturbance_moves_arms_only_in_the_tasks_of_two_hands():
    for name in ("box_cleanup", "can_sort", "coffee"):
        task = get_task(name)
        size = DisturbedExpert(_Steady(), task, 1.0)._size
        assert (size > 0).sum() == 12 and task.action_dim == 24


def test_disturbed_expert_is_recorded_with_its_own_actions(uninterrupted, tmp_path):
    out = tmp_path / "can"
    more = ["--disturbance", "0.3", "--workers", "1"]
    assert command.main([*_arguments(out, *more), "--episodes", "1"]) == 0
    assert read_identity(out).expert == f"{read_identity(uninterrupted).expert}:disturbed-0.3"
    disturbed = load_demonstrations(out, _TASK, _SIZE)[0]
    alone = load_demonstrations(uninterrupted, _TASK, _SIZE)[0]
    # Other positions, but never an action that the expert would not give: its steps are limited.
    assert not np.array_equal(disturbed.state[:50], alone.state[:50])
    assert np.abs(np.diff(disturbed.action[:, :6], axis=0)).max() <= 0.25 + 1e-6


def test_bad_arguments_are_refused(tmp_path, capsys):
    for more in (["--disturbance", "1.5"], ["--seed", "-1"], ["--workers", "0"]):
        with pytest.raises(SystemExit):
            command.main([*_arguments(tmp_path / "can"), *more])
        assert "expected" in capsys.readouterr().err

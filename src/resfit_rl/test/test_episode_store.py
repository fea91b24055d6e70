import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from resfit_rl.episode_store import (
    CorruptEpisodeError,
    EpisodeStore,
    RunError,
    claim_role,
    open_run,
)
from resfit_rl.episode_store.__main__ import main as print_table
from resfit_rl.episode_store.atomic_file import write_atomically


def assert_equal(one, other):
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if field.name == "images":
            assert a.keys() == b.keys()
            for name in a:
                np.testing.assert_array_equal(a[name], b[name])
                assert a[name].dtype == b[name].dtype
        elif isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
        else:
            assert a == b, field.name


def test_an_episode_comes_back_as_it_was(tmp_path, make_episode):
    store = EpisodeStore(tmp_path)
    episode = make_episode(7, outcome="timeout", seed=2**63)
    episode = dataclasses.replace(episode, seed=2**64 - 1)
    stored = store.write(episode)
    assert (stored.steps, stored.outcome, stored.seed) == (7, "timeout", 2**64 - 1)
    assert stored.policy_versions == (0, 6)
    assert_equal(store.read(1), episode)
    assert store.list() == [stored]


def test_ids_are_sorted_and_never_used_again(tmp_path, make_episode):
    store = EpisodeStore(tmp_path)
    assert store.next_id() == 1
    for episode_id in (3, 1, 1_000_000):
        store.write(make_episode(episode_id=episode_id))
    assert [stored.episode_id for stored in store.list()] == [1, 3, 1_000_000]
    store.path(1_000_000).write_bytes(b"no episode")
    with pytest.warns(UserWarning, match="episode_1000000"):
        assert [stored.episode_id for stored in store.list()] == [1, 3]
    assert store.next_id() == 1_000_001
    with pytest.raises(FileExistsError, match="episode_000003"):
        store.write(make_episode(episode_id=3))


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped", "renamed metadata"])
def test_a_damaged_file_is_moved_aside_and_the_others_stay(tmp_path, make_episode, damage):
    store = EpisodeStore(tmp_path)
    for episode_id in (1, 2, 3):
        store.write(make_episode(episode_id=episode_id))
    path = store.path(2)
    data = bytearray(path.read_bytes())
    if damage == "truncated":
        data = data[: len(data) // 2]
    elif damage == "empty":
        data = b""
    elif damage == "flipped":
        data[-1000] ^= 1
    else:
        data = data.replace(b"success", b"failure")
    path.write_bytes(data)
    with (
        pytest.warns(UserWarning, match="episode_000002"),
        pytest.raises(CorruptEpisodeError, match="episode_000002"),
    ):
        store.read(2)
    assert store.ids() == [1, 3]
    assert (store.folder / "corrupt" / path.name).exists()
    assert_equal(store.read(3), make_episode(episode_id=3))
    with pytest.raises(FileNotFoundError, match="episode_000002"):
        store.read(2)


def test_the_table_shows_what_is_whole(tmp_path, make_episode, capsys):
    store = EpisodeStore(tmp_path)
    store.write(make_episode(episode_id=1))
    store.write(make_episode(episode_id=2, outcome="timeout"))
    assert print_table([str(tmp_path)]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[2].split() == ["2", "timeout", "5", "102", "0-4", "yes"]
    data = bytearray(store.path(2).read_bytes())
    data[-1] ^= 255
    store.path(2).write_bytes(data)
    assert print_table([str(tmp_path)]) == 1
    assert "no: " in capsys.readouterr().out.splitlines()[2]
    assert store.ids() == [1, 2]  # Looking changes nothing.
    assert print_table([str(tmp_path / "nowhere")]) == 1


_WRITER = """
import sys, numpy as np
from resfit_rl.episode_store.episode import Episode
from resfit_rl.episode_store.store import EpisodeStore
store = EpisodeStore(sys.argv[1])
store.remove_leftovers()
T = 40
while True:
    i = store.next_id()
    rng = np.random.default_rng(i)
    store.write(Episode("square", "x", "b", i, i, "success", 1.0, True,
        {"c": rng.integers(0, 256, (T + 1, 84, 84, 3), np.uint8)},
        np.full((T + 1, 9), i, np.float32), np.zeros((T + 1, 7), np.float32),
        np.zeros((T, 7), np.float32), np.zeros(T, np.int64), np.arange(T + 1)))
    print(i, flush=True)
"""


def test_killed_at_any_time_every_listed_episode_is_whole(tmp_path):
    store = EpisodeStore(tmp_path)
    announced = []
    rng = np.random.default_rng(0)
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        announced.append(int(process.stdout.readline()))
        time.sleep(rng.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        announced += [int(line) for line in process.communicate()[0].split()]
    ids = store.ids()
    assert len(ids) >= 6
    assert ids == list(range(1, len(ids) + 1))
    assert set(announced) <= set(ids)
    for episode_id in ids:
        assert store.read(episode_id).state[0, 0] == episode_id


def test_leftovers_are_removed_and_episodes_are_not(tmp_path, make_episode):
    store = EpisodeStore(tmp_path)
    store.write(make_episode())
    (store.folder / ".episode_000002.safetensors.abc.tmp").write_bytes(b"half")
    assert store.ids() == [1]
    assert store.remove_leftovers() == 1
    assert [path.name for path in store.folder.iterdir()] == ["episode_000001.safetensors"]


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=192k", "tmpfs", str(folder)]
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_disk_full_leaves_no_partial_file_and_says_what_is_needed(small_disk, make_episode):
    store = EpisodeStore(small_disk)
    first, second = make_episode(40), make_episode(40, episode_id=2)
    stored = store.write(first)
    with pytest.raises(OSError, match=r"disk full: expected \d+ bytes of space, found \d+") as info:
        store.write(second)
    assert str(store.path(2)) in str(info.value)
    assert [path.name for path in store.folder.iterdir()] == [stored.path.name]
    stored.path.unlink()
    store.write(second)
    assert_equal(store.read(2), second)


def test_an_unwritable_folder_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        write_atomically(tmp_path / "file" / "x", b"")


def test_a_run_directory_belongs_to_one_run(tmp_path):
    run_dir = tmp_path / "runs" / "square"
    assert open_run(run_dir, "square", "r/s", "act:1") == run_dir
    assert open_run(run_dir, "square", "r/s", "act:1") == run_dir
    assert json.loads((run_dir / "run.json").read_text())["base_policy"] == "act:1"
    for identity, key in (
        (("can", "r/s", "act:1"), "task: expected can, found square"),
        (("square", "r/t", "act:1"), "implementation: expected r/t, found r/s"),
        (("square", "r/s", "act:2"), "base_policy: expected act:2, found act:1"),
    ):
        with pytest.raises(RunError, match=key):
            open_run(run_dir, *identity)
    (run_dir / "run.json").write_text("{}")
    with pytest.raises(RunError, match=r"run\.json: expected the identity"):
        open_run(run_dir, "square", "r/s", "act:1")


def test_a_role_has_one_process_and_is_free_after_its_death(tmp_path):
    code = (
        "import sys, time, pathlib; from resfit_rl.episode_store.run import claim_role;"
        "file = claim_role(pathlib.Path(sys.argv[1]), 'recorder'); print('claimed', flush=True);"
        "time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "claimed\n"
    with pytest.raises(RunError, match=f"one recorder, found .*process {process.pid}"):
        claim_role(tmp_path, "recorder")
    claim_role(tmp_path, "learner").close()
    process.kill()
    process.communicate()
    claim_role(tmp_path, "recorder").close()


def test_storing_needs_no_torch():
    code = "import sys, resfit_rl.episode_store; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ).returncode == 0

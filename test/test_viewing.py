"""The graph is watched, and goes on without whoever watched it."""

import os
import re
import signal
import time

import pytest
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory

from resfit_interfaces.msg import EpisodeState, ExecutedAction
from resfit_rl.episode_store import EpisodeStore
from resfit_rl.tasks import get_task
from resfit_ros import qos
from resfit_viewing.observer import CANNOT_WATCH
from resfit_viewing.viewer_files import viewer_files

SMALL = (
    "base_policy:=scripted",
    "image_height:=32",
    "image_width:=32",
    "demonstrations:=none",
    "learner:=false",
)


def read(path):
    """topic -> its messages, decoded by what the file itself says of them."""
    found = {}
    with path.open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        for _, channel, _, message in reader.iter_decoded_messages():
            found.setdefault(channel.topic, []).append(message)
    return found


def stamp(message):
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


@pytest.mark.timeout(400)
def test_recordings_are_whole_and_a_killed_viewer_ends_nothing(launch_sim, observer, tmp_path):
    run_dir, file = tmp_path / "run", tmp_path / "watch.rrd"
    states = observer.collect(EpisodeState, "episode_state", qos.LATCHED)
    graph = launch_sim(
        *SMALL,
        "task:=can",
        f"run_dir:={run_dir}",
        "episodes:=1",
        "viewer:=rerun",
        f"rerun_to:={file}",
        "record_mcap:=true",
    )
    graph.wait_for(r"\[rerun_view-\d+\].*can in Rerun", 240)
    graph.wait_for(r"\[markers-\d+\].*markers of can", 240)
    graph.wait_until(
        lambda: any(s.state == EpisodeState.RUNNING for s in states), 240, "an episode"
    )
    graph.wait_until(lambda: file.exists() and file.stat().st_size > 2e6, 120, "a growing file")
    there = dict(observer.node.get_topic_names_and_types())
    for text in viewer_files(get_task("can")).values():
        for topic in topics_in(text):
            assert topic in there, topic
    # First it hangs, then it dies.
    os.kill(graph.pid("rerun_view"), signal.SIGSTOP)
    executed = observer.collect(ExecutedAction, "executed_action", qos.EVENT)
    graph.wait_until(lambda: len(executed) > 20, 120, "steps beside a viewer that hangs")
    graph.kill("rerun_view")
    graph.wait_for(r"\[rerun_view-\d+\]: process has died .*exit code -9", 20)
    # On a busy machine one may be aborted before: a node's heartbeat was late.
    graph.wait_for(r"all 1 episodes done: (\d+ aborted, )?1 success", 240)
    assert graph.process.wait(60) == 0
    assert graph.log.count("process has died") == 1

    check_recordings(run_dir)


def check_recordings(run_dir):
    """Each stored episode has its file, with all that happened in it."""
    store = EpisodeStore(run_dir)
    entries = store.list()
    assert len(entries) == 1
    for entry in entries:
        episode = store.read(entry.episode_id)
        recorded = read(run_dir / "mcap" / f"episode_{entry.episode_id:06d}.mcap")
        steps = {m.step: m for m in recorded["/executed_action"]}
        assert sorted(steps)[: len(episode)] == list(range(len(episode)))
        running = [m for m in recorded["/episode_state"] if m.state == EpisodeState.RUNNING]
        start = running[0].start_stamp
        wanted = [start.sec * 10**9 + start.nanosec]
        wanted += [stamp(steps[step]) for step in range(len(episode))]
        # Each observation once, though a waiting driver repeats itself.
        for topic in (
            "/joint_states",
            "/wrenches/right",
            "/cameras/agentview/image_raw",
            "/cameras/robot0_eye_in_hand/image_raw",
        ):
            found = [stamp(m) for m in recorded[topic]]
            assert found[: len(wanted)] == wanted, topic
            assert len(found) <= len(wanted) + 1, topic
        commands = {m.step: m for m in recorded["/action_command"]}
        assert set(range(len(episode) + 1)) <= set(commands)
        assert all(m.latency > 0 for m in commands.values())
        assert recorded["/markers"]
        last = recorded["/episode_state"][-1]
        assert (last.state, last.end_step) == (EpisodeState.FINISHED, len(episode))
        # /diagnostics from each node of the graph, those that watch included.
        told = {s.name for m in recorded["/diagnostics"] for s in m.status}
        assert told >= {
            *("/sim_bridge", "/policy", "/safety_monitor", "/episode_supervisor"),
            *("/episode_recorder", "/auto_labeler", "/markers", "/episode_mcap"),
        }
    assert recorded["/episode_state"][-1].recent_success_rate == 1.0


def topics_in(text):
    """Absolute topic names in the file of a viewer, without the fields behind them."""
    names = set(re.findall(r"['\" ](/[a-z_][\w/]*)", text))
    fields = ("force", "torque", "max_", "residual_norm", "q_mean", "recent", "latency")
    return {
        name.rpartition("/")[0] if name.rpartition("/")[2].startswith(fields) else name
        for name in names
    }


@pytest.mark.timeout(200)
def test_a_viewer_that_cannot_show_anything_ends_alone(launch_sim, tmp_path):
    graph = launch_sim(
        *SMALL, "task:=can", f"run_dir:={tmp_path / 'run'}", "viewer:=rerun", "rerun_to:=nowhere"
    )
    graph.wait_for(r"parameter 'to': expected spawn", 120)
    graph.wait_for(rf"\[rerun_view-\d+\]: process has died .*exit code {CANNOT_WATCH}", 20)
    # A configuration error of any other node would end the graph at once.
    time.sleep(1.0)
    assert graph.process.poll() is None
    assert "the graph goes on unwatched" in graph.log


@pytest.mark.timeout(100)
@pytest.mark.parametrize(("viewer", "package"), [("rviz", "rviz2"), ("rqt", "rqt_gui")])
def test_a_viewer_that_is_missing_is_one_line(launch_sim, tmp_path, viewer, package):
    if graph_has(package):
        pytest.skip("it is installed here")
    graph = launch_sim(
        *(f"viewer:={viewer}", "task:=can", f"run_dir:={tmp_path}"),
        *("use_sim_time:=true", "log_level:=info"),
        file="viewing.launch.py",
    )
    graph.wait_for(
        f"no {package} here, the graph goes on unwatched: sudo apt-get install .*; or "
        "viewer:=rerun or foxglove",
        60,
    )


def graph_has(package):
    from ament_index_python.packages import get_packages_with_prefixes

    return package in get_packages_with_prefixes()

"""The `ros2` command of the fallback, run as a user runs it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent
FILES = HERE / "launch_files"
OFFICIAL = os.environ.get("RESFIT_OFFICIAL_LAUNCH_PATH")


def environment(tmp_path, path=str(ROOT)):
    return {
        **os.environ,
        "PYTHONPATH": path + os.pathsep + os.environ.get("PYTHONPATH", ""),
        "PATH": os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"],
        "AMENT_PREFIX_PATH": os.environ.get("AMENT_PREFIX_PATH") or sys.prefix,
        "ROS_LOG_DIR": str(tmp_path),
        "ROS_DOMAIN_ID": "71",
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    }


def ros2(tmp_path, *args, timeout=30):
    done = subprocess.run(
        [sys.executable, ROOT / "bin/ros2", *args], env=environment(tmp_path), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=timeout,
    )  # fmt: skip
    return done.returncode, done.stdout


def test_ctrl_c_escalates_in_order_and_leaves_nobody(tmp_path):
    process = subprocess.Popen(
        [sys.executable, ROOT / "bin/ros2", "launch", FILES / "stubborn.launch.py"],
        env=environment(tmp_path), text=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    lines, ready = [], 0
    while ready < 2:
        lines.append(process.stdout.readline())
        assert lines[-1], "".join(lines)
        ready += lines[-1].rstrip().endswith("] up")
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=20)
    text = "".join(lines) + rest
    assert process.returncode == 0, text
    order = [
        "[WARNING] [launch]: user interrupted with ctrl-c (SIGINT)",
        "again, ignoring...",
        "escalating to 'SIGTERM'",
        "sending signal 'SIGTERM' to process[stubborn-1]",
        "escalating to 'SIGKILL'",
        "sending signal 'SIGKILL' to process[stubborn-1]",
        "exit code -9",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places), text
    assert "[INFO] [clean-2]: process has finished cleanly" in text
    for pid in re.findall(r"started with pid \[(\d+)\]", text):
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


def test_respawn_until_a_required_process_ends(tmp_path):
    code, text = ros2(tmp_path, "launch", str(FILES / "required.launch.py"))
    assert code == 0, text
    assert text.count("[again-1]: process started") >= 3
    assert re.search(r"process has died \[pid \d+, exit code 3, cmd 'sh -c", text)
    assert "process[required-2] was required: shutting down launched system" in text


def test_a_failing_action_ends_what_runs_already(tmp_path):
    code, text = ros2(tmp_path, "launch", str(FILES / "failing.launch.py"))
    assert code == 1, text
    assert "[ERROR] [launch]: Caught exception in launch" in text and "cannot go on" in text
    assert "never" not in text
    pid = int(re.search(r"\[first-1\]: process started with pid \[(\d+)\]", text).group(1))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_show_args(tmp_path):
    code, text = ros2(tmp_path, "launch", str(FILES / "small.launch.py"), "--show-args")
    assert code == 0
    assert (
        "    'robot':\n        Which arm. Valid choices are: ['panda', 'vega']\n"
        "        (default: 'panda')\n" in text
    )
    assert "    'maybe':*\n" in text


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["small.launch.py", "robot:=ur5"], "\"ur5\" is not valid. Valid options are: ['panda'"),
        (["included.launch.py"], "required argument 'needed' (description: 'Must be given')"),
        (["small.launch.py", "robot"], "malformed launch argument 'robot'"),
    ],
)  # fmt: skip
def test_bad_arguments_end_with_one(tmp_path, args, expected):
    code, text = ros2(tmp_path, "launch", str(FILES / args[0]), *args[1:])
    assert code == 1 and expected in text, text


def test_unknown_package_and_executable(tmp_path):
    code, text = ros2(tmp_path, "launch", "no_such_package", "x.launch.py")
    assert code == 1 and "Package 'no_such_package' not found" in text
    code, text = ros2(tmp_path, "run", "no_such_package", "x")
    assert code == 1 and "Package 'no_such_package' not found" in text
    code, text = ros2(tmp_path, "run", "rclpy", "no_such_executable")
    assert code == 1 and "No executable found" in text


def with_launch_share(env, tmp_path, path):
    """Official launch finds the grammar of $(...) by the ament index: make one for its sources."""
    for folder in path.split(os.pathsep):
        for grammar in Path(folder).glob("**/frontend/grammar.lark"):
            share = tmp_path / "prefix/share"
            (share / "launch/frontend").mkdir(parents=True, exist_ok=True)
            (share / "launch/frontend/grammar.lark").write_text(grammar.read_text())
            marker = share / "ament_index/resource_index/packages/launch"
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch()
            env["AMENT_PREFIX_PATH"] += os.pathsep + str(tmp_path / "prefix")
            return env
    return env


def probe(tmp_path, path, *args):
    env = with_launch_share(environment(tmp_path, path), tmp_path, path)
    done = subprocess.run(
        [sys.executable, HERE / "probe.py", *args], env=env, text=True,
        capture_output=True, timeout=60,
    )  # fmt: skip
    # A launch that ends with one of its processes interrupts the others: they may die of it.
    failed = [
        line
        for line in done.stdout.splitlines()
        if line.startswith("[ERROR]") and "process has died" not in line
    ]
    assert not failed, failed
    found = [line for line in done.stdout.splitlines() if line.startswith("PROBE")]
    assert found, done.stdout + done.stderr
    result = json.loads(found[0].removeprefix("PROBE"))
    # An activated shell has the fallback on its path: a wrong folder must not go unnoticed.
    folders = path.split(os.pathsep)
    for file in result.pop("imported"):
        assert any(file.startswith(folder + os.sep) for folder in folders), (
            f"expected launch and launch_ros from {folders}, found {file}"
        )
    return result


@pytest.mark.skipif(OFFICIAL is None, reason="RESFIT_OFFICIAL_LAUNCH_PATH is not set")
@pytest.mark.parametrize("args", [[], ["robot:=vega", "rate:=5", "use_sim:=false"]])
def test_same_as_official(tmp_path, args):
    path = str(FILES / "small.launch.py")
    assert probe(tmp_path, str(ROOT), path, *args) == probe(tmp_path, OFFICIAL, path, *args)


PROJECT = sorted((ROOT.parent / "launch").glob("*.launch.py"))


@pytest.mark.skipif(OFFICIAL is None, reason="RESFIT_OFFICIAL_LAUNCH_PATH is not set")
@pytest.mark.parametrize("path", PROJECT, ids=lambda path: path.name)
@pytest.mark.parametrize(
    "args",
    [[], ["task:=can", "base_policy:=scripted", "learner:=false", "mode:=real_time", "seed:=7"]],
)
def test_project_launch_files_same_as_official(tmp_path, path, args):
    # The probe starts `true` in place of every node: with respawn it would never end.
    args = [str(path), "respawn:=false", *args]
    found = probe(tmp_path, str(ROOT), *args)
    assert found["started"]
    assert found == probe(tmp_path, OFFICIAL, *args)

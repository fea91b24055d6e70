"""./resfit evaluate: episodes on processes, their record, their pictures, and comparisons."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from resfit_rl.control import ChunkSchedule
from resfit_rl.evaluation import Candidate, EpisodeResult, EvaluationError, run_episodes
from resfit_rl.evaluation.__main__ import main
from resfit_rl.evaluation.pictures import contact_sheet
from resfit_rl.evaluation.record import compare, read_record


@pytest.fixture(scope="module")
def replay(tmp_path_factory):
    path = tmp_path_factory.mktemp("replay") / "actions.npy"
    np.save(path, np.random.default_rng(0).uniform(-1, 1, (12, 7)).astype(np.float32))
    return str(path)


def test_results_are_those_of_the_seeds_for_any_number_of_workers(replay):
    candidate = Candidate("can", "replayed", replay, max_steps=12, rendering=False)
    alone, both = (list(run_episodes(candidate, range(4, 7), n)) for n in (1, 2))
    assert [one.seed for one in alone] == [4, 5, 6]
    for one, other in zip(alone, both, strict=True):
        assert (one.seed, one.success, one.steps) == (other.seed, other.success, other.steps)
        assert one.steps == 12
        np.testing.assert_array_equal(one.wrench_norms["right"], other.wrench_norms["right"])
        np.testing.assert_array_equal(one.action_change, other.action_change)
        assert one.schedule == ChunkSchedule(1)
    assert not np.array_equal(alone[0].wrench_norms["right"], alone[1].wrench_norms["right"])


def test_errors_of_a_worker_arrive():
    candidate = Candidate("can", "replayed", "absent.npy", rendering=False)
    with pytest.raises(Exception, match=r"absent\.npy"):
        list(run_episodes(candidate, [0], 1))


def test_command_writes_record_and_sheets(replay, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "success.png").write_bytes(b"of an earlier evaluation")
    arguments = ["--task", "can", "--policy", "replayed", "--path", replay, "--workers", "1"]
    arguments += ["--episodes", "2", "--seed", "4", "--max-steps", "6", "--pictures", "1"]
    assert main([*arguments, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "episode 2/2 seed 5: failure, 6 steps" in printed
    assert "0 s left" in printed
    found = read_record(out)
    assert found["task"] == "can"
    assert found["implementation"] == "robosuite-1.5.2/PickPlaceCan/Panda"
    assert found["identity"].startswith("replayed:")
    assert found["seeds"] == [4, 5] == [episode["seed"] for episode in found["episodes"]]
    assert found["complete"]
    assert (found["successes"], found["success"]) == (0, 0.0)
    assert found["wilson_95"] == pytest.approx([0.0, 0.6576], abs=1e-4)
    assert found["schedule"] == {"replan_interval": 1, "lead": 0}
    for episode in found["episodes"]:
        assert (episode["outcome"], episode["steps"]) == ("failure", 6)
        assert episode["wrench_peaks"]["right"]["force_N"] > 0
    assert found["versions"]["mujoco"] == "3.3.7"
    assert "--max-steps 6" in found["command"]
    assert not (out / "success.png").exists()
    sheet = np.asarray(Image.open(out / "failure.png"))
    # The replay was run again with cameras: the pictures are not blank.
    assert sheet[60:228, 4:172].std() > 10


def test_stopped_command_reports_what_is_done(replay, tmp_path):
    command = [sys.executable, "-u", "-m", "resfit_rl.evaluation", "--task", "can"]
    command += ["--policy", "replayed", "--path", replay, "--episodes", "500", "--max-steps", "5"]
    process = subprocess.Popen(
        [*command, "--workers", "1", "--out", str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    for line in process.stdout:
        if line.startswith("episode 3/500"):
            break
    # As a terminal does it: to the workers too.
    os.killpg(process.pid, signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "Traceback" not in error
    found = read_record(tmp_path / "out")
    done = len(found["episodes"])
    assert 3 <= done < 500
    assert f"stopped after {done} of 500 episodes" in out
    assert f"success 0/{done} = 0.000" in out
    assert not found["complete"]


def _record(outcomes, **changes):
    successes = sum(outcomes)
    return {
        "format": "resfit-evaluation/1",
        "task": "can",
        "implementation": "robosuite",
        "max_steps": 200,
        "identity": "act:1",
        "successes": successes,
        "success": successes / len(outcomes),
        "wilson_95": [0.1, 0.9],
        "mean_steps": 10.0,
        "episodes": [
            {"seed": seed, "outcome": "success" if outcome else "failure"}
            for seed, outcome in enumerate(outcomes)
        ],
    } | changes


def test_comparison_is_paired():
    first = _record([1, 1, 1, 1, 1, 1, 1, 0, 0, 1])
    second = _record([0, 0, 0, 0, 0, 0, 1, 1, 0, 1], identity="act:2")
    lines = compare(first, second).splitlines()
    assert "| A success |         2 |         6 |" in lines
    assert "| A failure |         1 |         1 |" in lines
    # Exact: 2 * (1 + 7) / 2 ** 7.
    assert lines[-1] == "McNemar's exact test on the 7 differing pairs: p = 0.125 (two-sided)"
    assert "0 differing pairs: p = 1 " in compare(first, first)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"task": "square"}, "task: expected can as in the first, found square"),
        ({"implementation": "gym"}, "implementation: expected robosuite .* found gym"),
        ({"max_steps": 10}, "max_steps: expected 200"),
        (
            {"episodes": [{"seed": 1, "outcome": "success"}]},
            "seeds: expected 2 seeds, 0 to 1 as in the first, found 1 seeds, 1 to 1",
        ),
    ],
)
def test_what_differs_is_not_compared(changes, error, tmp_path, capsys):
    with pytest.raises(EvaluationError, match=error):
        compare(_record([1, 0]), _record([1, 0], **changes))
    files = []
    for name, one in (("a", _record([1, 0])), ("b", _record([1, 0], **changes))):
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps(one))
    assert main(["--compare", *map(str, files)]) == 1
    assert "found" in capsys.readouterr().err
    assert main(["--compare", str(files[0]), str(files[0])]) == 0


def test_record_that_is_none_is_refused(tmp_path):
    with pytest.raises(EvaluationError, match="expected the record of an evaluation"):
        read_record(tmp_path)
    (tmp_path / "evaluation.json").write_text("[]")
    with pytest.raises(EvaluationError, match="format: expected resfit-evaluation/1, found None"):
        read_record(tmp_path)


def test_sheet_has_a_row_per_camera_and_a_column_per_part():
    shades = (10, 60, 110, 160, 210)
    pictures = tuple(
        {"front": np.full((30, 42, 3), s, np.uint8), "wrist": np.full((42, 42, 3), s + 9, np.uint8)}
        for s in shades
    )
    result = EpisodeResult(3, True, 9, {}, np.zeros(7), pictures, 1.0, "x", ChunkSchedule(1))
    sheet = np.asarray(contact_sheet([result, result], "title"))
    assert sheet.shape == (40 + 2 * (20 + 124 + 172), 4 + 5 * 172, 3)
    for group in (0, 1):
        top = 40 + group * (20 + 124 + 172) + 20
        for column, shade in enumerate(shades):
            left = 4 + 172 * column
            assert (sheet[top : top + 120, left : left + 168] == shade).all()
            assert (sheet[top + 124 : top + 292, left : left + 168] == shade + 9).all()

"""./resfit ablate: the table, its runs, those that crash, and the figures."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
from test_training import SMALL, write_recording

from resfit_rl.agent import load_agent_config
from resfit_rl.training.ablation.command import main
from resfit_rl.training.ablation.engines import RayEngine
from resfit_rl.training.ablation.figures import curve_of, figure, table
from resfit_rl.training.ablation.plan import load_ablation, plan
from resfit_rl.training.scores import Score, write_scores

ROOT = Path(__file__).parents[3]
AGENTS = ROOT / "config/agents"
TABLE = """
tasks: [lift_state]
agent_config: {config}
seeds: [0, 1]
train: {{base_policy: replayed, base_policy_path: {recording}, demonstrations: none,
  max_steps: 8, steps: 48, overlap: false, evaluate_every: 48, evaluation_episodes: 1}}
variants:
  full: {{}}
  utd_1/2: {{utd_ratio: 0.5}}
figures:
  utd: [utd_1/2, full]
"""


@pytest.fixture
def ablation_file(tmp_path):
    config = tmp_path / "small.yaml"
    config.write_text(SMALL)
    path = tmp_path / "small_ablation.yaml"
    path.write_text(TABLE.format(config=config, recording=write_recording(tmp_path)))
    return path


@pytest.mark.parametrize("name", ["paper", "lift_state"])
def test_the_shipped_tables(name, tmp_path):
    ablation = load_ablation(ROOT / f"config/ablations/{name}.yaml")
    jobs = plan(ablation, tmp_path, AGENTS)
    assert len(jobs) == len(ablation.variants) * len(ablation.seeds)
    assert [job.seed for job in jobs] == sorted(job.seed for job in jobs)
    task = ablation.tasks[0]
    own = load_agent_config(AGENTS / f"{task}.yaml")
    assert own.utd_ratio == 4 and own.n_step == 3  # what figures call 'full'
    half = load_agent_config(tmp_path / f"agents/{task}-utd_1-2.yaml")
    assert half.utd_ratio == 0.5 and half.gamma == own.gamma
    assert {v for names in ablation.figures.values() for v in names} == set(ablation.variants)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("seeds: [0, 1]", "seeds: []"), "seeds: expected at least one"),
        (("seeds: [0, 1]", "seeds: [0, 0]"), "seeds: expected different ints"),
        (("seeds: [0, 1]", "seed: [0]"), "seed: unknown key"),
        (("utd: [utd_1/2, full]", "utd: [utd_2]"), "figures: utd: expected variants of"),
        (("utd_ratio: 0.5", "utd_ratio: 0.4"), "variants: utd_1/2: .*utd_ratio: expected"),
        (("utd_ratio: 0.5", "utd: 1"), "variants: utd_1/2: .*utd: unknown key"),
        (("utd_ratio: 0.5", "agent: sac"), "variants: utd_1/2: agent: expected one of"),
        (("steps: 48", "seed: 3"), "train: seed: expected it outside"),
    ],
)
def test_a_wrong_table_is_named(ablation_file, tmp_path, capsys, change, message):
    text = ablation_file.read_text()
    assert change[0] in text
    ablation_file.write_text(text.replace(*change, 1))
    assert main(["--table", str(ablation_file), "--out", str(tmp_path / "out")]) == 1
    assert re.search(f"ablate: .*{message}", capsys.readouterr().err)


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_it_goes_on_after_a_crash_and_runs_that_again(ablation_file, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    out = tmp_path / "out"
    # This run's directory is another run's: it ends at once with an error.
    broken = out / "runs/lift_state-full-seed0/run.json"
    broken.parent.mkdir(parents=True)
    broken.write_text('{"task": "square"}')
    command = ["--table", str(ablation_file), "--out", str(out), "--at-once", "2"]
    assert main(command) == 1
    printed = capsys.readouterr().out
    assert re.search(r"lift_state-full-seed0: failed, exit code 1: train: .*run\.json", printed)
    assert "lift_state-utd_1-2-seed1: done" in printed
    assert "1 of 4 runs failed: lift_state-full-seed0" in printed
    broken.unlink()
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "4 runs, 3 of them done" in printed and printed.count(": started") == 1
    curves = json.loads((out / "curves.json").read_text())
    assert [curves[name]["runs"] for name in ("full", "utd_1/2")] == [2, 2]
    assert curves["full"]["steps"] == [0, 48]
    assert (out / "utd.png").read_bytes().startswith(b"\x89PNG")


def score(step, successes, episodes=4):
    policy = "weights" if step else "base"
    return Score(step, step, 0, policy, successes, episodes, 0, [0] * episodes, 1.0)


def test_curves_of_runs_that_got_unequally_far():
    # Two tasks; a run that has not finished leaves a step out, not itself.
    runs = [
        [[score(0, 1), score(10, 2)], [score(0, 3), score(10, 4)]],
        [[score(0, 0), score(10, 2)], [score(0, 2)]],
    ]
    curve = curve_of(runs)
    assert (curve.runs, curve.steps) == (2, [0])
    assert curve.aggregates["mean"][0].value == pytest.approx((1 + 3 + 0 + 2) / 16)
    assert curve_of([[[]], [[score(0, 1)]]]) is None
    picture = figure({"one": curve}, "title")
    assert picture.startswith(b"\x89PNG")
    assert "| one | 2 | 0 | 0.38 (" in table({"one": curve})


def test_figures_alone(ablation_file, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    out = tmp_path / "out"
    for seed in (0, 1):
        write_scores(out / f"runs/lift_state-full-seed{seed}", [score(0, 1), score(48, 3)], "")
    command = ["--table", str(ablation_file), "--out", str(out), "--figures-only", "true"]
    assert main(command) == 0
    curves = json.loads((out / "curves.json").read_text())
    assert list(curves) == ["full"] and curves["full"]["mean"][1][0] == 0.75
    assert (out / "utd.png").exists()


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray():
    with pytest.raises(ValueError, match="ray_address: expected the package ray, found none"):
        RayEngine("auto", 0)

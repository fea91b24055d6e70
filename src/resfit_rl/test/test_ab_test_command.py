"""./resfit ab-test in simulation: killed and resumed, by keyboard, and its report."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resfit_rl.ab_test.__main__ import main
from resfit_rl.ab_test.blind_test import RECORD, verify
from resfit_rl.ab_test.policies import keep_weights, newest_weights, parse_policy
from resfit_rl.agent import Normaliser, ResidualPolicy, load_agent_config
from resfit_rl.evaluation import Candidate, EvaluationError, load_candidate
from resfit_rl.learning.publication import publish
from resfit_rl.tasks import get_task

CONFIG = load_agent_config(Path(__file__).parents[3] / "config/agents/cpu.yaml")


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    """A policy that does nothing."""
    path = tmp_path_factory.mktemp("replay") / "still.npy"
    np.save(path, np.zeros((400, 7), np.float32))
    return f"replayed:{path}"


def arguments(still, out, **options):
    options = {"max_rounds": 2, "max_steps": 250, "out": out, "task": "can"} | options
    options |= {"policy_a": still, "policy_b": "scripted"}
    pairs = [(f"--{name.replace('_', '-')}", str(value)) for name, value in options.items()]
    return [text for pair in pairs for text in pair]


def events(folder):
    return [json.loads(line) for line in (folder / RECORD).read_text().splitlines()]


def test_killed_in_mid_round_and_resumed(still, tmp_path, capsys):
    """kill -9 while the second of a round acts, then the same command: nothing is lost, nothing
    counted twice, and the expert wins both rounds."""
    out = tmp_path / "test"
    command = [sys.executable, "-m", "resfit_rl.ab_test", *arguments(still, out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 240
        while not (out / RECORD).is_file() or '"label"' not in (out / RECORD).read_text():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = events(out)
    with (out / RECORD).open("ab") as file:
        file.write(b'{"previous":"12')  # as a kill in the middle of a line would leave it
    assert main(["--verify", str(out)]) == 0
    assert "15 bytes of an unfinished line" in capsys.readouterr().out
    assert main(arguments(still, out, seed=1)) == 1
    assert "seed: expected 0" in capsys.readouterr().err

    picture = tmp_path / "docs/page.png"
    assert main([*arguments(still, out), "--picture", str(picture)]) == 0
    printed = capsys.readouterr().out
    assert "cuts off 15 bytes" in printed
    assert "A 0/2, B 2/2, e 1.5 of 20" in printed
    assert "No difference shown. max_rounds 2 reached" in printed
    assert events(out)[: len(before)] == before
    found = verify(out)
    assert [one.pair for one in found.rounds] == [(False, True)] * 2
    assert [one["type"] for one in events(out)].count("round") == 2
    for one in found.rounds:
        assert one.facts_a["start"] == one.facts_b["start"]
        assert one.facts_a["steps"] == 250 > one.facts_b["steps"]

    text = (out / "report.md").read_text()
    assert f"| A | `{still}` | 0/2 | 0.000 | 0.000 to 0.658 (Wilson) |" in text
    assert "| A failure | 2 | 0 |" in text
    assert found.digests[-1] in text
    with Image.open(picture) as page:
        assert page.size[0] > 800 and len(page.convert("RGB").getcolors(10**6)) > 20
    assert (out / "report.png").read_bytes() == picture.read_bytes()

    # It has ended: the same command says so again, and plays nothing.
    lines = (out / RECORD).read_bytes()
    assert main(arguments(still, out)) == 0
    assert main(["--verify", str(out)]) == 0
    assert "the first 10 lines are those of the report" in capsys.readouterr().out
    assert (out / RECORD).read_bytes() == lines

    # Lines cut off at the end leave a whole chain, but not the one that the report notes.
    (out / RECORD).write_bytes(b"".join(lines.splitlines(keepends=True)[:-4]))
    assert main(["--verify", str(out)]) == 1
    assert "report.json notes, found 6 lines only" in capsys.readouterr().err
    (out / RECORD).write_bytes(lines.replace(b'"success":false', b'"success":true', 1))
    assert main(["--verify", str(out)]) == 1
    assert "a line before this one was changed" in capsys.readouterr().err


def test_labels_by_keyboard(still, tmp_path, capsys, monkeypatch):
    """The person's label counts, not the task's; nothing shown tells the task's or the policy."""
    answers, questions = iter(["x", "s", "d", "s", "f", "f", "s"]), []

    def ask(question):
        questions.append(question + capsys.readouterr().out)
        return next(answers)

    monkeypatch.setattr("builtins.input", ask)
    out = tmp_path / "test"
    options = arguments(still, out, labels="keyboard", max_steps=3)
    assert main([*options, "--image-size", "20", "24"]) == 0
    found = verify(out)
    assert found.discarded == 1
    assert [one.number for one in found.rounds] == [2, 3]
    labels = [(one.pair if one.first == "a" else one.pair[::-1]) for one in found.rounds]
    assert labels == [(True, False), (False, True)]
    assert not any(one.facts_a["task_success"] for one in found.rounds)
    films = {which: str(out / f"{which}.gif") for which in ("first", "second")}
    shown = [which for question in questions for which, film in films.items() if film in question]
    assert shown == ["first", "first", "second", "first", "second", "first", "second"]
    # Before a round's second label nothing on the screen names a policy of that round.
    assert not any(word in q for q in questions[:5] for word in ("(A)", "(B)", "scripted"))
    for film in films.values():
        with Image.open(film) as opened:
            assert opened.size[0] >= 2 * 24
    assert (out / "starts/round_0002.png").is_file()


def test_the_film_does_not_tell_how_long_the_rollout_was(tmp_path):
    from resfit_rl.ab_test.simulated import write_film
    from resfit_rl.simulation import RenderOptions, Simulation

    simulation = Simulation(get_task("can"), image_size=(20, 24), rendering=RenderOptions())
    frames = [simulation.reset(0)]
    frames += [simulation.step(np.full(7, 0.5)) for _ in range(45)]
    simulation.close()
    durations, pictures = [], 0
    for count in (3, 46):
        write_film(frames[:count], tmp_path / "film.gif")
        with Image.open(tmp_path / "film.gif") as film:
            total = 0
            for k in range(film.n_frames):
                film.seek(k)
                total += film.info["duration"]
            durations.append(total)
            pictures = film.n_frames
    assert durations == [4000, 4000]
    assert pictures > 20


def test_policies_by_name(still, tmp_path):
    task = get_task("can")
    spec = task.agent_spec((20, 24))
    base = load_candidate(Candidate("can", "replayed", still.partition(":")[2])).identity
    policy = ResidualPolicy.initial(CONFIG, spec, Normaliser.from_spec(spec))
    run = tmp_path / "run"
    for version in (9, 10):
        publish(run / "weights", version, policy, task, base)
    conditions = Candidate("can", "", max_steps=7, image_size=(20, 24))
    newest = newest_weights(run)
    assert newest.name == "policy_v000010.safetensors"

    found = parse_policy(f"run:{run}", still, conditions)
    assert (found.policy, found.residual, found.max_steps) == ("replayed", str(newest), 7)
    assert parse_policy(f"weights:{newest}", still, conditions) == found
    assert load_candidate(found).residual is not None
    assert parse_policy("base", still, conditions).residual is None
    assert parse_policy("act", still, conditions).path == "models/act_can"
    assert parse_policy("scripted", still, conditions).blind
    assert parse_policy(still, "act", conditions) == parse_policy("base", still, conditions)
    for text in ("bass", "base:x", "run", f"run:{tmp_path}"):
        with pytest.raises(EvaluationError, match="found"):
            parse_policy(text, still, conditions)

    # A run that goes on removes its old weights: the test has its own copy.
    kept = keep_weights(found, tmp_path / "kept.safetensors")
    assert kept.identity() == found.identity()
    os.unlink(newest)
    assert keep_weights(found, tmp_path / "kept.safetensors").identity() == kept.identity()


def test_command_refuses(still, tmp_path, capsys):
    for options, expected in (
        (["--task", "cup"], "found 'cup'"),
        (["--policy-b", "run:nowhere"], "nowhere/weights: expected weights of a run"),
        (["--alpha", "2"], "alpha: expected between 0 and 1"),
        (["--policy-b", "act:absent"], "absent/config.json"),
    ):
        assert main([*arguments(still, tmp_path / "test"), *options]) == 1
        assert expected in capsys.readouterr().err
    assert main(["--task", "can"]) == 1
    assert "expected policy_a and policy_b" in capsys.readouterr().err
    assert main(["--verify", str(tmp_path)]) == 1
    assert "expected the record of an A/B test" in capsys.readouterr().err

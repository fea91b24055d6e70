"""A blind test in simulation: python -m resfit_rl.ab_test --policy-a act --policy-b scripted."""

from __future__ import annotations

import argparse
import re
import sys
import time
from dataclasses import replace
from pathlib import Path

from resfit_rl.ab_test.blind_test import BlindTest, BlindTestError, Policy, Round, Terms, verify
from resfit_rl.ab_test.commitments import CommitmentError
from resfit_rl.ab_test.policies import FORMS, keep_weights, parse_policy
from resfit_rl.ab_test.record import RecordError
from resfit_rl.ab_test.report import PICTURE, TEXT, check_noted, start_file, verdict, write_report
from resfit_rl.ab_test.simulated import SimulatedRollouts, write_film, write_start
from resfit_rl.ab_test.statistics import Table, e_value
from resfit_rl.base_policies import BasePolicyError
from resfit_rl.episode_store import RunError
from resfit_rl.evaluation import Candidate, EvaluationError
from resfit_rl.simulation import SimulationError
from resfit_rl.tasks import UnknownTaskError, get_task

_EPILOG = f"""\
policies:
{FORMS}
Each round draws a random scene and a secret order of the two policies, 'first' and 'second'. Both
act from the identical state, both outcomes are labelled, and only then the record tells which was
which. The order is committed to before the round (SHA-256), and every line of the record holds the
digest of the line before it. A killed test goes on with the same command.

The test stops when the e-value reaches 1 / alpha, or at max_rounds. If the policies are equally
good, the first happens with probability alpha at most, however often one looks.

  ./resfit ab-test task:=can policy_a:=act policy_b:=scripted
  ./resfit ab-test task:=can policy_a:=base policy_b:=run:runs/can max_rounds:=100
  ./resfit ab-test task:=can policy_a:=base policy_b:=run:runs/can labels:=keyboard
  ./resfit ab-test verify:=runs/ab_tests/can_act_vs_scripted
On a robot, or in the running graph: docs/ab_test.md.
"""
_ANSWERS = {"s": True, "f": False, "d": None}


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        if options.verify is not None:
            return _verify(options.verify)
        if options.report is not None:
            write_report(options.report, options.picture)
            print(f"{options.report / TEXT}: written")
            return 0
        if options.policy_a is None or options.policy_b is None:
            raise EvaluationError("expected policy_a and policy_b, or verify, found neither")
        return _run(options)
    except (
        BasePolicyError,
        BlindTestError,
        CommitmentError,
        EvaluationError,
        RecordError,
        RunError,
        SimulationError,
        UnknownTaskError,
        OSError,
        ValueError,
    ) as error:
        print(f"ab-test: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ab-test",
        description="Which of two policies succeeds more often? A blind test in simulation.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--task", default="square", help="a task or a robosuite environment (square)")
    add("--policy-a", metavar="POLICY", help="see below")
    add("--policy-b", metavar="POLICY", help="see below")
    add("--base", metavar="KIND[:PATH]", default="act", help="base policy under base, run and "
        "weights (act, of models/act_TASK)")  # fmt: skip
    add("--labels", choices=("automatic", "keyboard"), default="automatic", help="who says how a "
        "rollout ended: the task's own check, or you, from a film of it (automatic)")  # fmt: skip
    add("--alpha", type=float, default=0.05, help="error probability of 'they differ' (0.05)")
    add("--max-rounds", type=int, default=50, help="rounds at most (50)")
    add("--seed", type=int, default=0, help="of the scenes (0)")
    add("--out", type=Path, help="folder of the test (runs/ab_tests/TASK_A_vs_B)")
    add("--image-size", nargs=2, type=int, default=[84, 84], metavar=("HEIGHT", "WIDTH"),
        help="of all cameras, pixels (84 84)")  # fmt: skip
    add("--replan-interval", type=int, default=3, help="steps from chunk to chunk (3)")
    add("--lead", type=int, default=2, help="steps that a chunk is predicted ahead (2)")
    add("--max-steps", type=int, help="of an episode (the task's)")
    add("--device", default="cpu", help="of the policies: cpu or cuda (cpu)")
    add("--picture", type=Path, help="a second file for the report's picture")
    add("--verify", type=Path, metavar="DIR", help="check the record of a test instead")
    add("--report", type=Path, metavar="DIR", help="write the report of a test again instead")
    return parser


def _run(options: argparse.Namespace) -> int:
    task = get_task(options.task)
    conditions = Candidate(
        task=task.name,
        policy="",
        device=options.device,
        replan_interval=options.replan_interval,
        lead=options.lead,
        max_steps=options.max_steps,
        image_size=tuple(options.image_size),
    )
    folder = options.out or Path("runs/ab_tests") / "_".join(
        [task.name, _slug(options.policy_a), "vs", _slug(options.policy_b)]
    )
    candidates: dict[Policy, Candidate] = {}
    for policy, text in (("a", options.policy_a), ("b", options.policy_b)):
        candidate = parse_policy(text, options.base, conditions)
        candidates[_policy(policy)] = keep_weights(
            candidate, folder / f"policy_{policy}.safetensors"
        )
    # A person, and a policy with eyes, want pictures.
    blind = all(one.blind for one in candidates.values()) and options.labels == "automatic"
    candidates = {name: replace(one, rendering=not blind) for name, one in candidates.items()}
    terms = Terms(
        task=task.name,
        implementation=task.implementation,
        policy_a=candidates["a"].identity(),
        policy_b=candidates["b"].identity(),
        seed=options.seed,
        labels=options.labels,
        alpha=options.alpha,
        max_rounds=options.max_rounds,
        conditions={
            "policy_a": options.policy_a,
            "policy_b": options.policy_b,
            "max_steps": options.max_steps or task.max_steps,
            "image_size": list(options.image_size),
            "replan_interval": options.replan_interval,
            "lead": options.lead,
        },
    )
    test = BlindTest(folder, terms)
    try:
        if test.torn:
            print(f"{folder}: cuts off {test.torn} bytes of a line that a killed test left")
        if test.rounds or test.discarded:
            print(f"{folder}: goes on after {len(test.rounds)} rounds, {test.discarded} discarded")
        try:
            _play(test, candidates, options.labels)
        except (KeyboardInterrupt, EOFError):
            print(f"\n{folder}: stopped after {len(test.rounds)} rounds; the same command goes on")
    finally:
        test.close()
    if not test.rounds:
        return 130
    summary = write_report(folder, options.picture)
    print(f"{verdict(verify(folder), summary)} {test.ended or 'not ended yet'}")
    print(f"{folder / TEXT}, {folder / PICTURE}: written")
    return 0 if test.ended else 130


def _play(test: BlindTest, candidates: dict[Policy, Candidate], labels: str) -> None:
    """All rounds that are due."""
    turn = test.next_turn()
    if turn is None:
        return
    rollouts = SimulatedRollouts(candidates)
    begin, before = time.monotonic(), len(test.rounds)
    try:
        while turn is not None:
            acted = rollouts.run(test.unseal(turn), turn.seed)
            if turn.which == "first":
                write_start(acted.frames[0], start_file(test.folder, turn.number))
            label: bool | None = acted.success
            if labels == "keyboard":
                film = test.folder / f"{turn.which}.gif"
                write_film(acted.frames, film)
                label = _ask(f"round {turn.number}, {turn.which}: {film}")
            if label is None:
                test.discard("by the person at the keyboard")
                print(f"round {turn.number}: discarded; its order stays secret until the end")
            else:
                facts = {"steps": acted.steps, "start": acted.start}
                facts["task_success"] = acted.success
                finished = test.record_label(turn, label, facts)
                if finished is not None:
                    played = len(test.rounds) - before
                    seconds = (time.monotonic() - begin) / played
                    print(_progress(test, finished, seconds), flush=True)
            turn = test.next_turn()
    finally:
        rollouts.close()


def _ask(text: str) -> bool | None:
    """True for success, False for failure, None to discard the round."""
    while True:
        answer = input(f"{text}  success, failure or discard the round? (s/f/d) ").strip().lower()
        if answer in _ANSWERS:
            return _ANSWERS[answer]


def _progress(test: BlindTest, last: Round, seconds: float) -> str:
    """One line; `seconds` a round."""
    table = Table.of(one.pair for one in test.rounds)
    words = {True: "success", False: "failure"}
    second = "B" if last.first == "a" else "A"
    labels = last.pair if last.first == "a" else last.pair[::-1]
    rule = test.terms.rule
    return (
        f"round {last.number}: first ({last.first.upper()}) {words[labels[0]]}, second ({second}) "
        f"{words[labels[1]]}; A {table.successes_a}/{table.rounds}, B {table.successes_b}/"
        f"{table.rounds}, e {e_value(table.only_a, table.only_b):.3g} of {rule.threshold:.3g}; "
        f"{seconds:.1f} s a round, at most {seconds * (rule.max_rounds - table.rounds):.0f} s left"
    )


def _verify(folder: Path) -> int:
    found = verify(folder)
    noted = check_noted(folder, found)
    promises = (
        "key revealed, all assignments are its own" if found.ended else "key not revealed yet"
    )
    torn = f", {found.torn} bytes of an unfinished line" if found.torn else ""
    print(
        f"{folder}: {found.lines} lines unchanged{torn}; {len(found.rounds)} rounds, each as "
        f"committed; {found.discarded} discarded; {promises}; last digest {found.digests[-1]}"
        + (f"; the first {noted} lines are those of the report" if noted else "")
    )
    return 0


def _policy(name: str) -> Policy:
    return "a" if name == "a" else "b"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")


if __name__ == "__main__":
    sys.exit(main())

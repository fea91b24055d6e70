"""The course of a blind test and its record: what it shows when, and what cannot be changed."""

import hashlib
import json
import stat

import pytest

from resfit_rl.ab_test.blind_test import KEY, RECORD, BlindTest, BlindTestError, Terms, verify
from resfit_rl.ab_test.commitments import CommitmentError, Key
from resfit_rl.ab_test.record import Record, RecordError
from resfit_rl.episode_store import RunError

TERMS = Terms("can", "sim/1", "act:1", "act:2", seed=3, max_rounds=4, conditions={"max_steps": 9})
NOON = 1_700_000_000.0


def begin(folder, terms=TERMS):
    return BlindTest(folder, terms, clock=lambda: NOON)


def play_round(test, success_a=True, success_b=True):
    finished = None
    while finished is None:
        turn = test.next_turn()
        success = {"a": success_a, "b": success_b}[test.unseal(turn)]
        finished = test.record_label(turn, success, {"start": f"scene {turn.number}"})
    return finished


def key_with(order, folder):
    """A key file in `folder` that gives this order in round 1."""
    number = 0
    while (key := Key.from_hex(hashlib.sha256(bytes([number])).hexdigest())).secret(
        1
    ).assignment != order:
        number += 1
    folder.mkdir()
    (folder / KEY).write_text(key.hex())
    return key


def test_a_whole_test(tmp_path):
    test = begin(tmp_path)
    for number in range(1, 5):
        finished = play_round(test, success_a=number > 1, success_b=number < 4)
        assert finished.number == number
        assert finished.pair == (number > 1, number < 4)
    assert test.ended is None and test.next_turn() is None
    assert test.ended == "max_rounds 4 reached"
    test.close()
    found = verify(tmp_path)
    assert found.terms == TERMS and found.ended and not found.torn
    assert [one.pair for one in found.rounds] == [(False, True), (True,) * 2, (True,) * 2,
                                                  (True, False)]  # fmt: skip
    assert len({one.seed for one in found.rounds}) == 4
    # The key that came out explains each order.
    events = [json.loads(line) for line in (tmp_path / RECORD).read_text().splitlines()]
    key = Key.from_hex(events[-1]["key"])
    for one in found.rounds:
        assert key.secret(one.number).assignment[0] == one.first


def test_order_is_a_fair_coin(tmp_path):
    key = Key.create(tmp_path / "key")
    first = sum(key.secret(number).assignment == "ab" for number in range(1000))
    assert 400 < first < 600  # 6 standard deviations
    assert len({key.secret(number).nonce for number in range(1000)}) == 1000


def test_until_the_labels_are_stored_the_record_does_not_depend_on_the_order(tmp_path):
    """Two tests whose keys give opposite orders: byte for byte the same lines, but for the
    commitments and the digests over them."""
    lines = {}
    for order in ("ab", "ba"):
        folder = tmp_path / order
        key = key_with(order, folder)
        test = begin(folder)
        for success in (True, False):
            turn = test.next_turn()
            assert test.unseal(turn) == order[turn.which == "second"]
            seen = (folder / RECORD).read_text()
            assert key.secret(1).nonce not in seen and key.hex() not in seen
            assert "assignment" not in seen and '"ab"' not in seen and '"ba"' not in seen
            if success:
                test.record_label(turn, success, {"start": "x", "steps": 5})
        for secret in (key.commitment, key.secret(1).commitment):
            assert seen.count(secret) == 1
            seen = seen.replace(secret, "-")
        for line in (folder / RECORD).read_bytes().splitlines()[:-1]:
            seen = seen.replace(hashlib.sha256(line).hexdigest(), "-")
        lines[order] = seen
        assert test.record_label(turn, False, {"start": "x"}).first == order[0]
        assert f'"assignment":"{order}"' in (folder / RECORD).read_text()
    assert lines["ab"] == lines["ba"]


def test_the_key_is_for_its_owner_only(tmp_path):
    begin(tmp_path).close()
    assert stat.S_IMODE((tmp_path / KEY).stat().st_mode) == 0o600


def test_goes_on_wherever_it_was_stopped(tmp_path):
    """A new process after each event: same turn, same policy, nothing twice."""
    turns = []
    rounds = 0
    while rounds < 3:
        test = begin(tmp_path)
        turn = test.next_turn()
        policy = test.unseal(turn)
        test.close()
        test = begin(tmp_path)
        assert test.next_turn() == turn and test.unseal(turn) == policy
        turns.append((turn.number, turn.which, policy))
        test.record_label(turn, True)
        rounds = len(test.rounds)
        test.close()
    assert [turn[:2] for turn in turns] == [(n, w) for n in (1, 2, 3) for w in ("first", "second")]
    assert all(one[2] != other[2] for one, other in zip(turns[::2], turns[1::2], strict=True))


def test_killed_between_second_label_and_reveal(tmp_path):
    test = begin(tmp_path)
    play_round(test)
    test.close()
    file = tmp_path / RECORD
    *lines, reveal = file.read_bytes().splitlines(keepends=True)
    assert b'"reveal"' in reveal
    file.write_bytes(b"".join(lines))
    assert len(begin(tmp_path).rounds) == 1
    assert file.read_bytes().splitlines(keepends=True) == [*lines, reveal]


def test_a_torn_last_line_is_cut_off_and_told(tmp_path):
    test = begin(tmp_path)
    play_round(test)
    test.close()
    whole = (tmp_path / RECORD).read_bytes()
    (tmp_path / RECORD).write_bytes(whole + b'{"previous":"0a')
    found = verify(tmp_path)
    assert found.torn == 15
    head = found.digests[-1]
    test = begin(tmp_path)
    assert test.torn == 15
    assert play_round(test).number == 2
    assert (tmp_path / RECORD).read_bytes().startswith(whole + b'{"previous":"' + head.encode())
    assert verify(tmp_path).torn == 0


def test_labels_cannot_be_given_out_of_turn(tmp_path):
    test = begin(tmp_path)
    first = test.next_turn()
    test.record_label(first, True, {"start": "x"})
    for wrong in (lambda: test.record_label(first, False), lambda: test.unseal(first)):
        with pytest.raises(BlindTestError, match="expected the turn that is due"):
            wrong()
    with pytest.raises(BlindTestError, match="start: expected x, found y"):
        test.record_label(test.next_turn(), True, {"start": "y"})
    assert test.next_turn().which == "second"
    assert test.record_label(test.next_turn(), True, {"start": "x"})
    with pytest.raises(BlindTestError, match="found a discard outside"):
        test.discard("too late")


def test_discarded_rounds_stay_secret_to_the_end(tmp_path):
    test = begin(tmp_path)
    turn = test.next_turn()
    test.record_label(turn, True)
    test.discard("the can fell over")
    assert test.discarded == 1 and not test.rounds
    for number in range(2, 6):
        assert play_round(test).number == number
    nonce = test._key.secret(1).nonce
    assert test.next_turn() is None
    assert nonce not in (tmp_path / RECORD).read_text()
    found = verify(tmp_path)
    assert (found.discarded, len(found.rounds)) == (1, 4)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"policy_b": "act:3"}, "policy_b: expected act:2"),
        ({"seed": 4}, "seed: expected 3"),
        ({"task": "square"}, "task: expected can"),
        ({"alpha": 0.2}, "alpha: expected 0.05"),
        ({"conditions": {"max_steps": 10}}, "conditions: expected {'max_steps': 9}"),
    ],
)
def test_another_test_does_not_go_on_with_it(tmp_path, change, expected):
    begin(tmp_path).close()
    with pytest.raises(BlindTestError, match=expected):
        begin(tmp_path, Terms(**{**vars(TERMS), **change}))
    begin(tmp_path).close()


def test_one_process_at_a_time(tmp_path):
    test = begin(tmp_path)
    with pytest.raises(RunError, match="expected one ab_test"):
        begin(tmp_path)
    test.close()


def test_another_key_is_refused(tmp_path):
    begin(tmp_path).close()
    (tmp_path / KEY).write_text("00" * 32)
    with pytest.raises(CommitmentError, match="the key that the record's first line commits to"):
        begin(tmp_path)
    (tmp_path / KEY).unlink()
    with pytest.raises(CommitmentError, match="expected the key of an A/B test"):
        begin(tmp_path)


def finished_test(folder):
    test = begin(folder)
    for _ in range(4):
        play_round(test, success_a=False)
    assert test.next_turn() is None
    test.close()
    return (folder / RECORD).read_text().splitlines()


def test_every_change_of_a_line_is_found(tmp_path):
    lines = finished_test(tmp_path)
    for number, line in enumerate(lines[:-1]):
        for changed in ([line.replace("1", "2", 1)], [], [line, line]):
            text = "\n".join([*lines[:number], *changed, *lines[number + 1 :]]) + "\n"
            (tmp_path / RECORD).write_text(text)
            with pytest.raises(RecordError):
                verify(tmp_path)
    (tmp_path / RECORD).write_text("\n".join(lines) + "\n")
    assert verify(tmp_path).ended


def rewrite(folder, lines, change):
    """The record again, with one event changed and the chain made anew over it."""
    (folder / RECORD).unlink()
    record = Record(folder / RECORD)
    for line in lines:
        event = json.loads(line)
        del event["previous"]
        change(event)
        record.append(event)
    record.close()


def test_a_chain_made_anew_does_not_hide_another_order(tmp_path):
    lines = finished_test(tmp_path)

    def swap(event):
        if event["type"] == "reveal" and event["round"] == 2:
            event["assignment"] = event["assignment"][::-1]

    rewrite(tmp_path, lines, swap)
    with pytest.raises(RecordError, match=r"line 9: commitment: expected"):
        verify(tmp_path)

    def commit_anew(event):
        swap(event)
        if event["type"] == "reveal" and event["round"] == 2:
            text = event["nonce"] + event["assignment"]
            commitments.append(hashlib.sha256(text.encode()).hexdigest())
        if event["type"] == "round" and event["round"] == 2 and commitments:
            event["commitment"] = commitments[0]

    commitments = []
    rewrite(tmp_path, lines, commit_anew)
    rewrite(tmp_path, lines, commit_anew)
    with pytest.raises(RecordError, match=r"line 18: commitment of round 2"):
        verify(tmp_path)


def test_a_change_of_the_stop_is_found(tmp_path):
    lines = finished_test(tmp_path)

    def longer(event):
        if event["type"] == "begin":
            event["terms"]["max_rounds"] = 3

    rewrite(tmp_path, lines, longer)
    with pytest.raises(RecordError, match="reason: expected max_rounds 3"):
        verify(tmp_path)

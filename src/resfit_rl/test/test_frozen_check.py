import numpy as np
import pytest

from resfit_rl.observation import FrozenCheck, RepeatCounter


def fed(values, positions, stamps=None, limit=3):
    """For each measurement whether the sensor is frozen."""
    check = FrozenCheck(limit, 0.1)
    stamps = range(len(values)) if stamps is None else stamps
    return [
        check.add(stamp, np.full(20, value), None if at is None else np.array([0.0, at]))
        for stamp, value, at in zip(stamps, values, positions, strict=True)
    ]


def test_as_many_times_as_said_and_moved():
    assert fed([1, 2, 2, 2, 2, 3], [0, 0, 0.2, 0.4, 0.4, 0.4]) == [False] * 3 + [True] * 2 + [False]


def test_neither_alone():
    assert not any(fed([1] * 9, [0.0, 0.05, 0.1] * 3))
    assert not any(fed([1, 1, 2, 2, 3, 3], [0, 1, 2, 3, 4, 5]))


def test_the_same_stamp_is_the_same_measurement_and_nan_is_no_motion():
    assert not any(fed([1] * 6, [0, 1, 2, 3, 4, 5], [7] * 6))
    assert not any(fed([1] * 6, [0, np.nan, np.nan, 0, np.nan, 0]))


def test_motion_before_the_value_first_came_does_not_count_and_going_there_and_back_does():
    assert fed([1, 2, 2, 2], [0.0, 5.0, 5.0, 5.0])[-1] is False
    assert fed([2, 2, 2], [0.0, 0.3, 0.0])[-1] is True


def test_a_position_that_becomes_known_later_counts_from_there():
    assert fed([2] * 5, [None, None, 0.0, 0.05, 0.3]) == [False] * 4 + [True]


def test_never_and_a_wrong_number():
    assert not any(fed([1] * 9, list(range(9)), limit=0))
    with pytest.raises(ValueError, match="max_identical: expected 0, or 2 and more, found 1"):
        FrozenCheck(1, 0.1)


def test_one_pixel_is_another_picture():
    counter, picture = RepeatCounter(), np.zeros((40, 40, 3), np.uint8)
    other = picture.copy()
    other[17, 3, 1] = 1
    assert [counter.add(p) for p in (picture, picture.copy(), other, other)] == [1, 2, 1, 2]

import numpy as np
import pytest
from geometry_msgs.msg import Wrench
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import JointState

from resfit_ros import conversions as c


@given(st.integers(0, 2**31 * 1_000_000_000 - 1))
def test_stamps_round_trip(nanoseconds):
    assert c.stamp_to_ns(c.ns_to_stamp(nanoseconds)) == nanoseconds


def test_image_round_trip_and_refusals():
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    message = c.array_to_image(picture, c.ns_to_stamp(1), "eye")
    np.testing.assert_array_equal(c.image_to_array(message, "eye", (5, 7)), picture)
    with pytest.raises(c.ConversionError, match="camera eye: expected 9x5 pixels, found 7x5"):
        c.image_to_array(message, "eye", (5, 9))
    message.data = message.data[:-1]
    with pytest.raises(c.ConversionError, match="found 104"):
        c.image_to_array(message, "eye")
    message.encoding = "bgr8"
    with pytest.raises(c.ConversionError, match="expected encoding rgb8, found 'bgr8'"):
        c.image_to_array(message, "eye")
    with pytest.raises(c.ConversionError, match="float64"):
        c.array_to_image(picture.astype(float), c.ns_to_stamp(1), "eye")


def test_padded_rows_are_cut():
    picture = np.arange(2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 3)
    message = c.array_to_image(picture, c.ns_to_stamp(0), "eye")
    padded = np.zeros((2, 8), np.uint8)
    padded[:, :6] = picture.reshape(2, 6)
    message.step = 8
    message.data = padded.tobytes()
    np.testing.assert_array_equal(c.image_to_array(message, "eye"), picture)


def test_wrench_and_pose_round_trip():
    values = [1.0, -2.0, 3.0, -4.0, 5.0, -6.0]
    np.testing.assert_array_equal(c.wrench_to_array(c.array_to_wrench(values)), values)
    assert isinstance(c.array_to_wrench(values), Wrench)
    pose = [*values, 7.0]
    np.testing.assert_array_equal(c.pose_to_array(c.array_to_pose(pose)), pose)


def test_joints_by_name():
    assert c.joint_positions(JointState(name=["a", "b"], position=[1.0, 2.0])) == {"a": 1, "b": 2}
    with pytest.raises(c.ConversionError, match="expected 2 positions"):
        c.joint_positions(JointState(name=["a", "b"], position=[1.0]))

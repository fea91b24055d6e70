import numpy as np
import pytest

from resfit_cameras.calibration import read_calibration
from resfit_cameras.pictures import Fit
from resfit_cameras.source import Intrinsics, SourceError

CALIBRATION = """
image_width: 64
image_height: 48
camera_name: left
camera_matrix: {rows: 3, cols: 3, data: [50, 0, 31, 0, 51, 23, 0, 0, 1]}
distortion_model: plumb_bob
distortion_coefficients: {rows: 1, cols: 5, data: [0.1, -0.2, 0.001, 0.002, 0]}
rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
projection_matrix: {rows: 3, cols: 4, data: [49, 0, 30, 0, 0, 49, 22, 0, 0, 0, 1, 0]}
"""


def test_a_pixel_is_the_mean_of_its_area(numbered):
    picture = numbered(3)
    expected = picture.reshape(24, 2, 32, 2, 3).astype(float).mean((1, 3))
    assert np.abs(Fit(24, 32, False)(picture) - expected).max() <= 0.5


def test_size_0_keeps_the_picture_and_square_cuts_its_middle(numbered):
    picture = numbered(1)
    assert np.array_equal(Fit(0, 0, False)(picture), picture)
    assert np.array_equal(Fit(0, 0, True)(picture), picture[:, 8:56])
    assert Fit(0, 0, True).size((48, 64)) == (48, 48)
    assert Fit(84, 84, True)(picture).shape == (84, 84, 3)


@pytest.mark.parametrize("fit", [Fit(60, 80, False), Fit(60, 60, True), Fit(0, 0, True)])
def test_intrinsics_follow_the_picture(fit):
    """A point in space is where the picture shows it, before and after."""
    intrinsics = Intrinsics.pinhole(300.0, 310.0, 317.0, 233.0, baseline=0.1)
    point = np.array([0.05, -0.04, 0.9])
    x, y, z = intrinsics.matrix @ point
    picture = np.zeros((480, 640, 3), np.float32)
    rows, columns = np.mgrid[:480, :640]
    picture += np.exp(-((columns - x / z) ** 2 + (rows - y / z) ** 2) / 200)[..., None] * 250
    small = fit(np.round(picture).astype(np.uint8))[..., 0].astype(float)
    rows, columns = np.mgrid[: small.shape[0], : small.shape[1]]
    seen = (small * columns).sum() / small.sum(), (small * rows).sum() / small.sum()
    moved = fit.intrinsics(intrinsics, (480, 640))
    x, y, z = moved.matrix @ point
    assert seen == pytest.approx((x / z, y / z), abs=0.05)
    # The projection of the right camera sees the point 0.1 m further left.
    right = moved.projection @ [*point, 1]
    left = moved.matrix @ (point - [0.1, 0, 0])
    assert right == pytest.approx(left)
    assert moved.distortion == intrinsics.distortion


def test_calibration_file(tmp_path):
    file = tmp_path / "left.yaml"
    file.write_text(CALIBRATION)
    found = read_calibration(str(file), (48, 64))
    assert found.matrix[1].tolist() == [0, 51, 23]
    assert found.distortion == (0.1, -0.2, 0.001, 0.002, 0.0)
    assert found.projection[0].tolist() == [49, 0, 30, 0]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (CALIBRATION.replace("width: 64", "width: 640"), "expected 64x48 pixels, found 640x48"),
        (CALIBRATION.replace("camera_matrix", "matrix"), "expected key 'camera_matrix'"),
        (CALIBRATION.replace("[50, 0,", "[50,"), "cannot reshape"),
        (CALIBRATION.replace("[50,", "[.nan,"), "expected finite numbers"),
        ("[", "expected a file of ROS's camera_calibration"),
        ("text", "expected a file of ROS's camera_calibration"),
    ],
)
def test_wrong_calibration_file_is_one_line(tmp_path, content, expected):
    file = tmp_path / "left.yaml"
    file.write_text(content)
    with pytest.raises(SourceError) as caught:
        read_calibration(str(file), (48, 64))
    assert expected in str(caught.value) and "\n" not in str(caught.value)

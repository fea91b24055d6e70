import cv2
import numpy as np
import pytest

from resfit_cameras.opencv import OpenCvSource, VideoSettings, driver_stamp
from resfit_cameras.source import EndOfSource, SourceError

PERIOD = 40_000_000  # ns at 25 Hz


def test_a_file_gives_its_pictures_in_order_then_its_end(video, numbered):
    source = OpenCvSource(VideoSettings(video([numbered(i) for i in range(12)])))
    assert source.size == (48, 64) and not source.live and source.intrinsics == (None,)
    for i in range(12):
        frame = source.grab()
        assert len(frame.views) == 1 and frame.stamp == i * PERIOD and frame.dropped is None
        assert np.array_equal(frame.views[0], numbered(i)), f"picture {i}"
    with pytest.raises(EndOfSource, match="end after 12 pictures"):
        source.grab()
    source.close()


def test_a_file_starts_over_with_stamps_that_go_on(video, numbered):
    source = OpenCvSource(VideoSettings(video([numbered(i) for i in range(3)]), loop=True))
    frames = [source.grab() for _ in range(7)]
    assert [frame.views[0][0, 0, 2] // 5 for frame in frames] == [0, 1, 2, 0, 1, 2, 0]
    assert [frame.stamp for frame in frames] == [i * PERIOD for i in range(7)]


def test_side_by_side_is_split_in_left_and_right(video, numbered):
    pairs = [(numbered(i), numbered(40 - i)) for i in range(4)]
    source = OpenCvSource(
        VideoSettings(video([np.hstack(pair) for pair in pairs]), side_by_side=True, width=128)
    )
    assert source.size == (48, 64) and source.intrinsics == (None, None)
    for left, right in pairs:
        views = source.grab().views
        assert np.array_equal(views[0], left) and np.array_equal(views[1], right)


def test_another_rate_than_the_files_own(video, numbered):
    source = OpenCvSource(VideoSettings(video([numbered(i) for i in range(2)]), fps=10.0))
    assert [source.grab().stamp for _ in range(2)] == [0, 100_000_000]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"width": 640, "height": 480}, "expected 640x480 pixels, found 62x48"),
        ({"height": 50}, "expected 62x50 pixels, found 62x48"),
        ({"calibrations": ("/nonexistent.yaml",)}, "calibration /nonexistent.yaml: No such file"),
    ],
)
def test_a_file_that_is_not_as_asked_for(video, numbered, settings, expected):
    path = video([numbered(0, width=62)] * 2)
    with pytest.raises(SourceError) as caught:
        OpenCvSource(VideoSettings(path, **settings))
    assert expected in str(caught.value)


def test_side_by_side_of_an_odd_width(tmp_path):
    path = str(tmp_path / "odd.avi")
    motion_jpeg = cv2.VideoWriter.fourcc(*"MJPG")
    # The one writer of OpenCV that does not round the width.
    writer = cv2.VideoWriter(path, cv2.CAP_OPENCV_MJPEG, motion_jpeg, 25, (63, 48))
    writer.write(np.zeros((48, 63, 3), np.uint8))
    writer.release()
    with pytest.raises(SourceError, match=r"an even width \(left and right\), found 63"):
        OpenCvSource(VideoSettings(path, side_by_side=True))


def test_no_camera_and_no_video(tmp_path, capfd):
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    for source, expected in (
        ("/nonexistent.mp4", "source '/nonexistent.mp4': expected a camera or a file, found none"),
        ("77", "source '/dev/video77': expected a camera or a file, found none"),
        ("", "source '': expected a camera or a file, found none"),
        (str(tmp_path), "expected a camera or a file, found neither"),
        (str(text), "expected a video file, found something else"),
        ("/dev/null", "source /dev/null: expected a camera that opens, found something else"),
    ):
        with pytest.raises(SourceError) as caught:
            OpenCvSource(VideoSettings(source))
        assert expected in str(caught.value)
    # OpenCV and FFmpeg add nothing of their own to the one line.
    assert capfd.readouterr() == ("", "")


def test_drivers_stamp_counts_where_it_is_one():
    monotonic, system = 5_000_000_000, 1_700_000_000_000_000_000
    assert driver_stamp(4_980.0, monotonic, system) == system - 20_000_000
    for other_clock in (0.0, -1.0, 1.7e12, 3_000.0, 5_001.0):
        assert driver_stamp(other_clock, monotonic, system) == system

"""On a real camera: ./resfit test -m hardware (RESFIT_V4L2=/dev/video0 names another device)."""

import os
import time

import numpy as np
import pytest

from resfit_cameras.opencv import OpenCvSource, VideoSettings
from resfit_cameras.zed import ZedSettings, ZedSource


def check_live(source, views):
    """3 s of pictures that move on, with stamps of now that rise."""
    try:
        source.skip_waiting()
        frames, end = [], time.monotonic() + 3
        while time.monotonic() < end:
            if (frame := source.grab()) is not None:
                assert 0 <= time.time_ns() - frame.stamp < 300_000_000
                frames.append(frame)
        assert len(frames) > 20
        assert np.all(np.diff([frame.stamp for frame in frames]) > 0)
        assert all(view.shape == (*source.size, 3) for f in frames for view in f.views)
        assert len(frames[0].views) == views
        assert not np.array_equal(frames[0].views[0], frames[-1].views[0])
    finally:
        source.close()


@pytest.mark.hardware
def test_a_real_zed():
    check_live(ZedSource(ZedSettings()), 2)


@pytest.mark.hardware
def test_a_real_v4l2_camera():
    check_live(OpenCvSource(VideoSettings(os.environ.get("RESFIT_V4L2", "0"))), 1)

"""The wrapper's own logic on a stand-in for pyzed: see fake_sdk. No SDK, no camera was here."""

import sys
from pathlib import Path

import pytest

from resfit_cameras.source import EndOfSource, SourceError
from resfit_cameras.zed import ZedSettings, ZedSource


@pytest.fixture
def sl(monkeypatch, fake_zed):
    """The stand-in, freshly imported; called with what it is to play."""

    def play(**script):
        for name, value in fake_zed(**script).items():
            monkeypatch.setenv(name, value)
        monkeypatch.syspath_prepend(str(Path(__file__).parent / "fake_sdk"))
        for name in ("pyzed", "pyzed.sl"):
            sys.modules.pop(name, None)
        import pyzed.sl

        return pyzed.sl

    yield play
    for name in ("pyzed", "pyzed.sl"):
        sys.modules.pop(name, None)


def test_without_pyzed_one_line_says_what_to_install():
    with pytest.raises(SourceError) as caught:
        ZedSource(ZedSettings())
    assert "get_python_api.py" in str(caught.value) and "\n" not in str(caught.value)


def test_pyzed_without_its_sdk(tmp_path, monkeypatch):
    package = tmp_path / "pyzed"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "sl.py").write_text("raise ImportError('libsl_zed.so: cannot open\\nmore')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SourceError, match=r"libsl_zed\.so: cannot open$"):
        ZedSource(ZedSettings())
    sys.modules.pop("pyzed", None)


def test_live_pictures_are_rgb_left_and_right_with_stamp_and_drops(sl):
    fake = sl(codes=["SUCCESS", "CORRUPTED_FRAME", "CAMERA_REBOOTING", "SUCCESS"])
    source = ZedSource(ZedSettings(serial=12345, fps=50))
    parameters = fake.opened[0]
    assert parameters.serial == 12345 and parameters.svo is None
    assert parameters.camera_resolution is fake.RESOLUTION.HD720 and parameters.camera_fps == 50
    assert parameters.depth_mode is fake.DEPTH_MODE.NONE
    assert parameters.coordinate_units is fake.UNIT.METER
    assert source.live and source.size == (48, 64)
    first = source.grab()
    assert source.grab() is None and source.grab() is None
    second = source.grab()
    # The SDK's memory was written over meanwhile; red, green, blue.
    assert [view[0, 0].tolist() for view in first.views] == [[77, 10, 1], [77, 200, 1]]
    assert [view[5, 5].tolist() for view in second.views] == [[77, 10, 2], [77, 200, 2]]
    assert first.views[0].shape == (48, 64, 3) and second.stamp > first.stamp
    assert (first.dropped, second.dropped) == (3, 4)
    right = source.intrinsics[1]
    assert right.projection[0].tolist() == [50, 0, 31.5, -50 * 0.12]
    source.close()
    assert fake.closed == 1


def test_left_alone(sl):
    sl()
    source = ZedSource(ZedSettings(stereo=False))
    assert len(source.grab().views) == len(source.intrinsics) == 1


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [("AEC_AGC", 1), ("WHITEBALANCE_AUTO", 1)]),
        (
            {"exposure": 40, "gain": 0, "white_balance": 4600},
            [
                ("AEC_AGC", 0),
                ("WHITEBALANCE_AUTO", 0),
                ("EXPOSURE", 40),
                ("GAIN", 0),
                ("WHITEBALANCE_TEMPERATURE", 4600),
            ],
        ),
    ],
)
def test_exposure_settings(sl, settings, expected):
    fake = sl()
    ZedSource(ZedSettings(**settings))
    assert fake.settings == expected


def test_a_setting_that_the_camera_refuses(sl):
    fake = sl()
    with pytest.raises(SourceError, match="WHITEBALANCE_TEMPERATURE to take 500, found FAILURE"):
        ZedSource(ZedSettings(white_balance=500))
    assert fake.closed == 1
    with pytest.raises(SourceError, match="both given or both automatic"):
        ZedSettings(exposure=50)


@pytest.mark.parametrize("code", ["CAMERA_NOT_DETECTED", "CONFIGURATION_FALLBACK"])
def test_a_camera_that_does_not_open_as_asked_for(sl, code):
    fake = sl(open=code)
    with pytest.raises(SourceError, match=f"HD720 at 30 fps, found {code}"):
        ZedSource(ZedSettings())
    assert fake.closed == 1


def test_a_resolution_that_this_sdk_has_not(sl):
    sl()
    with pytest.raises(SourceError, match="HD1200"):
        ZedSource(ZedSettings(resolution="HD1200"))


def test_a_recording_ends_or_starts_over(sl, tmp_path):
    codes = ["SUCCESS"] * 3 + ["END_OF_SVOFILE_REACHED"]
    fake = sl(codes=codes)
    svo = tmp_path / "recording.svo2"
    with pytest.raises(SourceError, match="expected a file, found none"):
        ZedSource(ZedSettings(svo=str(svo)))
    svo.touch()
    source = ZedSource(ZedSettings(svo=str(svo), exposure=50, gain=50))
    assert not source.live and fake.opened[0].svo == str(svo)
    # A recording's exposure is what it was.
    assert not fake.settings and fake.opened[0].svo_real_time_mode is False
    stamps = [source.grab().stamp for _ in range(3)]
    assert stamps == [fake.RECORDED + i * fake.PERIOD for i in (1, 2, 3)]
    with pytest.raises(EndOfSource, match="end after 3 pictures"):
        source.grab()

    sl(codes=codes + ["SUCCESS"] * 2)
    source = ZedSource(ZedSettings(svo=str(svo), loop=True))
    frames = [frame for frame in (source.grab() for _ in range(6)) if frame is not None]
    assert [frame.stamp - frames[0].stamp for frame in frames] == [
        i * fake.PERIOD for i in range(5)
    ]
    assert [frame.views[0][0, 0, 2] for frame in frames] == [1, 2, 3, 1, 2]


def test_a_camera_that_dies(sl):
    sl(codes=["SUCCESS", "CAMERA_NOT_DETECTED"])
    source = ZedSource(ZedSettings())
    source.grab()
    with pytest.raises(SourceError, match="expected a picture, found CAMERA_NOT_DETECTED"):
        source.grab()

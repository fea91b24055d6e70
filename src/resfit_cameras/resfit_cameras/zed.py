"""A Stereolabs ZED, live or from an SVO file, through pyzed, which is imported only here."""

import importlib
import os
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from resfit_cameras.source import EndOfSource, Frame, Intrinsics, SourceError

INSTALL = (
    "pyzed: expected the Python API of the ZED SDK, found none: install the SDK from "
    "https://www.stereolabs.com/developers, then run "
    "'python /usr/local/zed/get_python_api.py' with this Python"
)
AUTO = -1
# Grabs that gave no picture, or no whole one, of a camera that is still there.
PASSING = ("CAMERA_REBOOTING", "CORRUPTED_FRAME")


@dataclass(frozen=True)
class ZedSettings:
    """
    Attributes:
        serial: of the camera; 0: the first one found.
        svo: path of a recording, in the camera's place; '': live.
        stereo: left and right; otherwise left alone.
        resolution: name of sl.RESOLUTION.
        fps: pictures a second; 0: the SDK's choice for the resolution.
        exposure: % of the period; gain: %; both -1: the camera sets both by itself.
        white_balance: K; -1: the camera sets it by itself.
        loop: start a recording over at its end.
    """

    serial: int = 0
    svo: str = ""
    stereo: bool = True
    resolution: str = "HD720"
    fps: int = 30
    exposure: int = AUTO
    gain: int = AUTO
    white_balance: int = AUTO
    loop: bool = False

    def __post_init__(self) -> None:
        # The SDK puts both back to automatic when one of them is set to it.
        if (self.exposure == AUTO) != (self.gain == AUTO):
            raise SourceError(
                "exposure and gain: expected both given or both automatic (-1), "
                f"found {self.exposure} and {self.gain}"
            )


class ZedSource:
    """See ImageSource. Pictures are rectified by the SDK; no depth is computed.

    Live stamps are sl.TIME_REFERENCE.IMAGE: the SDK's time of the picture, on the system clock.
    """

    def __init__(self, settings: ZedSettings) -> None:
        """Open, and apply the settings; SourceError when the SDK, camera or file is not there."""
        try:
            self._sl: Any = importlib.import_module("pyzed.sl")
        except ModuleNotFoundError:
            raise SourceError(INSTALL) from None
        except ImportError as error:
            reason = str(error).partition("\n")[0]
            raise SourceError(f"pyzed: expected an SDK that fits it; {reason}") from None
        self._settings = settings
        self.live = not settings.svo
        self._name = settings.svo or (f"ZED {settings.serial}" if settings.serial else "ZED")
        if settings.svo and not os.path.isfile(settings.svo):
            raise SourceError(f"svo {settings.svo!r}: expected a file, found none")
        self._camera = self._sl.Camera()
        self._runtime = self._sl.RuntimeParameters()
        self._mat = self._sl.Mat()
        try:
            self._open()
            if self.live:
                self._apply_settings()
            self._describe()
        except SourceError:
            self.close()
            raise
        self._offset = 0  # ns, of the rounds through the recording before this one
        self._start: int | None = None  # stamps of the recording, ns
        self._newest = 0
        self._count = self._round = self._corrupted = 0  # pictures; of this round

    def _open(self) -> None:
        sl, settings = self._sl, self._settings
        parameters = sl.InitParameters()
        if settings.svo:
            parameters.set_from_svo_file(settings.svo)
            # Every picture, in order; the reader keeps the pace.
            parameters.svo_real_time_mode = False
        else:
            if settings.serial:
                parameters.set_from_serial_number(settings.serial)
            resolution = getattr(sl.RESOLUTION, settings.resolution, None)
            if resolution is None:
                raise SourceError(f"resolution {settings.resolution}: this ZED SDK has none")
            parameters.camera_resolution = resolution
            parameters.camera_fps = settings.fps
            # grab() comes back while the SDK looks for a lost camera: its loss is seen at once.
            parameters.async_grab_camera_recovery = True
        parameters.depth_mode = sl.DEPTH_MODE.NONE
        parameters.coordinate_units = sl.UNIT.METER
        parameters.sdk_verbose = 0
        code = self._camera.open(parameters)
        if self._failed(code) or code.name == "CONFIGURATION_FALLBACK":
            wanted = "" if settings.svo else f" with {settings.resolution} at {settings.fps} fps"
            raise SourceError(
                f"{self._name}: expected it to open{wanted}, found {code.name} ({code})"
            )

    def _apply_settings(self) -> None:
        key, settings = self._sl.VIDEO_SETTINGS, self._settings
        automatic = settings.exposure == AUTO
        wanted = {"AEC_AGC": int(automatic), "WHITEBALANCE_AUTO": 1}
        if not automatic:
            wanted |= {"EXPOSURE": settings.exposure, "GAIN": settings.gain}
        if settings.white_balance != AUTO:
            wanted |= {"WHITEBALANCE_AUTO": 0, "WHITEBALANCE_TEMPERATURE": settings.white_balance}
        for name, value in wanted.items():
            code = self._camera.set_camera_settings(getattr(key, name), value)
            if self._failed(code):
                raise SourceError(
                    f"{self._name}: expected {name} to take {value}, found {code.name} ({code})"
                )

    def _describe(self) -> None:
        information = self._camera.get_camera_information()
        configuration = information.camera_configuration
        resolution = configuration.resolution
        self.size = (int(resolution.height), int(resolution.width))
        self._period = round(1e9 / (configuration.fps or 30))
        calibration = configuration.calibration_parameters
        views = [(calibration.left_cam, 0.0)]
        if self._settings.stereo:
            views.append((calibration.right_cam, float(calibration.get_camera_baseline())))
        self.intrinsics = tuple(
            Intrinsics.pinhole(eye.fx, eye.fy, eye.cx, eye.cy, baseline) for eye, baseline in views
        )
        self.description = (
            f"{self._settings.svo or 'live'}, {information.camera_model} "
            f"{information.serial_number}, {self.size[1]}x{self.size[0]} "
            f"at {configuration.fps:g} fps"
        )

    def _failed(self, code: Any) -> bool:
        """Codes below SUCCESS are warnings."""
        return code.value > self._sl.ERROR_CODE.SUCCESS.value

    def grab(self) -> Frame | None:
        code = self._camera.grab(self._runtime)
        if code.name == "END_OF_SVOFILE_REACHED":
            self._rewind()
            return None
        if code.name in PASSING:
            self._corrupted += code.name == "CORRUPTED_FRAME"
            return None
        if self._failed(code):
            raise SourceError(f"{self._name}: expected a picture, found {code.name} ({code})")
        stamp = self._camera.get_timestamp(self._sl.TIME_REFERENCE.IMAGE).get_nanoseconds()
        view = self._sl.VIEW
        eyes = (view.LEFT, view.RIGHT) if self._settings.stereo else (view.LEFT,)
        views = tuple(self._view(eye) for eye in eyes)
        dropped = max(int(self._camera.get_frame_dropped_count()), 0) + self._corrupted
        self._count += 1
        self._round += 1
        if self.live:
            return Frame(views, int(stamp), dropped)
        # An uncompressed recording has no stamps.
        stamp = int(stamp) or self._round * self._period
        if self._start is None:
            self._start = stamp
        self._newest = stamp + self._offset
        return Frame(views, self._newest, dropped)

    def _view(self, eye: Any) -> NDArray[np.uint8]:
        code = self._camera.retrieve_image(self._mat, eye)
        if self._failed(code):
            raise SourceError(f"{self._name}: expected a picture, found {code.name} ({code})")
        # BGRA in memory that the next picture takes; the conversion copies.
        return cv2.cvtColor(self._mat.get_data(), cv2.COLOR_BGRA2RGB)

    def _rewind(self) -> None:
        if not self._settings.loop or not self._round:
            raise EndOfSource(f"{self._name}: end after {self._count} pictures")
        self._camera.set_svo_position(0)
        self._round = 0
        self._offset = self._newest + self._period - self._start

    def skip_waiting(self) -> None:
        """The SDK gives the newest picture by itself."""

    def close(self) -> None:
        self._camera.close()

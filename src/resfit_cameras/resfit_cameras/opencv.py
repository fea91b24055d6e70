"""A V4L2 camera or a video file through OpenCV, one picture or two side by side."""

import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path

# A file that is no video is our one line to say; FFmpeg reads this at its first use.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np
from numpy.typing import NDArray

from resfit_cameras.calibration import read_calibration
from resfit_cameras.source import EndOfSource, Frame, SourceError

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)

# Of the V4L2 backend: what may wait there while nobody grabs.
QUEUED = 4
# s; a driver's stamp that is further from now is on some other clock.
PLAUSIBLE_DELAY = 1.0


@dataclass(frozen=True)
class VideoSettings:
    """
    Attributes:
        source: number or path of a V4L2 device, or path of a video file.
        side_by_side: each picture is left and right, of equal width.
        width, height: of the whole picture, pixels: asked of a device, checked for both; 0: any.
        fps: asked of a device; for a file in place of its own; 0: any, the file's own.
        fourcc: pixel format asked of a device ('MJPG', 'YUYV'); '': its own choice.
        loop: start a file over at its end.
        calibrations: files, one per view; '': not calibrated.
    """

    source: str
    side_by_side: bool = False
    width: int = 0
    height: int = 0
    fps: float = 0.0
    fourcc: str = ""
    loop: bool = False
    calibrations: tuple[str, ...] = ("", "")


def driver_stamp(position: float, monotonic: int, system: int) -> int:
    """System time of a picture, ns.

    Args:
        position: the device's CAP_PROP_POS_MSEC: the driver's buffer time on the monotonic clock,
            ms, with most of them; 0 or anything else with others.
        monotonic, system: both clocks when the picture came, ns.
    """
    delay = monotonic - round(position * 1e6)
    return system - delay if 0 <= delay <= PLAUSIBLE_DELAY * 1e9 else system


class OpenCvSource:
    """See ImageSource. OpenCV does not tell what a device dropped: `Frame.dropped` is None.

    A file's stamps are its picture's number over its rate; a variable rate is not followed.
    """

    def __init__(self, settings: VideoSettings) -> None:
        """Open and take a first picture, so that what cannot work is said here: SourceError."""
        self._settings = settings
        self._name = settings.source
        path = f"/dev/video{self._name}" if self._name.isdecimal() else self._name
        if not path or not os.path.exists(path):
            raise SourceError(f"source {path!r}: expected a camera or a file, found none")
        self.live = stat.S_ISCHR(os.stat(path).st_mode)
        if not self.live and not Path(path).is_file():
            raise SourceError(f"source {path!r}: expected a camera or a file, found neither")
        self._path = os.path.realpath(path)
        self._capture = self._open()
        try:
            self._check()
        except SourceError:
            self.close()
            raise

    def _check(self) -> None:
        settings = self._settings
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        if not self.live:
            rate = settings.fps or rate
            if not 0 < rate <= 1000:
                raise SourceError(f"source {self._name}: expected a rate, found {rate:g}: give fps")
        self._period = 1e9 / rate if rate > 0 else 0.0
        self._index = 0  # of the next picture, over all rounds through the file
        self._first: NDArray[np.uint8] | None = None
        if not self._capture.grab():
            raise SourceError(f"source {self._name}: expected a picture, found none")
        first = self._retrieve()
        height, width = first.shape[:2]
        wanted = settings.width or width, settings.height or height
        if (width, height) != wanted:
            raise SourceError(
                f"source {self._name}: expected {wanted[0]}x{wanted[1]} pixels, "
                f"found {width}x{height}"
            )
        if settings.side_by_side and width % 2:
            raise SourceError(
                f"source {self._name}: expected an even width (left and right), found {width}"
            )
        self._whole = first.shape
        views = 2 if settings.side_by_side else 1
        self.size = (height, width // views)
        self.intrinsics = tuple(
            read_calibration(file, self.size) if file else None
            for file in settings.calibrations[:views]
        )
        self.description = f"{self._name}, {width}x{height} at {rate:g} fps"
        if not self.live:
            self._first = first

    def _open(self) -> cv2.VideoCapture:
        settings = self._settings
        capture = cv2.VideoCapture(self._path, cv2.CAP_V4L2 if self.live else cv2.CAP_ANY)
        if not capture.isOpened():
            kind = "a camera that opens" if self.live else "a video file"
            raise SourceError(f"source {self._name}: expected {kind}, found something else")
        if self.live:
            # The pixel format first: it decides which sizes and rates there are.
            if settings.fourcc:
                capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*settings.fourcc))
            for key, value in (
                (cv2.CAP_PROP_FRAME_WIDTH, settings.width),
                (cv2.CAP_PROP_FRAME_HEIGHT, settings.height),
                (cv2.CAP_PROP_FPS, settings.fps),
            ):
                if value:
                    capture.set(key, value)
        return capture

    def grab(self) -> Frame:
        if self.live:
            return self._grab_live()
        picture, self._first = self._first, None
        if picture is None:
            if not self._capture.grab():
                if not self._settings.loop:
                    raise EndOfSource(f"source {self._name}: end after {self._index} pictures")
                # Opened anew: seeking is not exact with every codec.
                self._capture.release()
                self._capture = self._open()
                if not self._capture.grab():
                    raise SourceError(f"source {self._name}: expected a picture, found none")
            picture = self._retrieve()
        stamp = round(self._index * self._period)
        self._index += 1
        return Frame(self._views(picture), stamp)

    def _grab_live(self) -> Frame:
        if not self._capture.grab():
            raise SourceError(f"source {self._name}: expected a picture, found none: camera gone?")
        monotonic, system = time.monotonic_ns(), time.time_ns()
        position = self._capture.get(cv2.CAP_PROP_POS_MSEC)
        stamp = driver_stamp(position, monotonic, system)
        return Frame(self._views(self._retrieve()), stamp)

    def _retrieve(self) -> NDArray[np.uint8]:
        """BGR (H, W, 3) of what was grabbed."""
        intact, picture = self._capture.retrieve()
        if not intact or picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            found = f"{picture.dtype} {picture.shape}" if intact else "none"
            raise SourceError(f"source {self._name}: expected a colour picture, found {found}")
        return picture

    def _views(self, picture: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
        if picture.shape != self._whole:
            raise SourceError(
                f"source {self._name}: expected {self._whole[1]}x{self._whole[0]} pixels, "
                f"found {picture.shape[1]}x{picture.shape[0]}"
            )
        picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        if not self._settings.side_by_side:
            return (picture,)
        return picture[:, : self.size[1]], picture[:, self.size[1] :]

    def skip_waiting(self) -> None:
        if self.live:
            for _ in range(QUEUED):
                self._capture.grab()

    def close(self) -> None:
        self._capture.release()

"""What a camera node reads pictures from; no ROS here."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class SourceError(Exception):
    """A source cannot be opened or has died; names it, the expected and the found."""


class EndOfSource(SourceError):
    """A file has no more pictures."""


@dataclass(frozen=True)
class Intrinsics:
    """Of one view, pixels; pixel (0, 0) has its centre at (0, 0).

    Attributes:
        matrix: (3, 3) of the picture as it is.
        distortion: coefficients in the order of `model`; none: the picture is rectified.
        rectification: (3, 3) rotation.
        projection: (3, 4) of the rectified picture; m * pixels in its last column.
        model: sensor_msgs/CameraInfo.distortion_model.
    """

    matrix: NDArray[np.float64]
    distortion: tuple[float, ...]
    rectification: NDArray[np.float64]
    projection: NDArray[np.float64]
    model: str = "plumb_bob"

    @classmethod
    def pinhole(
        cls, fx: float, fy: float, cx: float, cy: float, baseline: float = 0.0
    ) -> "Intrinsics":
        """Of a rectified picture; `baseline`, m: how far right of the left camera this one is."""
        matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)
        shift = np.array([[-fx * baseline], [0], [0]])
        return cls(matrix, (0.0,) * 5, np.eye(3), np.hstack([matrix, shift]))


@dataclass(frozen=True)
class Frame:
    """One grab.

    Attributes:
        views: RGB pictures (H, W, 3), uint8: one, or left and right of one instant.
        stamp: ns. Live: of the exposure or the arrival, system time (epoch). File: on the clock of
            the recording, increasing also where the file starts over.
        dropped: pictures that the source lost since it was opened; None where it cannot tell.
    """

    views: tuple[NDArray[np.uint8], ...]
    stamp: int
    dropped: int | None = None


class ImageSource(Protocol):
    """An open camera or file. One thread at a time may use it.

    Attributes:
        description: 'ZED 2i 12345, 1280x720 at 30 fps'.
        live: stamps are system time; otherwise a file, read as fast as it is asked.
        size: (height, width) of each view, pixels.
        intrinsics: one per view; None where the view is not calibrated.
    """

    description: str
    live: bool
    size: tuple[int, int]
    intrinsics: tuple[Intrinsics | None, ...]

    def grab(self) -> Frame | None:
        """Wait for the next frame; None when there is none yet. SourceError when it has died."""

    def skip_waiting(self) -> None:
        """Live: throw away the pictures that queued up while nobody grabbed."""

    def close(self) -> None: ...

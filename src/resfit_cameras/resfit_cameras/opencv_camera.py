"""Any V4L2 camera, or a video file."""

import sys

from resfit_cameras.camera_node import CameraNode
from resfit_cameras.opencv import OpenCvSource, VideoSettings
from resfit_cameras.source import ImageSource
from resfit_ros.parameters import ConfigurationError, declare
from resfit_ros.run import run_node


class OpenCvCamera(CameraNode):
    """One camera, or a stereo camera whose pictures come side by side."""

    def __init__(self) -> None:
        super().__init__("opencv_camera")

    def _declare_source(self) -> None:
        source = declare(
            self,
            "source",
            "/dev/video0",
            "V4L2 device (number or path), or path of a video file.",
        )
        side_by_side = declare(
            self, "side_by_side", False, "Each picture is left and right, of equal width."
        )
        self._use_views(2 if side_by_side else 1)
        fourcc = declare(
            self, "fourcc", "", "Pixel format asked of a device: MJPG, YUYV, ...; '': its choice."
        )
        if len(fourcc) not in (0, 4):
            raise ConfigurationError(
                f"parameter 'fourcc': expected four letters or none, found {fourcc!r}"
            )
        self._settings = VideoSettings(
            source=source,
            side_by_side=side_by_side,
            fourcc=fourcc,
            width=declare(
                self,
                "capture_width",
                0,
                "Width of the source's whole picture, pixels: asked of a device, checked; 0: any.",
                range=(0, 16384),
            ),
            height=declare(
                self,
                "capture_height",
                0,
                "Height of the source's picture, pixels: asked of a device, checked; 0: any.",
                range=(0, 16384),
            ),
            fps=declare(
                self,
                "fps",
                0.0,
                "Pictures a second: asked of a device, or of a file in its own's place; 0: any.",
                range=(0.0, 1000.0),
            ),
            loop=declare(self, "loop", False, "Start a file over at its end."),
            calibrations=(
                declare(
                    self,
                    "left_calibration",
                    "",
                    "Calibration of the left or only view, a file of camera_calibration; '': none.",
                ),
                declare(self, "right_calibration", "", "Calibration of the right view; '': none."),
            ),
        )

    def _open(self) -> ImageSource:
        return OpenCvSource(self._settings)


def main() -> int:
    return run_node(OpenCvCamera)


if __name__ == "__main__":
    sys.exit(main())

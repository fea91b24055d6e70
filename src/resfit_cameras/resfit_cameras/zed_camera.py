"""A ZED stereo camera, or a recording of one."""

import sys

from resfit_cameras.camera_node import CameraNode
from resfit_cameras.source import ImageSource
from resfit_cameras.zed import ZedSettings, ZedSource
from resfit_ros.parameters import declare
from resfit_ros.run import run_node


class ZedCamera(CameraNode):
    """Left and right rectified pictures of one instant, with the factory's calibration."""

    def __init__(self) -> None:
        super().__init__("zed_camera")

    def _declare_source(self) -> None:
        stereo = declare(self, "stereo", True, "Left and right; otherwise the left picture alone.")
        self._use_views(2 if stereo else 1)
        self._parameters_of_source = {
            "stereo": stereo,
            "serial": declare(
                self,
                "serial",
                0,
                "Serial number; 0: the first camera found.",
                range=(0, 4294967295),
            ),
            "svo": declare(self, "svo", "", "SVO file to play in a camera's place."),
            "resolution": declare(
                self,
                "resolution",
                "HD720",
                "Of the camera, by the SDK's name.",
                choices=("AUTO", "HD2K", "HD1200", "HD1080", "HD720", "SVGA", "VGA"),
            ),
            "fps": declare(
                self, "fps", 30, "Pictures a second; 0: the SDK's choice.", range=(0, 120)
            ),
            "exposure": declare(
                self,
                "exposure",
                -1,
                "Exposure time, % of the period; -1: automatic, then gain must be so too.",
                range=(-1, 100),
            ),
            "gain": declare(
                self,
                "gain",
                -1,
                "Gain, %; -1: automatic, then exposure must be so too.",
                range=(-1, 100),
            ),
            "white_balance": declare(
                self,
                "white_balance",
                -1,
                "Colour temperature, K, in steps of 100 from 2800 on; -1: automatic.",
                range=(-1, 6500),
            ),
            "loop": declare(self, "loop", False, "Start an SVO file over at its end."),
        }

    def _open(self) -> ImageSource:
        return ZedSource(ZedSettings(**self._parameters_of_source))


def main() -> int:
    return run_node(ZedCamera)


if __name__ == "__main__":
    sys.exit(main())

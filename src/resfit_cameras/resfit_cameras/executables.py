"""Entry points of the executables."""

from resfit_ros.start import start


def zed_camera() -> int:
    return start("resfit_cameras.zed_camera")


def opencv_camera() -> int:
    return start("resfit_cameras.opencv_camera")

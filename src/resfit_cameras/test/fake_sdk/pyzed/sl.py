"""Stands in for Stereolabs' pyzed.sl, of which the tests have none.

It has the names, the codes and the call order that our wrapper relies on, so the wrapper's own
logic runs; it proves nothing about the SDK or a camera. What it plays is a JSON file named by
$FAKE_ZED: {"codes": one name a grab, the last one for ever, "opens": how many opens succeed}.
"""

import enum
import json
import os
import pathlib
import time

import numpy as np

HEIGHT, WIDTH, PERIOD = 48, 64, 20_000_000
RECORDED = 1_700_000_000_000_000_000  # ns, first stamp of a recording
ERROR_CODE = enum.Enum(
    "ERROR_CODE",
    {
        "CONFIGURATION_FALLBACK": -4,
        "CORRUPTED_FRAME": -2,
        "CAMERA_REBOOTING": -1,
        "SUCCESS": 0,
        "FAILURE": 1,
        "CAMERA_NOT_DETECTED": 4,
        "INVALID_SVO_FILE": 11,
        "END_OF_SVOFILE_REACHED": 13,
    },
)
RESOLUTION = enum.Enum("RESOLUTION", "HD1080 HD720 VGA AUTO")
DEPTH_MODE = enum.Enum("DEPTH_MODE", "NONE PERFORMANCE")
UNIT = enum.Enum("UNIT", "MILLIMETER METER")
VIEW = enum.Enum("VIEW", "LEFT RIGHT")
TIME_REFERENCE = enum.Enum("TIME_REFERENCE", "IMAGE CURRENT")
VIDEO_SETTINGS = enum.Enum(
    "VIDEO_SETTINGS", "GAIN EXPOSURE AEC_AGC WHITEBALANCE_TEMPERATURE WHITEBALANCE_AUTO"
)
opened = []  # InitParameters of each open
settings = []  # (name, value) of each set_camera_settings
closed = 0


def picture(index, view):
    """(H, W, 4) BGRA of grab `index`."""
    shade = np.full((HEIGHT, WIDTH, 4), 255, np.uint8)
    shade[..., 0], shade[..., 1], shade[..., 2] = index, 10 if view is VIEW.LEFT else 200, 77
    return shade


class Fields:
    def __init__(self, **fields):
        self.__dict__ |= fields


class InitParameters:
    svo = serial = None

    def set_from_svo_file(self, path):
        self.svo = path

    def set_from_serial_number(self, serial):
        self.serial = serial


class RuntimeParameters:
    pass


class Mat:
    def get_data(self):
        return self.data


class Camera:
    def open(self, parameters):
        script = json.loads(pathlib.Path(os.environ["FAKE_ZED"]).read_text())
        self._codes = script.get("codes", ["SUCCESS"])
        self._svo = parameters.svo
        opened.append(parameters)
        self._grabs = self._index = 0
        if len(opened) > script.get("opens", 1000):
            return ERROR_CODE.CAMERA_NOT_DETECTED
        return ERROR_CODE[script.get("open", "SUCCESS")]

    def close(self):
        global closed
        closed += 1

    def set_camera_settings(self, key, value):
        settings.append((key.name, value))
        return ERROR_CODE.SUCCESS if value < 101 or value > 2799 else ERROR_CODE.FAILURE

    def get_camera_information(self):
        eye = Fields(fx=50.0, fy=50.0, cx=31.5, cy=23.5)
        calibration = Fields(left_cam=eye, right_cam=eye, get_camera_baseline=lambda: 0.12)
        return Fields(
            serial_number=12345,
            camera_model="ZED 2i",
            camera_configuration=Fields(
                resolution=Fields(height=HEIGHT, width=WIDTH),
                fps=50.0,
                calibration_parameters=calibration,
            ),
        )

    def grab(self, runtime):
        code = self._codes[min(self._grabs, len(self._codes) - 1)]
        self._grabs += 1
        if code == "SUCCESS":
            self._index += 1
            if not self._svo:
                time.sleep(PERIOD / 1e9)
                self._time = time.time_ns()
        return ERROR_CODE[code]

    def retrieve_image(self, mat, view):
        # One piece of memory for all pictures, as the SDK has it.
        if not hasattr(mat, "data"):
            mat.data = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
        mat.data[:] = picture(self._index % 256, view)
        return ERROR_CODE.SUCCESS

    def get_timestamp(self, reference):
        assert reference is TIME_REFERENCE.IMAGE
        stamp = RECORDED + self._index * PERIOD if self._svo else self._time
        return Fields(get_nanoseconds=lambda: stamp)

    def get_frame_dropped_count(self):
        return 3

    def set_svo_position(self, position):
        assert position == 0
        self._index = 0
        return ERROR_CODE.SUCCESS

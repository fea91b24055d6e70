"""Calibration files as ROS's camera_calibration writes them."""

import math
from pathlib import Path

import numpy as np
import yaml

from resfit_cameras.source import Intrinsics, SourceError


def read_calibration(path: str, size: tuple[int, int]) -> Intrinsics:
    """The file's intrinsics; SourceError unless they are of pictures of `size` (height, width)."""
    try:
        content = yaml.safe_load(Path(path).read_text())
        found = int(content["image_height"]), int(content["image_width"])
        arrays = {
            name: np.array(content[name]["data"], np.float64).reshape(shape)
            for name, shape in {
                "camera_matrix": (3, 3),
                "distortion_coefficients": (-1,),
                "rectification_matrix": (3, 3),
                "projection_matrix": (3, 4),
            }.items()
        }
        model = str(content["distortion_model"])
    except OSError as error:
        raise SourceError(f"calibration {path}: {error.strerror}") from None
    except KeyError as error:
        raise SourceError(f"calibration {path}: expected key {error}, found none") from None
    except (yaml.YAMLError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise SourceError(
            f"calibration {path}: expected a file of ROS's camera_calibration; {reason}"
        ) from None
    if found != tuple(size):
        raise SourceError(
            f"calibration {path}: expected {size[1]}x{size[0]} pixels, found {found[1]}x{found[0]}"
        )
    if not all(math.isfinite(value) for array in arrays.values() for value in array.ravel()):
        raise SourceError(f"calibration {path}: expected finite numbers")
    return Intrinsics(
        arrays["camera_matrix"],
        tuple(arrays["distortion_coefficients"].tolist()),
        arrays["rectification_matrix"],
        arrays["projection_matrix"],
        model,
    )

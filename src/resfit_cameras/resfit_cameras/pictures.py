"""From a camera's picture to the one that the policy sees."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from resfit_cameras.source import Intrinsics


@dataclass(frozen=True)
class Fit:
    """Cut the middle square out, where asked, then resize by area averaging.

    Without the cut a 16:9 picture is squeezed into a square one.

    Attributes:
        height, width: pixels; both 0 keep the size.
        square: cut first.
    """

    height: int
    width: int
    square: bool

    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) to (height, width, 3), uint8."""
        y, x, height, width = self._region(picture.shape[:2])
        picture = picture[y : y + height, x : x + width]
        if self.height and (height, width) != (self.height, self.width):
            picture = cv2.resize(picture, (self.width, self.height), interpolation=cv2.INTER_AREA)
        return np.ascontiguousarray(picture)

    def size(self, native: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the result for a picture of `native` (height, width)."""
        return (self.height, self.width) if self.height else self._region(native)[2:]

    def intrinsics(self, intrinsics: Intrinsics, native: tuple[int, int]) -> Intrinsics:
        """Those of the result; distortion is one of directions and stays."""
        y, x, height, width = self._region(native)
        out_height, out_width = self.size(native)
        scale_x, scale_y = out_width / width, out_height / height
        # Pixel centres are integers: the picture's corner is at (-0.5, -0.5) before and after.
        moved = np.array(
            [
                [scale_x, 0, (0.5 - x) * scale_x - 0.5],
                [0, scale_y, (0.5 - y) * scale_y - 0.5],
                [0, 0, 1],
            ]
        )
        return replace(
            intrinsics,
            matrix=moved @ intrinsics.matrix,
            projection=moved @ intrinsics.projection,
        )

    def _region(self, native: tuple[int, int]) -> tuple[int, int, int, int]:
        """y, x, height, width of what is kept of a picture of `native` (height, width)."""
        height, width = native
        if not self.square:
            return 0, 0, height, width
        side = min(height, width)
        return (height - side) // 2, (width - side) // 2, side, side

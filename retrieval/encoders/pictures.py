"""Makes the square input of an image tower from a picture, as the tower's description says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xsearch.core.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image

    from xsearch.core.encoder import UInt8

RESIZES = ("squash", "crop", "longest")
INTERPOLATIONS = ("bicubic", "bilinear")


@dataclass(frozen=True, slots=True)
class Preparation:
    """How a picture becomes the (size, size) pixels that a tower reads.

    `squash` scales both sides to size / crop_pct, the aspect ratio given up; `crop` scales the
    shorter side to it. The central square of `size` pixels is what the tower reads. `longest`
    scales the longer side to `size` and fills the square up with the grey level `fill`, 0 to 255.
    """

    size: int
    resize: str = "squash"
    interpolation: str = "bicubic"
    crop_pct: float = 1.0
    fill: int = 0

    @property
    def side(self) -> int:
        """Pixels of the scaled picture's shorter side: what decoding should aim for."""
        return math.floor(self.size / self.crop_pct)

    def apply(self, image: Image.Image) -> UInt8:
        """The pixels of an upright picture: uint8 (size, size, 3), RGB, antialiased.

        Rounds as torchvision's `Resize` and `CenterCrop` do, and open_clip's `ResizeKeepRatio`,
        so that towers trained with timm or open_clip see what they were trained on.
        """
        from PIL.Image import Resampling

        rgb = image if image.mode == "RGB" else image.convert("RGB")
        width, height = self._scaled(*rgb.size)
        scaled = rgb.resize((width, height), Resampling[self.interpolation.upper()])
        pixels = np.asarray(scaled)
        if self.resize == "longest":
            square = np.full((self.size, self.size, 3), self.fill, np.uint8)
            left, top = -self._cut(width), -self._cut(height)
            square[top : top + height, left : left + width] = pixels
            return square
        left, top = self._cut(width), self._cut(height)
        return pixels[top : top + self.size, left : left + self.size]

    def frame(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The part of a picture of so many pixels that the square shows, see `FramingEncoder`."""
        across, down = self._scaled(width, height)
        left, top = self._cut(across), self._cut(down)
        return left / across, top / down, (left + self.size) / across, (top + self.size) / down

    def _cut(self, length: int) -> int:
        """Pixels of a scaled side before the square begins; below 0 where the square is wider."""
        if self.resize == "longest":
            return -((self.size - length) // 2)
        return round((length - self.size) / 2)

    def _scaled(self, width: int, height: int) -> tuple[int, int]:
        if self.resize == "squash":
            return self.side, self.side
        if self.resize == "longest":
            ratio = max(width, height) / self.size
            return max(1, round(width / ratio)), max(1, round(height / ratio))
        if width <= height:
            return self.side, int(self.side * height / width)
        return int(self.side * width / height), self.side

    def __str__(self) -> str:
        cut = "" if self.crop_pct == 1 else f" of {self.side}"
        filled = f" on grey {self.fill}" if self.resize == "longest" else ""
        return f"{self.resize} to {self.size}{cut}{filled} {self.interpolation} antialiased"


def check_pixels(batch: UInt8, side: int) -> None:
    """Raise UsageError unless pictures are uint8 (n, side, side, 3), as `preprocess` makes them."""
    if batch.shape[1:] != (side, side, 3) or batch.dtype != np.uint8:
        raise UsageError(
            f"pictures must be uint8 (n, {side}, {side}, 3), as `preprocess` makes them; "
            f"these are {batch.dtype} {batch.shape}"
        )

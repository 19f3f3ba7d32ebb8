"""Varies pictures while training: crop, flip, rotation, colours, blur; and when not to flip."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xsearch.core.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

_SIDES = re.compile(
    r"\b(?:left|right|leftmost|rightmost|left-?hand(?:ed)?|right-?hand(?:ed)?)\b"  # English
    r"|\b(?:links|rechts|linke[nmrs]?|rechte[nmrs]?|linksseitig\w*|rechtsseitig\w*)\b"  # German
    r"|\b(?:gauches?|droite?s?)\b"  # French
    r"|\b(?:vlevo|vpravo|doleva|doprava|nalevo|napravo|zleva|zprava)\b"  # Czech
    r"|\b(?:lev|prav)(?:ý|á|é|ou|ém|ému|ého|ým|ých|ými|í)\b"
    r"|[左右]"  # Chinese
    r"|يسار|يمين|يسر[ىي]|[أا]يسر|يمن[ىي]|[أا]يمن",  # Arabic
    re.IGNORECASE,
)
_BLUR = (0.1, 2.0)
"""Standard deviations of the blur in pixels, of a picture 224 pixels wide (SimCLR's range)."""


def mentions_side(text: str) -> bool:
    """Whether a caption speaks of left or right: in en, de, fr, cs, zh or ar.

    A picture with such a caption must not be mirrored. Other meanings of the words count too.
    """
    return _SIDES.search(text) is not None


@dataclass(frozen=True, slots=True)
class ImageAugmentation:
    """How a picture is varied before it is made square.

    scale, ratio: area of the part cut out, as a share of the picture's, and its width to height
        (Szegedy et al. 2015, "Going Deeper with Convolutions", section 6): of pixels where the
        model crops, in terms of the picture's own where it squashes.
    flip: chance of being mirrored. rotate: up to so many degrees, either way.
    brightness, contrast, saturation: factors within 1 +- so much. hue: shift, in turns of the
        colour circle, up to so much either way.
    grey, blur: chances (Chen et al. 2020, "SimCLR", appendix A).
    """

    scale: tuple[float, float] = (0.5, 1.0)
    ratio: tuple[float, float] = (0.75, 4 / 3)
    flip: float = 0.5
    rotate: float = 0.0
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.02
    grey: float = 0.02
    blur: float = 0.02

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise UsageError(
                f"scale is {self.scale}; it must be from more than 0 to 1, lower first"
            )
        if not 0 < self.ratio[0] <= self.ratio[1] < math.inf:
            raise UsageError(f"ratio is {self.ratio}; it must be more than 0, lower first")
        limits = {"rotate": 180.0, "hue": 0.5}
        for name in (
            "flip",
            "rotate",
            "brightness",
            "contrast",
            "saturation",
            "hue",
            "grey",
            "blur",
        ):
            limit = limits.get(name, 1.0)
            if not 0 <= getattr(self, name) <= limit:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be from 0 to {limit:g}")

    def apply(
        self,
        image: Image.Image,
        size: int,
        resize: str,
        random: np.random.Generator,
        *,
        flip: bool = True,
    ) -> Image.Image:
        """A variation of an upright RGB picture: RGB, (size, size).

        `resize` is the model's way, `squash` or `crop`. With `flip=False` it is never mirrored.
        """
        from PIL import Image

        image = self._rotated(image, random)
        box = self._part(*image.size, resize, random)
        image = image.resize((size, size), Image.Resampling.BICUBIC, box, reducing_gap=3.0)
        # Drawn in any case, so that what follows does not depend on the caption.
        if random.random() < self.flip and flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return self._blurred(self._coloured(image, random), random)

    def _rotated(self, image: Image.Image, random: np.random.Generator) -> Image.Image:
        """Turned, and cut to the largest upright part without empty corners."""
        from PIL import Image

        if not self.rotate:
            return image
        angle = float(random.uniform(-self.rotate, self.rotate))
        turned = image.rotate(angle, Image.Resampling.BILINEAR, expand=True)
        width, height = inner_rectangle(*image.size, math.radians(angle))
        left, top = (turned.width - width) / 2, (turned.height - height) / 2
        # Rounded inwards: the outermost pixels are mixed with the emptiness around.
        box = math.ceil(left) + 1, math.ceil(top) + 1, int(left + width) - 1, int(top + height) - 1
        return turned.crop(box) if box[2] > box[0] and box[3] > box[1] else image

    def _part(
        self, width: int, height: int, resize: str, random: np.random.Generator
    ) -> tuple[float, float, float, float]:
        """A random part (left, top, right, bottom); the whole, as far as allowed, if none fits."""
        own = width / height if resize == "squash" else 1.0
        area = width * height
        low, high = self.ratio
        for _ in range(10):
            share = float(random.uniform(*self.scale))
            # Even on the logarithm: as often twice as wide as twice as high.
            ratio = own * math.exp(float(random.uniform(math.log(low), math.log(high))))
            across, down = math.sqrt(share * area * ratio), math.sqrt(share * area / ratio)
            if across <= width and down <= height:
                left = float(random.uniform(0, width - across))
                top = float(random.uniform(0, height - down))
                return left, top, left + across, top + down
        across = min(width, height * own * self.ratio[1])
        down = min(height, width / (own * self.ratio[0]))
        left, top = (width - across) / 2, (height - down) / 2
        return left, top, left + across, top + down

    def _coloured(self, image: Image.Image, random: np.random.Generator) -> Image.Image:
        from PIL import ImageEnhance

        for kind, most in (
            (ImageEnhance.Brightness, self.brightness),
            (ImageEnhance.Contrast, self.contrast),
            (ImageEnhance.Color, self.saturation),
        ):
            if most:
                image = kind(image).enhance(float(random.uniform(1 - most, 1 + most)))
        if self.hue:
            image = _turned_hue(image, float(random.uniform(-self.hue, self.hue)))
        if self.grey and random.random() < self.grey:
            image = image.convert("L").convert("RGB")
        return image

    def _blurred(self, image: Image.Image, random: np.random.Generator) -> Image.Image:
        from PIL import ImageFilter

        if not self.blur or random.random() >= self.blur:
            return image
        deviation = float(random.uniform(*_BLUR)) * image.width / 224
        return image.filter(ImageFilter.GaussianBlur(deviation))


def inner_rectangle(width: float, height: float, angle: float) -> tuple[float, float]:
    """Sides of the largest upright rectangle inside one that was turned by `angle` radians."""
    long, short = max(width, height), min(width, height)
    sine, cosine = abs(math.sin(angle)), abs(math.cos(angle))
    if short <= 2 * sine * cosine * long or abs(sine - cosine) < 1e-10:
        # Two corners touch the long sides, halfway.
        half = short / 2
        across, down = (
            (half / sine, half / cosine) if width >= height else (half / cosine, half / sine)
        )
    else:
        double = cosine * cosine - sine * sine
        across = (width * cosine - height * sine) / double
        down = (height * cosine - width * sine) / double
    return across, down


def _turned_hue(image: Image.Image, turns: float) -> Image.Image:
    from PIL import Image

    shift = round(turns * 255)
    if not shift:
        return image
    hue, saturation, value = image.convert("HSV").split()
    hue = hue.point([(level + shift) % 256 for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")

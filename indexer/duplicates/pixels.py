"""Whether two pictures show the same, by their greys: laid over one another, then detail by detail.

A copy may be turned by right angles, cropped, have a border or lie a few degrees askew: the part of
one that the other shows is searched for, first coarsely, then by climbing to the best correlation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from xsearch.core.images import decode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xsearch.indexer.duplicates.rule import Likeness

    Floats = NDArray[np.float32]

_SIDE = 128
_FINE, _COMPARED = 64, 48
_COARSE, _SMALLEST = 32, 24
# Windows narrower than high by more than this, of the coarse side, are no crops people make.
_UNEVEN = 4
_ALIGNED = 0.985
# Climbing betters what was found on the grid by less than this.
_GAIN = 0.2
_TILES = 8
# A tile without detail: its greys vary less than this part of the whole picture's.
_PLAIN = 0.15
_ALIKE = 0.5
# A page, a form, a screenshot: so many of its greys are the background's, give or take.
_BACKGROUND, _GREYS = 0.5, 4
_ALIKE_ON_PAGES = 0.8
_FLAT = 3.0


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture as 128 x 128 greys; `sharp` is the side, in pixels, that it has details for."""

    greys: NDArray[np.uint8]
    sharp: int

    @property
    def page(self) -> bool:
        """Whether most of it is background, as of a document."""
        counts = np.bincount(self.greys.ravel(), minlength=256)
        most = int(counts.argmax())
        near = counts[max(most - _GREYS, 0) : most + _GREYS + 1].sum()
        return bool(near >= _BACKGROUND * self.greys.size)


@dataclass(frozen=True, slots=True)
class _Window:
    """The part of a picture that another shows: edges from 0 to 1, turned by an angle (radians)."""

    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0
    angle: float = 0.0


def thumbnail(path: Path, max_pixels: int) -> Thumbnail:
    """Read a picture's file.

    Raises:
        ImageError: it cannot be decoded or read.
    """
    picture = decode(path, min_side=_SIDE, max_pixels=max_pixels)
    return reduce(picture.image)


def reduce(image: Image.Image) -> Thumbnail:
    """The thumbnail of a decoded picture."""
    small = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    return Thumbnail(np.asarray(small), min(*image.size, _SIDE))


def same_picture(first: Thumbnail, second: Thumbnail, turn: int, alike: Likeness) -> bool:
    """Whether the second picture is the first, turned so (`core.perceptual.TURNS`), or its part."""
    greys = turned(first.greys, turn)
    if min(greys.std(), second.greys.std()) < _FLAT:
        return False  # Nothing to see.
    one, other = Image.fromarray(greys), Image.fromarray(second.greys)
    whole, part, window, correlation = _align(one, other, alike.correlation - _GAIN)
    if correlation < alike.correlation:
        return False
    side = max(min(first.sharp, second.sharp), _COARSE)
    strict = first.page and second.page
    return _differing(whole, part, window, side, strict) <= (0 if strict else alike.differing)


def turned(greys: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """Greys (n, n) turned as `core.perceptual.TURNS` counts."""
    greys = greys.T if turn & 4 else greys
    greys = greys[::-1] if turn & 2 else greys
    return np.ascontiguousarray(greys[:, ::-1] if turn & 1 else greys)


def _align(
    one: Image.Image, other: Image.Image, least: float
) -> tuple[Image.Image, Image.Image, _Window, float]:
    """The picture that shows more, the other, where in the first it lies, and their correlation.

    Where the grid finds less than `least`, no climbing follows.
    """
    small = [_resized(image, _FINE) for image in (one, other)]
    flat = [_sampled(image, _Window(), _COMPARED) for image in small]
    correlation = _correlation(*flat)
    if correlation >= _ALIGNED:
        return one, other, _Window(), correlation
    forth, back = _coarse(small[0], small[1]), _coarse(small[1], small[0])
    if max(forth[1], back[1]) < least:
        return one, other, *max(forth, back, key=lambda found: found[1])
    if forth[1] >= back[1]:
        return one, other, *_climb(small[0], flat[1], forth[0])
    return other, one, *_climb(small[1], flat[0], back[0])


def _coarse(large: Image.Image, part: Image.Image) -> tuple[_Window, float]:
    """The window of the best correlation, of all sizes and places on a grid."""
    side = _COARSE
    greys = np.asarray(_resized(large, side), np.float32)
    best, window = -2.0, _Window()
    for width in range(_SMALLEST, side + 1):
        for height in range(max(_SMALLEST, width - _UNEVEN), min(side, width + _UNEVEN) + 1):
            wanted = np.asarray(part.resize((width, height), Image.Resampling.BOX), np.float32)
            wanted = wanted.ravel() - wanted.mean()
            places = sliding_window_view(greys, (height, width))
            shown = places.reshape(-1, wanted.size)
            spread = shown.std(1) * np.sqrt(wanted.size)
            found = shown @ wanted / np.maximum(spread * np.sqrt(wanted @ wanted), 1e-6)
            at = int(found.argmax())
            if found[at] > best:
                best = float(found[at])
                top, left = divmod(at, places.shape[1])
                edges = (left, top, left + width, top + height)
                window = _Window(*(edge / side for edge in edges))
    return window, best


def _climb(large: Image.Image, wanted: Floats, window: _Window) -> tuple[_Window, float]:
    """Move a window's edges and angle as long as that betters the correlation."""
    values = [window.left, window.top, window.right, window.bottom, window.angle]
    best = _correlation(_sampled(large, window, _COMPARED), wanted)
    step = 1 / _FINE
    while step >= 0.25 / _FINE:
        moved = False
        for at in range(len(values)):
            for change in (-step, step):
                tried = values.copy()
                tried[at] += change
                if at < 4 and not 0 <= tried[at] <= 1:
                    continue
                found = _correlation(_sampled(large, _Window(*tried), _COMPARED), wanted)
                if found > best:
                    best, values, moved = found, tried, True
        if not moved:
            step /= 2
    return _Window(*values), best


def _differing(
    whole: Image.Image, part: Image.Image, window: _Window, side: int, strict: bool
) -> float:
    """Which share of the places that have details, of 64, shows others in the two pictures."""
    one = _sampled(_resized(whole, side), window, side)
    other = _sampled(_resized(part, side), _Window(), side)
    tiles = [_tiles(greys) / max(float(greys.std()), 1e-6) for greys in (one, other)]
    spread = [tile.std(1) for tile in tiles]
    detailed = np.maximum(*spread) > _PLAIN
    if not detailed.any():
        return 0.0
    alike = (tiles[0] * tiles[1]).mean(1) / np.maximum(spread[0] * spread[1], 1e-6)
    return float((alike[detailed] < (_ALIKE_ON_PAGES if strict else _ALIKE)).mean())


def _tiles(greys: Floats) -> Floats:
    """Greys (n, n) as tiles (64, pixels), each with a mean of 0."""
    size = len(greys) // _TILES
    cut = greys[: size * _TILES, : size * _TILES]
    tiles = cut.reshape(_TILES, size, _TILES, size).swapaxes(1, 2).reshape(_TILES**2, -1)
    centred: Floats = tiles - tiles.mean(1, keepdims=True)
    return centred


def _resized(image: Image.Image, side: int) -> Image.Image:
    return image.resize((side, side), Image.Resampling.BOX)


def _sampled(image: Image.Image, window: _Window, side: int) -> Floats:
    """What a window of a picture shows: float32 (side, side)."""
    across = (window.right - window.left) * image.width / side
    down = (window.bottom - window.top) * image.height / side
    cosine, sine = np.cos(window.angle), np.sin(window.angle)
    middle_x = (window.left + window.right) / 2 * image.width
    middle_y = (window.top + window.bottom) / 2 * image.height
    a, b, d, e = cosine * across, -sine * down, sine * across, cosine * down
    data = (a, b, middle_x - (a + b) * side / 2, d, e, middle_y - (d + e) * side / 2)
    shown = image.transform((side, side), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
    return np.asarray(shown, np.float32)


def _correlation(first: Floats, second: Floats) -> float:
    """Of two arrays of greys: 1 where they are the same but for brightness and contrast."""
    first, second = first - first.mean(), second - second.mean()
    length = float(np.sqrt(np.square(first).sum() * np.square(second).sum()))
    return float((first * second).sum()) / max(length, 1e-6)

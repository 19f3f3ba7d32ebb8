"""Pictures and texts to compare towers on where nobody gave any: drawn ones, sample photographs."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from xsearch.core.errors import MissingExtraError
from xsearch.core.images import decode

SIDE = 512
COUNT = 8
"""Pictures of each kind: drawn ones, and photographs where scikit-image has them."""

TEXTS = (
    "cat on grass",
    "a photo of a dog",
    "Two children are playing with a ball on the beach.",
    "snow",
    "red",
    "an aerial view of a city at night, with lights along the river",
    "a woman in a blue dress reads a book under a large tree while her bicycle leans on a wall",
    "no people",
    "3 apples and 12 oranges, £4.50",
    "IMG_2041.JPG",
    "screenshot of an e-mail from 2019-03-07",
    "Katze auf dem Gras",
    "un chien noir court dans la neige",
    "muž na skále",
    "两个孩子在沙滩上玩球",
    "كلب يجري",
    "夕焼けの海",
    "кошка",
    "birthday 🎂 party",
    "a cartoon drawing of a robot",
    "black and white portrait",
    "the receipt for the washing machine",
    "old map",
    "x",
)
"""Short and long, in several scripts, with digits and signs."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture that is nowhere on disk."""

    image: Image.Image

    def open(self, side: int | None = None) -> Image.Image:
        """The picture, whatever side is asked for."""
        del side
        return self.image


def pictures() -> Sequence[Drawn]:
    """Drawn pictures, and sample photographs where there are some; the same in every run."""
    return [*map(Drawn, map(drawn, range(COUNT))), *map(Drawn, _photographs())]


def drawn(seed: int) -> Image.Image:
    """A picture with slow shades, shapes with edges, and fine grain, at a shape of its own."""
    random = np.random.default_rng(seed)
    width, height = (int(side) for side in random.integers(SIDE // 2, SIDE, 2))
    shades = Image.fromarray(random.integers(0, 256, (3, 4, 3), dtype=np.uint8))
    picture = shades.resize((width, height), Image.Resampling.BICUBIC)
    brush = ImageDraw.Draw(picture)
    for number in range(12):
        left, right = sorted(random.integers(0, width, 2).tolist())
        top, bottom = sorted(random.integers(0, height, 2).tolist())
        colour = tuple(random.integers(0, 256, 3).tolist())
        shape = brush.ellipse if number % 2 else brush.rectangle
        shape((left, top, right, bottom), fill=colour)
    grain = random.normal(0, 12, (height, width, 3))
    return Image.fromarray((np.asarray(picture) + grain).clip(0, 255).astype(np.uint8))


def _photographs() -> list[Image.Image]:
    from xsearch.demo import write_demo_photos

    found: list[Image.Image] = []
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(MissingExtraError):
        for path in write_demo_photos(Path(folder))[:COUNT]:
            found.append(decode(path, min_side=SIDE).image)
    return found

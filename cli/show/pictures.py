"""Which picture a hit shows, and small versions of many."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from xsearch.core.errors import ImageError
from xsearch.core.formats import is_image_name
from xsearch.core.ordered import map_in_order
from xsearch.core.reports import Progress

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from xsearch.core.reports import ProgressCallback
    from xsearch.core.values import Hit

T = TypeVar("T")

UNREACHABLE = "cannot be reached now"


@dataclass(frozen=True, slots=True)
class Shown:
    """A hit and its picture as it is to be shown: None for a text without one, or with a reason.

    `reason` says why a picture cannot be shown.
    """

    hit: Hit
    image: Image.Image | None
    reason: str = ""


def picture_of(hit: Hit) -> Path | None:
    """The picture of a hit: an image's file, or that to which a text belongs; None for others."""
    if hit.path is None or (hit.kind == "text" and not is_image_name(hit.path.name)):
        return None
    return hit.path


def shrunk(path: Path, box: tuple[int, int]) -> Image.Image:
    """A picture, upright, RGB, reduced to fit into a box of pixels (width, height), not enlarged.

    Raises:
        ImageError: it cannot be read or decoded.
    """
    from PIL import Image

    from xsearch.core.images import decode

    image = decode(path, min_side=max(box)).image
    image.thumbnail(box, Image.Resampling.LANCZOS)
    return image


def look(hit: Hit, box: tuple[int, int]) -> Shown:
    """A hit with its picture, reduced to fit into a box of pixels (width, height)."""
    path = picture_of(hit)
    if path is None and hit.kind == "text":
        return Shown(hit, None)
    if path is None or hit.missing:
        return Shown(hit, None, UNREACHABLE)
    try:
        return Shown(hit, shrunk(path, box))
    except ImageError as error:
        return Shown(hit, None, str(error))


def each(
    hits: Sequence[Hit], task: Callable[[Hit], T], progress: ProgressCallback | None
) -> Iterator[T]:
    """What a task makes of each hit, in order; in threads, with few results waiting."""
    window = 2 * (os.cpu_count() or 1)
    done = map_in_order(task, hits, workers=None, window=window)
    for at, (_, made) in enumerate(done, 1):
        yield made
        if progress is not None:
            progress(Progress("show", at, len(hits)))

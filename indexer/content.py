"""Reads the picture that an item is, from whichever of its files still shows it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from xsearch.core.errors import ImageError
from xsearch.core.hashing import hash_file
from xsearch.core.images import DEFAULT_MAX_PIXELS, decode
from xsearch.indexer.disk import Reachable
from xsearch.indexer.found import FoundFile

if TYPE_CHECKING:
    from PIL import Image


def read_picture(
    files: Sequence[FoundFile],
    content_hash: bytes,
    reachable: Reachable,
    *,
    min_side: int,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    draft: bool = True,
) -> Image.Image | None:
    """The upright RGB picture of a content; None where no file can be read that has it now.

    The other arguments are those of `decode`.
    """
    for file in files:
        if file.root not in reachable:
            continue
        with suppress(OSError, ImageError), file.path.open("rb") as opened:
            if hash_file(opened) == content_hash:
                opened.seek(0)
                return decode(opened, min_side=min_side, max_pixels=max_pixels, draft=draft).image
    return None

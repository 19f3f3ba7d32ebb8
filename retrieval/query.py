"""Queries to vectors: reading a picture wherever it lies, embedding a picture or a text."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch.core.errors import ImageError, SourceError, UsageError
from xsearch.core.paths import absolute, displayable
from xsearch.core.query import Image, Item, Part, Query, TruncationWarning, is_url
from xsearch.core.values import Kind

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image as PILImage

    from xsearch.core.encoder import DualEncoder, UInt8

    from .fusion import Fusion

    Float32 = NDArray[np.float32]

MAX_DOWNLOAD_BYTES = 100 << 20
_TIMEOUT_SECONDS = 30
# A sum of weighted unit vectors that is shorter than this has no direction.
_NOTHING_LEFT = 1e-3
# What Pillow writes without loss; PNG, where it can, since it keeps transparency.
_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
_TIFF_MODES = frozenset({"CMYK", "F", "I", "LAB", "YCbCr"})


def embed(
    query: Query,
    encoder: DualEncoder,
    stored: Callable[[list[int]], dict[int, Float32]] = lambda _: {},
    pixels: Callable[[Image, DualEncoder], UInt8] | None = None,
    fusion: Fusion | None = None,
) -> tuple[Float32, Kind]:
    """The unit vector (dim,) of a query, and what it is like: a text where it has one.

    Each part's unit vector counts by its weight. A text longer than the encoder reads is cut, with
    a `TruncationWarning`.

    Args:
        query: what is asked.
        encoder: of the space that is searched.
        stored: gives the vectors of the library's items by their ids.
        pixels: reads pictures in place of `read_pixels`, such as `Pixels`.
        fusion: makes one vector of a query that is one picture and one text, see `Query.joined`.

    Raises:
        UsageError: nothing is added, or what is added and subtracted is the same; an item that
            the library does not have.
        SourceError, ImageError: a picture cannot be read.
    """
    parts = query.checked().parts
    vectors = _embed_texts(parts, encoder) | _stored(parts, encoder, stored)

    def vector_of(content: str | Image | Item) -> Float32:
        if not isinstance(content, Image):
            return vectors[content]
        read = (pixels or read_pixels)(content, encoder)
        vector: Float32 = encoder.embed_images(read[None])[0]
        return vector

    if fusion is not None and query.joined is not None:
        picture, text = query.joined
        return fusion(vector_of(picture)[None], vector_of(text)[None])[0], "text"
    total = np.zeros(encoder.dim, np.float32)
    # Only the proportions of weights matter: a single one is 1.
    largest = max(abs(part.weight) for part in parts)
    for part in parts:
        total += np.float32(part.weight / largest) * vector_of(part.content)
    length = float(np.linalg.norm(total))
    if len(parts) > 1 and length < _NOTHING_LEFT:
        raise UsageError(
            "what the query adds and what it subtracts cancel out: nothing is left to look for"
        )
    spoken = any(isinstance(part.content, str) and part.weight > 0 for part in parts)
    return (total / length if len(parts) > 1 else total), "text" if spoken else "image"


def _embed_texts(parts: Sequence[Part], encoder: DualEncoder) -> dict[str | Item | Image, Float32]:
    texts = list(dict.fromkeys(part.content for part in parts if isinstance(part.content, str)))
    if not texts:
        return {}
    embedded = encoder.embed_texts(texts)
    for text in np.array(texts, dtype=object)[embedded.cut]:
        which = "the query" if len(parts) == 1 else f"{text[:40]!r}..."
        warnings.warn(
            f"{which} is longer than the encoder {encoder.name} reads; its end was ignored",
            TruncationWarning,
            stacklevel=4,
        )
    return dict(zip(texts, embedded.vectors, strict=True))


def _stored(
    parts: Sequence[Part], encoder: DualEncoder, stored: Callable[[list[int]], dict[int, Float32]]
) -> dict[str | Item | Image, Float32]:
    wanted = [part.content for part in parts if isinstance(part.content, Item)]
    if not wanted:
        return {}
    found = stored([item.id for item in wanted])
    for item in wanted:
        if item.id not in found:
            raise UsageError(
                f"the library has no item {item.id} with a vector of the encoder {encoder.name}: "
                "`xsearch query --json` shows the ids of hits"
            )
    return {item: found[item.id] for item in wanted}


def read_picture(image: Image, *min_sides: int) -> list[PILImage.Image]:
    """A picture, upright, RGB, once for each of some sizes; each side at least so many pixels.

    Smaller ones stay as they are. Raises SourceError, ImageError: it cannot be read.
    """
    from xsearch.core.images import decode, quiet_pillow

    source, name = _open(image.source)
    try:
        with quiet_pillow():
            return [decode(source, min_side=side).image for side in min_sides]
    except ImageError as error:
        raise ImageError(f"{name}: {error}", error.code) from error


def read_pixels(image: Image, encoder: DualEncoder) -> UInt8:
    """A picture's pixels, uint8 (S, S, 3), as an encoder reads them, see `read_picture`."""
    (picture,) = read_picture(image, encoder.image_size)
    return encoder.preprocess(picture)


class Pixels:
    """`read_pixels` for one query: each picture once for an encoder, since one may be fetched."""

    def __init__(self) -> None:
        self._read: dict[tuple[int, str], tuple[Image, UInt8]] = {}

    def __call__(self, image: Image, encoder: DualEncoder) -> UInt8:
        """The pixels of a picture, uint8 (S, S, 3)."""
        key = id(image), encoder.fingerprint
        if key not in self._read:
            # The picture is kept, too: a number stands for one object only while that lives.
            self._read[key] = image, read_pixels(image, encoder)
        return self._read[key][1]


def _open(source: Any) -> tuple[Path | io.BytesIO, str]:
    if isinstance(source, bytes):
        return io.BytesIO(source), "the picture"
    if isinstance(source, str) and is_url(source):
        return io.BytesIO(_fetch(source)), source
    if isinstance(source, str | os.PathLike):
        path = absolute(source)
        if not path.is_file():
            raise SourceError(f"{displayable(path)}: no such picture")
        return path, displayable(path)
    # A PIL image goes through the same decoding as a file: orientation, modes, transparency.
    buffer = io.BytesIO()
    exif = source.getexif()
    if source.mode not in _PNG_MODES | _TIFF_MODES:
        source = source.convert("RGBA" if source.has_transparency_data else "RGB")
    source.save(buffer, "PNG" if source.mode in _PNG_MODES else "TIFF", exif=exif)
    buffer.seek(0)
    return buffer, "the picture"


def _fetch(url: str) -> bytes:
    import http.client
    import urllib.request

    try:
        request = urllib.request.Request(url, headers={"User-Agent": "xsearch"})
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
            data: bytes = response.read(MAX_DOWNLOAD_BYTES + 1)
    except (OSError, ValueError, http.client.HTTPException) as error:
        # An HTTPError says its number, too.
        reason = error if hasattr(error, "code") else getattr(error, "reason", None) or error
        raise SourceError(
            f"{url}: could not be fetched ({reason}). Check the address, or save the picture and "
            "give its path."
        ) from error
    if len(data) > MAX_DOWNLOAD_BYTES:
        raise SourceError(f"{url}: larger than {MAX_DOWNLOAD_BYTES >> 20} MiB")
    return data

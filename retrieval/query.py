"""Queries to vectors: reading a picture wherever it lies, embedding a picture or a text."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xsearch.core.errors import ImageError, SourceError, UsageError
from xsearch.core.paths import absolute, displayable
from xsearch.core.query import Image, TruncationWarning
from xsearch.core.values import Kind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from xsearch.core.encoder import DualEncoder

MAX_DOWNLOAD_BYTES = 100 << 20
_TIMEOUT_SECONDS = 30
# What Pillow writes without loss; PNG, where it can, since it keeps transparency.
_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
_TIFF_MODES = frozenset({"CMYK", "F", "I", "LAB", "YCbCr"})


def is_url(text: str) -> bool:
    """Whether a query names something by URL."""
    return text.startswith(("http://", "https://", "file://"))


def embed(query: str | Image, encoder: DualEncoder) -> tuple[NDArray[np.float32], Kind]:
    """The unit vector (dim,) of a query, and which kind of query it is.

    A text longer than the encoder reads is cut, with a `TruncationWarning`.

    Raises:
        UsageError: the text is empty.
        SourceError, ImageError: the picture cannot be read.
    """
    if isinstance(query, Image):
        return _embed_image(query, encoder), "image"
    text = query.strip()
    if not text:
        raise UsageError('the query is empty: say what to look for, as in "cat on grass"')
    embedded = encoder.embed_texts([text])
    if embedded.cut[0]:
        warnings.warn(
            f"the query is longer than the encoder {encoder.name} reads; its end was ignored",
            TruncationWarning,
            stacklevel=3,
        )
    return embedded.vectors[0], "text"


def _embed_image(query: Image, encoder: DualEncoder) -> NDArray[np.float32]:
    from xsearch.core.images import decode, quiet_pillow

    source, name = _open(query.source)
    try:
        with quiet_pillow():
            picture = decode(source, min_side=encoder.image_size).image
    except ImageError as error:
        raise ImageError(f"{name}: {error}", error.code) from error
    vector: NDArray[np.float32] = encoder.embed_images(encoder.preprocess(picture)[None])[0]
    return vector


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

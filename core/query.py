"""Query values: what a person asks with, before any encoder has seen it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image as PILImage


@dataclass(frozen=True, slots=True)
class Image:
    """A picture as a query: a path, an `http(s)://` or `file://` URL, bytes or a PIL image.

    A `str` is a URL where it begins like one, else a path. A URL is fetched when the query
    runs; nothing else touches the network.
    """

    source: str | os.PathLike[str] | bytes | PILImage.Image

    def __repr__(self) -> str:
        shown: Any = self.source
        if isinstance(shown, bytes):
            shown = f"<{len(shown)} bytes>"
        elif isinstance(shown, Path):
            shown = str(shown)
        return f"Image({shown!r})"


class TruncationWarning(UserWarning):
    """A query text is longer than the encoder reads; what follows was not looked at."""

"""Encoders that turn pictures and texts into vectors of one space, found by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from xsearch.core.errors import EncoderError

if TYPE_CHECKING:
    from xsearch.core.encoder import DualEncoder

__all__ = ["load_encoder"]


def load_encoder(name_or_path: str | Path = "builtin") -> DualEncoder:
    """Open an encoder: `builtin`, which ships with xsearch, or a folder with an `encoder.json`.

    Reads only the small description; the towers load when they are first used. A name wins over
    a folder of the same name: `./builtin` is the folder. Raises EncoderError.
    """
    if name_or_path == "builtin":
        import xsearch.data

        # Not through importlib.resources: importing that alone takes 10 ms of every query.
        folder = Path(xsearch.data.__path__[0]) / "builtin"
    else:
        folder = Path(name_or_path)
        if not (folder / "encoder.json").is_file():
            raise EncoderError(
                f"no encoder called {str(name_or_path)!r}: give `builtin` or a folder that holds "
                "an encoder.json"
            )
    from .onnx import OnnxEncoder

    return OnnxEncoder(folder, source="builtin" if name_or_path == "builtin" else None)

"""Embeds the reference texts with the built-in encoder: `python -m xsearch.training.builtin.bank`.

Their vectors ship with it, so that indexing need not make them. To be run whenever the texts or
the encoder change; `tests/test_reference.py` tells.
"""

from __future__ import annotations

from pathlib import Path

import xsearch.data
from xsearch.retrieval.encoders import load_encoder
from xsearch.retrieval.reference import SHIPPED, embed_bank, write_vectors


def main() -> None:
    """Write the file beside the encoder's own."""
    encoder = load_encoder("builtin")
    place = Path(xsearch.data.__path__[0]) / "builtin" / SHIPPED
    write_vectors(place, encoder.fingerprint, embed_bank(encoder))
    place.chmod(0o644)
    print(f"{place}: {place.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

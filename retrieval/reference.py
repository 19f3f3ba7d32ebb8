"""The vectors of the reference texts by any encoder: shipped, kept from before, or made now."""

from __future__ import annotations

import contextlib
import os
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch.data.bank import bank, bank_digest

from .many import embed_many

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xsearch.core.encoder import DualEncoder
    from xsearch.indexer.derive import ReferenceTexts

    Float32 = NDArray[np.float32]

SHIPPED = "bank.npz"
"""Beside the built-in encoder's files, see `xsearch.training.builtin.bank`."""


def reference_texts() -> ReferenceTexts:
    """The shipped texts, as indexing takes them."""
    from xsearch.indexer.derive import ReferenceTexts

    return ReferenceTexts(bank_digest(), reference_vectors)


def reference_vectors(encoder: DualEncoder) -> Float32:
    """Unit vectors of all texts of the bank by an encoder: float32 (m, dim), in its order.

    The built-in encoder's ship with it; those of others are kept in the user's cache folder,
    where that can be written to.
    """
    kept = _cache(encoder)
    for place in (_shipped(), kept):
        found = _read(place, encoder)
        if found is not None:
            return found
    vectors = embed_bank(encoder)
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_vectors(kept, encoder.fingerprint, vectors)
    return vectors


def embed_bank(encoder: DualEncoder) -> Float32:
    """The vectors, made now."""
    return embed_many(encoder, bank()).vectors


def write_vectors(path: Path, fingerprint: str, vectors: Float32) -> None:
    """Write them as float16, with what they were made of and by; whole or not at all."""
    # A name of its own: two processes may write at once.
    handle, partial = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            names: dict[str, Any] = {"fingerprint": fingerprint, "digest": bank_digest()}
            np.savez(file, vectors=vectors.astype(np.float16), **names)
        Path(partial).replace(path)
    except OSError:
        Path(partial).unlink(missing_ok=True)
        raise


def _shipped() -> Path:
    import xsearch.data

    return Path(xsearch.data.__path__[0]) / "builtin" / SHIPPED


def _cache(encoder: DualEncoder) -> Path:
    import platformdirs

    name = f"{encoder.fingerprint}.{bank_digest()[:12]}.npz"
    return Path(platformdirs.user_cache_dir("xsearch", appauthor=False)) / "reference" / name


def _read(path: Path, encoder: DualEncoder) -> Float32 | None:
    """What a file holds, where it is of these texts and this encoder."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            made = str(arrays["fingerprint"]), str(arrays["digest"])
            vectors = arrays["vectors"].astype(np.float32)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    fits = vectors.shape == (len(bank()), encoder.dim)
    return vectors if fits and made == (encoder.fingerprint, bank_digest()) else None

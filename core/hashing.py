"""Content hashes: what makes a file or a text the same item wherever it lies."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

DIGEST_BYTES = 20
_CHUNK = 1 << 20


def hash_file(file: BinaryIO) -> bytes:
    """BLAKE2b (20 bytes) of a file from its current position to its end."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.digest()


def hash_text(text: str) -> bytes:
    """BLAKE2b (20 bytes) of a text's UTF-8 form."""
    raw = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(raw, digest_size=DIGEST_BYTES).digest()

"""Paths as bytes, as text that any database stores, and as text that any terminal shows."""

from __future__ import annotations

import os
from pathlib import Path, PurePath

# A byte that is no UTF-8 (decoded by Python to a lone surrogate U+DC80..U+DCFF) is stored as
# the private-use character 0x10FF00 + byte. Real characters of that range are stored byte by
# byte in the same manner, so that the mapping can always be undone.
_BASE = 0x10FF00
_FIRST, _LAST = _BASE + 0x80, _BASE + 0xFF


def to_stored(path: str) -> str:
    """Encode a path so that it is valid Unicode; `from_stored` undoes it for every path."""
    if path.isascii():
        return path
    out: list[str] = []
    for char in path:
        code = ord(char)
        if 0xDC80 <= code <= 0xDCFF:
            out.append(chr(_BASE + code - 0xDC00))
        elif _FIRST <= code <= _LAST:
            out.extend(chr(_BASE + byte) for byte in char.encode())
        else:
            out.append(char)
    return "".join(out)


def from_stored(stored: str) -> str:
    """Undo `to_stored`."""
    if stored.isascii() or not any(_FIRST <= ord(char) <= _LAST for char in stored):
        return stored
    raw = bytearray()
    for char in stored:
        code = ord(char)
        if _FIRST <= code <= _LAST:
            raw.append(code - _BASE)
        else:
            raw += char.encode("utf-8", "surrogatepass")
    return raw.decode("utf-8", "surrogateescape")


def displayable(path: str | PurePath) -> str:
    r"""A path as printable text: undecodable bytes appear as `\xNN`, control characters too."""
    text = os.fspath(path)
    raw = text.encode("utf-8", "surrogateescape")
    shown = raw.decode("utf-8", "backslashreplace")
    if shown.isprintable():
        return shown
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown
    )


def absolute(path: str | os.PathLike[str]) -> Path:
    """An absolute, normalised path; `~` expanded, symbolic links kept as they are written."""
    return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - resolve() follows links

"""Paths as bytes, as text that any database stores, and as text that any terminal shows."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePath

# Half a UTF-16 character (a surrogate: what Python makes of a byte that is no UTF-8, and what
# names on Windows may hold) is stored as a private-use character, its number from 0xD800 added
# to 0x10F000. Real characters of that range are stored as their two halves in the same manner,
# so that the mapping can always be undone.
_BASE = 0x10F000
_FIRST_HALF = 0xD800
_ODD = re.compile("[\ud800-\udfff\U0010f000-\U0010f7ff]")
_STORED = re.compile("[\U0010f000-\U0010f7ff]")
# The two halves of a real character of the range; no system gives them as separate ones.
_REAL = re.compile("[\udbfc\udbfd][\udc00-\udfff]")

_BYTE = re.compile("[\udc80-\udcff]")


def to_stored(path: str) -> str:
    """Encode a path so that it is valid Unicode; `from_stored` undoes it for every path."""
    return path if path.isascii() else _ODD.sub(lambda match: _as_private(match[0]), path)


def from_stored(stored: str) -> str:
    """Undo `to_stored`."""
    if stored.isascii():
        return stored
    halves = _STORED.sub(lambda match: chr(ord(match[0]) - _BASE + _FIRST_HALF), stored)
    return _REAL.sub(lambda match: _as_utf16(match[0]).decode("utf-16-be"), halves)


def _as_private(char: str) -> str:
    halves = _as_utf16(char)
    units = (int.from_bytes(halves[at : at + 2], "big") for at in range(0, len(halves), 2))
    return "".join(chr(unit - _FIRST_HALF + _BASE) for unit in units)


def _as_utf16(text: str) -> bytes:
    return text.encode("utf-16-be", "surrogatepass")


def displayable(path: str | PurePath) -> str:
    r"""A path as printable text: undecodable bytes appear as `\xNN`, control characters too."""
    # Bytes that are no UTF-8 first; then what else is no text, such as half characters.
    raw = _BYTE.sub(lambda match: f"\\x{ord(match[0]) - 0xDC00:02x}", os.fspath(path))
    shown = raw.encode("utf-8", "backslashreplace").decode()
    if shown.isprintable():
        return shown
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown
    )


def absolute(path: str | os.PathLike[str]) -> Path:
    """An absolute, normalised path; `~` expanded, symbolic links kept as they are written."""
    return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - resolve() follows links

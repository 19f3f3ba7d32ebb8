"""What a path pattern means: which folders, and which names in them."""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass
from pathlib import Path

from xsearch.core.errors import UsageError
from xsearch.core.paths import to_stored

_CLASS = re.compile(r"\[([!^]?)(\]?[^\]]*)\]")
_DRIVE = re.compile("[A-Za-z]:/")


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern that is understood. Capitals count, on every system.

    `folder` matches the folder of a file, written with a slash after each of its names ('' for
    the root itself); None stands for any folder. With `whole` that is the folder's whole path,
    without the slash it begins with, else its path from the root. `name` is the pattern of the
    file's name: `*`, `?`, `[...]` and `[^...]`. All is as `xsearch.core.paths.to_stored` writes it.
    """

    whole: bool
    folder: re.Pattern[str] | None
    name: str


def parse(pattern: str) -> Glob:
    """Understand a pattern of `*`, `?`, `[abc]`, `[!abc]` and `**`, which is any number of folders.

    One without a slash is compared with the name of a file, one with a slash with its path from
    the root. What begins with a slash, a drive or `~/` is compared with the whole path. A slash
    at the end stands for all that lies below. `[*]` is a star itself.

    Raises:
        UsageError: the pattern cannot match anything.
    """
    text = pattern.replace(os.sep, "/")
    if text.startswith("~/"):
        text = glob.escape(Path.home().as_posix()) + text[1:]
    whole = text.startswith("/") or _DRIVE.match(text) is not None
    *folders, name = to_stored(text.removeprefix("/")).split("/")
    if name == "**" or (not name and text):
        folders, name = [*folders, "**"], "*"
    if not name or "\0" in text or {"", ".", ".."} & {*folders, name}:
        raise UsageError(
            f"path: {pattern!r} matches no file. Write a pattern of names (*.jpg), or one of paths "
            "from a root of the library (2024/*/beach*.jpg, **/paris/)"
        )
    _, named = _segment(name, pattern)
    compiled = [_segment(folder, pattern)[0] for folder in folders]
    anywhere = not whole and set(folders) <= {"**"}
    return Glob(whole, None if anywhere else re.compile("".join(compiled), re.DOTALL), named)


def _segment(text: str, pattern: str) -> tuple[str, str]:
    """A pattern of one name as a regular expression for it and its slash, and in plain form."""
    if text == "**":
        return "(?:[^/]+/)*", "*"
    text = re.sub(r"\*+", "*", text)
    regex, plain, at = "", "", 0
    while at < len(text):
        char = text[at]
        bracket = _CLASS.match(text, at) if char == "[" else None
        if bracket:
            negated, content = bracket[1], bracket[2]
            escaped = re.sub(r"([\\\[\]^&~|])", r"\\\1", content)
            regex += f"(?!/)[{'^' if negated else ''}{escaped}]"
            plain += f"[{'^' if negated else ''}{content}]"
            at = bracket.end()
            continue
        if char == "[":
            raise UsageError(f"path: {pattern!r} has a [ without a ]. A [ itself is written [[]")
        regex += {"*": "[^/]*", "?": "[^/]"}.get(char) or re.escape(char)
        plain += char
        at += 1
    try:
        re.compile(regex)
    except re.error as error:
        raise UsageError(f"path: {pattern!r} cannot be read ({error.msg})") from error
    return regex + "/", plain

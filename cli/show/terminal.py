"""What this terminal is: how large its letters are, and whether it says that it draws Sixel."""

from __future__ import annotations

import os
import select
import shutil
import struct
import sys
from dataclasses import dataclass
from time import monotonic

_USUAL_LETTER = (10, 20)  # pixels
_PATIENCE = 1.0  # seconds; terminals answer at once, but for those far away
_ASK_ATTRIBUTES = b"\x1b[c"
_SIXEL = b"4"


@dataclass(frozen=True, slots=True)
class Size:
    """A terminal's columns and lines, and the width and height of a letter in pixels."""

    columns: int
    lines: int
    letter: tuple[int, int]


def terminal_size() -> Size:
    """The size of the terminal that stdout is; common sizes where it does not say."""
    columns, lines = shutil.get_terminal_size()
    letter = _USUAL_LETTER
    if sys.platform != "win32":
        import fcntl
        import termios

        try:
            answer = fcntl.ioctl(sys.stdout.fileno(), termios.TIOCGWINSZ, bytes(8))
        except OSError:
            answer = bytes(8)
        rows, across, width, height = struct.unpack("4H", answer)
        if rows and across and width >= across and height >= rows:
            letter = (width // across, height // rows)
    return Size(columns, lines, letter)


def says_sixel() -> bool:
    """Ask the terminal for its attributes (DEC's DA1): 4 among them means that it draws Sixel.

    False where there is no terminal to ask, or it does not answer within a second.
    """
    if sys.platform == "win32":
        return False
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return False
    try:
        # Who is in the background is stopped when he changes how the terminal works.
        if os.tcgetpgrp(terminal) != os.getpgrp():
            return False
        return _SIXEL in _attributes(terminal)
    except OSError:
        return False
    finally:
        os.close(terminal)


def _attributes(terminal: int) -> list[bytes]:
    """The numbers in the answer `ESC [ ? 64 ; 4 ; ... c`."""
    import termios
    import tty

    try:
        before = termios.tcgetattr(terminal)
    except termios.error as error:
        raise OSError from error
    answer = b""
    try:
        tty.setcbreak(terminal)
        os.write(terminal, _ASK_ATTRIBUTES)
        until = monotonic() + _PATIENCE
        while not answer.endswith(b"c"):
            left = until - monotonic()
            if left <= 0 or not select.select([terminal], [], [], left)[0]:
                return []
            answer += os.read(terminal, 1)
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
    return answer.rpartition(b"\x1b[?")[2].rstrip(b"c").split(b";")

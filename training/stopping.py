"""Ctrl-C while training: heard between two steps, so that the state can be saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, after the state was saved; the message says how to go on."""


class Stop:
    """Ctrl-C or a request to end, noted until the step is done; a second one ends at once."""

    def __init__(self) -> None:
        self.asked = False
        self._waits = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def between_steps(self) -> Iterator[None]:
        """While there is something to save; elsewhere the first one ends at once."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False

    def _hear(self, number: int, frame: object) -> None:
        del number, frame
        if self.asked or not self._waits:
            raise KeyboardInterrupt
        self.asked = True

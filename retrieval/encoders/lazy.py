"""A value that is made on first use, by whichever thread comes first."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class Lazy(Generic[T]):
    """A value made once, on first use, whichever thread comes first; a failure is tried again."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = Lock()
        self._made: list[T] = []

    @property
    def made(self) -> bool:
        """Whether it has been made."""
        return bool(self._made)

    def get(self) -> T:
        """The value, made now if it was not yet."""
        if not self._made:
            with self._lock:
                if not self._made:
                    self._made.append(self._make())
        return self._made[0]

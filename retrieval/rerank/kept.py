"""Arrays that were made once, the ones used last, within a bound of bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from numpy.typing import NDArray

K = TypeVar("K", bound=Hashable)


class Kept(Generic[K]):
    """Arrays by key, at most `limit` bytes of them; usable from any number of threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._arrays: OrderedDict[K, NDArray[Any]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._arrays)

    def find(self, keys: Iterable[K]) -> dict[K, NDArray[Any]]:
        """Those that are there."""
        found = {}
        with self._lock:
            for key in keys:
                if key in self._arrays:
                    self._arrays.move_to_end(key)
                    found[key] = self._arrays[key]
        return found

    def keep(self, arrays: Mapping[K, NDArray[Any]]) -> None:
        """Add arrays, each with memory of its own, in place of those used longest ago."""
        with self._lock:
            for key, array in arrays.items():
                before = self._arrays.pop(key, None)
                self._bytes += array.nbytes - (0 if before is None else before.nbytes)
                self._arrays[key] = array
            while self._bytes > self._limit:
                self._bytes -= self._arrays.popitem(last=False)[1].nbytes

"""Work in threads whose results come back in order, with a bounded number under way."""

from __future__ import annotations

import collections
import os
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def map_in_order(
    task: Callable[[T], R], values: Iterable[T], *, workers: int | None, window: int
) -> Generator[tuple[T, R], None, None]:
    """Each value with what the task made of it, in the order of the values.

    At most `window` of them are under way or wait for their turn, so that memory is bounded;
    `workers` is the number of threads, by default that of cores. What a task raises ends it all.
    """
    waiting: collections.deque[tuple[T, Future[R]]] = collections.deque()
    pool = ThreadPoolExecutor(workers or os.cpu_count() or 1, "xsearch-worker")
    try:
        for value in values:
            waiting.append((value, pool.submit(task, value)))
            if len(waiting) >= window:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)

"""Batches that follow from seed, epoch and position alone, prepared ahead by threads.

A run that goes on from a checkpoint sees exactly the batches that it would have seen, and each of
several processes its own share of the same ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xsearch.core.errors import ImageError, SourceError
from xsearch.core.paths import displayable
from xsearch.data.augment import mentions_side

if TYPE_CHECKING:
    from PIL import Image

    from xsearch.core.encoder import UInt8
    from xsearch.data.records import Record

    from .config import AugmentationConfig
    from .distributed import Processes

Indices = NDArray[np.int64]

MOST_TRIES = 20
"""Pictures tried in place of a broken one: so many in a row are a broken data set."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which records are in which step: `count` records, steps of `accumulate` batches of `size`.

    What is left over at an epoch's end waits for another epoch's order. Fewer records than one
    step needs make one step of what there is.
    """

    count: int
    size: int
    accumulate: int
    seed: int

    @property
    def steps(self) -> int:
        """Steps an epoch."""
        return max(self.count // (self.size * self.accumulate), 1)

    def order(self, epoch: int) -> Indices:
        """All records in the order of an epoch."""
        return np.random.default_rng([self.seed, epoch]).permutation(self.count)

    def batches(self, order: Indices, step: int) -> list[Indices]:
        """The batches of a step of an epoch; a single record left alone makes none."""
        whole = self.size * self.accumulate
        chosen = order[step * whole : (step + 1) * whole]
        parts = [chosen[at : at + self.size] for at in range(0, len(chosen), self.size)]
        return [part for part in parts if len(part) > 1]


@dataclass(frozen=True, slots=True)
class Broken:
    """A picture that could not be read, and why; another took its place."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """This process's share of a batch.

    `pixels` is uint8 (n, S, S, 3), `texts` one caption each, `records` the numbers of the records
    that they are of; `broken` the pictures that others had to stand in for.
    """

    pixels: UInt8
    texts: tuple[str, ...]
    records: Indices
    broken: tuple[Broken, ...]


@dataclass(frozen=True, slots=True)
class _Sample:
    record: int
    pixels: UInt8
    text: str
    broken: tuple[Broken, ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """What a model reads: plain preprocessing, the side to decode for, size, way of resizing."""

    preprocess: Callable[[Image.Image], UInt8]
    side: int
    size: int
    resize: str


class Loader:
    """Decodes, augments and captions records in threads; use it in a `with` block."""

    def __init__(
        self,
        records: Sequence[Record],
        plan: Plan,
        shape: Shape,
        augmentation: AugmentationConfig,
        *,
        processes: Processes,
        workers: int = 4,
        ahead: int = 3,
    ) -> None:
        self._records = records
        self._plan = plan
        self._shape = shape
        self._augmentation = augmentation
        self._processes = processes
        self._ahead = ahead
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def steps(self, epoch: int, first: int = 0) -> Iterator[list[Batch]]:
        """The batches of each step of an epoch, from step `first` of it.

        Raises SourceError where too many pictures in a row cannot be read.
        """
        order = self._plan.order(epoch)
        waiting: deque[list[list[Future[_Sample]]]] = deque()
        following = iter(range(first, self._plan.steps))
        try:
            while True:
                while len(waiting) < self._ahead:
                    step = next(following, None)
                    if step is None:
                        break
                    waiting.append(self._start(order, epoch, step))
                if not waiting:
                    return
                yield [_joined([sample.result() for sample in part]) for part in waiting.popleft()]
        finally:
            for future in (each for step in waiting for part in step for each in part):
                future.cancel()

    def _start(self, order: Indices, epoch: int, step: int) -> list[list[Future[_Sample]]]:
        end = (step + 1) * self._plan.size * self._plan.accumulate
        started = []
        for batch in self._plan.batches(order, step):
            share = self._processes.share(len(batch))
            started.append(
                [
                    self._pool.submit(self._sample, epoch, int(batch[at]), batch, order, end + at)
                    for at in range(share.start, share.stop)
                ]
            )
        return started

    def _sample(
        self, epoch: int, record: int, batch: Indices, order: Indices, after: int
    ) -> _Sample:
        """A record, or the first readable one of those that stand in for it."""
        broken: list[Broken] = []
        for candidate in islice(_candidates(record, batch, order, after), MOST_TRIES):
            try:
                return self._read(epoch, candidate, tuple(broken))
            except ImageError as error:
                broken.append(Broken(self._records[candidate].key, str(error)))
        last = broken[-1]
        raise SourceError(
            f"{len(broken)} pictures one after the other cannot be read, the last being "
            f"{displayable(last.key)}: {last.reason}. Is the folder of the pictures there?"
        )

    def _read(self, epoch: int, index: int, broken: tuple[Broken, ...]) -> _Sample:
        record = self._records[index]
        random = np.random.default_rng([self._plan.seed, epoch, index])
        text = self._text(record, random)
        image = record.image.open(self._shape.side)
        if not self._augmentation.enabled:
            return _Sample(index, self._shape.preprocess(image), text, broken)
        image = self._augmentation.image.apply(
            image, self._shape.size, self._shape.resize, random, flip=not mentions_side(text)
        )
        return _Sample(index, np.asarray(image), text, broken)

    def _text(self, record: Record, random: np.random.Generator) -> str:
        if self._augmentation.enabled:
            return self._augmentation.text.choose(record.captions, random)
        texts = record.texts()
        return texts[int(random.integers(len(texts)))]


def _candidates(record: int, batch: Indices, order: Indices, after: int) -> Iterator[int]:
    """A record, and what stands in for it, in a fixed order.

    That comes from behind the step, each place of a batch having its own, so that no picture is
    twice in a batch where others are left.
    """
    yield record
    within = set(batch.tolist())
    for turn in range(len(order)):
        other = int(order[(after + turn * len(batch)) % len(order)])
        if other not in within:
            yield other
    yield from (int(other) for other in batch if other != record)


def _joined(samples: Sequence[_Sample]) -> Batch:
    return Batch(
        np.stack([sample.pixels for sample in samples]),
        tuple(sample.text for sample in samples),
        np.array([sample.record for sample in samples], np.int64),
        tuple(each for sample in samples for each in sample.broken),
    )

"""Vectors of a data set's pictures and texts, from any encoder; a bad picture costs itself."""

from __future__ import annotations

import collections
import itertools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xsearch.core.encoder import DualEncoder, TextEmbeddings
from xsearch.core.errors import EncoderError, SourceError
from xsearch.core.images import quiet_pillow
from xsearch.core.reports import Progress, ProgressCallback
from xsearch.data.records import Record

from .metrics import Array

TEXTS = 256
"""Texts handed to an encoder at once, between two signs of progress."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A picture that could not be used, and why."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Unit vectors float32 (n, dim) of those records whose pictures could be read."""

    records: tuple[Record, ...]
    vectors: Array
    failures: tuple[Failure, ...]


def embed_pictures(
    encoder: DualEncoder,
    records: Sequence[Record],
    *,
    workers: int | None = None,
    batch_size: int = 16,
    progress: ProgressCallback | None = None,
) -> Pictures:
    """Embed the pictures of records, decoded in `workers` threads (None: one a core).

    A picture that cannot be read is named among the failures. Raises SourceError when none can
    be read, EncoderError when a vector is not finite.
    """
    good: list[Record] = []
    failures: list[Failure] = []
    parts = []
    with quiet_pillow(), ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        read = _read_in_order(encoder, records, pool, window=2 * batch_size)
        while chunk := list(itertools.islice(read, batch_size)):
            usable = []
            for record, found in chunk:
                if isinstance(found, Failure):
                    failures.append(found)
                else:
                    good.append(record)
                    usable.append(found)
            if usable:
                parts.append(encoder.embed_images(np.stack(usable)))
            if progress:
                done = len(good) + len(failures)
                progress(Progress("pictures", done, len(records), chunk[-1][0].key))
    if not good:
        first = failures[0]
        raise SourceError(
            f"none of {len(records)} pictures can be read; the first, {first.key}: {first.reason}"
        )
    return Pictures(tuple(good), _finite(encoder, np.concatenate(parts)), tuple(failures))


def _read_in_order(
    encoder: DualEncoder, records: Sequence[Record], pool: ThreadPoolExecutor, window: int
) -> Iterator[tuple[Record, NDArray[np.uint8] | Failure]]:
    """Prepared pictures in the order of their records, at most `window` of them waiting."""

    def read(record: Record) -> NDArray[np.uint8] | Failure:
        try:
            return encoder.preprocess(record.image.open(encoder.image_size))
        except SourceError as error:
            return Failure(record.key, str(error))
        except OSError as error:
            return Failure(record.key, f"cannot be read: {error.strerror or error}")

    waiting: collections.deque[tuple[Record, Future[NDArray[np.uint8] | Failure]]]
    waiting = collections.deque()
    try:
        for record in records:
            waiting.append((record, pool.submit(read, record)))
            if len(waiting) >= window:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def embed_texts(
    encoder: DualEncoder, texts: Sequence[str], *, progress: ProgressCallback | None = None
) -> TextEmbeddings:
    """Embed texts, in pieces. Raises EncoderError when a vector is not finite."""
    vectors, cut = [], []
    for start in range(0, len(texts), TEXTS):
        found = encoder.embed_texts(texts[start : start + TEXTS])
        vectors.append(found.vectors)
        cut.append(found.cut)
        if progress:
            progress(Progress("texts", min(start + TEXTS, len(texts)), len(texts)))
    joined = np.concatenate(vectors) if vectors else np.zeros((0, encoder.dim), np.float32)
    flags = np.concatenate(cut) if cut else np.zeros(0, np.bool_)
    return TextEmbeddings(_finite(encoder, joined), flags)


def _finite(encoder: DualEncoder, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    broken = int((~np.isfinite(vectors).all(axis=1)).sum())
    if broken:
        raise EncoderError(
            f"{encoder.name} gave {broken} of {len(vectors)} vectors that are not finite: its "
            "weights are damaged, or its training diverged"
        )
    return vectors

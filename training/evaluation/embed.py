"""Vectors of a data set's pictures and texts, from any encoder; a bad picture costs itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xsearch.core.encoder import DualEncoder, TextEmbeddings
from xsearch.core.errors import EncoderError, SourceError
from xsearch.core.images import quiet_pillow
from xsearch.core.ordered import map_in_order
from xsearch.core.reports import Progress, ProgressCallback
from xsearch.data.records import Record
from xsearch.retrieval.many import embed_many

from .metrics import Array


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
    with (
        quiet_pillow(),
        closing(
            map_in_order(_reader(encoder), records, workers=workers, window=2 * batch_size)
        ) as read,
    ):
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


def _reader(encoder: DualEncoder) -> Callable[[Record], NDArray[np.uint8] | Failure]:
    """What makes a prepared picture of a record, or says why there is none."""

    def read(record: Record) -> NDArray[np.uint8] | Failure:
        try:
            return encoder.preprocess(record.image.open(encoder.image_size))
        except SourceError as error:
            return Failure(record.key, str(error))
        except OSError as error:
            return Failure(record.key, f"cannot be read: {error.strerror or error}")

    return read


def embed_texts(
    encoder: DualEncoder, texts: Sequence[str], *, progress: ProgressCallback | None = None
) -> TextEmbeddings:
    """Embed texts, in pieces. Raises EncoderError when a vector is not finite."""
    found = embed_many(encoder, texts, progress)
    return TextEmbeddings(_finite(encoder, found.vectors), found.cut)


def _finite(encoder: DualEncoder, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    broken = int((~np.isfinite(vectors).all(axis=1)).sum())
    if broken:
        raise EncoderError(
            f"{encoder.name} gave {broken} of {len(vectors)} vectors that are not finite: its "
            "weights are damaged, or its training diverged"
        )
    return vectors

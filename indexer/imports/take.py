"""Taking foreign vectors over: first a sample is compared, then an index run takes them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xsearch.core.encoder import DualEncoder
from xsearch.core.errors import EncoderMismatchError, SourceError
from xsearch.core.images import quiet_pillow
from xsearch.core.paths import displayable
from xsearch.core.reports import IndexReport, Progress, ProgressCallback
from xsearch.indexer.imports.folders import common_folders
from xsearch.indexer.imports.source import Source, picture_at
from xsearch.indexer.outcomes import Candidate, ImageRead
from xsearch.indexer.reading import FileReader, nothing_known
from xsearch.indexer.run import IndexOptions, index

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE = 24
"""Pictures that are embedded to compare."""
MEDIAN, QUARTILE = 0.98, 0.9
"""What the cosine must reach for half of them, and for three quarters."""

_BATCH = 8
_TRIED = 20_000
# A time in seconds since 1970, as a float of 64 bits, is this exact.
_SAME_TIME = 1e-6


class Vectors:
    """Gives an index run the vectors of a source that fit its pictures as they are now."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._unusable = self._changed = self._turned = 0

    def __call__(self, read: ImageRead) -> NDArray[np.float32] | None:
        """The vector of a picture that was read, float32 (dim,), unit length; None for none."""
        path = read.candidate.path
        # rclip records where links lead, others what they were given.
        found = self._source.find(path) or self._source.find(os.path.realpath(path))
        if found is None:
            return None
        seconds = read.state.mtime_ns / 1e9
        if (found.size is not None and found.size != read.state.size) or (
            found.mtime is not None and not abs(found.mtime - seconds) <= _SAME_TIME
        ):
            self._changed += 1
            return None
        turned = read.metadata is not None and read.metadata.orientation != 1
        if turned and not self._source.upright:
            self._turned += 1
            return None
        vector = found.vector.astype(np.float32)
        norm = float(np.linalg.norm(vector)) if len(vector) == self._source.dim else 0.0
        if not np.isfinite(norm) or norm == 0:
            self._unusable += 1
            return None
        scaled: NDArray[np.float32] = vector / np.float32(norm)
        return scaled

    def notes(self) -> list[str]:
        """Why vectors were left out; their pictures were embedded."""
        program = self._source.program
        reasons = (
            (self._unusable, "zero or not finite"),
            (self._changed, "of files that were changed since"),
            (self._turned, f"of pictures lying on their side, which {program} does not turn"),
        )
        return [
            f"{count:,} of the vectors of {program} not taken: {why}; their pictures were embedded"
            for count, why in reasons
            if count
        ]


def take_over(
    library: Path,
    encoder: DualEncoder,
    source: Source,
    paths: Sequence[Path | str] | None,
    options: IndexOptions,
    progress: ProgressCallback | None,
    version: str,
    others: Sequence[DualEncoder] = (),
) -> IndexReport:
    """Index paths with the vectors of a source; the caller holds the lock.

    Without paths it is the common folder of the source's pictures. A picture without a vector
    is embedded as always. `check` comes first. `others` as in `index`.

    Raises:
        SourceError: a path cannot be indexed, or the source is damaged.
        StorageError: the disk is full or failed; what was committed stays.
    """
    chosen = common_folders(source.paths()) if paths is None else paths
    vectors = Vectors(source)
    report = index(library, encoder, chosen, options, progress, version, others, vectors)
    return replace(report, warnings=(*report.warnings, *vectors.notes()))


def check(
    source: Source,
    encoder: DualEncoder,
    options: IndexOptions,
    progress: ProgressCallback | None = None,
) -> float:
    """Embed a sample of a source's pictures and compare; returns the median cosine.

    Raises:
        EncoderMismatchError: another model made the vectors, or they are of other pictures.
        SourceError: none of the pictures can be found.
    """
    shown = displayable(source.place)
    if source.dim != encoder.dim:
        raise EncoderMismatchError(
            f"{shown}: its vectors have {source.dim} dimensions, {encoder.name} makes "
            f"{encoder.dim}. {_advice(source)}"
        )
    with quiet_pillow():
        cosines = _cosines(source, encoder, options, progress)
    if not len(cosines):
        first = next(source.paths(), "")
        raise SourceError(
            f"{shown}: none of its pictures can be found and read, such as {displayable(first)}. "
            f"{source.moved}"
        )
    median, quartile = (float(found) for found in np.quantile(cosines, (0.5, 0.25)))
    if not (median >= MEDIAN and quartile >= QUARTILE):
        raise EncoderMismatchError(
            f"{shown}: embedded with {encoder.name}, {len(cosines)} of its pictures have a median "
            f"cosine of {median:.3f} to the vectors there, a quarter {quartile:.3f} or less; at "
            f"least {MEDIAN} and {QUARTILE} are needed. {_advice(source)} If it is that one, the "
            "pictures are not those that were embedded."
        )
    return median


def _advice(source: Source) -> str:
    recorded = f" ({source.encoder}, as far as is known)" if source.encoder else ""
    return f"Name the model that made them with --encoder{recorded}."


def _cosines(
    source: Source,
    encoder: DualEncoder,
    options: IndexOptions,
    progress: ProgressCallback | None,
) -> NDArray[np.float64]:
    """Cosines (n,) of recorded vectors to new ones, for the pictures of a sample."""
    cosines: list[float] = []
    sample = _sample(source, encoder, options)
    while batch := list(islice(sample, _BATCH)):
        made = encoder.embed_images(np.stack([pixels for pixels, _ in batch]))
        cosines += [float(one @ other) for one, (_, other) in zip(made, batch, strict=True)]
        if progress:
            progress(Progress("check", len(cosines), SAMPLE))
    return np.array(cosines)


def _sample(
    source: Source, encoder: DualEncoder, options: IndexOptions
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """Pictures from everywhere, prepared, each with its vector."""
    files = FileReader(encoder, nothing_known, options.max_pixels, options.draft)
    vectors = Vectors(source)
    found = 0
    for tried, path in enumerate(source.paths()):
        if found == SAMPLE or (tried == _TRIED and not found):
            return
        place = picture_at(path)
        if place is None:
            continue
        read = files.read(Candidate(0, str(place), "", place.name, "image", 0, 0))
        if not isinstance(read, ImageRead) or read.pixels is None:
            continue
        vector = vectors(read)
        if vector is not None:
            found += 1
            yield read.pixels, vector

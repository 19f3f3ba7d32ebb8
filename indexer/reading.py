"""Reading files in worker threads: hash, decode, preprocess; ordered, bounded, one failure each."""

from __future__ import annotations

import collections
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from xsearch.core.encoder import DualEncoder
from xsearch.core.errors import ImageError, SourceError
from xsearch.core.hashing import hash_file
from xsearch.core.images import decode
from xsearch.core.perceptual import perceptual_hash
from xsearch.indexer.outcomes import Candidate, FileFailed, FileState, ImageRead, Outcome, TextsRead
from xsearch.indexer.sources import TextRow, read_rows

# A file written less than this before it was read may change again within one tick of its
# file system's clock (FAT counts in two seconds), so that its time stamp proves nothing.
_RACY_NS = 2_000_000_000
_PIECE = 2_000


class FileReader:
    """What the worker threads run.

    Args:
        encoder: whose preprocessing to use.
        known: whether a picture of this content hash is in the library already.
        max_pixels: larger pictures are refused.
        draft: decode JPEG at a reduced scale where it still covers the encoder's input.
    """

    def __init__(
        self,
        encoder: DualEncoder,
        known: Callable[[bytes], bool],
        max_pixels: int,
        draft: bool = True,
    ) -> None:
        self._encoder = encoder
        self._known = known
        self._max_pixels = max_pixels
        self._draft = draft

    def read(self, candidate: Candidate) -> ImageRead | FileFailed:
        """Read one picture; every failure becomes a value."""
        if candidate.error is not None:
            return FileFailed(candidate, "unreadable", candidate.error, decoded=False)
        start = time.perf_counter()
        try:
            try:
                read = self._image(candidate)
            except _ChangedError:
                read = self._image(candidate)
        except _ChangedError:
            return FileFailed(candidate, "changed", "was being written to while it was read")
        except OSError as error:
            reason = f"could not be read ({error.strerror or error})"
            return FileFailed(candidate, "unreadable", reason, decoded=False)
        if isinstance(read, ImageRead):
            read.seconds = time.perf_counter() - start
        return read

    def _image(self, candidate: Candidate) -> ImageRead | FileFailed:
        with Path(candidate.path).open("rb") as file:
            before = os.fstat(file.fileno())
            digest = hash_file(file)
            state = _state(digest, before)
            if self._known(digest):
                _verify_unchanged(candidate, file, before)
                return ImageRead(candidate, state)
            if candidate.old_code == "decode" and candidate.old_hash == digest.hex():
                reason = candidate.old_error or "damaged"
                return FileFailed(candidate, "decode", reason, state, decoded=False)
            file.seek(0)
            try:
                picture = decode(
                    file,
                    min_side=self._encoder.image_size,
                    max_pixels=self._max_pixels,
                    draft=self._draft,
                )
            except ImageError as error:
                _verify_unchanged(candidate, file, before)
                decoded = error.code != "too-large"
                return FileFailed(candidate, error.code, str(error), state, decoded)
            _verify_unchanged(candidate, file, before)
        return ImageRead(
            candidate,
            state,
            picture.metadata,
            perceptual_hash(picture.image),
            self._encoder.preprocess(picture.image),
        )


def nothing_known(_: bytes) -> bool:
    """For a `FileReader` that is to read every picture, whatever the library has."""
    return False


def read_in_order(
    candidates: Iterator[Candidate], reader: FileReader, workers: int, window: int
) -> Iterator[Outcome]:
    """Outcomes in the order of their candidates.

    At most `window` pictures are in flight or wait for their turn, so that memory is bounded
    and one slow file does not idle the other workers. Texts are read in the calling thread.
    """
    waiting: collections.deque[Candidate | Future[ImageRead | FileFailed]] = collections.deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="xsearch-decode")
    try:
        for candidate in candidates:
            image = candidate.role == "image"
            waiting.append(pool.submit(reader.read, candidate) if image else candidate)
            while len(waiting) >= window:
                yield from _finish(waiting.popleft())
        while waiting:
            yield from _finish(waiting.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _finish(entry: Candidate | Future[ImageRead | FileFailed]) -> Iterator[Outcome]:
    if isinstance(entry, Future):
        yield entry.result()
    else:
        yield from _read_texts(entry)


def _read_texts(candidate: Candidate) -> Iterator[Outcome]:
    if candidate.error is not None:
        yield FileFailed(candidate, "unreadable", candidate.error, decoded=False)
        return
    try:
        with Path(candidate.path).open("rb") as file:
            before = os.fstat(file.fileno())
            state = _state(hash_file(file), before)
        yield from _pieces(candidate, state)
    except OSError as error:
        reason = f"could not be read ({error.strerror or error})"
        yield FileFailed(candidate, "unreadable", reason, decoded=False)
    except SourceError as error:
        yield FileFailed(candidate, "decode", str(error), decoded=False)


def _pieces(candidate: Candidate, state: FileState) -> Iterator[TextsRead]:
    piece: list[TextRow] = []
    start = 0
    for row in read_rows(Path(candidate.path)):
        # A sidecar is one piece: its texts are compared with what its pictures have now.
        if len(piece) == _PIECE and candidate.role == "text":
            yield TextsRead(candidate, tuple(piece), None, start)
            start = piece[-1].position + 1
            piece = []
        piece.append(row)
    yield TextsRead(candidate, tuple(piece), state, start)


def _state(digest: bytes, status: os.stat_result) -> FileState:
    racy = time.time_ns() - status.st_mtime_ns < _RACY_NS
    return FileState(digest, status.st_size, status.st_mtime_ns, racy)


def _verify_unchanged(candidate: Candidate, file: BinaryIO, before: os.stat_result) -> None:
    """The bytes hashed and the bytes decoded were the same, and the name still means them."""
    for now in (os.fstat(file.fileno()), Path(candidate.path).stat()):
        if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise _ChangedError


class _ChangedError(Exception):
    pass

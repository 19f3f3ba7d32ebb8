"""Fills a library's region cache: in the same pass as the vectors, then what lacks a record."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from xsearch.core.encoder import DualEncoder
from xsearch.core.errors import EncoderError
from xsearch.core.ordered import map_in_order
from xsearch.core.paths import displayable
from xsearch.core.reports import Progress, ProgressCallback
from xsearch.indexer.content import read_picture
from xsearch.indexer.disk import Reachable
from xsearch.indexer.found import FoundFile, image_files
from xsearch.indexer.reader import Reader
from xsearch.indexer.regions import Described, RegionWriter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xsearch.core.encoder import Float32, UInt8
    from xsearch.indexer.run import IndexOptions

    Int8 = NDArray[np.int8]
    Picture = tuple[bytes, tuple[FoundFile, ...]]

_CHUNK = 256


class Rememberer(Protocol):
    """Makes of pictures what a reranker reads: their memories, int8 (n, R, width)."""

    @property
    def encoder(self) -> DualEncoder:
        """The encoder whose regions the reranker reads."""

    @property
    def about(self) -> Described:
        """What a cache of its memories says of itself."""

    def memories(self, pixels: UInt8) -> Int8:
        """Of uint8 (n, S, S, 3), as the encoder's `preprocess` makes them."""

    def embed(self, pixels: UInt8) -> tuple[Float32, Int8]:
        """The encoder's vectors float32 (n, dim) of pictures, and their memories."""


class Keeper:
    """Keeps a region cache up during one run of `index`; the caller holds the writer's lock.

    Where the reranker fails the run goes on without it, and `failure` says why.
    """

    def __init__(
        self,
        library: Path,
        rememberer: Rememberer,
        options: IndexOptions,
        progress: ProgressCallback,
    ) -> None:
        self._library = library
        self._rememberer = rememberer
        self._options = options
        self._progress = progress
        self._writer = RegionWriter(library, rememberer.about)
        self._kept: list[tuple[bytes, Int8]] = []
        self._batch_size = options.batch_for(rememberer.encoder)
        self.count = 0
        self.unread = 0
        self.failure: EncoderError | None = None

    def embed(self, digests: list[bytes], pixels: UInt8) -> Float32:
        """The encoder's vectors of pictures, whose memories are kept for the next `commit`."""
        if self.failure is None and len(self._writer.missing(digests)) == len(digests):
            try:
                vectors, memories = self._rememberer.embed(pixels)
            except EncoderError as error:
                self.failure = error
            else:
                self._kept += zip(digests, memories, strict=True)
                return vectors
        return self._rememberer.encoder.embed_images(pixels)

    def commit(self) -> None:
        """Write what was kept to the cache."""
        kept, self._kept = self._kept, []
        if kept:
            self._writer.append([digest for digest, _ in kept], np.stack([one for _, one in kept]))
            self.count += len(kept)

    def fill(self) -> None:
        """Read every live picture that has no record; Ctrl-C keeps what was read."""
        if self.failure is not None:
            return
        reader = Reader(self._library)
        try:
            self._fill(reader)
        except EncoderError as error:
            self.failure = error
        except KeyboardInterrupt:
            self.commit()
            raise
        finally:
            reader.close()
        self.commit()

    def _fill(self, reader: Reader) -> None:
        with reader.snapshot() as snapshot:
            live: list[tuple[int, bytes]] = snapshot.all(
                "SELECT id, content_hash FROM items"
                " WHERE kind = 'image' AND deleted_at IS NULL ORDER BY id"
            )
        missing = [live[at] for at in self._writer.missing([digest for _, digest in live])]
        reachable, encoder, options = Reachable(), self._rememberer.encoder, self._options

        def read(picture: Picture) -> UInt8 | None:
            digest, files = picture
            image = read_picture(
                files,
                digest,
                reachable,
                min_side=encoder.image_size,
                max_pixels=options.max_pixels,
                draft=options.draft,
            )
            return None if image is None else encoder.preprocess(image)

        pictures = _with_files(reader, missing)
        window = options.threads * 2 + self._batch_size
        batch: list[tuple[bytes, UInt8]] = []
        last_commit = time.monotonic()
        decoded = map_in_order(read, pictures, workers=options.threads, window=window)
        for done, ((digest, files), pixels) in enumerate(decoded, 1):
            if pixels is None:
                self.unread += 1
            else:
                batch.append((digest, pixels))
            if len(batch) >= self._batch_size:
                self._remember(batch)
                batch = []
            shown = displayable(files[0].path) if files else None
            self._progress(Progress("regions", done, len(missing), shown))
            if time.monotonic() - last_commit >= options.commit_seconds:
                self.commit()
                last_commit = time.monotonic()
        self._remember(batch)

    def _remember(self, batch: list[tuple[bytes, UInt8]]) -> None:
        if batch:
            memories = self._rememberer.memories(np.stack([pixels for _, pixels in batch]))
            self._kept += zip([digest for digest, _ in batch], memories, strict=True)

    def close(self) -> None:
        """Close the cache's files."""
        self._writer.close()


def _with_files(reader: Reader, missing: list[tuple[int, bytes]]) -> Iterator[Picture]:
    for start in range(0, len(missing), _CHUNK):
        part = missing[start : start + _CHUNK]
        with reader.snapshot() as snapshot:
            files = image_files(snapshot, [id_ for id_, _ in part])
        for id_, digest in part:
            yield digest, files[id_]

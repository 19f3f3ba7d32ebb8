"""What a reranker reads of pictures: from the library's region cache, from memory, or made now."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xsearch.core.encoder import RegionEncoder, embed_and_look
from xsearch.core.images import quiet_pillow
from xsearch.core.ordered import map_in_order
from xsearch.indexer.content import read_picture
from xsearch.indexer.disk import Reachable
from xsearch.indexer.found import FoundFile, contents_of, image_files
from xsearch.indexer.regions import Described, Regions, open_regions, state_of

from .find import find_reranker
from .kept import Kept
from .tokens import Tokens

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xsearch.core.encoder import DualEncoder, Float32, UInt8
    from xsearch.indexer.reader import Snapshot

    Int8 = NDArray[np.int8]
    Picture = tuple[bytes, tuple[FoundFile, ...]]

LIMIT = 64 << 20
"""Bytes of memories that are kept beside the region cache: of 3,000 pictures, for `builtin`."""
_BATCH = 16
_AHEAD = 8


class Memories:
    """The memories of one library's pictures for a reranker; usable from any number of threads.

    It is what `xsearch.indexer.remember` fills a region cache with, too.

    Args:
        library: its folder.
        encoder: whose regions the reranker reads.
        folder: the reranker's; None: that in the encoder's own folder.
        limit: bytes of memories that were made for lack of a record to keep.

    Raises:
        EncoderError: there is no reranker for this encoder, see `find_reranker`.
    """

    def __init__(
        self,
        library: Path,
        encoder: DualEncoder,
        folder: Path | None = None,
        *,
        limit: int = LIMIT,
    ) -> None:
        self.reranker = find_reranker(encoder, folder)
        self.encoder = encoder
        assert isinstance(encoder, RegionEncoder)
        self.tokens = Tokens(encoder)
        self._library = library
        self._folder = folder
        self._made: Kept[bytes] = Kept(limit)
        self._lock = threading.Lock()
        self._opened: tuple[tuple[int, ...], Regions | None] = ((), None)

    @property
    def about(self) -> Described:
        """What a region cache of these memories says of itself."""
        info = self.reranker.info
        source = None if self._folder is None else str(self._folder.absolute())
        shape = self.reranker.memory_shape
        return Described(info.name, info.fingerprint, info.encoder, source, shape)

    def memories(self, pixels: UInt8) -> Int8:
        """The memories int8 (n, R, width) of pictures, uint8 (n, S, S, 3)."""
        assert isinstance(self.encoder, RegionEncoder)
        return self.reranker.memories(self.encoder.regions(pixels))

    def embed(self, pixels: UInt8) -> tuple[Float32, Int8]:
        """The encoder's vectors float32 (n, dim) of pictures, and their memories."""
        vectors, regions = embed_and_look(self.encoder, pixels)
        return vectors, self.reranker.memories(regions)

    def of(self, snapshot: Snapshot, ids: Sequence[int]) -> dict[int, Int8]:
        """The memories (R, width) of some pictures, by id.

        Those that cannot be read now are left out: whose file is gone, shows something else or is
        damaged, or whose root cannot be reached. So is what is no picture.
        """
        contents = {
            id_: content.content_hash
            for id_, content in contents_of(snapshot, ids).items()
            if content.kind == "image"
        }
        found = self._kept(list(contents.values()))
        missing = [id_ for id_, digest in contents.items() if digest not in found]
        if missing:
            files = image_files(snapshot, missing)
            found |= self._make([(contents[id_], files[id_]) for id_ in missing])
        return {id_: found[digest] for id_, digest in contents.items() if digest in found}

    def _kept(self, digests: list[bytes]) -> dict[bytes, Int8]:
        """Those memories that the region cache has, or that were made before."""
        regions = self._regions()
        found = {} if regions is None else regions.find(digests)
        return found | self._made.find(digest for digest in digests if digest not in found)

    def _regions(self) -> Regions | None:
        """The region cache as it is now."""
        state = state_of(self._library)
        with self._lock:
            if self._opened[0] == state:
                return self._opened[1]
        about = self.about
        opened = open_regions(self._library, about.fingerprint)
        if opened is not None and opened.about.shape != about.shape:
            opened = None
        with self._lock:
            self._opened = state, opened
        return opened

    def _make(self, pictures: Sequence[Picture]) -> dict[bytes, Int8]:
        """The memories of pictures, from their files, decoded in threads."""
        reachable, side = Reachable(), self.encoder.image_size

        def read(picture: Picture) -> UInt8 | None:
            digest, files = picture
            image = read_picture(files, digest, reachable, min_side=side)
            return None if image is None else self.encoder.preprocess(image)

        found: dict[bytes, Int8] = {}
        batch: list[tuple[bytes, UInt8]] = []
        with quiet_pillow():
            window = _BATCH + _AHEAD
            for (digest, _), pixels in map_in_order(read, pictures, workers=None, window=window):
                if pixels is not None:
                    batch.append((digest, pixels))
                if len(batch) == _BATCH:
                    found |= self._remember(batch)
                    batch = []
        return found | self._remember(batch)

    def _remember(self, batch: Sequence[tuple[bytes, UInt8]]) -> dict[bytes, Int8]:
        if not batch:
            return {}
        memories = self.memories(np.stack([pixels for _, pixels in batch]))
        # Copies: a kept row of the batch would keep all of it.
        made = {digest: memory.copy() for (digest, _), memory in zip(batch, memories, strict=True)}
        self._made.keep(made)
        return made

"""Which reranker a library is searched with, and whether its region cache is kept up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from xsearch.core.errors import EncoderError, UsageError
from xsearch.core.query import RERANKED

if TYPE_CHECKING:
    from xsearch.core.encoder import DualEncoder
    from xsearch.retrieval.rerank.memories import Memories


class RerankerChoice:
    """The reranker that was asked for when a library was opened, or that of its encoder.

    What was loaded of it is kept, with the memories that it made of pictures. `given` is the folder
    of the one that was asked for.
    """

    def __init__(self, library: Path, given: Path | None) -> None:
        self._library = library
        self.given = given
        self._loaded: Memories | None = None

    def load(self, encoder: DualEncoder) -> Memories:
        """The reranker of an encoder, and what it reads of pictures.

        Raises:
            EncoderError: there is none, or it is another encoder's.
        """
        loaded = self._loaded
        if loaded is None or loaded.encoder is not encoder:
            self._loaded = loaded = self._open(encoder, self.given)
        return loaded

    def to_index_with(
        self, encoder: DualEncoder, wanted: bool | None
    ) -> tuple[Memories | None, tuple[str, ...]]:
        """What fills the region cache, and warnings; the caller holds the writer's lock.

        `wanted` makes a cache, or takes it away; with None one that is there is kept up.

        Raises:
            EncoderError: a cache is wanted, and there is no reranker.
        """
        from xsearch.indexer.regions import described, remove_regions

        if wanted is False:
            remove_regions(self._library)
            return None, ()
        about = described(self._library)
        if wanted is None and about is None:
            return None, ()
        try:
            if self.given is None and about and about.encoder == encoder.fingerprint:
                # The reranker that it was made with, wherever that lies.
                return self._open(encoder, Path(about.source) if about.source else None), ()
            return self.load(encoder), ()
        except EncoderError as error:
            if wanted:
                raise
            return None, (
                f"the region cache is not kept up: {error} (--no-region-cache removes it)",
            )

    def _open(self, encoder: DualEncoder, folder: Path | None) -> Memories:
        from xsearch.retrieval.rerank.memories import Memories

        return Memories(self._library, encoder, folder)

    def forget(self) -> None:
        """Let go of what was loaded."""
        self._loaded = None


def how_many(rerank: int | None) -> int:
    """How many candidates are reranked; 0: none. True is as many as usual.

    Raises:
        UsageError: it is no such number.
    """
    if rerank is None or isinstance(rerank, bool):
        return RERANKED if rerank else 0
    if not isinstance(rerank, int) or rerank < 0:
        raise UsageError(
            f"rerank is how many of the best candidates are compared once more, such as "
            f"{RERANKED}, not {rerank!r}"
        )
    return rerank

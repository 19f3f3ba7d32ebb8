"""Which encoders a library is searched and indexed with: what was asked for, or its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xsearch.core.errors import EncoderError, EncoderMismatchError, UsageError

if TYPE_CHECKING:
    from xsearch.core.encoder import DualEncoder
    from xsearch.indexer.reader import EncoderRow, Snapshot

    Wanted = str | os.PathLike[str] | DualEncoder

JOINT = "+"
"""Between the names of encoders that are to be searched with together."""


class EncoderChoice:
    """What was asked for when a library was opened, and the encoders loaded since."""

    def __init__(
        self, folder: Path, given: Wanted | Sequence[Wanted] | None, device: str | None
    ) -> None:
        self._folder = folder
        self._given = given
        self._device = device
        self._loaded: dict[str, DualEncoder] = {}

    def load(self, snapshot: Snapshot) -> list[DualEncoder]:
        """The encoders to search with.

        Raises:
            EncoderError: one cannot be loaded.
            EncoderMismatchError: the library has no vectors of one, or not all.
        """
        from xsearch.indexer.reader import usable_encoder

        own = snapshot.encoder()
        if self._given is None and own is not None and own.fingerprint in self._loaded:
            return [self._loaded[own.fingerprint]]
        wanted = [self._source(own)] if self._given is None else _parts(self._given)
        encoders = [self._open(one) for one in wanted]
        for encoder in encoders:
            usable_encoder(snapshot, encoder.info, self._folder)
        return encoders

    def load_one(self, snapshot: Snapshot, wanted: Wanted | None) -> DualEncoder:
        """The encoder of a name or folder, whatever the library has; by default its own."""
        return self._open(self._source(snapshot.encoder()) if wanted is None else wanted)

    def to_index_with(self, snapshot: Snapshot) -> tuple[DualEncoder, list[DualEncoder]]:
        """The library's own encoder, and the others that it keeps.

        Raises:
            EncoderError: one cannot be loaded.
            EncoderMismatchError: another was asked for than the library's own.
        """
        from xsearch.indexer.reader import check_fingerprint

        own = snapshot.encoder()
        encoders = self.load(snapshot)
        if own is None:
            return encoders[0], []
        chosen = next((one for one in encoders if one.fingerprint == own.fingerprint), None)
        if chosen is None:
            check_fingerprint(own, encoders[0].info, self._folder)
        assert chosen is not None
        kept = [row for row in snapshot.encoders() if row.state == "active" and row.id != own.id]
        return chosen, [self._kept(row) for row in kept]

    def find(self, snapshot: Snapshot, wanted: Wanted) -> EncoderRow:
        """The row of an encoder that the library has, by its name, source or fingerprint.

        Raises:
            UsageError: it has none of that name.
        """
        if not isinstance(wanted, str | os.PathLike):
            names = {wanted.fingerprint}
        else:
            from xsearch.retrieval.encoders.names import canonical

            text = os.fspath(wanted)
            names = {text, canonical(text), str(Path(text).absolute())}
        rows = snapshot.encoders()
        for row in rows:
            if names & {row.name, row.source, row.fingerprint}:
                return row
        there = ", ".join(row.name for row in rows) or "none"
        raise UsageError(f"{self._folder}: it has no encoder {wanted!r}; it has: {there}")

    def _kept(self, row: EncoderRow) -> DualEncoder:
        """An encoder that the library keeps, as it was recorded."""
        found = self._loaded.get(row.fingerprint)
        if found is not None:
            return found
        retire = f"or stop keeping it: xsearch reindex --retire {row.fingerprint}"
        try:
            encoder = self._open(row.source)
        except EncoderError as error:
            raise EncoderError(
                f"{self._folder} keeps the encoder {row.name}, which cannot be loaded ({error}). "
                f"Bring it back, {retire}"
            ) from error
        if encoder.fingerprint != row.fingerprint:
            raise EncoderMismatchError(
                f"{self._folder} keeps vectors of another version of {row.name} "
                f"({row.fingerprint}) than the one that is there now ({encoder.fingerprint}). "
                f"Bring that back, {retire}"
            )
        return encoder

    def _open(self, wanted: Wanted) -> DualEncoder:
        if isinstance(wanted, str | os.PathLike):
            key = os.fspath(wanted)
            if key not in self._loaded:
                from xsearch.retrieval.encoders import load_encoder

                name = wanted if isinstance(wanted, str) else Path(wanted)
                self._loaded[key] = load_encoder(name, device=self._device)
            encoder = self._loaded[key]
        else:
            encoder = wanted
        self._loaded[encoder.fingerprint] = encoder
        return encoder

    def _source(self, own: EncoderRow | None) -> Wanted:
        if own is None:
            return "builtin"
        return self._loaded.get(own.fingerprint, own.source)


def _parts(given: Wanted | Sequence[Wanted]) -> list[Wanted]:
    """The encoders of a list, or of `A+B`; a folder whose own name has a plus is one."""
    if not isinstance(given, str):
        if not isinstance(given, Sequence):
            return [given]
        if not given:
            raise UsageError("no encoder: the list is empty")
        return list(given)
    if JOINT not in given or Path(given).exists():
        return [given]
    names = [part.strip() for part in given.split(JOINT)]
    if not all(names) or len(set(names)) < len(names):
        raise UsageError(f"--encoder {given!r}: name different encoders, with + between them")
    return list(names)

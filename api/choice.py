"""Which encoders a library is searched and indexed with: what was asked for, or its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xsearch.core.errors import (
    EncoderError,
    EncoderMismatchError,
    MissingExtraError,
    UsageError,
)

if TYPE_CHECKING:
    from xsearch.core.encoder import DualEncoder
    from xsearch.indexer.reader import EncoderRow, Snapshot

    Wanted = str | os.PathLike[str] | DualEncoder

BUILTIN = "builtin"
_UNLOADABLE = (EncoderError, MissingExtraError, UsageError)
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
        if self._given is None:
            return [self._own(snapshot.encoder())]
        wanted = parts(self._given)
        loaded_before = bool(self._loaded)
        try:
            return self._usable(snapshot, [self._open(one) for one in wanted])
        except EncoderMismatchError:
            # A folder may hold another encoder by now than when it was loaded.
            if not loaded_before:
                raise
            return self._usable(snapshot, [self._open(one, anew=True) for one in wanted])

    def load_one(self, snapshot: Snapshot, wanted: Wanted | None) -> DualEncoder:
        """The encoder of a name or folder, as it is now; by default the library's own one's."""
        own = snapshot.encoder()
        if wanted is None:
            wanted = BUILTIN if own is None else own.source
        return self._open(wanted, anew=True)

    def to_index_with(self, snapshot: Snapshot) -> tuple[DualEncoder, list[DualEncoder]]:
        """The library's own encoder, and the others that it keeps.

        Raises:
            EncoderError: one cannot be loaded.
            EncoderMismatchError: another was asked for than the library's own.
            UsageError: several were asked for, and the library has none yet.
        """
        from xsearch.indexer.reader import check_fingerprint

        own = snapshot.encoder()
        encoders = self.load(snapshot)
        if own is None:
            if len(encoders) > 1:
                raise UsageError(
                    f"{self._folder}: a new library begins with one encoder; add others with: "
                    "xsearch reindex --encoder NAME --keep"
                )
            return encoders[0], []
        chosen = next((one for one in encoders if one.fingerprint == own.fingerprint), None)
        if chosen is None:
            check_fingerprint(own, encoders[0].info, self._folder)
        assert chosen is not None
        kept = [row for row in snapshot.encoders() if row.state == "active" and row.id != own.id]
        return chosen, [self._kept(row) for row in kept]

    def find(self, snapshot: Snapshot, wanted: Wanted, *, kept_first: bool = False) -> EncoderRow:
        """The row of an encoder that the library has, by its name, source or fingerprint.

        Of several that answer to a name the one in use counts, or, with `kept_first`, one that is
        kept beside it; last of all one that is retired.

        Raises:
            UsageError: it has none of that name.
        """
        if isinstance(wanted, str | os.PathLike):
            from xsearch.retrieval.encoders.names import canonical

            text = os.fspath(wanted)
            names = {text, canonical(text), str(Path(text).absolute())}
        else:
            text, names = wanted.name, {wanted.fingerprint}
        own = snapshot.encoder()
        order = {"active": 1, "building": 2, "retired": 4}

        def rank(row: EncoderRow) -> int:
            if own is not None and row.id == own.id:
                return 3 if kept_first else 0
            return order[row.state]

        rows = sorted(snapshot.encoders(), key=rank)
        for row in rows:
            if names & {row.name, row.source, row.fingerprint}:
                return row
        there = ", ".join(f"{row.name} ({row.fingerprint})" for row in rows) or "none"
        raise UsageError(f"{self._folder}: it has no encoder {text}; it has: {there}")

    @property
    def follows(self) -> bool:
        """Whether the library's own encoder is used, whichever that is at the time."""
        return self._given is None

    def _own(self, row: EncoderRow | None) -> DualEncoder:
        """The encoder in use, as it was recorded."""
        from xsearch.indexer.reader import check_fingerprint

        if row is None:
            return self._open(BUILTIN)
        if row.fingerprint in self._loaded:
            return self._loaded[row.fingerprint]
        try:
            encoder = self._open(row.source, anew=True)
        except _UNLOADABLE as error:
            raise EncoderError(
                f"{self._folder} is searched with the encoder {row.name}, which cannot be loaded "
                f"({error}). Bring it back, or where it has moved say so: xsearch reindex "
                "--encoder PLACE"
            ) from error
        check_fingerprint(row, encoder.info, self._folder)
        return encoder

    def _usable(self, snapshot: Snapshot, encoders: list[DualEncoder]) -> list[DualEncoder]:
        from xsearch.indexer.reader import usable_encoder

        for encoder in encoders:
            usable_encoder(snapshot, encoder.info, self._folder)
        return encoders

    def _kept(self, row: EncoderRow) -> DualEncoder:
        """An encoder that the library keeps, as it was recorded."""
        if row.fingerprint in self._loaded:
            return self._loaded[row.fingerprint]
        retire = f"or stop keeping it: xsearch reindex --retire {row.fingerprint}"
        try:
            encoder = self._open(row.source, anew=True)
        except _UNLOADABLE as error:
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

    def _open(self, wanted: Wanted, *, anew: bool = False) -> DualEncoder:
        """Load an encoder by name, or from a folder; once, unless `anew`."""
        if isinstance(wanted, str | os.PathLike):
            key = os.fspath(wanted)
            if anew or key not in self._loaded:
                from xsearch.retrieval.encoders import load_encoder

                name = wanted if isinstance(wanted, str) else Path(wanted)
                self._loaded[key] = load_encoder(name, device=self._device)
            encoder = self._loaded[key]
        else:
            encoder = wanted
        self._loaded[encoder.fingerprint] = encoder
        return encoder


def parts(given: Wanted | Sequence[Wanted]) -> list[Wanted]:
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

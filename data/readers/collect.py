"""Gathers what a reader finds into records: joins rows of one picture, counts what is broken."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from xsearch.core.errors import SourceError
from xsearch.core.paths import displayable
from xsearch.data.records import Dataset, ImageFile, Question, Record

from .pictures import Pictures

Captions = Mapping[str, Sequence[str]]


@dataclass(slots=True)
class _Entry:
    key: str
    image: ImageFile
    split: str | None
    captions: dict[str, list[str]] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)


class Collector:
    """What a reader hands its findings to; `dataset` is what comes of them.

    `language` is that of captions whose source does not say; `pictures` finds files by name.
    """

    def __init__(self, name: str, pictures: Pictures, language: str) -> None:
        self.language = language
        self._name = name
        self._pictures = pictures
        self._entries: dict[str, _Entry] = {}
        self._problems: list[str] = []
        self._missing: set[str] = set()
        self._used = self._broken = 0

    def broken(self, where: str, reason: str, *, rows: int = 1) -> None:
        """Count a row (or several) that cannot be used, and say why."""
        self._broken += rows
        self.note(where, reason)

    def note(self, where: str, reason: str) -> None:
        """Say what was left out, without counting it as broken."""
        self._problems.append(f"{displayable(where)}: {displayable(reason)}")

    def picture(self, where: str, *names: str) -> ImageFile | None:
        """The picture of the first of these names that there is; None counts the row as broken."""
        path, reason = self._pictures.find(names)
        if path is not None:
            return ImageFile(path)
        if names[0] in self._missing:
            self._broken += 1
        else:
            self._missing.add(names[0])
            self.broken(where, reason)
        return None

    def add(
        self,
        where: str,
        key: str,
        image: ImageFile,
        *,
        captions: Captions | None = None,
        labels: Iterable[str] = (),
        questions: Iterable[Question] = (),
        split: str | None = None,
    ) -> None:
        """Add what a row says of a picture to what earlier ones did.

        A picture is in one split only: a row that puts it into a second one is broken.
        """
        place = f"{os.path.normpath(image.path)}\0{image.offset}"
        entry = self._entries.get(place)
        if entry is None:
            entry = self._entries[place] = _Entry(key, image, split)
        elif split is not None and entry.split is not None and split != entry.split:
            self.broken(where, f"{key} is in the split {entry.split}, and cannot be in {split} too")
            return
        entry.split = entry.split or split
        for language, texts in (captions or {}).items():
            kept = [text for text in map(clean, texts) if text]
            if kept:
                entry.captions.setdefault(language, []).extend(kept)
        names = (name for name in map(clean, labels) if name and name not in entry.labels)
        entry.labels.extend(dict.fromkeys(names))
        entry.questions.extend(questions)
        self._used += 1

    def dataset(self) -> Dataset:
        """All records. Raises SourceError: there are none, or more rows are broken than not."""
        if self._broken > self._used:
            rows = self._broken + self._used
            hint = "; say where pictures are (--images)" if self._missing else ""
            raise SourceError(
                f"{displayable(self._name)}: {self._broken} of {rows} rows cannot be used, the "
                f"first: {self._problems[0]}{hint}"
            )
        if not self._entries:
            first = f" ({self._problems[0]})" if self._problems else ""
            raise SourceError(f"{displayable(self._name)}: no pictures in it{first}")
        return Dataset(self._name, tuple(self._records()), tuple(self._problems))

    def _records(self) -> Iterable[Record]:
        taken: dict[str, int] = {}
        for entry in self._entries.values():
            count = taken[entry.key] = taken.get(entry.key, 0) + 1
            yield Record(
                key=entry.key if count == 1 else f"{entry.key} ({count})",
                image=entry.image,
                captions={language: tuple(texts) for language, texts in entry.captions.items()},
                labels=tuple(entry.labels),
                questions=tuple(entry.questions),
                split=entry.split,
            )


def clean(text: str) -> str:
    """A text on one line, without control characters and halves of characters."""
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    kept = (c if unicodedata.category(c) != "Cc" else " " for c in whole)
    return " ".join("".join(kept).split())

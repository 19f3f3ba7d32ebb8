"""What every data set is read into: pictures with captions, labels and questions."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from xsearch.core.errors import ImageError
from xsearch.core.images import decode

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, slots=True)
class ImageFile:
    """Where a picture's bytes are: a file, or a part of one, such as a member of a tar file.

    `size` bytes from `offset` on; None: to the file's end. `name` is for people, and the file's
    own where it is left empty.
    """

    path: Path
    offset: int = 0
    size: int | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.path.name)

    def read(self) -> bytes:
        """The picture's bytes. Raises ImageError (`unreadable`), also where they end early."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                found = file.read() if self.size is None else file.read(self.size)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise ImageError(f"cannot be read: {reason or error}", "unreadable") from error
        if self.size is not None and len(found) < self.size:
            raise ImageError(
                f"cannot be read: {self.path.name} ends before it does, it is cut short",
                "unreadable",
            )
        return found

    def open(self, side: int | None = None) -> Image.Image:
        """The picture, upright, RGB (see `xsearch.core.images.decode`).

        With `side` (pixels) it may come reduced, each side at least `side` or else as in the
        file. Raises ImageError.
        """
        whole = self.offset == 0 and self.size is None
        return decode(self.path if whole else io.BytesIO(self.read()), min_side=side).image


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a picture, and the answers people gave: none where they are withheld.

    `kind` is what the data set calls this kind of question.
    """

    text: str
    answers: tuple[str, ...] = ()
    key: str = ""
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A picture and what is said of it.

    `key` is unique in its data set and the same whenever it is read. `captions` holds sentences
    by language code, `labels` names of classes; either may be empty.
    """

    key: str
    image: ImageFile
    captions: Mapping[str, tuple[str, ...]]
    labels: tuple[str, ...] = ()
    questions: tuple[Question, ...] = ()
    split: str | None = None

    def texts(self, languages: Iterable[str] | None = None) -> tuple[str, ...]:
        """All captions, language by language; or those in some languages, in their order."""
        wanted = self.captions if languages is None else languages
        return tuple(text for language in wanted for text in self.captions.get(language, ()))


@dataclass(frozen=True, slots=True)
class Dataset:
    """Records in the order of their source.

    `problems` has a line for each thing that was left out: where it stands, and why.
    """

    name: str
    records: tuple[Record, ...]
    problems: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.records)

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages that any caption is in, in the order they first come."""
        found = (
            name for record in self.records for name, texts in record.captions.items() if texts
        )
        return tuple(dict.fromkeys(found))

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, in the order they first come."""
        found = (record.split for record in self.records if record.split is not None)
        return tuple(dict.fromkeys(found))

    def only(self, split: str) -> Dataset:
        """The records of one split; none where there is no such split."""
        return replace(self, records=tuple(each for each in self.records if each.split == split))

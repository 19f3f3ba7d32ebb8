"""Copies of pictures, as they are shown: groups of files with the one that is best kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from xsearch.core.paths import displayable

Strictness = Literal["strict", "normal", "loose"]
STRICTNESS: tuple[Strictness, ...] = ("strict", "normal", "loose")


@dataclass(frozen=True, slots=True)
class DuplicateFile:
    """A picture's file in a group of copies.

    `id` is the item's; files with the same bytes have the same. `size` is in bytes; `width` and
    `height` are pixels. `exact` says that its bytes are those of the group's keeper. `similarity`
    is the cosine to the keeper, and `turned` how it was turned by right angles, if it was.
    `checked` says that the two files were compared by what they show; otherwise hashes and
    vectors alone say that it is a copy. `missing` says that it cannot be reached now (an unmounted
    drive, say).
    """

    id: int
    path: Path
    size: int
    width: int
    height: int
    format: str
    taken_at: datetime | None
    modified_at: datetime
    exact: bool
    similarity: float
    turned: str | None = None
    checked: bool = False
    missing: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values: `id`, `path`, `size`, ...; what does not apply is left out."""
        row: dict[str, Any] = {
            "id": self.id,
            "path": displayable(self.path),
            "size": self.size,
            "width": self.width,
            "height": self.height,
            "format": self.format,
            "modified_at": self.modified_at.isoformat(),
            "exact": self.exact,
            "similarity": round(self.similarity, 4),
        }
        if self.taken_at is not None:
            row["taken_at"] = self.taken_at.isoformat()
        if self.turned is not None:
            row["turned"] = self.turned
        if self.checked:
            row["checked"] = True
        if self.missing:
            row["missing"] = True
        return row


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Files that are copies of one picture: the one to keep, why that one, and the others.

    Each of `others` is a copy of the keeper itself.
    """

    keeper: DuplicateFile
    reason: str
    others: tuple[DuplicateFile, ...]

    @property
    def exact(self) -> bool:
        """Whether all have the same bytes."""
        return all(file.exact for file in self.others)

    @property
    def bytes(self) -> int:
        """What the others take, in bytes."""
        return sum(file.size for file in self.others)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values: `exact`, `keeper`, `reason`, `others`, `bytes`."""
        return {
            "exact": self.exact,
            "keeper": self.keeper.to_dict(),
            "reason": self.reason,
            "others": [file.to_dict() for file in self.others],
            "bytes": self.bytes,
        }


@dataclass(frozen=True, slots=True)
class DuplicateReport:
    """What looking for copies found: `groups`, those of equal bytes first, the largest first.

    `pictures` is how many were compared, `checked` how many pairs of files were compared by what
    they show. `changed` counts files that were edited since they were indexed, which are in no
    group: index them again.
    """

    groups: tuple[DuplicateGroup, ...]
    pictures: int
    checked: int = 0
    changed: int = 0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        return {
            "groups": [group.to_dict() for group in self.groups],
            "pictures": self.pictures,
            "checked": self.checked,
            "changed": self.changed,
            "seconds": round(self.seconds, 3),
        }

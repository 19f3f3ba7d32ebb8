"""The values that cross room borders: hits, kinds of items, a picture's metadata."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from xsearch.core.paths import displayable

if TYPE_CHECKING:
    from pathlib import Path

Kind = Literal["image", "text"]
KINDS: tuple[Kind, ...] = ("image", "text")


@dataclass(frozen=True, slots=True)
class EmbeddedCaption:
    """A text found inside a picture: `source` is `exif`, `iptc` or `xmp`."""

    source: str
    text: str


@dataclass(frozen=True, slots=True)
class ImageMetadata:
    """What a picture file says of itself.

    `width` and `height` are pixels as seen upright; `orientation` is the EXIF value 1 to 8.
    `taken_at` is timezone-aware where the file records an offset, else the camera's local time.
    `latitude` and `longitude` are degrees, north and east positive.
    """

    width: int
    height: int
    format: str
    orientation: int = 1
    taken_at: datetime | None = None
    camera: str | None = None
    lens: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    captions: tuple[EmbeddedCaption, ...] = ()
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """A picture's file, and the texts that belong to it."""

    path: Path
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """One item found.

    `similarity` is the cosine to the query; `score` is 0 to 1, calibrated for the encoder.
    `path` is the first existing file of an image; for a text, the picture it belongs to, or
    else the file it stands in. `other_paths` are further files with the same content.
    `missing` says that none of the files can be reached now (an unmounted drive, say).
    """

    id: int
    rank: int
    kind: Kind
    score: float
    similarity: float
    path: Path | None = None
    text: str | None = None
    other_paths: tuple[Path, ...] = ()
    missing: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The hit as JSON-ready values: `rank`, `id`, `score`, `similarity`, `kind`, ..."""
        row: dict[str, Any] = {
            "rank": self.rank,
            "id": self.id,
            "score": round(self.score, 4),
            "similarity": round(self.similarity, 4),
            "kind": self.kind,
        }
        if self.text is not None:
            row["text"] = self.text
        if self.path is not None:
            row["path"] = displayable(self.path)
        if self.other_paths:
            row["other_paths"] = [displayable(path) for path in self.other_paths]
        if self.missing:
            row["missing"] = True
        return row


@dataclass(frozen=True, slots=True)
class Caption:
    """A text that fits a picture: one of several, best first.

    `similarity` is the cosine to the picture; `score` is 0 to 1, calibrated for the encoder.
    `others` are the near-identical texts that it stands for, best first. `id` is that of the
    library's item, for texts of a library.
    """

    rank: int
    text: str
    score: float
    similarity: float
    others: tuple[str, ...] = ()
    id: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: `rank`, `id`, `score`, `similarity`, `text`, `others`."""
        row: dict[str, Any] = {"rank": self.rank}
        if self.id is not None:
            row["id"] = self.id
        row |= {
            "score": round(self.score, 4),
            "similarity": round(self.similarity, 4),
            "text": self.text,
        }
        if self.others:
            row["others"] = list(self.others)
        return row


@dataclass(frozen=True, slots=True)
class LabelProbability:
    """A label, and the probability, 0 to 1, that it fits."""

    name: str
    probability: float


@dataclass(frozen=True, slots=True)
class Classified:
    """What labels say of one picture, most probable first.

    `none` is the probability that no label fits; None where each label stands by itself. A
    picture that could not be read has no labels, but a `reason`. `id` is that of the library's
    item, for pictures of a library.
    """

    path: Path | None
    labels: tuple[LabelProbability, ...]
    none: float | None = None
    reason: str | None = None
    id: int | None = None

    @property
    def best(self) -> str | None:
        """The most probable label; None where it is likelier that none fits."""
        if not self.labels:
            return None
        fits = self.labels[0].probability if self.none is None else 1 - self.none
        return self.labels[0].name if fits >= 0.5 else None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: `path`, `id`, then `best`, `none` and `labels`, or the `reason`."""
        row: dict[str, Any] = {}
        if self.path is not None:
            row["path"] = displayable(self.path)
        if self.id is not None:
            row["id"] = self.id
        if self.reason is not None:
            return {**row, "reason": self.reason}
        row["best"] = self.best
        if self.none is not None:
            row["none"] = round(self.none, 4)
        row["labels"] = {label.name: round(label.probability, 4) for label in self.labels}
        return row


@dataclass(frozen=True, slots=True)
class TagCount:
    """A tag, how many pictures have it, and how many of these by hand."""

    name: str
    pictures: int
    by_hand: int


@dataclass(frozen=True, slots=True)
class Tagged:
    """A picture with a tag; `score` is its probability, None where it was given by hand.

    `path` is the first of the picture's files that the library knows.
    """

    id: int
    path: Path | None
    score: float | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: `id`, `path`, `score`."""
        path = None if self.path is None else displayable(self.path)
        return {"id": self.id, "path": path, "score": self.score}

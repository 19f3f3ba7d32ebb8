"""The values that cross room borders: hits, reports, progress, a picture's metadata."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
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
class FailedFile:
    """A file that could not be indexed, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Rates:
    """How fast each stage went, in files a second of that stage's own time (None: unused).

    `decode` is for all workers together, `encode` for the encoder, `write` for vectors and
    catalog; the slowest bounds the run.
    """

    decode: float | None = None
    encode: float | None = None
    write: float | None = None


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What one `index` run did. Counts are of files, but `texts`, which counts new text items.

    `skipped` counts files that are neither pictures nor were asked for by name. `decoded` is
    how many pictures had to be decoded, `embedded` how many items were embedded.
    """

    added: int = 0
    updated: int = 0
    moved: int = 0
    removed: int = 0
    unchanged: int = 0
    failed: int = 0
    texts: int = 0
    texts_removed: int = 0
    skipped: int = 0
    decoded: int = 0
    embedded: int = 0
    seconds: float = 0.0
    rates: Rates = field(default_factory=Rates)
    failures: tuple[FailedFile, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        row = asdict(self)
        row["failures"] = [
            {"path": displayable(failure.path), "reason": failure.reason}
            for failure in self.failures
        ]
        return row


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a long task: `done` of `total` files (`total` None while still counting).

    `path` is the file just finished, as shown to people.
    """

    stage: Literal["scan", "embed", "write", "index", "compact", "check"]
    done: int
    total: int | None = None
    path: str | None = None


ProgressCallback = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class RootStatus:
    """A root, how many files it holds in the library, and whether it can be reached now."""

    path: Path
    files: int
    reachable: bool


@dataclass(frozen=True, slots=True)
class LibraryStatus:
    """What a library holds. `items` counts by kind, `bytes_on_disk` by part, in bytes."""

    path: Path
    items: Mapping[str, int]
    files: int
    failed: int
    roots: tuple[RootStatus, ...]
    encoder: str | None
    fingerprint: str | None
    runtime: str | None
    precision: str | None
    dim: int | None
    vectors: int
    deleted_vectors: int
    generation: int
    index_kind: str | None
    index_rows: int
    bytes_on_disk: Mapping[str, int]
    schema_version: str
    faiss: str
    last_run: Mapping[str, Any] | None
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The status as JSON-ready values."""
        row = asdict(self)
        row["path"] = displayable(self.path)
        row["roots"] = [
            {"path": displayable(root.path), "files": root.files, "reachable": root.reachable}
            for root in self.roots
        ]
        return row


@dataclass(frozen=True, slots=True)
class RemoveReport:
    """What `remove` took out of the library (the files themselves stay untouched)."""

    files: int
    items: int


@dataclass(frozen=True, slots=True)
class CompactReport:
    """What `compact` reclaimed."""

    vectors_kept: int
    vectors_dropped: int
    bytes_before: int
    bytes_after: int


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What `check` found. `repaired` lists what it put right, `problems` what needs the user.

    `lost` counts items whose vector is gone or damaged: the next `index` embeds them again.
    """

    files: int
    items: int
    vectors: int
    lost: int
    repaired: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True where nothing was lost and nothing is left to do."""
        return not self.lost and not self.problems

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        return {**asdict(self), "ok": self.ok}

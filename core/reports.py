"""Reports: what indexing, removing, compacting, checking and looking at a library tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from xsearch.core.paths import displayable


@dataclass(frozen=True, slots=True)
class FailedFile:
    """A file that could not be indexed, and why."""

    path: Path
    reason: str


def _failures(failures: Iterable[FailedFile]) -> list[dict[str, str]]:
    return [{"path": displayable(file.path), "reason": file.reason} for file in failures]


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
    how many pictures had to be decoded, `embedded` how many items were embedded, `imported` how
    many pictures got a vector that another program had made, `ocr` how many were looked at for
    text in them, `regions` how many were put into the region cache.
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
    imported: int = 0
    ocr: int = 0
    regions: int = 0
    seconds: float = 0.0
    rates: Rates = field(default_factory=Rates)
    failures: tuple[FailedFile, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        return asdict(self) | {"failures": _failures(self.failures)}


@dataclass(frozen=True, slots=True)
class ReindexReport:
    """What one `reindex` run did.

    `images` and `texts` count items embedded. `complete` says that every item that can be
    reached has a vector now; `switched` that searches use them. `stale` counts pictures whose
    file is gone or was edited, which the next `index` sorts out; `unreadable` those that cannot
    be read now (a drive that is not mounted), of which `failures` names the first 1,000.
    """

    encoder: str
    fingerprint: str
    images: int = 0
    texts: int = 0
    stale: int = 0
    complete: bool = False
    switched: bool = False
    seconds: float = 0.0
    unreadable: int = 0
    failures: tuple[FailedFile, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        return asdict(self) | {"failures": _failures(self.failures)}


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a long task: `done` of `total` files (`total` None while still counting).

    `path` is the file just finished, as shown to people; `detail` what else is known, such as the
    loss of a training. In the stage `epoch` it is epochs that are counted, in `download` megabytes.
    """

    stage: Literal[
        "scan",
        "embed",
        "write",
        "index",
        "compact",
        "check",
        "pictures",
        "texts",
        "train",
        "epoch",
        "export",
        "download",
        "tag",
        "compare",
        "look",
        "show",
        "words",
        "ocr",
        "regions",
    ]
    done: int
    total: int | None = None
    path: str | None = None
    detail: str = ""


ProgressCallback = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """In place of a progress callback, where nobody listens."""


@dataclass(frozen=True, slots=True)
class RootStatus:
    """A root, how many files it holds in the library, and whether it can be reached now."""

    path: Path
    files: int
    reachable: bool


@dataclass(frozen=True, slots=True)
class EncoderStatus:
    """An encoder of which a library has vectors.

    `state` is `own` (searched with), `kept` (with `--encoder`), `building` (an unfinished
    `reindex`) or `retired` (until `compact`). `missing` counts items without a vector.
    """

    name: str
    source: str
    fingerprint: str
    dim: int
    runtime: str
    precision: str
    state: Literal["own", "kept", "building", "retired"]
    vectors: int
    missing: int


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """One segment of an index: `count` vectors of one kind of item, rows `first` to before `end`.

    `structure` is flat (exact), rabitq, ivf or hnsw. `recall` is the share of the 10 true nearest
    that it was measured to find, with searches of `probes` of its `lists` and `candidates`
    compared exactly, and `queries` says what was asked; all None where it is exact.
    """

    kind: str
    structure: str
    first: int
    end: int
    count: int
    lists: int
    probes: int | None
    candidates: int | None
    wanted_recall: float | None
    recall: float | None
    queries: str
    bytes: int


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """What index a library would have with `count` vectors of a kind of item, and its cost.

    `times` is how many times its size now that is. `memory` and `disk` are bytes beside the
    vectors, `query_seconds` is for one query on one thread; all are estimates.
    """

    kind: str
    times: int
    count: int
    structure: str
    lists: int
    memory: int
    disk: int
    query_seconds: float
    build_seconds: float
    reasons: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class RegionStatus:
    """A library's region cache: `pictures` of `of` have a record, of `bytes_each` bytes.

    `reranker` is whose it is, `fingerprint` that reranker's; `used` says whether it reads the
    library's own encoder.
    """

    reranker: str
    fingerprint: str
    pictures: int
    of: int
    bytes_each: int
    used: bool


@dataclass(frozen=True, slots=True)
class LibraryStatus:
    """What a library holds. `items` counts by kind, `bytes_on_disk` by part, in bytes.

    `encoder`, `fingerprint`, `runtime`, `precision`, `dim`, `vectors`, `generation` and the
    index's values are those of its own encoder; `encoders` has all. `index` are the segments of
    its index, `index_kind` the structure of the largest, `index_rows` where the last ends. `engine`
    says what runs encoders here, `faiss` what searches. `regions` is the region cache; None: none.
    """

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
    index: tuple[IndexStatus, ...]
    bytes_on_disk: Mapping[str, int]
    schema_version: str
    faiss: str
    engine: str
    encoders: tuple[EncoderStatus, ...]
    last_run: Mapping[str, Any] | None
    regions: RegionStatus | None = None
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
class ExportReport:
    """What `export` wrote: pictures, and the files that hold them, in bytes."""

    folder: Path
    pictures: int
    files: int
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        return {**asdict(self), "folder": displayable(self.folder)}


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


@dataclass(frozen=True, slots=True)
class TagReport:
    """What one `tag` run did: pictures looked at, pictures with a tag, and how many by tag."""

    pictures: int
    tagged: int
    tags: Mapping[str, int]
    stored: bool
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        return asdict(self)

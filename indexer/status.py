"""What a library holds, read from one snapshot."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Literal

from xsearch.core.paths import displayable
from xsearch.core.reports import (
    EncoderStatus,
    FailedFile,
    IndexPlan,
    IndexStatus,
    LibraryStatus,
    RegionStatus,
    RootStatus,
)
from xsearch.core.values import KINDS
from xsearch.indexer.disk import bytes_of
from xsearch.indexer.found import found_file
from xsearch.indexer.indices.choice import Wishes, choose, cost
from xsearch.indexer.indices.store import Place, damaged, find_segments
from xsearch.indexer.reader import EncoderRow, Snapshot, last_run
from xsearch.indexer.regions import FOLDER as REGIONS
from xsearch.indexer.regions import described, open_regions
from xsearch.indexer.schema import HEAD


def status(folder: Path, snapshot: Snapshot, engine: str) -> LibraryStatus:
    """Counts, roots, encoders, index and sizes on disk; `engine` says what runs encoders."""
    encoder = snapshot.encoder()
    index: tuple[IndexStatus, ...] = ()
    harmed: list[Path] = []
    deleted = vectors = 0
    if encoder is not None:
        for kind in KINDS:
            place = Place(folder, encoder.fingerprint, encoder.generation, kind, encoder.dim)
            index += _segments(place, encoder.rows)
            harmed += damaged(place)
        deleted = len(snapshot.deleted_rows(encoder.id))
        vectors = int(
            snapshot.one("SELECT count(*) FROM embeddings WHERE encoder_id = ?", (encoder.id,))
        )
    faiss, warnings = _faiss()
    roots = _roots(snapshot)
    warnings += tuple(
        f"{path.name}: this index file is damaged or not of this library, and is not used; "
        "`xsearch index` builds it again"
        for path in harmed
    )
    warnings += tuple(f"{root.path} cannot be reached now" for root in roots if not root.reachable)
    return LibraryStatus(
        path=folder,
        items=_items(snapshot),
        files=int(
            snapshot.one(
                "SELECT count(*) FROM files WHERE missing_since IS NULL AND role <> 'sidecar'"
                " AND state = 'ok'"
            )
        ),
        failed=int(
            snapshot.one(
                "SELECT count(*) FROM files WHERE state = 'failed' AND missing_since IS NULL"
            )
        ),
        roots=roots,
        encoder=encoder.name if encoder else None,
        fingerprint=encoder.fingerprint if encoder else None,
        runtime=encoder.runtime if encoder else None,
        precision=encoder.precision if encoder else None,
        dim=encoder.dim if encoder else None,
        vectors=vectors,
        deleted_vectors=deleted,
        generation=encoder.generation if encoder else 0,
        index_kind=max(index, key=lambda part: part.count).structure if index else None,
        index_rows=max((part.end for part in index), default=0),
        index=index,
        bytes_on_disk=_sizes(folder),
        schema_version=HEAD,
        faiss=faiss,
        engine=engine,
        encoders=_encoders(snapshot),
        last_run=last_run(snapshot),
        regions=_regions(folder, snapshot),
        warnings=warnings,
    )


def _segments(place: Place, rows: int) -> tuple[IndexStatus, ...]:
    found = []
    for segment in find_segments(place, rows):
        header = segment.header
        found.append(
            IndexStatus(
                kind=header.kind,
                structure=header.structure,
                first=header.first,
                end=header.end,
                count=header.count,
                lists=header.lists,
                probes=header.effort.probes if header.effort else None,
                candidates=header.effort.candidates if header.effort else None,
                wanted_recall=header.wanted if header.effort else None,
                recall=header.recall,
                queries=header.queries,
                bytes=segment.sealed.size,
            )
        )
    return tuple(found)


def plan(snapshot: Snapshot, wishes: Wishes) -> list[IndexPlan]:
    """What index the library would have for each kind of item, now and when it has grown."""
    encoder = snapshot.encoder()
    if encoder is None:
        return []
    plans = []
    for kind, live in _items(snapshot).items():
        rows = live + _deleted(snapshot, encoder, kind)
        for times in (1, 10, 100) if rows else ():
            count = rows * times
            chosen = choose(count, encoder.dim, wishes, 1 - live / rows)
            price = cost(chosen.structure, count, encoder.dim)
            plans.append(
                IndexPlan(
                    kind=kind,
                    times=times,
                    count=count,
                    structure=chosen.structure,
                    lists=chosen.lists,
                    memory=price.memory,
                    disk=price.disk,
                    query_seconds=price.query_seconds,
                    build_seconds=price.build_seconds,
                    reasons=chosen.reasons,
                )
            )
    return plans


def _deleted(snapshot: Snapshot, encoder: EncoderRow, kind: str) -> int:
    return int(
        snapshot.one(
            "SELECT count(*) FROM items i JOIN embeddings e ON e.item_id = i.id"
            " WHERE i.deleted_at IS NOT NULL AND e.encoder_id = ? AND i.kind = ?",
            (encoder.id, kind),
        )
    )


def failures(snapshot: Snapshot) -> list[FailedFile]:
    """The files that could not be indexed, in the order of their paths."""
    rows = snapshot.all(
        "SELECT r.path, f.folder, f.name, f.error FROM files f JOIN roots r ON r.id = f.root_id"
        " WHERE f.state = 'failed' AND f.missing_since IS NULL"
        " ORDER BY r.path, f.folder, f.name"
    )
    return [FailedFile(found_file(*place).path, reason or "unknown") for *place, reason in rows]


def _encoders(snapshot: Snapshot) -> tuple[EncoderStatus, ...]:
    own = snapshot.encoder()
    counts = dict(snapshot.all("SELECT encoder_id, count(*) FROM embeddings GROUP BY encoder_id"))
    return tuple(
        EncoderStatus(
            name=row.name,
            source=displayable(row.source),
            fingerprint=row.fingerprint,
            dim=row.dim,
            runtime=row.runtime,
            precision=row.precision,
            state=_state(row, own),
            vectors=counts.get(row.id, 0),
            missing=snapshot.count_missing(row.fingerprint),
        )
        for row in snapshot.encoders()
    )


def _state(
    row: EncoderRow, own: EncoderRow | None
) -> Literal["own", "kept", "building", "retired"]:
    if own is not None and row.id == own.id:
        return "own"
    if row.state == "active":
        return "kept"
    return "building" if row.state == "building" else "retired"


def _items(snapshot: Snapshot) -> dict[str, int]:
    counts = {"image": 0, "text": 0}
    counts.update(
        snapshot.all("SELECT kind, count(*) FROM items WHERE deleted_at IS NULL GROUP BY kind")
    )
    return counts


def _roots(snapshot: Snapshot) -> tuple[RootStatus, ...]:
    rows = snapshot.all(
        "SELECT r.path, r.name, count(f.id) FROM roots r LEFT JOIN files f ON f.root_id = r.id"
        " AND f.missing_since IS NULL AND f.role <> 'sidecar'"
        " GROUP BY r.id, r.path, r.name ORDER BY r.path, r.name"
    )
    found = []
    for path, name, count in rows:
        place = found_file(path, "", name).path
        found.append(RootStatus(place, count, place.exists()))
    return tuple(found)


def _regions(folder: Path, snapshot: Snapshot) -> RegionStatus | None:
    about = described(folder)
    if about is None:
        return None
    own = snapshot.encoder()
    live = [
        digest
        for (digest,) in snapshot.all(
            "SELECT content_hash FROM items WHERE kind = 'image' AND deleted_at IS NULL"
        )
    ]
    opened = open_regions(folder, about.fingerprint)
    return RegionStatus(
        reranker=about.reranker,
        fingerprint=about.fingerprint,
        pictures=0 if opened is None else opened.count(live),
        of=len(live),
        bytes_each=about.size,
        used=own is not None and own.fingerprint == about.encoder,
    )


def _sizes(folder: Path) -> dict[str, int]:
    parts = {
        "catalog": list(folder.glob("catalog*")),
        "vectors": list((folder / "vectors").glob("*")),
        "indices": list((folder / "indices").glob("*")),
        "backgrounds": list((folder / "backgrounds").glob("*")),
    }
    if (folder / REGIONS).is_dir():
        parts["regions"] = list((folder / REGIONS).glob("*"))
    return {name: bytes_of(paths) for name, paths in parts.items()}


def _faiss() -> tuple[str, tuple[str, ...]]:
    """Which FAISS runs, without importing it."""
    found = []
    for name in ("faiss-cpu", "faiss-gpu", "faiss-gpu-cu12", "faiss-gpu-cu11"):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    if len(found) > 1:
        return " and ".join(found), (
            f"{' and '.join(found)} are both installed and overwrite each other's files: "
            "uninstall all of them, then install the one you want",
        )
    return found[0] if found else "faiss (unknown build)", ()

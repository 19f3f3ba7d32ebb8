"""Comparing what folders list with what the catalog knows, without reading any file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from xsearch.core.formats import is_image_name
from xsearch.core.paths import displayable
from xsearch.core.reports import FailedFile
from xsearch.indexer.catalog import Catalog, FileRow, RootRow
from xsearch.indexer.commit import Counts
from xsearch.indexer.outcomes import Candidate, Role, Spool
from xsearch.indexer.roots import Scope, rules_for
from xsearch.indexer.scan import Entry, Listing, walk

# Failures that may be over the next time; `decode` stays until the file changes.
_WORTH_ANOTHER_TRY = frozenset({"unreadable", "changed", "too-large"})


@dataclass(slots=True)
class Difference:
    """What a scan found: `spool` holds the files to read, `gone` the rows of files not seen.

    `counts` has what needs no reading: files unchanged, or known to be damaged.
    """

    spool: Spool
    counts: Counts
    gone: list[int] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def compare(
    catalog: Catalog, scopes: list[Scope], library: Path, seen: Callable[[int], None]
) -> Difference:
    """Scan all scopes; `seen` is told how many files each folder lists."""
    difference = Difference(Spool(), Counts())
    roots = catalog.roots()
    for scope in scopes:
        _Comparison(catalog, scope, roots, library, difference, seen).run()
    return difference


class _Comparison:
    def __init__(
        self,
        catalog: Catalog,
        scope: Scope,
        roots: list[RootRow],
        library: Path,
        difference: Difference,
        seen: Callable[[int], None],
    ) -> None:
        self._catalog = catalog
        self._scope = scope
        self._root = scope.root
        self._rules = rules_for(scope.root, roots, library)
        self._difference = difference
        self._seen = seen
        self._listed = 0

    def run(self) -> None:
        if self._scope.name:
            self._one_file()
            return
        folders: set[str] = set()
        unreadable: list[str] = []
        gone: list[int] = []
        found = 0
        unchanged_before = self._difference.counts.unchanged
        for listing in walk(self._root.path, self._scope.start, self._rules):
            if listing.error is not None:
                unreadable.append(listing.folder)
                self._warn(listing.folder, f"could not be read ({listing.error})")
                continue
            folders.add(listing.folder)
            gone += self._folder(listing)
            listed = len(listing.images) + listing.others
            found += listed
            self._difference.counts.skipped += listing.others
            self._seen(listed)
        if found == 0 and _is_empty(self._root.path / self._scope.start):
            known = self._catalog.folders(self._root.id, self._scope.start)
            if known and self._scope.start not in unreadable:
                self._warn(
                    self._scope.start,
                    "is empty: an unmounted drive? What the library holds of it stays; if it "
                    "is gone for good, use `xsearch remove`",
                )
            return
        for folder in self._catalog.folders(self._root.id, self._scope.start):
            if folder not in folders and not _below_any(folder, unreadable):
                gone += [row.id for row in self._known(folder).values() if not row.gone]
        self._difference.gone += gone
        if self._scope.relocated:
            # The whole root lies elsewhere now: files found as they were have moved with it.
            counts = self._difference.counts
            counts.moved += counts.unchanged - unchanged_before
            counts.unchanged = unchanged_before

    def _one_file(self) -> None:
        folder, name = self._scope.start, self._scope.name
        path = self._root.path / folder / name
        if not path.exists():
            where = f"{folder}/{name}" if folder else name
            self._warn(where, "is gone; what the library holds of it stays until `xsearch remove`")
            return
        status = path.stat()
        entry = Entry(name, status.st_size, status.st_mtime_ns)
        role: Role = "image" if is_image_name(name) else "text"
        self._file(folder, entry, role, self._known(folder).get(name))
        self._seen(1)

    def _known(self, folder: str) -> dict[str, FileRow]:
        return self._catalog.folder_files(self._root.id, folder)

    def _folder(self, listing: Listing) -> list[int]:
        """Compare one folder; returns the rows of files that it lists no longer."""
        known = self._known(listing.folder)
        changed = {
            entry.name
            for entry in listing.images
            if self._file(listing.folder, entry, "image", known.pop(entry.name, None))
        }
        for entry in listing.texts:
            owners = listing.sidecars[entry.name]
            self._file(
                listing.folder,
                entry,
                "sidecar",
                known.pop(entry.name, None),
                tuple(owners),
                force=not changed.isdisjoint(owners),
            )
        return [row.id for row in known.values() if not row.gone]

    def _file(
        self,
        folder: str,
        entry: Entry,
        role: Role,
        row: FileRow | None,
        images: tuple[str, ...] = (),
        force: bool = False,
    ) -> bool:
        """Spool a file that must be read; count it otherwise. Returns whether it is spooled."""
        if not force and row is not None and _same(row, entry, role):
            if row.state == "failed":
                path = self._root.path / folder / entry.name
                failure = FailedFile(path, row.error or "unknown")
                self._difference.counts.failures.append(failure)
            elif role != "sidecar":
                self._difference.counts.unchanged += 1
            return False
        candidate = Candidate(
            self._root.id,
            str(self._root.path / folder / entry.name),
            folder,
            entry.name,
            role,
            entry.size,
            entry.mtime_ns,
            entry.error,
            images=images,
        )
        self._difference.spool.add(candidate if row is None else _with_row(candidate, row))
        return True

    def _warn(self, folder: str, what: str) -> None:
        self._difference.warnings.append(f"{displayable(self._root.path / folder)} {what}.")


def _with_row(candidate: Candidate, row: FileRow) -> Candidate:
    return replace(
        candidate,
        file_id=row.id,
        old_item=row.item_id,
        old_hash=row.content_hash.hex() if row.content_hash else None,
        was_ok=row.state == "ok",
        was_gone=row.gone,
        old_code=row.error_code,
        old_error=row.error,
    )


def _same(row: FileRow, entry: Entry, role: Role) -> bool:
    return (
        (row.size, row.mtime_ns, row.role) == (entry.size, entry.mtime_ns, role)
        and not row.racy
        and not row.gone
        and entry.error is None
        and row.error_code not in _WORTH_ANOTHER_TRY
    )


def _is_empty(folder: Path) -> bool:
    """Whether a folder has no entry at all, or cannot be listed."""
    try:
        return next(folder.iterdir(), None) is None
    except OSError:
        return True


def _below_any(folder: str, parents: list[str]) -> bool:
    return any(not parent or f"{folder}/".startswith(f"{parent}/") for parent in parents)

"""Finds copies in a library: pairs, verdicts, a look at the files, groups.

Pairs and verdicts come from one snapshot of the catalog and its vectors, so that no writer is
waited for; the files are looked at afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xsearch.core.duplicates import DuplicateReport, Strictness
from xsearch.core.images import DEFAULT_MAX_PIXELS
from xsearch.core.perceptual import turned_hashes
from xsearch.core.reports import Progress, ProgressCallback
from xsearch.indexer.duplicates.candidates import (
    best_turns,
    bits_between,
    close_hashes,
    close_vectors,
)
from xsearch.indexer.duplicates.compare import Comparer
from xsearch.indexer.duplicates.files import Files, PresentFile, reachable
from xsearch.indexer.duplicates.grouping import Link, Links, group, indirect, to_compare
from xsearch.indexer.duplicates.pictures import (
    Details,
    Pictures,
    at,
    read_details,
    read_files,
    read_pictures,
)
from xsearch.indexer.duplicates.rule import (
    CROP,
    NEAR,
    NO,
    REACH,
    RULES,
    Rule,
    closeness,
    judge,
    mean_cosine,
)
from xsearch.indexer.duplicates.show import show_groups
from xsearch.indexer.indices.rows import StoredRows
from xsearch.indexer.vectors import chunks, open_rows, vector_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xsearch.indexer.duplicates.pictures import CatalogFile
    from xsearch.indexer.reader import EncoderRow, Reader, Snapshot

    Bits = NDArray[np.uint8]
    Floats = NDArray[np.float32]
    Int64 = NDArray[np.int64]

# Vectors compared at once.
_BLOCK = 1 << 14


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look for: files of equal bytes alone, or copies as alike as `strictness` says.

    `look` has files compared by what they show, in so many threads (None: one a core).
    """

    exact: bool = False
    strictness: Strictness = "normal"
    look: bool = True
    workers: int | None = None
    max_pixels: int = DEFAULT_MAX_PIXELS


def find_duplicates(
    reader: Reader, paths: Sequence[Path] | None, wanted: Wanted, progress: ProgressCallback
) -> DuplicateReport:
    """The copies among a library's pictures, or among those at or below some paths.

    Raises:
        SourceError: the library has no picture at or below a path.
        LibraryError: vectors are missing; `xsearch check` says more.
    """
    start = time.monotonic()
    rule = RULES[wanted.strictness]
    near = None if wanted.exact else rule
    read = reader.answer(lambda snapshot: _read(reader.folder, snapshot, paths, near, progress))
    files = Files()
    present = {id_: files.present(known) for id_, known in read.files.items()}
    links = [
        link
        for link in read.links
        if all(present[int(read.pictures.ids[end])] for end in (link.better, link.worse))
    ]
    kept = group(links)
    checked = 0
    if wanted.look:
        comparer = Comparer(wanted.workers, wanted.max_pixels)
        kept, checked = _look(read, links, kept, present, comparer, rule, progress)
    groups = show_groups(read.pictures, kept, present, read.details)
    return DuplicateReport(
        groups, len(read.pictures.ids), checked, files.changed, time.monotonic() - start
    )


@dataclass(frozen=True, slots=True)
class _Read:
    """What a snapshot gave. Files and details are those of pictures that may be in a group."""

    pictures: Pictures
    links: list[Link]
    files: dict[int, list[CatalogFile]]
    details: dict[int, Details]
    near: _Near | None


def _read(
    folder: Path,
    snapshot: Snapshot,
    paths: Sequence[Path] | None,
    rule: Rule | None,
    progress: ProgressCallback,
) -> _Read:
    encoder = snapshot.encoder()
    place = at(snapshot, paths)
    pictures = read_pictures(snapshot, encoder.id if encoder else 0, place)
    near = _Near(folder, encoder, pictures) if rule and encoder else None
    links = near.links(rule, progress) if rule and near else []
    numbers = {end for link in links for end in (link.better, link.worse)}
    numbers.update(np.flatnonzero(pictures.files > 1).tolist())
    ids = pictures.ids[sorted(numbers)].tolist()
    return _Read(
        pictures, links, read_files(snapshot, ids, place), read_details(snapshot, ids), near
    )


class _Near:
    """Pictures that have vectors, compared by these and by their hashes."""

    def __init__(self, folder: Path, encoder: EncoderRow, pictures: Pictures) -> None:
        path = vector_path(folder, encoder.fingerprint, encoder.generation)
        self._rows = StoredRows(open_rows(path, encoder.rows, encoder.dim))
        self._of = pictures.rows
        self._hashes = pictures.hashes
        self._turned = turned_hashes(pictures.hashes)
        self._known = np.flatnonzero(pictures.rows >= 0)
        self._mean = mean_cosine(self._rows.vectors, np.sort(pictures.rows[self._known]))

    def links(self, rule: Rule, progress: ProgressCallback) -> list[Link]:
        """The pairs that are copies or may be."""
        links = Links()
        total = len(self._known)
        progress(Progress("compare", 0, total))
        for first, second in close_hashes(self._hashes[self._known], REACH):
            one, two = self._known[first], self._known[second]
            turns = best_turns(self._hashes, self._turned, one, two)
            self._add(links, rule, one, two, turns, self.cosines(one, two))
        least = NEAR * (1 - self._mean) + self._mean
        found = close_vectors(self._rows, self._of[self._known], least)
        for done, first, second, cosines in found:
            one, two = self._known[first], self._known[second]
            # Turned copies have close hashes: they were found above.
            straight = bits_between(self._hashes, one, two)
            self._add(links, rule, one, two, (straight, straight, np.zeros_like(straight)), cosines)
            progress(Progress("compare", done, total))
        progress(Progress("compare", total, total))
        return links.all()

    def link(self, better: int, worse: int) -> Link:
        """A pair that is to be compared by its files."""
        ends = np.array([better]), np.array([worse])
        straight, least, turn = best_turns(self._hashes, self._turned, *ends)
        turned = int(least[0]) <= REACH
        bits = int(least[0] if turned else straight[0])
        cosine = float(self.cosines(*ends)[0])
        return Link(better, worse, False, int(turn[0]) if turned else 0, bits, cosine)

    def cosines(self, first: Int64, second: Int64) -> Floats:
        """Of pairs of pictures: float32 (n,)."""
        found = np.empty(len(first), np.float32)
        for start, part in chunks(first, _BLOCK):
            other = second[start : start + len(part)]
            one, two = (self._rows[self._of[ends]].astype(np.float32) for ends in (part, other))
            found[start : start + len(part)] = np.einsum("ij,ij->i", one, two)
        return found

    def _add(
        self,
        links: Links,
        rule: Rule,
        better: Int64,
        worse: Int64,
        turns: tuple[Bits, Bits, Bits],
        cosines: Floats,
    ) -> None:
        """Judge pairs (n,), with what `best_turns` says of them, and keep what may be copies."""
        straight, least, turn = turns
        verdict = judge(rule, straight, least, closeness(cosines, self._mean))
        keep = verdict != NO
        whole = verdict != CROP
        links.add(
            better[keep],
            worse[keep],
            verdict[keep],
            np.where(whole, turn, 0)[keep],
            np.where(whole, least, straight)[keep],
            cosines[keep],
        )


def _look(
    read: _Read,
    links: list[Link],
    kept: dict[int, Link],
    present: dict[int, list[PresentFile]],
    comparer: Comparer,
    rule: Rule,
    progress: ProgressCallback,
) -> tuple[dict[int, Link], int]:
    """Have the files decide, until they have for every group: the groups, and pairs compared."""
    checked = 0
    while True:
        asked = to_compare(links, kept)
        if not asked:
            new = (
                []
                if read.near is None
                else [read.near.link(*pair) for pair in indirect(links, kept)]
            )
            if not new:
                return kept, checked
            links += new
            continue
        total = len(asked)
        for done, link in enumerate(_compared(read.pictures, asked, present, comparer, rule), 1):
            checked += link.checked
            progress(Progress("look", done, total))
        kept = group(links)


def _compared(
    pictures: Pictures,
    asked: Iterable[Link],
    present: dict[int, list[PresentFile]],
    comparer: Comparer,
    rule: Rule,
) -> Iterator[Link]:
    """Links, after their files were compared where these can be read."""
    pairs = []
    for link in sorted(asked, key=lambda link: (link.better, link.worse)):
        link.asked = True
        ends = (link.better, link.worse)
        first, second = (reachable(present[int(pictures.ids[end])]) for end in ends)
        if first is None or second is None:
            yield link
        else:
            alike = rule.alike_if_sure if link.copies else rule.alike
            pairs.append((link, (first, second, link.turn, alike)))
    found = comparer.compare([pair for _, pair in pairs])
    for (link, _), same in zip(pairs, found, strict=True):
        if same is not None:
            link.copies, link.checked = same, True
        yield link

"""Groups as they are shown: which file to keep, why, and the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from xsearch.core.duplicates import DuplicateFile, DuplicateGroup
from xsearch.core.perceptual import TURNS
from xsearch.indexer.duplicates.files import PresentFile
from xsearch.indexer.duplicates.grouping import Link
from xsearch.indexer.duplicates.pictures import Details, Pictures

# What the marks of `Pictures.ranks` are called.
_OLDEST = "oldest file"
_MARKS = ("most pixels", "taken first", _OLDEST, "stored without loss", "least compressed")
_NOTHING_KNOWN = Details(0, 0, "", None)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def show_groups(
    pictures: Pictures,
    kept: Mapping[int, Link],
    present: Mapping[int, Sequence[PresentFile]],
    details: Mapping[int, Details],
) -> tuple[DuplicateGroup, ...]:
    """All groups, those of equal bytes first, then those whose copies take most.

    Args:
        pictures: by number, the best first.
        kept: for each picture that is a copy of another, the link to that.
        present: by id the files that are there, of all pictures that may be in a group.
        details: of the same pictures.
    """
    copies: dict[int, list[Link]] = defaultdict(list)
    for link in kept.values():
        copies[link.better].append(link)
    ids = pictures.ids.tolist()
    numbers = [number for number, id_ in enumerate(ids) if id_ in present and number not in kept]
    groups = []
    for number in numbers:
        of = ids[number]
        known = details.get(of, _NOTHING_KNOWN)
        files = [_file(of, file, known, None) for file in present[of]]
        for link in sorted(copies[number], key=lambda link: link.worse):
            of = ids[link.worse]
            known = details.get(of, _NOTHING_KNOWN)
            files += [_file(of, file, known, link) for file in present[of]]
        if len(files) > 1:
            better = min((link.worse for link in copies[number]), default=None)
            reason = _oldest(files) if better is None else _reason(pictures, number, better)
            groups.append(DuplicateGroup(files[0], reason, tuple(files[1:])))
    return tuple(sorted(groups, key=lambda group: (not group.exact, -group.bytes)))


def _file(id_: int, file: PresentFile, known: Details, link: Link | None) -> DuplicateFile:
    """A file of the keeper's own content, or of a copy."""
    return DuplicateFile(
        id=id_,
        path=file.path,
        size=file.size,
        width=known.width,
        height=known.height,
        format=known.format,
        taken_at=known.taken_at,
        modified_at=_EPOCH + timedelta(microseconds=file.mtime_ns // 1_000),
        exact=link is None,
        similarity=1.0 if link is None else link.cosine,
        turned=None if link is None else TURNS[link.turn],
        checked=link is not None and link.checked,
        missing=file.missing,
    )


def _reason(pictures: Pictures, keeper: int, next_best: int) -> str:
    """The first mark by which the keeper is better than the best of the others."""
    better = np.flatnonzero(pictures.ranks[keeper] < pictures.ranks[next_best])
    return _MARKS[int(better[0])] if len(better) else "indexed first"


def _oldest(files: Sequence[DuplicateFile]) -> str:
    return _OLDEST if files[0].modified_at < files[1].modified_at else "first by path"

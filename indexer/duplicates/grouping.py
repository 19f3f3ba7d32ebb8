"""Which copies belong together: everyone with a better picture that it is a copy of.

Pictures are numbered from the best, so that of two the lower number is the one to keep. Every
member of a group is a copy of its keeper; that it is one of another member is not enough, since
else a series of photographs, each like the next, would end up in one group.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xsearch.indexer.duplicates.rule import SURE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Int64 = NDArray[np.int64]

_SURE_EACH, _ASKED_EACH = 64, 8
_PENDING = 1 << 21


@dataclass(slots=True)
class Link:
    """Two pictures that are copies, or may be.

    `turn` makes the worse picture of the better one (`core.perceptual.TURNS`); `bits` of their
    hashes differ. `asked` says that it was tried to compare their files, `checked` that that
    decided.
    """

    better: int
    worse: int
    copies: bool
    turn: int
    bits: int
    cosine: float
    asked: bool = False
    checked: bool = False


class Links:
    """Judged pairs, of which each picture keeps a bounded number.

    Of sure copies those with the best pictures are kept, among which a keeper is; of the others
    the closest.
    """

    def __init__(self) -> None:
        self._pending: list[NDArray[np.float64]] = []
        self._count, self._most = 0, _PENDING

    def add(
        self,
        better: Int64,
        worse: Int64,
        verdict: NDArray[np.uint8],
        turn: NDArray[np.uint8],
        bits: NDArray[np.uint8],
        cosines: NDArray[np.float32],
    ) -> None:
        """Keep pairs, all (n,); the same one may come several times."""
        self._pending.append(np.stack([better, worse, verdict, turn, bits, cosines], axis=1))
        self._count += len(better)
        if self._count > self._most:
            self._bound()
            # Where much is kept, bounding it again soon would be of no use.
            self._most = max(_PENDING, 2 * self._count)

    def _bound(self) -> None:
        rows = np.concatenate(self._pending)
        better, worse = rows[:, 0], rows[:, 1]
        order = np.lexsort((better, worse))
        again = np.zeros(len(rows), np.bool_)
        again[1:] = (np.diff(better[order]) == 0) & (np.diff(worse[order]) == 0)
        rows = rows[order[~again]]
        better, worse, verdict, cosines = rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 5]
        sure = verdict == SURE
        order = np.lexsort((np.where(sure, better, -cosines), sure, worse))
        key = worse[order] * 2 + sure[order]
        starts = np.flatnonzero(np.diff(key, prepend=-1))
        place = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
        kept = order[place < np.where(sure[order], _SURE_EACH, _ASKED_EACH)]
        self._pending = [rows[kept]]
        self._count = len(kept)

    def all(self) -> list[Link]:
        """The pairs kept, those of the best pictures first."""
        if not self._pending:
            return []
        self._bound()
        rows = self._pending[0]
        order = np.lexsort((rows[:, 0], rows[:, 1]))
        return [
            Link(int(better), int(worse), verdict == SURE, int(turn), int(bits), cosine)
            for better, worse, verdict, turn, bits, cosine in rows[order].tolist()
        ]


def group(links: Iterable[Link]) -> dict[int, Link]:
    """For each picture that is no keeper, the link to the keeper that it is a copy of.

    The best pictures are keepers; each other one joins the keeper that it is most like, and is
    a keeper itself where it is a copy of none.
    """
    found: dict[int, list[Link]] = defaultdict(list)
    for link in links:
        if link.copies:
            found[link.worse].append(link)
    kept: dict[int, Link] = {}
    for worse in sorted(found):
        choices = [link for link in found[worse] if link.better not in kept]
        if choices:
            kept[worse] = min(choices, key=lambda link: (link.bits, -link.cosine, link.better))
    return kept


def to_compare(links: Sequence[Link], kept: dict[int, Link]) -> list[Link]:
    """The links that a look at the files would decide something about, not looked at before.

    They are those to the keepers, and those that would make a keeper a copy of another.
    """
    wanted = [link for link in kept.values() if not link.asked]
    wanted += [
        link
        for link in links
        if not (link.asked or link.copies or link.worse in kept or link.better in kept)
    ]
    return wanted


def indirect(links: Sequence[Link], kept: dict[int, Link]) -> list[tuple[int, int]]:
    """Keepers, and pictures that are copies of one of their copies; they may be theirs, too."""
    known = {(link.better, link.worse) for link in links}
    found: dict[tuple[int, int], None] = {}
    for link in links:
        if link.copies and link.worse not in kept and link.better in kept:
            pair = (kept[link.better].better, link.worse)
            if pair not in known:
                found[pair] = None
    return list(found)

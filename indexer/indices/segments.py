"""How an index grows: immutable segments, the newest small and exact, merged now and then.

A row is written again only in a merge, and a merge makes what a row lies in larger by a quarter at
least. So each row is written about log(n) times, and there are about log(n) segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# New rows are compared one by one up to this many: less than a millisecond.
TAIL_ROWS = 4_096
# A segment is merged with those after it once they hold at least a quarter of what it does.
_RATIO = 4


@dataclass(frozen=True, slots=True)
class Span:
    """A segment as the policy sees it: rows from `first` to before `end`, `count` of its kind."""

    first: int
    end: int
    count: int
    exact: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do: keep these segments, build one over a range, and an exact one after it.

    `build` and `tail` are (first, end), None where there is nothing to be done.
    """

    keep: tuple[Span, ...]
    build: tuple[int, int] | None = None
    tail: tuple[int, int] | None = None


def plan(segments: Sequence[Span], new: int, end: int, exact_rows: int) -> Plan:
    """Which segments to build, so that all rows below `end` are covered.

    `segments` lie one after the other from row 0 on; `new` rows of their kind lie beyond the
    last. Up to `exact_rows` in all, there is a single exact segment.
    """
    total = sum(span.count for span in segments) + new
    if total <= exact_rows:
        if len(segments) == 1 and segments[0].exact and segments[0].end == end:
            return Plan(tuple(segments))
        return Plan((), tail=(0, end))
    kept = [span for span in segments if not span.exact]
    loose = total - sum(span.count for span in kept)
    if loose <= TAIL_ROWS:
        start = kept[-1].end if kept else 0
        if segments and segments[-1].exact and segments[-1].end == end:
            return Plan(tuple(segments))
        return Plan(tuple(kept), tail=(start, end) if start < end else None)
    while kept and kept[-1].count < _RATIO * loose:
        loose += kept.pop().count
    return Plan(tuple(kept), build=(kept[-1].end if kept else 0, end))


def chain(spans: Sequence[Span]) -> list[int]:
    """Which of some segments to search, by their place in the list: one after the other from row
    0 on, without a gap, the longest where several begin alike."""
    chosen: list[int] = []
    reached = 0
    while True:
        next_ = [at for at, span in enumerate(spans) if span.first == reached < span.end]
        if not next_:
            return chosen
        chosen.append(max(next_, key=lambda at: spans[at].end))
        reached = spans[chosen[-1]].end

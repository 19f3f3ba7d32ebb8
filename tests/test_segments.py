"""How an index grows: which segments there are, and how often a row is written."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xsearch.indexer.indices.segments import TAIL_ROWS, Span, chain, plan


def _grown(segments: list[Span], step: int, end: int, exact_rows: int) -> tuple[list[Span], int]:
    """The segments once `step` rows were added, up to row `end`; how many vectors were coded."""
    made = plan(segments, step, end, exact_rows)
    grown, written = list(made.keep), 0
    if made.build:
        first, last = made.build
        grown.append(Span(first, last, last - first, exact=False))
        written = last - first
    if made.tail:
        first, last = made.tail
        grown.append(Span(first, last, last - first, exact=True))
    return grown, written


@pytest.mark.parametrize("step", [300, 1_000, 5_000, 37_000])
def test_growing_to_a_million_writes_each_row_a_few_times(step: int) -> None:
    segments: list[Span] = []
    end = written = most = 0
    while end < 1_000_000:
        end += step
        # Small libraries are exact as a whole.
        segments, coded = _grown(segments, step, end, end if end <= 50_000 else 0)
        written += coded
        most = max(most, len(segments))
        assert chain(segments) == list(range(len(segments)))
        assert segments[-1].end == end
        if end > 50_000:
            assert sum(span.count for span in segments if span.exact) <= TAIL_ROWS
    assert written / end <= 8
    assert most <= 6


def test_a_thousand_rows_more_leave_a_million_as_they_are() -> None:
    million = Span(0, 1_000_000, 1_000_000, exact=False)
    made = plan([million], 1_000, 1_001_000, exact_rows=0)
    assert made.keep == (million,)
    assert made.build is None
    assert made.tail == (1_000_000, 1_001_000)


def test_nothing_new_is_nothing_to_do() -> None:
    for segments in (
        [Span(0, 100, 90, exact=True)],
        [Span(0, 9_000, 9_000, exact=False), Span(9_000, 9_100, 10, exact=True)],
    ):
        made = plan(segments, 0, segments[-1].end, 1_000)
        assert made.keep == tuple(segments)
        assert (made.build, made.tail) == (None, None)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 200_000), st.booleans()), min_size=1, max_size=30))
def test_every_row_is_covered_once_whatever_is_added(steps: list[tuple[int, bool]]) -> None:
    segments: list[Span] = []
    end = 0
    for step, exact in steps:
        end += step
        segments, _ = _grown(segments, step, end, end if exact else 0)
        assert chain(segments) == list(range(len(segments)))
        assert sum(span.count for span in segments) == end == segments[-1].end


def test_of_segments_that_overlap_the_longest_is_searched() -> None:
    halves = [Span(0, 50, 50, False), Span(50, 100, 50, False)]
    merged = Span(0, 100, 100, False)
    assert chain([*halves, merged]) == [2]
    assert chain([*halves, Span(100, 120, 20, True)]) == [0, 1, 2]


def test_what_lies_behind_a_gap_is_not_searched() -> None:
    assert chain([Span(0, 50, 50, False), Span(60, 100, 40, False)]) == [0]
    assert chain([Span(10, 50, 40, False)]) == []
    assert chain([Span(0, 0, 0, True)]) == []

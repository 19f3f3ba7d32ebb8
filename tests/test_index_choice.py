"""Which index is chosen, by numbers alone, and what is said of it."""

from __future__ import annotations

import pytest

from xsearch.core.errors import UsageError
from xsearch.indexer.indices.choice import (
    EXACT_ROWS,
    Wishes,
    choose,
    cost,
    lists_of,
    revise,
    smallest_memory,
)

MIB = 1 << 20


@pytest.mark.parametrize(
    ("count", "dim", "wishes", "structure", "lists"),
    [
        (0, 512, Wishes(), "flat", 0),
        (1_000, 512, Wishes(), "flat", 0),
        (EXACT_ROWS, 512, Wishes(), "flat", 0),
        (EXACT_ROWS + 1, 512, Wishes(), "ivf", 256),
        (300_000, 384, Wishes(), "ivf", 512),
        (1_000_000, 512, Wishes(), "ivf", 1_024),
        (10_000_000, 512, Wishes(), "ivf", 4_096),
        (1_000_000, 512, Wishes(recall=1.0), "flat", 0),
        (1_000_000, 512, Wishes(memory=300 * MIB), "ivf", 1_024),
        # Room for the codes, not for centroids beside them.
        (1_000_000, 512, Wishes(memory=77 * MIB), "rabitq", 1),
        # Too little for anything: the smallest.
        (1_000_000, 512, Wishes(memory=1 * MIB), "rabitq", 1),
        # Comparing 40,000 vectors maps 39 MiB of them.
        (40_000, 512, Wishes(memory=10 * MIB), "ivf", 256),
        (10_000, 512, Wishes(memory=5 * MIB), "rabitq", 1),
        (10, 512, Wishes(structure="ivf"), "ivf", 1),
        (1_000_000, 512, Wishes(structure="rabitq"), "rabitq", 1),
        (1_000_000, 512, Wishes(structure="flat"), "flat", 0),
        (1_000_000, 512, Wishes(structure="hnsw"), "hnsw", 0),
    ],
)
def test_the_choice_follows_from_the_numbers(
    count: int, dim: int, wishes: Wishes, structure: str, lists: int
) -> None:
    chosen = choose(count, dim, wishes)
    assert (chosen.structure, chosen.lists) == (structure, lists)
    assert chosen.reasons


def test_a_budget_that_is_too_small_is_named_with_the_smallest_that_works() -> None:
    least = smallest_memory(1_000_000, 512)
    assert "too small" in choose(1_000_000, 512, Wishes(memory=least - 1)).reasons[-1]
    assert f"{least / MIB:,.1f} MiB" in choose(1_000_000, 512, Wishes(memory=1)).reasons[-1]
    assert "too small" not in choose(1_000_000, 512, Wishes(memory=least)).reasons[-1]


def test_many_deleted_vectors_are_worth_a_word() -> None:
    assert any("compact" in reason for reason in choose(1_000, 512, deleted=0.5).reasons)
    assert not any("compact" in reason for reason in choose(1_000, 512, deleted=0.1).reasons)


def test_what_is_chosen_costs_no_more_than_the_budget() -> None:
    for count in (1_000, 60_000, 1_000_000, 10_000_000):
        for memory in (10 * MIB, 100 * MIB, 1_000 * MIB):
            chosen = choose(count, 512, Wishes(memory=memory))
            assert cost(chosen.structure, count, 512).memory <= max(
                memory, smallest_memory(count, 512)
            )


def test_a_million_vectors_are_expected_to_meet_the_targets() -> None:
    price = cost("ivf", 1_000_000, 512)
    assert price.memory < 300 * MIB
    assert price.query_seconds < 0.004


def test_lists_grow_with_the_square_root() -> None:
    assert [lists_of("ivf", 4**power) for power in (8, 9, 10, 11)] == [256, 512, 1_024, 2_048]
    assert lists_of("ivf", 100) == 1
    assert lists_of("rabitq", 10**7) == 1
    assert lists_of("flat", 10**7) == lists_of("hnsw", 10**7) == 0


def test_what_is_not_asked_anew_stays() -> None:
    asked = Wishes("ivf", 100, 0.9)
    assert revise(asked, None, None, None) == asked
    assert revise(asked, "auto", 0, 0.98) == Wishes()
    assert revise(asked, "flat", None, None) == Wishes("flat", 100, 0.9)


@pytest.mark.parametrize(
    "asked", [("tree", None, None), (None, -1, None), (None, None, 1.1), (None, None, 0.0)]
)
def test_what_cannot_be_meant_is_refused(
    asked: tuple[str | None, int | None, float | None],
) -> None:
    with pytest.raises(UsageError):
        revise(Wishes(), *asked)

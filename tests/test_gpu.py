"""Indices on graphics cards: where they are placed, what they leave to the CPU, the same hits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from xsearch.indexer.indices import gpu
from xsearch.indexer.indices.coverage import Coverage
from xsearch.indexer.indices.exact import exact_search
from xsearch.indexer.indices.flat import FlatIndex
from xsearch.indexer.indices.gpu import (
    CardIndex,
    Cards,
    PlacedIndex,
    Placement,
    card_bytes,
    placements,
)
from xsearch.indexer.indices.interface import VectorIndex
from xsearch.indexer.indices.rows import StoredRows

GIB = 1 << 30
DIM = 64


def made(count: int, dim: int = DIM) -> np.ndarray:
    vectors = np.random.default_rng(0).normal(size=(count, dim)).astype(np.float32)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def segment(count: int, dim: int = DIM) -> tuple[FlatIndex, StoredRows, Coverage]:
    """Every third row of a store is another kind's."""
    rows = StoredRows(made(count, dim))
    numbers = np.flatnonzero(np.arange(count) % 3 != 1)
    coverage = Coverage.of(0, count, numbers)
    return FlatIndex(rows, coverage), rows, coverage


def over_cpu(count: int = 3_000) -> tuple[CardIndex, FlatIndex, StoredRows, Coverage]:
    """The index of a card, with a flat index of FAISS' for CPUs in the card's place."""
    behind, rows, coverage = segment(count)
    index: Any = faiss.IndexFlatIP(DIM)
    index.add(rows.vectors[coverage.rows].astype(np.float32))
    return CardIndex(index, behind, rows, coverage.rows, exact=True), behind, rows, coverage


@pytest.mark.parametrize(
    ("count", "devices", "budget", "expected"),
    [
        (1_000_000, 0, None, None),
        (1_000_000, 1, None, Placement("flat", (0,), False)),
        (1_000_000, 1, 4 * GIB, Placement("flat", (0,), False)),
        (1_000_000, 1, 2 * GIB, Placement("ivf-pq", (0,), False)),
        (1_000_000, 1, 1 * GIB, Placement("ivf-pq", (0,), False)),
        (1_000_000, 1, 1 << 28, None),
        (10_000_000, 1, 30 * GIB, Placement("flat", (0,), False)),
        (10_000_000, 4, 30 * GIB, Placement("flat", (0, 1, 2, 3), False)),
        (10_000_000, 4, 10 * GIB, Placement("flat", (0, 1, 2, 3), True)),
        (10_000_000, 4, 4 * GIB, Placement("ivf-pq", (0, 1, 2, 3), False)),
        (100_000_000, 8, 140 * GIB, Placement("ivf-flat", (0, 1, 2, 3, 4, 5, 6, 7), True)),
    ],
)
def test_vectors_are_placed_within_the_budget_of_each_card(
    count: int, devices: int, budget: int | None, expected: Placement | None
) -> None:
    found = placements(count, 512, devices, budget)
    assert (found[0] if found else None) == expected
    for placement in found:
        held = -(-count // devices) if placement.sharded else count
        assert budget is None or card_bytes(placement.structure, held, 512) <= budget


def test_without_a_known_budget_smaller_placements_are_left_to_try() -> None:
    found = placements(1_000_000, 512, 2)
    assert [(each.structure, each.sharded) for each in found] == [
        ("flat", False),
        ("flat", True),
        ("ivf-pq", False),
        ("ivf-pq", True),
    ]


def test_a_card_finds_what_the_cpu_finds_with_the_same_cosines() -> None:
    card, behind, _, _ = over_cpu()
    queries = made(20).astype(np.float32)
    for mine, theirs in zip(card.search(queries, 10), behind.search(queries, 10), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_deleted_rows_are_left_out_on_a_card_and_still_k_come_back() -> None:
    card, _, rows, coverage = over_cpu()
    query = rows.vectors[:1].astype(np.float32)
    excluded = np.sort(card.search(query, 30)[1][0])
    found = card.search(query, 10, excluded=excluded)[1][0]
    left = np.setdiff1d(coverage.rows, excluded)
    assert found.tolist() == exact_search(rows, left, query, 10)[1][0].tolist()
    assert card.on_card


def test_filtered_searches_and_very_many_hits_are_the_cpus() -> None:
    card, behind, rows, coverage = over_cpu()
    query = rows.vectors[5:6].astype(np.float32)
    allowed = coverage.rows[::100]
    assert set(card.search(query, 10, allowed=allowed)[1][0]) <= set(allowed)
    np.testing.assert_array_equal(card.search(query, 2_500)[1], behind.search(query, 2_500)[1])


def test_a_card_that_disappears_is_followed_by_the_cpu() -> None:
    card, behind, rows, _ = over_cpu()
    # An index of other dimensions refuses the query, as a lost card refuses any.
    lost = CardIndex(faiss.IndexPQ(DIM, 8, 4), behind, rows, card._numbers, exact=True)
    query = rows.vectors[7:8].astype(np.float32)
    np.testing.assert_array_equal(lost.search(query, 10)[1], behind.search(query, 10)[1])
    assert not lost.on_card


def test_without_a_card_the_cpu_goes_on() -> None:
    if gpu.device_count():
        pytest.skip("there is a graphics card here")
    behind, rows, coverage = segment(300)
    assert gpu.to_cards(behind, rows, coverage) is behind


@pytest.mark.parametrize("sharded", [True, False])
def test_several_cards_are_searched_as_one(sharded: bool) -> None:
    behind, rows, coverage = segment(3_000)
    numbers = coverage.rows
    parts = []
    for held in np.array_split(numbers, 3) if sharded else [numbers] * 3:
        parts.append(faiss.IndexFlatIP(DIM))
        parts[-1].add(rows.vectors[held].astype(np.float32))
    whole = gpu.assemble(parts, sharded)
    card = CardIndex(whole, behind, rows, numbers, exact=True)
    queries = rows.vectors[:50].astype(np.float32)
    np.testing.assert_array_equal(card.search(queries, 10)[1], behind.search(queries, 10)[1])
    assert card.on_card


def test_a_segment_moves_to_a_card_when_it_is_searched_again() -> None:
    card, behind, rows, _ = over_cpu()
    moves = []

    def place() -> VectorIndex:
        moves.append(1)
        return card

    placed = PlacedIndex(behind, place)
    query = rows.vectors[3:4].astype(np.float32)
    expected = behind.search(query, 10)[1]
    np.testing.assert_array_equal(placed.search(query, 10)[1], expected)
    assert not moves
    for _ in range(4):
        np.testing.assert_array_equal(placed.search(query, 10)[1], expected)
    assert placed.wait() is card
    np.testing.assert_array_equal(placed.search(query, 10)[1], expected)
    assert moves == [1]
    assert (placed.first, placed.end, placed.kind) == (behind.first, behind.end, behind.kind)


def test_a_segment_stays_on_its_card_when_the_library_is_opened_anew(tmp_path: Path) -> None:
    cards = Cards()
    behind, rows, coverage = segment(90_000, 8)
    placed = cards.placed(tmp_path / "a", behind, rows, coverage)
    assert isinstance(placed, PlacedIndex)
    assert cards.placed(tmp_path / "a", *segment(90_000, 8)) is placed
    assert cards.placed(tmp_path / "b", behind, rows, coverage) is not placed


def test_a_small_segment_is_never_worth_a_card(tmp_path: Path) -> None:
    behind, rows, coverage = segment(3_000)
    assert Cards().placed(tmp_path / "a", behind, rows, coverage) is behind


def test_without_cards_a_segment_that_is_to_move_stays_with_the_cpu(tmp_path: Path) -> None:
    if gpu.device_count():
        pytest.skip("there is a graphics card here")
    behind, rows, coverage = segment(90_000, 8)
    placed = Cards().placed(tmp_path / "a", behind, rows, coverage)
    assert isinstance(placed, PlacedIndex)
    query = rows.vectors[:1].astype(np.float32)
    for _ in range(3):
        placed.search(query, 10)
    assert placed.wait() is behind


def test_training_gives_an_inverted_file_of_the_cpu_wherever_it_was_done() -> None:
    vectors = made(5_000).astype(np.float32)
    index: Any = faiss.IndexIVFRaBitQ(faiss.IndexFlatIP(DIM), DIM, 16, faiss.METRIC_INNER_PRODUCT)
    gpu.train(index, vectors)
    assert index.is_trained
    assert index.clustering_index is None
    again = faiss.deserialize_index(faiss.serialize_index(index))
    assert again.nlist == 16


@pytest.mark.gpu
@pytest.mark.parametrize("structure", gpu.ON_CARD)
def test_each_structure_on_a_card_finds_what_the_cpu_finds(structure: gpu.OnCard) -> None:
    if not gpu.device_count():
        pytest.skip(f"FAISS {faiss.__version__} sees no graphics card here")
    if structure == "cagra" and not hasattr(faiss, "GpuIndexCagra"):
        pytest.skip("this build of FAISS has no cuVS")
    behind, rows, coverage = segment(60_000)
    card = gpu.to_cards(behind, rows, coverage, structure=structure)
    assert isinstance(card, CardIndex)
    queries = rows.vectors[:200].astype(np.float32)
    found, expected = card.search(queries, 10)[1], behind.search(queries, 10)[1]
    assert card.on_card
    same = [len(set(mine) & set(theirs)) for mine, theirs in zip(found, expected, strict=True)]
    # Random vectors are the hardest there are for lists: each is near to none.
    assert sum(same) / expected.size >= (1.0 if structure == "flat" else 0.5)

"""Figures of retrieval agree with counting by hand, and with scikit-learn where it has them."""

from __future__ import annotations

import tracemalloc
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, ndcg_score

from xsearch.core.errors import UsageError
from xsearch.training.evaluation import metrics
from xsearch.training.evaluation.bootstrap import estimates, weighted_median

Pairs = tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]


@st.composite
def coarse_pairs(draw: st.DrawFn) -> Pairs:
    """Vectors of few small integers: full of ties. Some images may have no text."""
    images, texts, dim = draw(st.integers(1, 7)), draw(st.integers(1, 12)), draw(st.integers(1, 3))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    owners = random.integers(images, size=texts)
    one, other = (random.integers(-2, 3, (count, dim)) / 4 for count in (images, texts))
    return one.astype(np.float32), other.astype(np.float32), owners


def unit_pairs(images: int, texts_each: int, seed: int = 0) -> Pairs:
    random = np.random.default_rng(seed)
    one = random.normal(size=(images, 16))
    owners = np.repeat(np.arange(images), texts_each)
    other = one[owners] + random.normal(size=(len(owners), 16)) * 1.5
    return *(x / np.linalg.norm(x, axis=1, keepdims=True) for x in (one, other)), owners


def ranks_by_hand(scores: list[float], true: list[bool]) -> list[int]:
    """Sort candidates by score, the false first among equals; places of the true, from 1."""
    order = sorted(range(len(scores)), key=lambda at: (-scores[at], true[at]))
    return [place for place, at in enumerate(order, start=1) if true[at]]


def by_hand(scores: Any, true: Any, depth: int) -> list[tuple[int, float, float]]:
    """First rank, average precision and nDCG of each query that has a true candidate."""
    found = []
    for row, mask in zip(scores.tolist(), true.tolist(), strict=True):
        places = ranks_by_hand(row, mask)
        if places:
            precision = sum(n / p for n, p in enumerate(places, start=1)) / len(places)
            gain = sum(1 / np.log2(1 + p) for p in places if p <= depth)
            ideal = sum(1 / np.log2(1 + p) for p in range(1, min(depth, len(places)) + 1))
            found.append((places[0], precision, gain / ideal))
    return found


@settings(deadline=None, max_examples=200)
@given(coarse_pairs(), st.integers(1, 12), st.integers(1, 60))
def test_every_figure_is_that_of_sorting_with_ties_against(
    pairs: Pairs, depth: int, block: int
) -> None:
    images, texts, owners = pairs
    found = metrics.retrieval(images, texts, owners, depth=depth, block=block)
    scores = texts.astype(np.float64) @ images.T.astype(np.float64)
    true = owners[:, None] == np.arange(len(images))
    for ranks, expected in (
        (found.text_to_image, by_hand(scores, true, depth)),
        (found.image_to_text, by_hand(scores.T, true.T, depth)),
    ):
        first, precision, gain = zip(*expected, strict=True)
        np.testing.assert_array_equal(ranks.first, first)
        np.testing.assert_allclose(ranks.precision, precision)
        np.testing.assert_allclose(ranks.gain, gain)
    np.testing.assert_allclose(found.similarity, scores[true])


def test_average_precision_and_ndcg_are_those_of_scikit_learn() -> None:
    images, texts, owners = unit_pairs(60, 4)
    found = metrics.retrieval(images, texts, owners, depth=10)
    scores = metrics.kept(texts).astype(float) @ metrics.kept(images).T.astype(float)
    true = owners[:, None] == np.arange(len(images))
    for ranks, here, relevant in (
        (found.text_to_image, scores, true),
        (found.image_to_text, scores.T, true.T),
    ):
        precision = [average_precision_score(t, s) for t, s in zip(relevant, here, strict=True)]
        gain = [ndcg_score([t], [s], k=10) for t, s in zip(relevant, here, strict=True)]
        np.testing.assert_allclose(ranks.precision, precision)
        np.testing.assert_allclose(ranks.gain, gain)
        assert 0.1 < np.mean(precision) < 0.9


def test_recall_counts_the_queries_whose_first_true_candidate_is_within_the_cut() -> None:
    images, texts, owners = unit_pairs(80, 3)
    scores = metrics.kept(texts).astype(float) @ metrics.kept(images).T.astype(float)
    true = owners[:, None] == np.arange(len(images))
    found = metrics.recall(images, texts, owners)
    for values, rows in (
        (found.text_to_image, by_hand(scores, true, 10)),
        (found.image_to_text, by_hand(scores.T, true.T, 10)),
    ):
        first = [row[0] for row in rows]
        expected = [100 * sum(rank <= k for rank in first) / len(first) for k in (1, 5, 10)]
        assert values == pytest.approx(expected)
        assert 0 < values[0] < values[1] < values[2]


def test_the_size_of_a_block_changes_nothing() -> None:
    images, texts, owners = unit_pairs(50, 5)
    whole = metrics.retrieval(images, texts, owners)
    for block in (1, 170, 1_000):
        parts = metrics.retrieval(images, texts, owners, block=block)
        np.testing.assert_array_equal(parts.similarity, whole.similarity)
        for one, other in (
            (parts.text_to_image, whole.text_to_image),
            (parts.image_to_text, whole.image_to_text),
        ):
            for field in fields(one):
                np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


@given(st.integers(0, 2**32), st.integers(1, 40))
@settings(deadline=None)
def test_copies_of_a_picture_are_ties_however_long_the_vectors(seed: int, copies: int) -> None:
    random = np.random.default_rng(seed)
    vector = random.normal(size=384)
    images = np.tile(vector / np.linalg.norm(vector), (copies, 1))
    text = random.normal(size=(1, 384))
    text /= np.linalg.norm(text)
    for owner in (0, copies - 1):
        found = metrics.retrieval(images, text, np.array([owner]))
        assert found.text_to_image.first.tolist() == [copies]


def test_the_whole_matrix_is_never_held() -> None:
    random = np.random.default_rng(0)
    images = random.normal(size=(1_500, 8)) / 8
    texts = random.normal(size=(6_000, 8)) / 8
    owners = np.arange(6_000) % 1_500
    tracemalloc.start()
    metrics.retrieval(images, texts, owners, block=100_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6_000 * 1_500


def test_a_picture_without_a_text_is_found_but_does_not_ask() -> None:
    images = np.eye(3, dtype=np.float32)
    found = metrics.retrieval(images, images[:2] + images[2] * 2, np.array([0, 1]))
    assert found.text_to_image.first.tolist() == [2, 2]
    assert found.text_to_image.candidates == 3
    assert found.image_to_text.group.tolist() == [0, 1]


def test_figures_are_means_and_medians_of_the_queries() -> None:
    ranks = metrics.Ranks(
        np.array([1, 2, 7, 30]), np.array([1, 0.5, 0.25, 0.25]), np.array([1, 0.5, 0, 0]),
        np.arange(4), 40,
    )  # fmt: skip
    found = metrics.figures(ranks, (1, 10), depth=5)
    assert {name: estimate.value for name, estimate in found.items()} == {
        "recall@1": 25,
        "recall@10": 75,
        "median_rank": 4.5,
        "mean_rank": 10,
        "mAP": 50,
        "nDCG@5": 37.5,
    }


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 4)), min_size=1))
def test_a_weighted_median_is_that_of_repeated_values(pairs: list[tuple[int, int]]) -> None:
    values, weights = (np.array(column) for column in zip(*sorted(pairs), strict=True))
    if weights.sum():
        assert weighted_median(values, weights) == np.median(np.repeat(values, weights))


def test_an_interval_has_the_width_that_theory_gives_it() -> None:
    hits = np.arange(400) % 4 == 0
    (found,) = estimates(
        lambda weights: np.array([weights @ hits / weights.sum()]), np.arange(400), samples=2_000
    )
    half = 1.96 * np.sqrt(0.25 * 0.75 / 400)
    assert found.value == 0.25
    assert (found.low, found.high) == pytest.approx((0.25 - half, 0.25 + half), abs=0.006)


def test_captions_of_one_picture_are_drawn_together() -> None:
    """Five equal captions a picture tell no more than one."""
    hits = np.random.default_rng(1).integers(0, 2, 200)

    def width(copies: int, groups: NDArray[np.int64]) -> float:
        repeated = np.repeat(hits, copies)
        (found,) = estimates(
            lambda weights: np.array([weights @ repeated / weights.sum()]), groups, samples=500
        )
        assert found.low is not None and found.high is not None
        return found.high - found.low

    once = width(1, np.arange(200))
    assert width(5, np.repeat(np.arange(200), 5)) == pytest.approx(once)
    assert width(5, np.arange(1_000)) < 0.6 * once


def test_a_seed_gives_the_same_intervals_again() -> None:
    images, texts, owners = unit_pairs(40, 2)
    ranks = metrics.retrieval(images, texts, owners).text_to_image
    one, same, other = (metrics.figures(ranks, samples=50, seed=seed) for seed in (3, 3, 4))
    assert one == same != other
    for estimate in one.values():
        assert estimate.low is not None and estimate.high is not None
        assert estimate.low <= estimate.value <= estimate.high


def test_the_nearest_candidates_come_in_the_order_of_their_similarity() -> None:
    images, texts, _ = unit_pairs(30, 2)
    scores = metrics.kept(texts).astype(float) @ metrics.kept(images).T.astype(float)
    expected = np.argsort(-scores, axis=1)[:, :4]
    np.testing.assert_array_equal(metrics.nearest(texts, images, 4, block=90), expected)
    assert metrics.nearest(texts, images, 99).shape == (60, 30)


EYE = np.eye(2, dtype=np.float32)


@pytest.mark.parametrize(
    ("images", "texts", "owners", "said"),
    [
        (EYE, np.eye(3), [0, 1, 1], "cannot be compared"),
        (EYE, EYE, [0], "owners of shape"),
        (EYE, EYE[:0], [], "no texts"),
        (EYE, EYE, [0, 2], "from 0 to 1"),
        (EYE * np.array([[1], [np.nan]]), EYE, [0, 1], "image vector 1 is not finite"),
        (EYE, EYE * 1e9, [0, 1], "text vector 0 is not finite"),
    ],
)
def test_what_cannot_be_ranked_is_refused(
    images: Any, texts: Any, owners: list[int], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        metrics.retrieval(images, texts, np.array(owners, np.int64))

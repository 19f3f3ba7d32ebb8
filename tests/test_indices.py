"""Every kind of index against brute force, on disk and damaged, and what its recall is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xsearch.indexer.indices import ivf, rows, store
from xsearch.indexer.indices.exact import exact_search, merge, view
from xsearch.indexer.indices.interface import VectorIndex
from xsearch.indexer.indices.recall import Queries, sample_queries
from xsearch.indexer.indices.sealing import codes_are_whole, write_sealed
from xsearch.indexer.indices.store import Place
from xsearch.indexer.vectors import to_rows, vector_path

COUNT, DIM, FIRST = 3_000, 32, 500
KINDS = ("flat", "rabitq", "ivf", "hnsw", "segments")


def clustered(count: int, seed: int, dim: int = DIM) -> np.ndarray:
    """Unit vectors in clusters, float32 (count, dim), some of them twice."""
    chance = np.random.default_rng(seed)
    centres = chance.normal(size=(20, dim))
    vectors = centres[chance.integers(0, 20, count)] + 0.6 * chance.normal(size=(count, dim))
    vectors[1::50] = vectors[::50]
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def numbers() -> np.ndarray:
    """The rows of one kind of item: two thirds of the store's."""
    every = np.arange(COUNT)
    return every[every % 3 != 0]


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    path = tmp_path_factory.mktemp("store") / "vectors.f16"
    to_rows(clustered(COUNT, 1)).tofile(path)
    return np.memmap(path, "<f2", "r", shape=(COUNT, DIM))


def placed(library: Path, seed: int = 1) -> Place:
    """A library's place for an index, whose vectors are there."""
    place = Place(library, "f00d", 1, "image", DIM)
    path = vector_path(library, place.fingerprint, place.generation)
    path.parent.mkdir()
    to_rows(clustered(COUNT, seed)).tofile(path)
    return place


def queries_of(vectors: np.ndarray) -> Queries:
    return sample_queries(vectors[::7].astype(np.float32), np.empty((0, DIM), np.float32), None)


def build(place: Place, kind: str, vectors: np.ndarray) -> list[Path]:
    """One segment of a kind over the whole store, or several of several kinds."""
    chosen = numbers()
    if kind == "flat":
        return [store.build_flat(place, 0, COUNT, chosen)]
    if kind == "segments":
        parts = [chosen[chosen < FIRST], chosen[(chosen >= FIRST) & (chosen < 2_500)]]
        tail = chosen[chosen >= 2_500]
        asked = queries_of(vectors)
        return [
            store.build_approximate(place, 0, FIRST, parts[0], vectors, 1, asked, 0.9),
            store.build_approximate(place, FIRST, 2_500, parts[1], vectors, 16, asked, 0.9),
            store.build_flat(place, 2_500, COUNT, tail),
        ]
    lists = {"ivf": 16, "rabitq": 1, "hnsw": 0}[kind]
    return [
        store.build_approximate(place, 0, COUNT, chosen, vectors, lists, queries_of(vectors), 0.9)
    ]


@contextmanager
def approximate_from(few: int) -> Iterator[None]:
    """So few rows are compared exactly, so that the candidates of small libraries are asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ivf, "_FEW", few)
        yield


@pytest.fixture(scope="module", params=KINDS)
def built(
    request: pytest.FixtureRequest, vectors: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Place]:
    place = placed(tmp_path_factory.mktemp("library"))
    with approximate_from(0):
        build(place, request.param, vectors)
    return request.param, place


def search(
    segments: list[VectorIndex],
    query: np.ndarray,
    k: int,
    excluded: np.ndarray | None,
    allowed: np.ndarray | None,
) -> list[tuple[float, int]]:
    parts = [part.search(query[None], k, excluded=excluded, allowed=allowed) for part in segments]
    similarities, found = merge(parts, k)
    return [
        (float(cosine), int(row))
        for cosine, row in zip(similarities[0], found[0], strict=True)
        if row >= 0
    ]


some_rows = st.one_of(
    st.lists(st.integers(0, COUNT - 1), unique=True, max_size=20).map(sorted),
    st.tuples(st.integers(0, COUNT), st.integers(1, 1_000)).map(
        lambda cut: list(range(cut[0] % cut[1], COUNT, cut[1]))
    ),
    st.tuples(st.integers(0, COUNT), st.integers(0, COUNT)).map(
        lambda ends: list(range(min(ends), max(ends)))
    ),
)


@settings(deadline=None, max_examples=120)
@given(
    st.sampled_from([0, 100, 10**6]),
    some_rows,
    st.none() | some_rows,
    st.integers(1, 200),
    st.integers(0, COUNT - 1),
)
def test_as_many_rows_come_back_as_qualify_and_no_other(
    built: tuple[str, Place],
    vectors: np.ndarray,
    few: int,
    excluded: list[int],
    allowed: list[int] | None,
    k: int,
    like: int,
) -> None:
    kind, place = built
    segments, end = store.open_segments(place, COUNT, vectors)
    assert end == COUNT
    query = vectors[like].astype(np.float32)
    without = np.array(excluded, np.int64)
    within = None if allowed is None else np.array(allowed, np.int64)
    with approximate_from(few):
        hits = search(segments, query, k, without, within)
    qualify = np.setdiff1d(numbers(), without)
    if within is not None:
        qualify = np.intersect1d(qualify, within)
    assert len(hits) == min(k, len(qualify))
    found = [row for _, row in hits]
    assert len(set(found)) == len(found)
    assert set(found) <= set(qualify.tolist())
    cosines = [cosine for cosine, _ in hits]
    assert cosines == sorted(cosines, reverse=True)
    assert cosines == pytest.approx(list(vectors[found].astype(np.float32) @ query), abs=1e-5)
    if kind == "flat" or few == 10**6:
        exact = np.sort(vectors[qualify].astype(np.float32) @ query)[::-1][:k]
        assert cosines == pytest.approx(list(exact), abs=1e-5)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.3])
def test_a_filter_never_costs_hits(
    built: tuple[str, Place], vectors: np.ndarray, share: float
) -> None:
    segments, _ = store.open_segments(built[1], COUNT, vectors)
    own = numbers()
    allowed = own[: max(2, int(len(own) * share))]
    with approximate_from(0):
        for like in range(0, COUNT, 100):
            query = vectors[like].astype(np.float32)
            assert len(search(segments, query, 10, None, allowed)) == min(10, len(allowed))


def test_the_recall_that_is_told_is_reached_on_other_queries(
    built: tuple[str, Place], vectors: np.ndarray
) -> None:
    segments, _ = store.open_segments(built[1], COUNT, vectors)
    noise = np.random.default_rng(9).normal(size=(300, DIM)).astype(np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    asked = 0.5 * vectors[::10].astype(np.float32) + 0.87 * noise
    truth = exact_search(vectors, numbers(), asked, 10)[1]
    with approximate_from(0):
        found = merge([part.search(asked, 10) for part in segments], 10)[1]
    recall = np.mean([len(np.intersect1d(*pair)) / 10 for pair in zip(found, truth, strict=True)])
    for segment in store.find_segments(built[1], COUNT):
        header = segment.header
        if header.structure == "flat":
            assert header.recall is None
        else:
            assert header.recall is not None
            assert header.recall >= header.wanted == 0.9
            assert "far off" in header.queries
    # Neighbours that lie twice in the store count as missed where the other one is found.
    assert recall >= 0.85


def test_more_recall_is_bought_with_more_effort(vectors: np.ndarray, tmp_path: Path) -> None:
    efforts = []
    for wanted in (0.6, 0.9, 0.99):
        (tmp_path / str(wanted)).mkdir()
        place = placed(tmp_path / str(wanted))
        with approximate_from(0):
            asked = queries_of(vectors)
            store.build_approximate(place, 0, COUNT, numbers(), vectors, 16, asked, wanted)
        (segment,) = store.find_segments(place, COUNT)
        assert segment.header.effort is not None
        efforts.append(segment.header.effort.probes * segment.header.effort.candidates)
        assert (segment.header.recall or 0) >= wanted - 0.02
    assert efforts[0] < efforts[-1]


def test_queries_of_a_library_with_texts_are_its_texts() -> None:
    own, other = clustered(500, 1), clustered(100, 2)
    sampled = sample_queries(own, other, None)
    assert "other kind" in sampled.words
    assert np.linalg.norm(sampled.vectors, axis=1) == pytest.approx(1, abs=1e-5)
    nearest = (sampled.vectors @ other.T).max(1)
    assert np.sum(nearest > 0.9999) == len(nearest) == 100


def test_queries_without_texts_are_reference_texts_or_far_off() -> None:
    own, none = clustered(500, 1), np.empty((0, DIM), np.float32)
    assert "reference" in sample_queries(own, none, clustered(64, 3)).words
    far = sample_queries(own, none, None)
    assert "far off" in far.words
    assert np.median((far.vectors @ own.T).max(1)) < 0.8


# Files


def test_the_same_rows_give_the_same_file(
    built: tuple[str, Place], vectors: np.ndarray, tmp_path: Path
) -> None:
    kind, place = built
    again = placed(tmp_path)
    with approximate_from(0):
        files = build(again, kind, vectors)
    for path in files:
        assert path.read_bytes() == (place.folder / path.name).read_bytes()


@pytest.mark.parametrize("kind", ["rabitq", "ivf", "hnsw"])
def test_a_changed_file_is_not_opened_but_for_its_codes_which_do_no_harm(
    kind: str, vectors: np.ndarray, tmp_path: Path
) -> None:
    place = placed(tmp_path)
    (path,) = build(place, kind, vectors)
    whole = path.read_bytes()
    chance = np.random.default_rng(5)
    (segment,) = store.find_segments(place, COUNT)
    codes = range(
        segment.sealed.codes_start, segment.sealed.codes_start + segment.sealed.codes_size
    )
    assert len(codes) > len(whole) // 4
    assert codes_are_whole(path, segment.sealed)
    for _ in range(60):
        at = int(chance.integers(len(whole)))
        data = bytearray(whole)
        data[at] ^= 1 << int(chance.integers(8))
        path.write_bytes(data)
        found = store.find_segments(place, COUNT)
        assert bool(found) == (at in codes)
        assert store.damaged(place) == ([] if found else [path])
        if found:
            assert not codes_are_whole(path, found[0].sealed)
    # All codes and ids are noise: there are wrong hits at most.
    data = bytearray(whole)
    data[codes.start : codes.stop] = chance.bytes(len(codes))
    path.write_bytes(data)
    segments, _ = store.open_segments(place, COUNT, vectors)
    with approximate_from(0):
        hits = search(segments, vectors[7].astype(np.float32), 10, None, None)
    assert len(hits) == 10
    assert {row for _, row in hits} <= set(numbers().tolist())


@pytest.mark.parametrize(
    "other",
    [
        Place(Path(), "beef", 1, "image", DIM),
        Place(Path(), "f00d", 2, "image", DIM),
        Place(Path(), "f00d", 1, "text", DIM),
        Place(Path(), "f00d", 1, "image", 2 * DIM),
    ],
    ids=["encoder", "generation", "kind of item", "dimension"],
)
def test_the_index_of_other_vectors_is_not_used(
    other: Place, vectors: np.ndarray, tmp_path: Path
) -> None:
    place = placed(tmp_path)
    (path,) = build(place, "flat", vectors)
    wanted = Place(tmp_path, other.fingerprint, other.generation, other.kind, other.dim)
    theirs = vector_path(tmp_path, other.fingerprint, other.generation)
    if not theirs.exists():
        shutil.copy(vector_path(tmp_path, "f00d", 1), theirs)
    assert store.find_segments(wanted, COUNT) == []
    # Not even under the right name.
    path.rename(
        path.with_name(
            path.name.replace(
                "f00d.1.image", f"{other.fingerprint}.{other.generation}.{other.kind}"
            )
        )
    )
    assert store.find_segments(wanted, COUNT) == []
    assert len(store.damaged(wanted)) == 1


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_an_index_of_the_same_name_made_of_other_vectors_is_not_used(
    kind: str, vectors: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "theirs").mkdir()
    mine, theirs = placed(tmp_path / "mine"), placed(tmp_path / "theirs", seed=9)
    (path,) = build(mine, kind, vectors)
    theirs.folder.mkdir()
    shutil.copy(path, theirs.folder)
    assert store.find_segments(theirs, COUNT) == []
    assert store.damaged(theirs) == [theirs.folder / path.name]


def test_a_sealed_file_that_faiss_cannot_read_leaves_its_rows_to_be_compared(
    vectors: np.ndarray, tmp_path: Path
) -> None:
    place = placed(tmp_path)
    (path,) = build(place, "ivf", vectors)
    (segment,) = store.find_segments(place, COUNT)
    other: Any = faiss.IndexFlatIP(DIM)
    for data in (np.frombuffer(b"not FAISS' at all" * 9, np.uint8), faiss.serialize_index(other)):
        write_sealed(path, segment.header, segment.sealed.bits, data, 0)
        (found,) = store.find_segments(place, COUNT)
        assert not store.readable(found, rows.StoredRows(vectors))
        assert store.open_segments(place, COUNT, vectors) == ([], 0)


@pytest.mark.parametrize("fill", [0, 255])
def test_no_row_is_found_twice_however_damaged_the_codes_are(
    fill: int, vectors: np.ndarray, tmp_path: Path
) -> None:
    place = placed(tmp_path)
    (path,) = build(place, "ivf", vectors)
    (segment,) = store.find_segments(place, COUNT)
    data = bytearray(path.read_bytes())
    start, size = segment.sealed.codes_start, segment.sealed.codes_size
    data[start : start + size] = bytes([fill]) * size
    path.write_bytes(data)
    segments, _ = store.open_segments(place, COUNT, vectors)
    with approximate_from(0):
        hits = search(segments, vectors[7].astype(np.float32), 10, None, None)
    assert len({row for _, row in hits}) == 10


def test_a_vector_that_is_not_finite_makes_no_row_come_twice() -> None:
    vectors = to_rows(clustered(50, 1))
    vectors[20] = np.nan
    _, found = exact_search(vectors, np.arange(50), vectors[:1].astype(np.float32), 50)
    assert len(set(found[0][found[0] >= 0])) == np.sum(found[0] >= 0) >= 49


def test_rows_that_the_catalog_does_not_name_yet_are_not_searched(
    vectors: np.ndarray, tmp_path: Path
) -> None:
    place = placed(tmp_path)
    build(place, "flat", vectors)
    assert store.open_segments(place, COUNT - 1, vectors) == ([], 0)


# Rows


def test_scattered_rows_of_a_large_file_are_read_not_mapped(
    vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = np.array([0, 7, 8, COUNT - 1])
    assert np.array_equal(rows.StoredRows(vectors)[chosen], vectors[chosen])
    monkeypatch.setattr(rows, "_MAPPED", 0)
    large = rows.StoredRows(vectors)
    assert large.large
    assert np.array_equal(large[chosen], vectors[chosen])
    monkeypatch.setattr(rows, "_SCATTERED", 2)
    assert np.array_equal(large[chosen], vectors[chosen])


def test_vectors_are_compared_where_they_lie(vectors: np.ndarray) -> None:
    query = vectors[:1].astype(np.float32)
    similarities, found = view(vectors).search(query, 3)
    expected = vectors.astype(np.float32) @ query[0]
    assert similarities[0] == pytest.approx(np.sort(expected)[::-1][:3], abs=1e-5)
    assert found[0][0] in (0, 1)

"""What cosines are measured against: the background of a library, and the decisions beside it."""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ALL, ColourEncoder, open_colour, picture, write_pictures, write_text

import xsearch
from xsearch.core.encoder import Logistic
from xsearch.core.scoring import CROWD, DIRECTIONS, FEW, NEIGHBOURS, SAME_SCENE
from xsearch.core.values import KINDS, Kind
from xsearch.data.bank import bank, bank_digest
from xsearch.indexer import background
from xsearch.indexer.background import Background, Header, open_background, open_bank
from xsearch.indexer.vectors import open_rows, vector_path
from xsearch.retrieval.rank import diversify, fuse, good_matches, words_weight
from xsearch.retrieval.scoring import Scale

FINGERPRINT, DIM = "c010", 48
LOGISTIC = Logistic(10.0, -5.0)


def files(library: xsearch.Library) -> set[str]:
    """The names of the files, without what their content adds to them."""
    found = (library.path / "backgrounds").iterdir()
    return {re.sub(r"\.[0-9a-f]{8,16}(?=\.\w+$)", "", path.name) for path in found}


def the_file(library: xsearch.Library) -> Path:
    (path,) = (library.path / "backgrounds").glob("*.background")
    return path


def place(library: xsearch.Library) -> tuple[int, int]:
    """The generation and the number of rows that the catalog names."""
    with closing(sqlite3.connect(library.path / "catalog.db")) as catalog:
        generation, rows = catalog.execute("SELECT generation, rows FROM encoders").fetchone()
    return generation, rows


def opened(library: xsearch.Library) -> Background:
    generation, rows = place(library)
    found = open_background(library.path, FINGERPRINT, generation, rows, DIM)
    assert found is not None
    return found


def vectors_of(library: xsearch.Library) -> np.ndarray:
    generation, rows = place(library)
    path = vector_path(library.path, FINGERPRINT, generation)
    return np.array(open_rows(path, rows, DIM)).astype(np.float32)


def kinds_of(library: xsearch.Library) -> list[Kind]:
    """The kind of the item at every row."""
    with closing(sqlite3.connect(library.path / "catalog.db")) as catalog:
        return [
            kind
            for (kind,) in catalog.execute(
                "SELECT i.kind FROM embeddings e JOIN items i ON i.id = e.item_id ORDER BY e.row"
            )
        ]


def write_stock(photos: Path, count: int, first: int = 0) -> None:
    """Pictures, each with a text beside it."""
    for path in write_pictures(photos, count, first):
        write_text(path.with_suffix(".txt"), f"this is picture {path.stem}")


def scores(library: xsearch.Library, query: Any = "a query", target: Kind = "image") -> list[Any]:
    return [
        (hit.id, hit.score) for hit in library.search(query, ALL, target=target, mode="meaning")
    ]


def by_logistic(hits: Sequence[xsearch.Hit]) -> list[float]:
    return [1 / (1 + math.exp(5 - 10 * hit.similarity)) for hit in hits]


def assert_plain(library: xsearch.Library) -> None:
    """Without a background, hits are in the order of their cosines, which the logistic scores."""
    hits = library.search("a query", ALL, mode="meaning")
    assert [hit.similarity for hit in hits] == sorted((h.similarity for h in hits), reverse=True)
    assert [hit.score for hit in hits] == pytest.approx(by_logistic(hits), rel=1e-4)
    assert hits == library.search("a query", ALL, mode="meaning", correct=False)


# The file


def test_a_background_tells_how_near_every_row_is_to_anything(
    library: xsearch.Library, photos: Path
) -> None:
    write_stock(photos, 40)
    library.index(photos)
    found, vectors, kinds = opened(library), vectors_of(library), kinds_of(library)
    assert len(kinds) == found.header.end == len(found.near) == 80
    assert found.header.held == {"image": 40, "text": 40}
    assert found.header.digest == bank_digest()
    for kind in KINDS:
        assert sorted(found.rows[kind]) == [row for row, one in enumerate(kinds) if one == kind]
        assert np.array_equal(found.samples[kind].astype(np.float32), vectors[found.rows[kind]])
    texts = ColourEncoder().embed_texts(bank()).vectors.astype(np.float16).astype(np.float32)
    pictures = vectors[[kind == "image" for kind in kinds]]
    for row, vector in enumerate(vectors):
        near = np.sort(texts @ vector)[-NEIGHBOURS:].mean()
        assert found.near[row, 0] == pytest.approx(float(near), abs=2e-3)
        cosines = np.sort(pictures @ vector)
        # The picture itself is no neighbour of its own.
        own = cosines[cosines <= SAME_SCENE][-NEIGHBOURS:].mean()
        assert found.near[row, 1] == pytest.approx(float(own), abs=2e-3)


def test_moments_are_those_of_what_reference_queries_find(
    library: xsearch.Library, photos: Path
) -> None:
    write_stock(photos, 30)
    library.index(photos)
    found = opened(library)
    assert set(found.header.moments) == {"text-image", "image-text", "text-text"}
    texts = ColourEncoder().embed_texts(bank()).vectors
    asked = {"text": texts, "image": found.samples["image"].astype(np.float32)}
    for (query, target), direction in DIRECTIONS.items():
        corrected = asked[query] @ found.samples[target].astype(np.float32).T
        corrected = corrected - found.bias(direction, target, found.rows[target])
        mean, deviation = found.header.moments[f"{query}-{target}"]
        assert mean == pytest.approx(float(corrected.mean()), abs=1e-3)
        assert deviation == pytest.approx(float(corrected.std(axis=1).mean()), abs=1e-3)


def test_a_background_is_extended_by_a_few_pictures_and_made_anew_for_many(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 20)
    library.index(photos)
    first = opened(library)
    near = np.array(first.near)
    write_pictures(photos, 6, first=20)
    library.index(photos)
    extended = opened(library)
    assert files(library) == {"c010.1.26.background", "c010.bank"}
    assert (extended.header.end, extended.header.held["image"]) == (26, 20)
    assert set(extended.rows["image"]) == set(range(20))
    assert np.array_equal(extended.near[:20], near)
    write_pictures(photos, 20, first=26)
    library.index(photos)
    anew = opened(library)
    assert (anew.header.end, anew.header.held["image"]) == (46, 46)
    assert set(anew.rows["image"]) == set(range(46))
    assert not np.array_equal(anew.near[:20], near)
    assert files(library) == {"c010.1.46.background", "c010.bank"}


def test_an_unchanged_library_keeps_its_background(library: xsearch.Library, photos: Path) -> None:
    write_pictures(photos, 20)
    library.index(photos)
    before = the_file(library).stat()
    library.index(photos)
    (photos / "003.jpg").unlink()
    library.index(photos)
    after = the_file(library).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_large_library_is_sampled(
    library: xsearch.Library, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "SAMPLED", 12)
    write_pictures(photos, 40)
    library.index(photos)
    found = opened(library)
    assert len(found.rows["image"]) == len(found.samples["image"]) == 12
    assert len(found.near) == found.header.held["image"] == 40
    # Not the first ones: their order has nothing to do with when they came.
    assert max(found.rows["image"]) >= 12
    assert len(scores(library)) == 40


def test_a_library_without_pictures_has_a_background(
    library: xsearch.Library, photos: Path
) -> None:
    library.index(write_text(photos / "t.txt", "one\ntwo\nthree\n"))
    found = opened(library)
    assert np.isnan(found.near[:, 1]).all()
    assert len(scores(library, target="text")) == 3
    assert len(scores(library, xsearch.Image(picture(1)), "text")) == 3


# Never an error


def test_an_absent_background_leaves_cosines_as_they_are(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 30)
    library.index(photos)
    corrected = scores(library)
    library.close()
    the_file(library).unlink()
    assert_plain(library)
    assert [id_ for id_, _ in scores(library)] != [id_ for id_, _ in corrected]
    # The next run makes it again.
    library.index(photos)
    assert scores(library) == corrected


@pytest.mark.parametrize(
    "harm", ["empty", "short", "mark", "header", "cut", "noise", "other", "folder"]
)
def test_a_damaged_background_is_never_an_error_and_check_repairs_it(
    library: xsearch.Library, photos: Path, tmp_path: Path, harm: str
) -> None:
    write_stock(photos, 20)
    library.index(photos)
    expected = scores(library)
    library.close()
    path = the_file(library)
    data = path.read_bytes()
    if harm == "folder":
        path.unlink()
        path.mkdir()
    elif harm == "other":
        path.write_bytes(foreign(tmp_path / "foreign"))
    else:
        changed = {
            "empty": b"",
            "short": data[:10],
            "mark": b"y" + data[1:],
            "header": data[:30] + bytes([data[30] ^ 1]) + data[31:],
            "cut": data[: len(data) // 2],
            "noise": b"\xa5" * len(data),
        }
        path.write_bytes(changed[harm])
    assert_plain(library)
    if harm == "folder":
        path.rmdir()
    assert library.check().ok
    assert the_file(library).read_bytes() == data
    assert scores(library) == expected
    assert not library.check().repaired


def foreign(folder: Path) -> bytes:
    """The background of another library with as many rows."""
    photos = folder / "photos"
    write_stock(photos, 20, first=500)
    with open_colour(folder / "library") as library:
        library.index(photos)
        return the_file(library).read_bytes()


def test_bytes_that_were_changed_inside_are_no_error_and_check_finds_them(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 20)
    library.index(photos)
    expected = scores(library)
    library.close()
    path = the_file(library)
    data = path.read_bytes()
    near = data.index(np.array(opened(library).near).tobytes())
    samples = data.index(np.array(opened(library).samples["image"]).tobytes())
    for start, byte in ((near, b"\xff"), (near, b"\x11"), (samples, b"\xff"), (samples, b"\x11")):
        path.write_bytes(data[:start] + 40 * byte + data[start + 40 :])
        found = scores(library)
        assert len(found) == 20
        assert all(0 <= score <= 1 for _, score in found)
        report = library.check()
        assert any("background" in line for line in report.repaired)
        assert path.read_bytes() == data
        assert scores(library) == expected
        library.close()


def test_the_background_of_an_earlier_commit_gives_later_rows_what_is_typical(
    library: xsearch.Library, photos: Path
) -> None:
    write_pictures(photos, 10)
    library.index(photos)
    old = the_file(library)
    data = old.read_bytes()
    write_pictures(photos, 10, first=10)
    library.index(photos)
    library.close()
    the_file(library).unlink()
    old.write_bytes(data)
    found = opened(library)
    assert found.header.end == 10
    direction = DIRECTIONS["text", "image"]
    biases = found.bias(direction, "image", np.array([3, 10, 5, 19]))
    assert biases[1] == biases[3] == np.float32(found.typical(direction, "image"))
    assert len({*biases.tolist()}) == 3
    assert len(library.search("a query", ALL)) == 20
    # One of more rows than the catalog names is of an unfinished run.
    assert open_background(library.path, FINGERPRINT, 1, 9, DIM) is None
    assert open_background(library.path, FINGERPRINT, 2, 20, DIM) is None
    assert open_background(library.path, "0ther", 1, 20, DIM) is None
    assert open_background(library.path, FINGERPRINT, 1, 20, DIM + 1) is None


def test_what_is_typical_is_the_mean_of_the_samples(library: xsearch.Library, photos: Path) -> None:
    write_stock(photos, 20)
    library.index(photos)
    found = opened(library)
    for (_, target), direction in DIRECTIONS.items():
        biases = found.bias(direction, target, found.rows[target])
        assert found.typical(direction, target) == pytest.approx(float(biases.mean()), abs=1e-4)
    assert len({found.typical(DIRECTIONS["text", "text"], kind) for kind in KINDS}) == 2


# Compaction, and texts that changed


def test_compaction_has_no_encoder_and_keeps_scores_nearly_as_they_were(
    library: xsearch.Library, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_stock(photos, 60)
    library.index(photos)
    for at in range(0, 60, 4):
        (photos / f"{at:03}.jpg").unlink()
        (photos / f"{at:03}.txt").unlink()
    library.index()
    before = dict(scores(library))

    def refuse(*_: Any) -> None:
        raise AssertionError("a compaction embeds nothing")

    monkeypatch.setattr(ColourEncoder, "embed_texts", refuse)
    assert library.compact().vectors_dropped == 30
    monkeypatch.undo()
    assert files(library) == {"c010.2.90.background", "c010.bank"}
    after = dict(scores(library))
    assert set(after) == set(before)
    assert all(abs(after[id_] - before[id_]) < 0.05 for id_ in before)
    assert after != pytest.approx(dict(uncorrected(library)), abs=1e-3)


def uncorrected(library: xsearch.Library) -> list[tuple[int, float]]:
    hits = library.search("a query", ALL, mode="meaning", correct=False)
    return [(hit.id, hit.score) for hit in hits]


def test_other_reference_texts_make_a_background_anew(
    library: xsearch.Library, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(photos, 20)
    library.index(photos)
    before = np.array(opened(library).near)
    monkeypatch.setattr("xsearch.retrieval.reference.bank", lambda: ("one", "two", "three"))
    monkeypatch.setattr("xsearch.retrieval.reference.bank_digest", lambda: "0" * 64)
    library.index(photos)
    kept = open_bank(library.path, FINGERPRINT)
    assert kept is not None
    assert (kept.digest, kept.vectors.shape) == ("0" * 64, (3, DIM))
    assert opened(library).header.digest == "0" * 64
    assert not np.array_equal(opened(library).near, before)


def test_a_damaged_bank_is_made_anew(library: xsearch.Library, photos: Path) -> None:
    write_pictures(photos, 10)
    library.index(photos)
    (path,) = (library.path / "backgrounds").glob("*.bank")
    data = path.read_bytes()
    for harmed in (data[:100], b"", data[:-200] + b"\x11" * 200, b"\xa5" * len(data)):
        path.write_bytes(harmed)
        assert open_bank(library.path, FINGERPRINT) is None
        assert len(scores(library)) == 10
        library.index(photos)
        assert path.read_bytes() == data


# From cosines to scores


def made(
    held: int = 100, seed: int = 0, dim: int = 8, moments: dict[str, Any] | None = None
) -> Background:
    """A background of ten rows of pictures and ten of texts, at random."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(20, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows: dict[Kind, Any] = {"image": np.arange(10), "text": np.arange(10, 20)}
    samples: dict[Kind, Any] = {kind: vectors[rows[kind]].astype(np.float16) for kind in rows}
    near = rng.uniform(0, 0.5, (20, 2)).astype(np.float16)
    counts = {"image": held, "text": held}
    spread = {"-".join(kinds): (-0.2, 0.1) for kinds in DIRECTIONS}
    chosen = spread if moments is None else moments
    header = Header("f", 1, dim, 20, "d", counts, chosen, 0)
    return Background(Path("none"), header, samples, rows, near)


def vector(seed: int = 5, dim: int = 8) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=dim)
    return (drawn / np.linalg.norm(drawn)).astype(np.float32)


CORRECTED = sorted(DIRECTIONS)


@pytest.mark.parametrize("kinds", CORRECTED)
def test_what_a_row_is_near_to_anyhow_is_taken_off(kinds: tuple[Kind, Kind]) -> None:
    against, direction = made(), DIRECTIONS[kinds]
    scale = Scale(vector(), kinds, LOGISTIC, against)
    rows, cosines = np.array([3, 17, 4]), np.array([0.3, 0.2, 0.1], np.float32)
    # Among few pictures, what is near to them says less.
    own = direction.own * 100 / (100 + FEW)
    expected = [
        cosine - direction.bank * against.near[row, 0] - own * against.near[row, 1]
        for cosine, row in zip(cosines, rows, strict=True)
    ]
    assert scale.corrects
    assert scale.corrected(cosines, rows).tolist() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("kinds", CORRECTED)
def test_scores_are_the_log_odds_that_the_formula_gives(kinds: tuple[Kind, Kind]) -> None:
    held, target = 3_000, kinds[1]
    against, direction, asked = made(held), DIRECTIONS[kinds], vector()
    mean, deviation = -0.2, 0.1
    cosines = against.samples[target].astype(np.float32) @ asked
    corrected = cosines - against.bias(direction, target, against.rows[target])
    variance = (10 * corrected.var() + FEW * deviation**2) / (10 + FEW)
    own = (
        direction.slope * (corrected - mean) / deviation
        + direction.spread * (math.sqrt(variance) / deviation - 1)
        + direction.intercept
        + CROWD * math.log(1_000 / held)
    )
    plain = 10 * (corrected + against.typical(direction, target)) - 5
    share = held / (held + FEW)
    expected = 1 / (1 + np.exp(-(share * own + (1 - share) * plain)))
    found = Scale(asked, kinds, LOGISTIC, against).scores(corrected)
    assert found == pytest.approx(expected, rel=1e-3)


@settings(deadline=None)
@given(
    st.sampled_from([*CORRECTED, ("image", "image")]),
    st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=20),
    st.integers(0, 200_000),
    st.integers(0, 50),
    st.booleans(),
)
def test_scores_are_probabilities_that_grow_with_what_is_left_of_cosines(
    kinds: tuple[Kind, Kind], cosines: list[float], held: int, seed: int, correct: bool
) -> None:
    against = made(held, seed)
    scale = Scale(vector(seed), kinds, LOGISTIC, against, correct=correct)
    corrected = np.sort(np.array(cosines, np.float32))
    found = scale.scores(corrected)
    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found) >= 0).all()


@pytest.mark.parametrize("kinds", CORRECTED)
def test_small_libraries_are_drawn_to_the_encoders_own_logistic(kinds: tuple[Kind, Kind]) -> None:
    against, direction = made(0), DIRECTIONS[kinds]
    corrected = np.linspace(-0.5, 0.9, 20, dtype=np.float32)
    typical = against.typical(direction, kinds[1])
    plain = 1 / (1 + np.exp(5 - 10 * (corrected + typical)))
    of_none = Scale(vector(), kinds, LOGISTIC, against).scores(corrected)
    assert of_none == pytest.approx(plain, abs=1e-4)
    without = replace(against, header=replace(against.header, moments={}))
    assert Scale(vector(), kinds, LOGISTIC, without).scores(corrected) == pytest.approx(of_none)
    # Half of the way there.
    logits = [
        np.log(found / (1 - found))
        for found in (
            Scale(vector(), kinds, LOGISTIC, made(held)).scores(corrected)
            for held in (0, 3, 300, 30_000)
        )
    ]
    slopes = [float(line[-1] - line[0]) / 1.4 for line in logits]
    full = direction.slope / 0.1
    shares = [(slope - 10) / (full - 10) for slope in slopes]
    assert shares == pytest.approx([0, 3 / 33, 300 / 330, 30_000 / 30_030], abs=1e-3)


def test_look_alikes_of_a_picture_are_left_as_they_are() -> None:
    cosines, rows = np.array([0.3, 0.9], np.float32), np.array([1, 2])
    for scale in (
        Scale(vector(), ("image", "image"), LOGISTIC, made()),
        Scale(vector(), ("text", "image"), LOGISTIC, made(), correct=False),
        Scale(vector(), ("text", "image"), LOGISTIC, None),
    ):
        assert not scale.corrects
        assert scale.corrected(cosines, rows).tolist() == cosines.tolist()
        assert scale.scores(cosines) == pytest.approx(1 / (1 + np.exp(5 - 10 * cosines)), rel=1e-5)


def test_a_library_puts_pictures_in_the_order_of_what_is_left(
    library: xsearch.Library, photos: Path
) -> None:
    write_stock(photos, 40)
    library.index(photos)
    found, vectors = opened(library), vectors_of(library)
    with closing(sqlite3.connect(library.path / "catalog.db")) as catalog:
        rows = dict(catalog.execute("SELECT item_id, row FROM embeddings").fetchall())
    image = ColourEncoder().preprocess(picture(3))[None]
    queries = {
        "text": ("a query", ColourEncoder().embed_texts(["a query"]).vectors[0]),
        "image": (xsearch.Image(picture(3)), ColourEncoder().embed_images(image)[0]),
    }
    for (query, target), direction in DIRECTIONS.items():
        asked, by = queries[query]
        hits = library.search(asked, ALL, target=target, mode="meaning")
        at = np.array([rows[hit.id] for hit in hits])
        corrected = vectors[at] @ by - found.bias(direction, target, at)
        assert len(hits) == 40
        assert (np.diff(corrected) <= 1e-6).all()
        scale = Scale(by, (query, target), LOGISTIC, found)
        assert [hit.score for hit in hits] == pytest.approx(scale.scores(corrected), abs=1e-4)
        # The similarity that is shown is the cosine itself.
        assert [hit.similarity for hit in hits] == pytest.approx(vectors[at] @ by, abs=1e-4)
    hits = library.search(xsearch.Image(picture(3)), ALL)
    assert [hit.score for hit in hits] == pytest.approx(by_logistic(hits), rel=1e-4)


# How many to show

SCORES = st.lists(st.floats(0, 1), max_size=30).map(lambda some: sorted(some, reverse=True))


@pytest.mark.parametrize(
    ("found", "least", "shown"),
    [
        ([], 0.15, 0),
        ([0.1, 0.1], 0.15, 0),
        ([0.15], 0.15, 1),
        ([0.9, 0.9, 0.01, 0.01], 0.15, 2),
        ([0.9, 0.1, 0.1], 0.15, 1),
        ([0.3, 0.3, 0.3], 0.15, 3),
        ([1.0, 1.0], 0.15, 2),
        ([0.2], 0.5, 0),
    ],
)
def test_as_many_are_shown_as_are_good(found: list[float], least: float, shown: int) -> None:
    assert good_matches(np.array(found), least) == shown


@given(SCORES, st.floats(0, 1))
def test_what_is_shown_makes_the_expected_f1_largest(found: list[float], least: float) -> None:
    shown = good_matches(np.array(found), least)
    if not found or found[0] < least:
        assert shown == 0
        return
    assert 1 <= shown <= len(found)

    def expected(count: int) -> float:
        return 2 * math.fsum(found[:count]) / (count + math.fsum(found))

    best = max(expected(count) for count in range(1, len(found) + 1))
    assert expected(shown) == pytest.approx(best, rel=1e-9, abs=1e-12)


# Variety


def some_vectors(seed: int, count: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@given(
    st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=20, unique=True),
    st.integers(0, 100),
    st.integers(0, 25),
    st.floats(0, 1),
)
def test_variety_chooses_each_once_and_none_keeps_the_order(
    relevance: list[float], seed: int, k: int, diversity: float
) -> None:
    ordered = np.array(sorted(relevance, reverse=True), np.float32)
    vectors = some_vectors(seed, len(ordered))
    chosen = diversify(ordered, vectors, k, diversity)
    assert len(chosen) == len(set(chosen)) == min(k, len(ordered))
    assert set(chosen) <= set(range(len(ordered)))
    if chosen and diversity < 1:
        assert chosen[0] == 0
    assert diversify(ordered, vectors, k, 0.0) == list(range(min(k, len(ordered))))
    # Whoever asks for more gets the same first.
    assert diversify(ordered, vectors, k + 5, diversity)[:k] == chosen


def test_the_next_is_the_best_of_those_unlike_what_was_chosen() -> None:
    vectors = np.array([[1, 0], [1, 0], [0.8, 0.6], [0, 1]], np.float32)
    relevance = np.array([4, 3, 2, 1], np.float32)
    # Worth: 0.5, 0.333, 0.167, 0; less half of the likeness to the nearest chosen.
    assert diversify(relevance, vectors, 4, 0.5) == [0, 3, 1, 2]
    assert diversify(relevance, vectors, 4, 0.1) == [0, 1, 2, 3]
    assert diversify(np.ones(4, np.float32), vectors, 2, 0.5) == [0, 3]
    assert diversify(np.empty(0, np.float32), np.empty((0, 2), np.float32), 3, 0.5) == []


# Fusing


@pytest.mark.parametrize(
    ("rankings", "weights", "fused"),
    [
        ([[1, 2, 3]], None, [1, 2, 3]),
        ([[1, 2], [2, 3]], None, [2, 1, 3]),
        ([[1, 2], [3]], None, [1, 3, 2]),
        ([[1, 2, 3], [3]], [1.0, 0.0], [1, 2, 3]),
        ([[1, 2, 3], [3]], [1.0, 1.0], [3, 1, 2]),
        ([[1, 2], [3, 4]], [1.0, 0.5], [1, 2, 3, 4]),
        ([], None, []),
        ([[], [5]], None, [5]),
    ],
)
def test_ranks_are_fused(
    rankings: list[list[int]], weights: list[float] | None, fused: list[int]
) -> None:
    assert fuse(rankings, weights) == fused


@given(
    st.lists(st.lists(st.integers(0, 20), unique=True, max_size=15), max_size=4),
    st.integers(1, 100),
)
def test_fused_ranks_hold_everything_once_by_the_sum_of_their_gains(
    rankings: list[list[int]], smoothing: int
) -> None:
    fused = fuse(rankings, None, smoothing)
    assert sorted(fused) == sorted({id_ for ranking in rankings for id_ in ranking})
    gains = [
        math.fsum(1 / (smoothing + one.index(id_) + 1) for one in rankings if id_ in one)
        for id_ in fused
    ]
    assert all(one >= other - 1e-12 for one, other in pairwise(gains))


@pytest.mark.parametrize(
    ("terms", "surest", "weight"),
    [
        (1, 0.0, 1.0),
        (2, 1.0, 1.0),
        (3, 0.0, 1.0),
        (3, 0.125, 0.5),
        (3, 0.25, 0.0),
        (9, 0.99, 0.0),
    ],
)
def test_words_count_where_they_are_few_or_meaning_is_unsure(
    terms: int, surest: float, weight: float
) -> None:
    assert words_weight(terms, surest) == pytest.approx(weight)


def test_words_that_are_quoted_or_name_a_file_count_in_any_case() -> None:
    assert words_weight(9, 0.99, exact=True) == 1


@given(st.integers(1, 64), st.floats(0, 1), st.floats(0, 1))
def test_words_count_less_the_surer_meaning_is(terms: int, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert 0 <= words_weight(terms, high) <= words_weight(terms, low) <= 1

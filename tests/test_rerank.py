"""Reranking in search: what is compared, in which order hits come, and what cannot be asked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support import ALL, ColourEncoder, age, open_colour, paths_of, write_text
from tiny_reranker import SeeingEncoder, write_reranker

import xsearch
from xsearch.cli.main import run
from xsearch.core.query import RERANKED
from xsearch.retrieval.rerank import OnnxReranker, memories
from xsearch.retrieval.rerank.compare import Comparison, combined
from xsearch.retrieval.rerank.find import find_reranker

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
SCORE, MATCH, INTERCEPT = 0.5, 1.5, 0.25  # the blend of the reranker of colours


def dull(seed: int, *colours: tuple[int, int, int]) -> Image.Image:
    """A picture of 4 x 4 greyish fields, the first ones in some colours."""
    fields = np.random.default_rng(seed).integers(90, 160, (4, 4, 3), dtype=np.uint8)
    for at, colour in enumerate(colours):
        fields[at // 4, at % 4] = colour
    return Image.fromarray(fields).resize((64, 64), Image.Resampling.NEAREST)


def write(path: Path, seed: int, *colours: tuple[int, int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dull(seed, *colours).save(path)
    return age(path)


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reranker(tmp_path_factory.mktemp("model") / "reranker")


def open_seeing(folder: Path, reranker: Path | None) -> xsearch.Library:
    """The library in a folder with the encoder of colours that gives regions."""
    return xsearch.open(folder, encoder=SeeingEncoder(), reranker=reranker)


@pytest.fixture
def seeing(tmp_path: Path, reranker: Path) -> Iterator[xsearch.Library]:
    with open_seeing(tmp_path / "library", reranker) as opened:
        yield opened


def write_album(photos: Path) -> None:
    """20 pictures: 3 with a red field, one with a green, one with both, all others dull."""
    for at in range(15):
        write(photos / f"p{at:02}.png", at)
    for at in range(3):
        write(photos / f"r{at}.png", 20 + at, RED)
    write(photos / "g.png", 30, GREEN)
    write(photos / "rg.png", 31, RED, GREEN)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, reranker: Path) -> Path:
    """A library of the album."""
    here = tmp_path_factory.mktemp("album")
    write_album(here / "photos")
    with open_seeing(here / "library", reranker) as opened:
        opened.index(here / "photos")
    return here / "library"


@pytest.fixture
def album(shared: Path, reranker: Path) -> Iterator[xsearch.Library]:
    """The library of the album, just opened, which nothing may change."""
    with open_seeing(shared, reranker) as opened:
        yield opened


def names(hits: Sequence[xsearch.Hit]) -> list[str]:
    return [path.stem for path in paths_of(hits) if path]


def plain(library: xsearch.Library, query: Any = "red", **options: Any) -> list[xsearch.Hit]:
    return library.search(query, ALL, **{"mode": "meaning", **options})


def reranked(library: xsearch.Library, query: Any = "red", **options: Any) -> list[xsearch.Hit]:
    return library.search(query, ALL, **{"mode": "meaning", "rerank": 50, **options})


def refuse(*_: Any, **__: Any) -> None:
    raise AssertionError("no picture is to be read")


# Order and scores


def test_what_the_reranker_sees_comes_first(album: xsearch.Library) -> None:
    wanted = {"r0", "r1", "r2", "rg"}
    assert set(names(plain(album))[:4]) != wanted
    assert set(names(reranked(album))[:4]) == wanted
    assert set(names(reranked(album, "green"))[:2]) == {"g", "rg"}
    assert len(reranked(album)) == 20


def test_the_score_is_the_logistic_of_both_models_log_odds(
    album: xsearch.Library, reranker: Path
) -> None:
    encoder, model = SeeingEncoder(), OnnxReranker(reranker)
    before = {hit.id: hit for hit in plain(album)}
    tokens, mask = encoder.tokens(["red"])
    found = reranked(album)
    for hit in found:
        assert hit.path is not None
        pixels = encoder.preprocess(Image.open(hit.path))[None]
        match = model.match(tokens, mask, model.memories(encoder.regions(pixels)))[0]
        score = before[hit.id].score
        odds = SCORE * np.log(score / (1 - score)) + MATCH * match + INTERCEPT
        assert hit.score == pytest.approx(1 / (1 + np.exp(-odds)), rel=1e-4)
        assert hit.similarity == before[hit.id].similarity
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
    assert [hit.rank for hit in found] == list(range(1, 21))


@pytest.mark.parametrize("count", [1, 2, 7, 19, 20, 500])
def test_only_the_best_are_compared_and_the_others_stay_behind_them(
    album: xsearch.Library, count: int
) -> None:
    before, found = plain(album), reranked(album, rerank=count)
    best = {hit.id for hit in before[:count]}
    assert {hit.id for hit in found[:count]} == best
    assert found[count:] == before[count:]
    changed = [hit for hit in found[:count] if hit.score != dict_of(before)[hit.id]]
    assert len(changed) == min(count, 20)


def dict_of(hits: Sequence[xsearch.Hit]) -> dict[int, float]:
    return {hit.id: hit.score for hit in hits}


def test_true_is_as_many_as_usual_and_zero_is_none(
    album: xsearch.Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    compare = Comparison.log_odds

    def count(self: Comparison, *args: Any) -> dict[int, float]:
        counts.append(self.count)
        return compare(self, *args)

    monkeypatch.setattr(Comparison, "log_odds", count)
    assert reranked(album, rerank=True) == reranked(album, rerank=RERANKED)
    for off in (0, None, False):
        assert reranked(album, rerank=off) == plain(album)
    assert counts == [50, 50]


def test_a_deeper_search_compares_once_and_keeps_the_order(
    seeing: xsearch.Library, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in range(60):
        write(photos / f"{at:02}.png", at, *([RED] if at % 10 == 0 else []))
    seeing.index(photos)
    monkeypatch.setattr("xsearch.retrieval.search._DEPTH", 2)
    whole = reranked(seeing, rerank=8)
    for hit in whole[4:40]:
        assert hit.path is not None
        hit.path.unlink()
    seeing.close()
    calls = []
    compare = Comparison.log_odds

    def count(self: Comparison, snapshot: Any, ids: Sequence[int], before: Any) -> Any:
        calls.append(list(ids))
        return compare(self, snapshot, ids, before)

    monkeypatch.setattr(Comparison, "log_odds", count)
    found = seeing.search("red", 12, mode="meaning", rerank=8)
    left = [*whole[:4], *whole[40:]]
    assert len(calls) == 1
    assert len(calls[0]) == 8
    # Two of the four that were compared first keep the places of those that are gone.
    assert {hit.id for hit in found[:4]} == {hit.id for hit in left[:4]}
    assert [hit.id for hit in found[4:]] == [hit.id for hit in left[4:12]]


def test_filters_and_what_is_not_wanted_hold(album: xsearch.Library) -> None:
    few = xsearch.Filters(path="p*")
    found = reranked(album, filters=few)
    assert set(names(found)) == {f"p{at:02}" for at in range(15)}
    unwanted = [hit.id for hit in reranked(album)[:2]]
    found = reranked(album, excluded=unwanted)
    assert len(found) == 18
    assert not {hit.id for hit in found} & set(unwanted)
    # The best of those that are left are compared.
    assert set(
        names(reranked(album, filters=xsearch.Filters(path=("r*", "p0?")), rerank=14))[:4]
    ) == {
        "r0",
        "r1",
        "r2",
        "rg",
    }


def test_cuts_go_by_the_new_scores(album: xsearch.Library) -> None:
    assert set(names(reranked(album, min_score=0.2))) <= {"r0", "r1", "r2", "rg"}
    assert names(reranked(album, min_score=0.2))
    assert (
        names(reranked(album, auto_cut=True))
        == names(reranked(album))[: len(reranked(album, auto_cut=True))]
    )
    assert 1 <= len(reranked(album, auto_cut=True)) <= 4
    diverse = album.search("red", 5, mode="meaning", rerank=50, diversity=0.5)
    assert len(diverse) == 5
    assert diverse[0].id == reranked(album)[0].id


def test_words_are_fused_with_the_new_order(seeing: xsearch.Library, photos: Path) -> None:
    for at in range(12):
        name = "red harbour" if at == 5 else f"x{at}"
        write(photos / f"{name}.png", at, *([RED] if at < 3 else []))
    seeing.index(photos)
    found = seeing.search("red harbour", ALL, rerank=50)
    assert found[0].path is not None and found[0].path.stem == "red harbour"
    assert set(names(found)[1:4]) == {"x0", "x1", "x2"}
    # Without words to be found the order is that of meaning.
    assert seeing.search("blue", ALL, rerank=50) == reranked(seeing, "blue")


def test_with_several_encoders_the_first_is_reranked(
    seeing: xsearch.Library, photos: Path, reranker: Path
) -> None:
    write_album(photos)
    seeing.index(photos)
    seeing.reindex(ColourEncoder("c020", "other", grid=2), switch=False)
    both = [SeeingEncoder(), ColourEncoder("c020", "other", grid=2)]
    with xsearch.open(seeing.path, encoder=both, reranker=reranker) as opened:
        assert set(names(reranked(opened))[:4]) & {"r0", "r1", "r2", "rg"}
        assert names(reranked(opened)) != names(plain(opened))
    with (
        xsearch.open(seeing.path, encoder=both[::-1], reranker=reranker) as opened,
        pytest.raises(xsearch.EncoderError, match="regions and tokens"),
    ):
        reranked(opened)


# Several parts


def test_several_words_count_by_their_weights(album: xsearch.Library) -> None:
    query = xsearch.Query("red") + "green"
    assert names(reranked(album, query))[0] == "rg"
    heavy = 10 * xsearch.Part("green") + "red"
    assert set(names(reranked(album, heavy))[:2]) == {"g", "rg"}


def test_what_is_subtracted_counts_where_it_is_found(album: xsearch.Library) -> None:
    query = xsearch.Query("red") - "green"
    assert set(names(reranked(album, query))[:3]) == {"r0", "r1", "r2"}
    # Pictures cannot be compared with pictures: what is subtracted of them counts as before.
    without = xsearch.Query("red") - xsearch.Image(dull(20, RED))
    assert set(names(reranked(album, without))[:4]) == {"r0", "r1", "r2", "rg"}


def test_examples_do_not_forbid_reranking(album: xsearch.Library) -> None:
    good, bad = (hit.id for hit in plain(album)[:2])
    found = reranked(album, like=[good], unlike=[bad])
    assert set(names(found)[:4]) == {"r0", "r1", "r2", "rg"}


@given(
    st.lists(
        st.tuples(st.floats(0.1, 9), st.booleans(), st.floats(-20, 20)), min_size=1, max_size=5
    ),
    st.floats(0.1, 9),
)
def test_parts_are_averaged_and_absence_is_no_evidence(
    parts: list[tuple[float, bool, float]], factor: float
) -> None:
    weights = np.array([1.0, *(weight if added else -weight for weight, added, _ in parts)])
    match = np.array([[2.0], *([odds] for *_, odds in parts)])
    found = combined(weights, match)[0]
    added = [2.0, *(odds for _, positive, odds in parts if positive)]
    assert found <= max(added) + 1e-9
    if all(positive or odds <= 0 for _, positive, odds in parts):
        assert found >= min(added) - 1e-9
    assert combined(factor * weights, match)[0] == pytest.approx(found)


# A picture, for texts


@pytest.fixture
def texts(seeing: xsearch.Library, photos: Path) -> xsearch.Library:
    lines = [f"some words about nothing, {at}" for at in range(8)]
    write_text(photos / "t.txt", "\n".join([*lines, "a red thing", "a green thing", "red, green"]))
    write(photos / "r.png", 1, RED)
    seeing.index([photos, photos / "t.txt"])
    return seeing


def test_texts_are_reranked_by_a_picture(texts: xsearch.Library) -> None:
    seen = xsearch.Image(dull(3, RED))
    before = [hit.text for hit in plain(texts, seen, target="text")]
    found = reranked(texts, seen, target="text")
    assert len(found) == len(before) == 11
    assert found[0].text == "a red thing"
    assert found[-1].text in ("a green thing", "red, green")
    assert [hit.text for hit in found] != before
    both = xsearch.Image(dull(4, RED, GREEN))
    assert {hit.text for hit in reranked(texts, both, target="text")[:3]} == {
        "a red thing",
        "a green thing",
        "red, green",
    }


def test_texts_are_reranked_by_a_picture_of_the_library(
    texts: xsearch.Library, photos: Path
) -> None:
    (picture,) = plain(texts)
    item = xsearch.Item(picture.id)
    assert reranked(texts, item, target="text")[0].text == "a red thing"
    text = plain(texts, "words", target="text")[0]
    with pytest.raises(xsearch.UsageError, match=f"item {text.id} is a text itself"):
        reranked(texts, xsearch.Item(text.id), target="text")
    (photos / "r.png").unlink()
    texts.close()
    with pytest.raises(xsearch.SourceError, match="cannot be read now"):
        reranked(texts, item, target="text")


def test_a_picture_of_a_query_is_read_once(
    texts: xsearch.Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xsearch.retrieval import query

    calls = []
    read = query.read_pixels

    def count(*args: Any) -> Any:
        calls.append(args)
        return read(*args)

    monkeypatch.setattr(query, "read_pixels", count)
    reranked(texts, xsearch.Image(dull(3, RED)), target="text")
    assert len(calls) == 1


# What cannot be read


@pytest.mark.parametrize("harm", ["gone", "noise", "other", "away"])
def test_a_picture_that_cannot_be_read_keeps_its_place_and_score(
    seeing: xsearch.Library, photos: Path, harm: str
) -> None:
    write_album(photos)
    seeing.index(photos)
    before = plain(seeing)
    target = next(hit for hit in before if hit.path and hit.path.stem == "r1")
    assert target.path is not None
    seeing.close()
    if harm == "noise":
        target.path.write_bytes(b"no picture at all")
    elif harm == "other":
        write(target.path, 77, BLUE)
    elif harm == "gone":
        target.path.unlink()
    else:
        photos.rename(photos.with_name("elsewhere"))
    found = reranked(seeing)
    if harm == "gone":
        assert target.id not in dict_of(found)
        assert set(names(found)[:3]) == {"r0", "r2", "rg"}
    elif harm == "away":
        assert all(hit.missing for hit in found)
        assert [(hit.id, hit.score) for hit in found] == [(hit.id, hit.score) for hit in before]
    else:
        kept = next(hit for hit in found if hit.id == target.id)
        assert (kept.rank, kept.score) == (target.rank, target.score)
        assert {"r0", "r2", "rg"} <= set(names(found)[:4])


def test_a_second_search_reads_no_picture(
    album: xsearch.Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = reranked(album)
    monkeypatch.setattr(memories, "read_picture", refuse)
    assert reranked(album) == first
    assert set(names(reranked(album, "green"))[:2]) == {"g", "rg"}
    album.close()
    with pytest.raises(AssertionError):
        reranked(album)


def test_memory_stays_within_its_limit(album: xsearch.Library, reranker: Path) -> None:
    kept = memories.Memories(album.path, SeeingEncoder(), reranker, limit=5 * 48)
    with album._open_reader().snapshot() as snapshot:
        ids = [hit.id for hit in plain(album)]
        found = kept.of(snapshot, ids)
        assert set(found) == set(ids)
        assert len(kept._made) == 5
        again = kept.of(snapshot, ids)
    assert all(np.array_equal(found[id_], again[id_]) for id_ in ids)


# What cannot be asked


@pytest.mark.parametrize(
    ("query", "options", "error"),
    [
        ("red", {"rerank": -1}, "rerank is how many"),
        ("red", {"rerank": 2.5}, "rerank is how many"),
        ("red", {"rerank": "20"}, "rerank is how many"),
        ("red", {"mode": "words"}, "by meaning"),
        ("red", {"target": "text"}, "pictures with texts"),
        (xsearch.Image(dull(1)), {}, "words with pictures"),
        (xsearch.Item(1), {}, "words with pictures"),
        (xsearch.Query("red") + xsearch.Image(dull(1)), {}, "words with pictures"),
        (xsearch.Query(xsearch.Image(dull(1))) + "x", {"target": "text"}, "pictures with texts"),
    ],
)
def test_what_cannot_be_reranked_is_a_usage_error(
    album: xsearch.Library, query: Any, options: dict[str, Any], error: str
) -> None:
    with pytest.raises(xsearch.UsageError, match=error) as raised:
        reranked(album, query, **options)
    assert "\n" not in str(raised.value)


def test_an_encoder_without_a_reranker_says_how_to_train_one(tmp_path: Path) -> None:
    with (
        open_seeing(tmp_path / "library", None) as opened,
        pytest.raises(xsearch.EncoderError) as raised,
    ):
        opened.search("red", rerank=50)
    said = str(raised.value)
    assert "colour has no reranker" in said
    assert "xsearch train --task rerank --encoder colour" in said
    assert "--reranker DIR" in said


def test_an_encoder_without_regions_says_so(tmp_path: Path, reranker: Path) -> None:
    with (
        xsearch.open(tmp_path / "library", encoder=ColourEncoder(), reranker=reranker) as opened,
        pytest.raises(xsearch.EncoderError, match="gives no regions and tokens"),
    ):
        opened.search("red", rerank=50)


def test_a_reranker_of_another_encoder_is_refused(tmp_path: Path) -> None:
    other = write_reranker(tmp_path / "other", encoder="beef")
    with (
        open_seeing(tmp_path / "library", other) as opened,
        pytest.raises(xsearch.EncoderError, match=r"for the encoder beef, not for colour \(c010\)"),
    ):
        opened.search("red", rerank=50)
    with (
        open_seeing(tmp_path / "library", tmp_path / "nowhere") as opened,
        pytest.raises(xsearch.EncoderError, match="not a reranker"),
    ):
        opened.search("red", rerank=50)


def test_an_encoders_own_folder_holds_its_reranker(tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    write_reranker(folder / "reranker")
    (folder / "encoder.json").write_text("{}")

    class Placed(SeeingEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.info = xsearch.core.encoder.EncoderInfo(
                "mine", str(folder), "c010", self.dim, "numpy", "fp32"
            )

    assert find_reranker(Placed()).info.name == "colours"


def test_an_empty_library_has_nothing_to_rerank(seeing: xsearch.Library) -> None:
    assert reranked(seeing) == []


# The command


@pytest.fixture
def asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[Any, int, str]]:
    """What a command line asks of `Library.search`: (query, rerank), exit status, stderr."""
    open_colour(tmp_path / "library").close()
    calls: list[Any] = []

    def record(_: xsearch.Library, query: xsearch.Query, *args: Any, **options: Any) -> list[Any]:
        calls.append((repr(query), options["rerank"]))
        return []

    monkeypatch.setattr(xsearch.Library, "search", record)

    def ask(*words: str) -> tuple[Any, int, str]:
        calls.clear()
        line = ["xsearch", "query", "--library", str(tmp_path / "library"), "-k", "0", *words]
        monkeypatch.setattr(sys, "argv", line)
        with pytest.raises(SystemExit) as ended:
            run()
        return (calls or [None])[0], int(ended.value.code or 0), capsys.readouterr().err

    return ask


@pytest.mark.parametrize(
    ("words", "query", "count"),
    [
        (["cat"], "cat", None),
        (["--rerank", "cat on grass"], "cat on grass", 50),
        (["--rerank", "cat", "on", "grass"], "cat on grass", 50),
        (["cat", "--rerank"], "cat", 50),
        (["--rerank", "20", "cat"], "cat", 20),
        (["--rerank=20", "cat"], "cat", 20),
        (["cat", "--rerank", "20"], "cat", 20),
        (["--rerank", "--literal", "cat"], "cat", 50),
        (["--rerank", "0", "cat"], "cat", 0),
        (["--rerank", "--", "-5"], "-5", 50),
        (["cat", "--", "--rerank"], "cat --rerank", None),
        (["--rerank", "2 cats"], "2 cats", 50),
    ],
)
def test_the_number_of_candidates_may_be_left_out(
    asked: Callable[..., tuple[Any, int, str]], words: list[str], query: str, count: int | None
) -> None:
    call, code, told = asked(*words)
    assert (call, code, told) == ((f"Query({query!r})", count), 0, "")


@pytest.mark.parametrize(
    "words", [["--rerank", "-5", "cat"], ["--rerank", "2.5", "cat"], ["--rerank=x", "cat"]]
)
def test_a_number_that_cannot_be_meant_is_a_usage_error(
    asked: Callable[..., tuple[Any, int, str]], words: list[str]
) -> None:
    call, code, told = asked(*words)
    assert (call, code) == (None, 2)
    assert "--rerank" in told


def test_a_query_without_reranking_loads_nothing_of_it(
    album: xsearch.Library, tmp_path: Path
) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import support\n"
        "with support.open_colour(sys.argv[2]) as library: assert library.search('red')\n"
        "print(*(name for name in sys.modules if 'rerank' in name or 'regions' in name))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent), str(album.path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["xsearch.reranking"]

"""Filters and search together: the nearest of those that qualify, as many as are asked for."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ALL, ColourEncoder, open_colour, picture, write_picture, write_text
from test_library_index import made_small
from test_select import exif

import xsearch
from xsearch.core.values import Kind
from xsearch.indexer import select

# Any library, any filters


@dataclass(frozen=True)
class Fact:
    """What is known of one picture beforehand."""

    name: str
    folder: str
    size: tuple[int, int]
    camera: str | None
    recent: bool
    in_paris: bool
    caption: str | None
    tags: frozenset[str]

    @property
    def below(self) -> str:
        return f"{self.folder}/{self.name}"

    @property
    def format(self) -> str:
        return {"jpg": "jpeg"}.get(self.name[-3:], self.name[-3:])


@dataclass(repr=False)
class Stock:
    """A library, and the facts of what it holds, by the pictures' paths and captions."""

    library: xsearch.Library
    photos: Path
    facts: list[Fact]
    pictures: dict[str, int] = field(default_factory=dict)
    texts: dict[str, int] = field(default_factory=dict)
    vectors: dict[int, np.ndarray] = field(default_factory=dict)

    def filters(self, asked: dict[str, Any]) -> xsearch.Filters:
        """What is asked, as a library is asked: roots are named from the pictures' folder."""
        root = {"root": self.photos / asked["root"]} if "root" in asked else {}
        return xsearch.Filters(**{**asked, **root})

    def qualifying(self, target: Kind, asked: dict[str, Any]) -> dict[int, Fact]:
        """The ids that meet what is asked, by looking at one fact after the other."""
        met = [fact for fact in self.facts if all(_meets(fact, *one) for one in asked.items())]
        if target == "image":
            return {self.pictures[fact.below]: fact for fact in met}
        return {self.texts[fact.caption]: fact for fact in met if fact.caption}


def _meets(fact: Fact, name: str, value: Any) -> bool:
    longer, shorter = max(fact.size), min(fact.size)
    match name:
        case "type":
            return fact.format in ([value] if isinstance(value, str) else value)
        case "min_size":
            least = {"64x48": (64, 48), 40: (40, 40)}[value]
            return longer >= least[0] and shorter >= least[1]
        case "orientation":
            shape = (fact.size[0] > fact.size[1]) - (fact.size[0] < fact.size[1])
            return ("square", "landscape", "portrait")[shape] == value
        case "camera":
            return fact.camera == "Canon EOS"
        case "after":
            return fact.recent
        case "before":
            return not fact.recent
        case "near":
            return fact.in_paris
        case "tag":
            return {value} <= fact.tags if isinstance(value, str) else set(value) <= fact.tags
        case "has_text":
            return (fact.caption is not None) == value
        case "root":
            return f"{fact.below}/".startswith(f"{value}/")
        case "path":
            return {"1*": fact.name.startswith("1"), "a/*": fact.folder == "a"}[value]
    raise AssertionError(name)


def _made(rng: random.Random, at: int) -> Fact:
    ending = rng.choice(["jpg", "jpg", "png", "bmp"])
    said = ending == "jpg"
    return Fact(
        name=f"{at}.{ending}",
        folder=rng.choice(["a", "a/c", "b"]),
        size=rng.choice([(64, 48), (48, 64), (40, 40), (120, 20)]),
        camera=rng.choice(["Canon EOS", "iPhone", None]) if said else None,
        recent=said and rng.random() < 0.5,
        in_paris=said and rng.random() < 0.3,
        caption=f"caption {at}" if rng.random() < 0.4 else None,
        tags=frozenset(tag for tag in "xy" if rng.random() < 0.3),
    )


def _write(stock: Stock, first: int, facts: list[Fact]) -> None:
    """Write pictures, index and tag them."""
    for at, fact in enumerate(facts, first):
        told = exif(
            fact.camera,
            None,
            "2024:06:15 12:00:00" if fact.recent else "2017:07:14 12:00:00",
            (48.85, 2.35) if fact.in_paris else None,
        )
        place = stock.photos / fact.below
        write_picture(place, at, fact.size, told if fact.format == "jpeg" else None)
        if fact.caption:
            write_text(place.with_suffix(".txt"), fact.caption)
    stock.library.index(stock.photos)
    for tag in "xy":
        tagged = [stock.photos / fact.below for fact in facts if tag in fact.tags]
        stock.library.add_tag(tag, tagged)


@pytest.fixture(scope="module", params=["flat", "rabitq", "ivf", "tail"])
def stock(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stock]:
    """A random library of 120 pictures, of which 24 are gone; nothing changes it.

    In `tail` half of its rows are in no index, as in a large library to which few were added.
    """
    kind, folder = request.param, tmp_path_factory.mktemp("stock")
    rng = random.Random(kind)
    with open_colour(folder / "library") as library, pytest.MonkeyPatch.context() as patch:
        made_small(patch)
        stock = Stock(library, folder / "photos", [])
        if kind != "tail":
            stock.photos.mkdir()
            library.index(stock.photos, index_kind=kind)
        _write(stock, 0, first := [_made(rng, at) for at in range(60)])
        before = {path: path.read_bytes() for path in (library.path / "indices").iterdir()}
        _write(stock, 60, second := [_made(rng, at) for at in range(60, 120)])
        gone = set(rng.sample([*first, *second], 24))
        # Most are deleted for the library, too, the others only on the disk.
        for at, fact in enumerate(sorted(gone, key=lambda fact: fact.name)):
            if at == 16:
                library.index()
            (stock.photos / fact.below).unlink()
            (stock.photos / fact.below).with_suffix(".txt").unlink(missing_ok=True)
        if kind == "tail":
            library.close()
            for path in (library.path / "indices").iterdir():
                path.unlink()
            for path, data in before.items():
                path.write_bytes(data)
        assert (library.status().index_rows < library.status().vectors) is (kind == "tail")
        structures = {part.structure for part in library.status().index}
        assert structures >= ({kind} if kind != "tail" else set())
        stock.facts = [fact for fact in [*first, *second] if fact not in gone]
        for hit in library.search("all", ALL):
            assert hit.path
            stock.pictures[hit.path.relative_to(stock.photos).as_posix()] = hit.id
        for hit in library.search("all", ALL, target="text"):
            stock.texts[hit.text or ""] = hit.id
        assert sorted(stock.pictures) == sorted(fact.below for fact in stock.facts)
        assert sorted(stock.texts) == sorted(fact.caption for fact in stock.facts if fact.caption)
        every = [*stock.pictures.values(), *stock.texts.values()]
        stock.vectors = library._search().vectors(every, library.encoder.fingerprint)
        yield stock


def some_filters() -> st.SearchStrategy[dict[str, Any]]:
    options: dict[str, st.SearchStrategy[Any]] = {
        "type": st.sampled_from(["png", "jpeg", ("png", "bmp"), "gif"]),
        "min_size": st.sampled_from(["64x48", 40]),
        "orientation": st.sampled_from(["landscape", "portrait", "square"]),
        "camera": st.just("canon"),
        "after": st.just("2024"),
        "before": st.just("2024-03"),
        "near": st.just((48.85, 2.36, 20.0)),
        "tag": st.sampled_from(["x", "y", ("x", "y"), "z"]),
        "has_text": st.booleans(),
        "root": st.sampled_from(["a", "a/c", "b"]),
        "path": st.sampled_from(["1*", "a/*"]),
    }
    few = st.sets(st.sampled_from(sorted(options)), min_size=1, max_size=3)
    return few.flatmap(lambda names: st.fixed_dictionaries({n: options[n] for n in names}))


@settings(deadline=None, max_examples=60)
@given(
    st.data(),
    some_filters(),
    st.integers(1, 20) | st.integers(1, 200),
    st.sampled_from(["image", "text"]),
    st.integers(0, 50),
    st.booleans(),
)
def test_hits_are_the_nearest_of_those_that_qualify(
    stock: Stock,
    data: st.DataObject,
    asked: dict[str, Any],
    k: int,
    target: Kind,
    query: int,
    by_picture: bool,
) -> None:
    wanted = stock.qualifying(target, asked)
    every = sorted(wanted)
    excluded = data.draw(st.sets(st.sampled_from(every), max_size=5)) if every else set()
    encoder = ColourEncoder()
    if by_picture:
        vector = encoder.embed_images(encoder.preprocess(picture(query))[None])[0]
    else:
        vector = encoder.embed_texts([str(query)]).vectors[0]
    hits = stock.library.search(
        xsearch.Image(picture(query)) if by_picture else str(query),
        k,
        target,
        filters=stock.filters(asked),
        mode="meaning",
        correct=False,
        excluded=excluded,
    )
    cosines = {id_: float(stock.vectors[id_] @ vector) for id_ in every if id_ not in excluded}
    assert len(hits) == min(k, len(cosines))
    assert len({hit.id for hit in hits}) == len(hits)
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    assert [hit.similarity for hit in hits] == pytest.approx(
        [cosines[hit.id] for hit in hits], abs=1e-3
    )
    best = sorted(cosines.values(), reverse=True)[:k]
    assert [hit.similarity for hit in hits] == pytest.approx(best, abs=1e-3)


@settings(deadline=None, max_examples=25)
@given(some_filters(), st.integers(1, 200), st.sampled_from(["image", "text"]), st.booleans())
def test_corrected_and_varied_hits_are_as_many(
    stock: Stock, asked: dict[str, Any], k: int, target: Kind, varied: bool
) -> None:
    wanted = stock.qualifying(target, asked)
    options = {"filters": stock.filters(asked), "diversity": 0.5 if varied else 0.0}
    hits = stock.library.search("caption", k, target, **options)
    assert len(hits) == min(k, len(wanted))
    assert {hit.id for hit in hits} <= set(wanted)
    by_words = stock.library.search("caption", k, target, mode="words", **options)
    captioned = {id_ for id_, fact in wanted.items() if fact.caption}
    assert {hit.id for hit in by_words} <= captioned
    assert len(by_words) == min(k, len(captioned))


# Filters and words


def test_words_find_only_what_qualifies_and_the_others_follow(
    library: xsearch.Library, photos: Path
) -> None:
    for at in range(20):
        write_picture(photos / f"{at}.{'png' if at % 2 else 'jpg'}", at)
    write_picture(photos / "heron.png", 50)
    write_picture(photos / "heron.jpg", 51)
    library.index(photos)
    png = xsearch.Filters(type="png")
    (hit,) = library.search("heron", filters=png, mode="words")
    assert hit.path == photos / "heron.png"
    hits = library.search("heron", ALL, filters=png)
    assert hits[0].path == photos / "heron.png"
    assert {hit.path.name for hit in hits if hit.path} == {
        "heron.png",
        *(f"{at}.png" for at in range(1, 20, 2)),
    }
    nothing = xsearch.Filters(type="png", path="*.jpg")
    for mode in ("hybrid", "meaning", "words"):
        assert library.search("heron", filters=nothing, mode=mode) == []  # type: ignore[arg-type]


def test_no_filters_are_no_filters(library: xsearch.Library, photos: Path) -> None:
    write_picture(photos / "a.png", 1)
    library.index(photos)
    assert library.search("x", filters=xsearch.Filters()) == library.search("x", filters=None)


def test_a_place_that_the_library_does_not_have_is_an_error(
    library: xsearch.Library, photos: Path
) -> None:
    write_picture(photos / "a.png", 1)
    library.index(photos)
    with pytest.raises(xsearch.SourceError, match="xsearch status"):
        library.search("x", filters=xsearch.Filters(root=photos / "b"))


# What is remembered


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Kind]:
    """The targets for which conditions were worked out, one after the other."""
    seen: list[Kind] = []
    real = select.select

    def count(snapshot: Any, conditions: Any, target: Kind) -> Any:
        seen.append(target)
        return real(snapshot, conditions, target)

    monkeypatch.setattr(select, "select", count)
    return seen


def test_filters_are_worked_out_once_for_a_commit(
    library: xsearch.Library, photos: Path, counted: list[Kind]
) -> None:
    for at in range(4):
        write_picture(photos / f"{at}.png", at)
    library.index(photos)
    library.add_tag("x", photos / "0.png")
    tagged = xsearch.Filters(tag="x")
    for words in ("one", "two", "three"):
        assert len(library.search(words, filters=tagged)) == 1
    assert counted == ["image"]
    library.search("one", filters=tagged, target="text")
    library.search("one", filters=xsearch.Filters(tag="y"))
    assert counted == ["image", "text", "image"]
    library.search("one", filters=xsearch.Filters(tag=("x",)), excluded=[1], mode="words")
    assert len(counted) == 3


def test_what_another_program_changes_is_seen_at_once(
    library: xsearch.Library, photos: Path, counted: list[Kind]
) -> None:
    for at in range(4):
        write_picture(photos / f"{at}.png", at)
    library.index(photos)
    tagged = xsearch.Filters(tag="x")
    assert library.search("one", filters=tagged) == []
    with open_colour(library.path) as other:
        other.add_tag("x", photos / "2.png")
        (hit,) = library.search("one", filters=tagged)
        assert hit.path == photos / "2.png"
        other.add_tag("x", photos / "3.png")
        assert len(library.search("one", filters=tagged)) == 2
        other.remove_tag("x", [photos / "2.png"])
        assert len(library.search("one", filters=tagged)) == 1
        other.remove(photos / "3.png")
        assert library.search("one", filters=tagged) == []
    assert len(counted) == 5


def test_of_many_filters_only_some_are_remembered(
    library: xsearch.Library, photos: Path, counted: list[Kind]
) -> None:
    write_picture(photos / "0.png", 0)
    library.index(photos)
    for at in range(40):
        assert library.search("one", filters=xsearch.Filters(path=f"{at}*")) == [] or at == 0
    assert len(counted) == 40
    library.search("one", filters=xsearch.Filters(path="39*"))
    assert len(counted) == 40
    assert len(library.search("one", filters=xsearch.Filters(path="0*"))) == 1
    assert len(counted) == 41

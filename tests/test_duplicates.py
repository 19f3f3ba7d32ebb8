"""Copies of pictures: what is one, which to keep, and that nothing is done to any file."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageEnhance
from support import ColourEncoder, age, write_picture, write_pictures

import xsearch
from xsearch.cli.main import make_app
from xsearch.core.perceptual import (
    TURNS,
    distances,
    hamming,
    perceptual_hash,
    turned_hashes,
)
from xsearch.indexer.duplicates.candidates import close_hashes, close_vectors
from xsearch.indexer.duplicates.grouping import Link, Links, group
from xsearch.indexer.duplicates.pixels import reduce, same_picture, turned
from xsearch.indexer.duplicates.rule import (
    ASK,
    CROP,
    NO,
    RULES,
    SURE,
    UNKNOWN,
    closeness,
    judge,
    mean_cosine,
)
from xsearch.indexer.indices.rows import StoredRows
from xsearch.indexer.lock import writer_lock

NORMAL = RULES["normal"]
NAMES = ("astronaut", "chelsea", "coffee", "rocket")


@cache
def photograph(name: str = "chelsea", side: int | None = None) -> Image.Image:
    """One of scikit-image's, or its pixels in a square."""
    from skimage import data

    whole = Image.fromarray(getattr(data, name)())
    return whole if side is None else whole.resize((side, side))


def write(path: Path, image: Image.Image, seconds: int = 0, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return age(path, seconds)


def names(report: xsearch.DuplicateReport) -> list[tuple[str, set[str]]]:
    """Each group's keeper and others, by name."""
    return [
        (group.keeper.path.name, {file.path.name for file in group.others})
        for group in report.groups
    ]


def only(report: xsearch.DuplicateReport) -> xsearch.DuplicateGroup:
    (group,) = report.groups
    return group


# Equal bytes


def test_files_of_equal_bytes_are_one_group_and_the_oldest_is_kept(
    library: xsearch.Library, photos: Path
) -> None:
    age(write_picture(photos / "b.png", 1), 50)
    age(write_picture(photos / "a.png", 1), 90)
    write_picture(photos / "other.png", 2)
    library.index(photos)
    found = only(library.duplicates(exact=True))
    assert (found.keeper.path.name, found.reason) == ("b.png", "oldest file")
    assert [file.path.name for file in found.others] == ["a.png"]
    assert found.exact
    assert found.others[0].exact
    assert found.bytes == (photos / "a.png").stat().st_size
    assert found.keeper.id == found.others[0].id


def test_files_of_equal_bytes_and_age_are_kept_by_path(
    library: xsearch.Library, photos: Path
) -> None:
    write_picture(photos / "b.png", 1)
    write_picture(photos / "a.png", 1)
    library.index(photos)
    found = only(library.duplicates(exact=True))
    assert (found.keeper.path.name, found.reason) == ("a.png", "first by path")


def test_exact_leaves_near_copies_out_and_else_they_come_last(
    library: xsearch.Library, photos: Path
) -> None:
    write(photos / "large.png", photograph(side=400))
    write(photos / "small.png", photograph(side=200))
    write_picture(photos / "x.jpg", 2)
    write_picture(photos / "y.jpg", 2)
    library.index(photos)
    assert names(library.duplicates(exact=True)) == [("x.jpg", {"y.jpg"})]
    assert names(library.duplicates()) == [
        ("x.jpg", {"y.jpg"}),
        ("large.png", {"small.png"}),
    ]


def test_links_to_one_file_are_no_copies(library: xsearch.Library, photos: Path) -> None:
    real = write_picture(photos / "real.png", 1)
    try:
        (photos / "another.png").symlink_to(real)
        (photos / "hard.png").hardlink_to(real)
    except OSError:
        pytest.skip("no links here")
    library.index(photos)
    assert library.duplicates().groups == ()
    copy = age(photos / shutil.copyfile(real, photos / "copy.png"), 10)
    library.index(photos)
    found = only(library.duplicates())
    assert found.keeper.path in (real, photos / "hard.png")
    assert [file.path for file in found.others] == [copy]


# Near copies, and which is kept


@pytest.mark.parametrize(
    ("better", "worse", "reason"),
    [
        ({"side": 400}, {"name": "a.png"}, "most pixels"),
        ({}, {"name": "a.jpg", "quality": 95}, "stored without loss"),
        (
            {"name": "better.jpg", "quality": 95},
            {"name": "a.jpg", "quality": 40},
            "least compressed",
        ),
        ({"taken": "2001:01:01 10:00:00"}, {"taken": "2001:01:02 10:00:00"}, "taken first"),
        ({"taken": "2001:01:01 10:00:00"}, {}, "taken first"),
        ({}, {"name": "a.png", "seconds": 60, "compress_level": 0}, "oldest file"),
    ],
)
def test_the_better_copy_is_kept_and_it_is_said_why(
    library: xsearch.Library,
    photos: Path,
    better: dict[str, object],
    worse: dict[str, object],
    reason: str,
) -> None:
    for options, name in ((worse, "a-worse.png"), (better, "better.png")):
        values = {"name": name, "side": 200, "seconds": 0, **options}
        image = photograph(side=int(values.pop("side")))
        if taken := values.pop("taken", None):
            exif = Image.Exif()
            exif[0x8769] = {0x9003: taken}
            values["exif"] = exif
        write(photos / str(values.pop("name")), image, int(values.pop("seconds")), **values)
    library.index(photos)
    found = only(library.duplicates())
    assert found.reason == reason
    assert found.keeper.path.stem == "better"


@pytest.mark.parametrize("turn", range(1, len(TURNS)))
def test_a_turned_copy_is_found_and_named(
    library: xsearch.Library, photos: Path, turn: int
) -> None:
    whole = photograph()
    write(photos / "whole.png", whole)
    greys = np.asarray(whole)
    changed = greys.swapaxes(0, 1) if turn & 4 else greys
    changed = changed[::-1] if turn & 2 else changed
    changed = changed[:, ::-1] if turn & 1 else changed
    write(photos / "turned.png", Image.fromarray(changed).resize((200, 160)))
    library.index(photos)
    (file,) = only(library.duplicates()).others
    assert (file.path.name, file.turned, file.checked) == ("turned.png", TURNS[turn], True)


def test_different_pictures_are_no_copies(library: xsearch.Library, photos: Path) -> None:
    write_pictures(photos, 40)
    library.index(photos)
    for strictness in ("normal", "loose"):
        assert library.duplicates(strictness=strictness).groups == ()


def test_flat_pictures_are_no_copies_of_one_another(library: xsearch.Library, photos: Path) -> None:
    for shade in (10, 11, 200):
        write(photos / f"{shade}.png", Image.new("RGB", (64, 64), (shade, shade, shade)))
    library.index(photos)
    for look in (True, False):
        assert library.duplicates(strictness="loose", look=look).groups == ()


def test_a_picture_without_a_hash_is_judged_by_its_file(
    library: xsearch.Library, photos: Path
) -> None:
    write(photos / "large.png", photograph(side=400))
    write(photos / "small.png", photograph(side=200))
    library.index(photos)
    from xsearch.indexer.catalog import Catalog
    from xsearch.indexer.tables import images

    with Catalog(library.path) as catalog, catalog.transaction() as connection:
        connection.execute(images.update().values(perceptual_hash=None))
    assert library.duplicates(look=False).groups == ()
    assert names(library.duplicates()) == [("large.png", {"small.png"})]


def test_a_library_of_nothing_has_no_copies(library: xsearch.Library) -> None:
    report = library.duplicates()
    assert (report.groups, report.pictures) == ((), 0)


def test_the_library_s_own_encoder_is_used_where_others_are_kept(
    library: xsearch.Library, photos: Path
) -> None:
    write(photos / "large.png", photograph(side=400))
    write(photos / "small.png", photograph(side=200))
    library.index(photos)
    library.reindex(ColourEncoder("c011", "other", grid=2), switch=False)
    assert names(library.duplicates()) == [("large.png", {"small.png"})]


# Files that are away, gone, changed; places


def test_a_file_on_a_drive_that_is_away_is_shown_as_missing(
    library: xsearch.Library, photos: Path, tmp_path: Path
) -> None:
    drive = tmp_path / "drive"
    write(photos / "small.png", photograph(side=200))
    write(drive / "large.png", photograph(side=400))
    library.index([photos, drive])
    drive.rename(tmp_path / "unplugged")
    found = only(library.duplicates())
    assert (found.keeper.path.name, found.keeper.missing) == ("large.png", True)
    assert [(file.missing, file.checked) for file in found.others] == [(False, False)]


def test_files_that_are_gone_or_were_changed_are_in_no_group(
    library: xsearch.Library, photos: Path
) -> None:
    paths = [write_picture(photos / name, 1) for name in ("a.png", "b.png", "c.png")]
    library.index(photos)
    paths[0].unlink()
    write_picture(paths[1], 7)
    report = library.duplicates()
    assert report.groups == ()
    assert report.changed == 1


def test_a_copy_stays_with_the_next_best_where_the_best_is_gone(
    library: xsearch.Library, photos: Path
) -> None:
    for side in (100, 200, 400):
        write(photos / f"{side}.png", photograph(side=side))
    library.index(photos)
    (photos / "400.png").unlink()
    assert names(library.duplicates()) == [("200.png", {"100.png"})]


def test_only_pictures_at_or_below_a_path_are_compared(
    library: xsearch.Library, photos: Path
) -> None:
    for folder in ("one", "one/deep", "one%", "two"):
        write_picture(photos / folder / "same.png", 1)
    library.index(photos)
    assert len(only(library.duplicates()).others) == 3
    assert len(only(library.duplicates(photos / "one")).others) == 1
    assert library.duplicates(photos / "one" / "deep").groups == ()
    places = [photos / "two" / "same.png", photos / "one%"]
    assert {file.path.parent.name for file in only(library.duplicates(places)).others} < {
        "one%",
        "two",
    }
    with pytest.raises(xsearch.SourceError, match="no picture there"):
        library.duplicates([photos / "one", photos / "three"])


def test_looking_for_copies_waits_for_no_writer_and_touches_nothing(
    library: xsearch.Library, photos: Path
) -> None:
    write(photos / "large.png", photograph(side=400))
    write(photos / "small.png", photograph(side=200))
    library.index(photos)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in photos.iterdir()}
    stages = []
    with writer_lock(library.path, "a test", wait=0):
        report = library.duplicates(progress=lambda progress: stages.append(progress.stage))
    assert len(report.groups) == 1
    assert {"compare", "look"} <= set(stages)
    assert before == {
        path: (path.read_bytes(), path.stat().st_mtime_ns) for path in photos.iterdir()
    }


def test_what_cannot_be_meant_is_refused(library: xsearch.Library) -> None:
    with pytest.raises(xsearch.UsageError, match="strictness must be one of"):
        library.duplicates(strictness="very")
    with pytest.raises(xsearch.UsageError, match="workers"):
        library.duplicates(workers=0)


# Grouping


def link(better: int, worse: int, copies: bool = True, bits: int = 0) -> Link:
    return Link(better, worse, copies, 0, bits, 1.0)


def test_a_series_in_which_each_is_like_the_next_is_not_one_group() -> None:
    kept = group([link(at, at + 1) for at in range(5)])
    assert {worse: found.better for worse, found in kept.items()} == {1: 0, 3: 2, 5: 4}


def test_a_copy_joins_the_keeper_it_is_most_like() -> None:
    kept = group([link(0, 2, bits=6), link(1, 2, bits=2), link(0, 1, copies=False)])
    assert kept[2].better == 1


@given(
    st.lists(
        st.tuples(st.integers(0, 11), st.integers(0, 11), st.booleans()).filter(
            lambda pair: pair[0] < pair[1]
        ),
        max_size=40,
        unique_by=lambda pair: pair[:2],
    )
)
def test_every_member_of_a_group_is_a_copy_of_its_keeper(
    pairs: list[tuple[int, int, bool]],
) -> None:
    links = [link(*pair) for pair in pairs]
    kept = group(links)
    copies = {(one.better, one.worse) for one in links if one.copies}
    for worse, found in kept.items():
        assert (found.better, worse) in copies
        assert found.better not in kept
    keepers = set(range(12)) - set(kept)
    # Who is a keeper is a copy of no better one.
    assert not {pair for pair in copies if set(pair) <= keepers}


def test_of_very_many_copies_each_keeps_its_links_to_the_best() -> None:
    links = Links()
    count = 300
    better, worse = np.array(list(combinations(range(count), 2))).T
    same = np.zeros(len(better), np.uint8)
    for _ in range(2):
        links.add(better, worse, same + SURE, same, same, same.astype(np.float32))
    found = links.all()
    assert len(found) < 65 * count
    assert {worse: one.better for worse, one in group(found).items()} == dict.fromkeys(
        range(1, count), 0
    )


def test_a_copy_of_a_copy_is_compared_with_the_keeper_itself(
    library: xsearch.Library, photos: Path
) -> None:
    whole = photograph()
    width, height = whole.size
    part = whole.crop((0, 0, width * 9 // 10, height * 9 // 10))
    write(photos / "whole.png", whole)
    write(photos / "part.png", part)
    write(photos / "small part.jpg", part.resize((part.width // 2, part.height // 2)))
    library.index(photos)
    assert names(library.duplicates()) == [("whole.png", {"part.png", "small part.jpg"})]


# Hashes and vectors


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=8))
def test_mirroring_a_hash_twice_gives_it_back(values: list[int]) -> None:
    hashes = np.array(values, np.int64)
    for turn in (0, 1, 2, 3, 4, 7):
        assert np.array_equal(turned_hashes(turned_hashes(hashes)[turn])[turn], hashes)
    assert np.array_equal(turned_hashes(turned_hashes(hashes)[5])[6], hashes)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
def test_many_distances_are_those_of_single_hashes(one: int, other: int) -> None:
    found = distances(np.array([one], np.int64), np.array([other], np.int64))
    assert found.tolist() == [hamming(one, other)]


def test_the_hash_of_a_turned_photograph_is_foretold() -> None:
    for name in NAMES:
        grey = photograph(name).convert("L")
        foretold = turned_hashes(np.array([perceptual_hash(grey)], np.int64))
        for turn in range(len(TURNS)):
            real = perceptual_hash(Image.fromarray(turned(np.asarray(grey), turn)))
            assert hamming(int(foretold[turn, 0]), real) <= 8


def test_all_hashes_of_at_most_seven_differing_bits_are_found() -> None:
    random = np.random.default_rng(0)
    hashes = random.integers(-(2**63), 2**63 - 1, 400, dtype=np.int64)
    hashes[7] = 0
    for at in range(200, 400):
        flipped = random.choice(63, int(random.integers(0, 11)), replace=False)
        turn = int(random.integers(0, 8))
        made = int(turned_hashes(hashes[at - 200 : at - 199])[turn, 0])
        hashes[at] = made ^ sum(1 << int(bit) for bit in flipped)
    turned_all = turned_hashes(hashes)
    least = {
        (one, two): int(distances(turned_all[:, one], hashes[two]).min())
        for one, two in combinations(range(400), 2)
        if hashes[one] and hashes[two]
    }
    found = set()
    for first, second in close_hashes(hashes, 10):
        found |= set(zip(first.tolist(), second.tolist(), strict=True))
    assert {pair for pair, bits in least.items() if bits <= 7} <= found
    assert found <= {pair for pair, bits in least.items() if bits <= 10}


@pytest.mark.parametrize("count", [700, 4_000])
def test_pairs_of_close_vectors_are_found_in_small_and_large_libraries(count: int) -> None:
    random = np.random.default_rng(1)
    vectors = random.standard_normal((count, 32)).astype(np.float32)
    copies = np.arange(1, count, 7)
    vectors[copies] = vectors[copies - 1] + 0.3 * random.standard_normal((len(copies), 32))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows_of = np.arange(count)[::-1].copy()
    cosines = (vectors @ vectors.T)[np.ix_(rows_of, rows_of)]
    wanted = set(zip(*np.nonzero(np.triu(cosines > 0.86, 1)), strict=True))
    found = {}
    for _, first, second, similar in close_vectors(
        StoredRows(vectors.astype(np.float16)), rows_of, 0.86
    ):
        found |= dict(zip(zip(first, second, strict=True), similar, strict=True))
    assert len(wanted & set(found)) >= (0.99 if count > 2_000 else 1) * len(wanted)
    assert all(abs(cosines[pair] - similar) < 0.01 for pair, similar in found.items())


@pytest.mark.parametrize(
    ("straight", "least", "near", "verdict"),
    [
        (0, 0, 1.0, SURE),
        (0, 0, -0.2, SURE),
        (12, 12, 1.0, SURE),
        (12, 12, 0.5, NO),
        (10, 10, 0.4, ASK),
        (30, 6, 0.3, SURE),
        (24, 20, 0.95, CROP),
        (24, 20, 0.85, NO),
        (34, 30, 0.99, NO),
        (UNKNOWN, UNKNOWN, 0.9, NO),
        (UNKNOWN, UNKNOWN, 0.98, CROP),
    ],
)
def test_hash_and_vector_decide_together(
    straight: int, least: int, near: float, verdict: int
) -> None:
    bits = np.array([straight], np.uint8), np.array([least], np.uint8)
    assert judge(NORMAL, *bits, np.array([near], np.float32)).tolist() == [verdict]


@settings(max_examples=30)
@given(st.integers(0, 64), st.floats(-1, 1))
def test_what_is_sure_to_a_stricter_rule_is_sure_to_a_looser_one(bits: int, near: float) -> None:
    one = np.array([bits], np.uint8)
    verdicts = [
        int(judge(RULES[name], one, one, np.array([near], np.float32))[0])
        for name in ("strict", "normal", "loose")
    ]
    assert verdicts[0] <= verdicts[1] <= verdicts[2]


def test_a_cone_of_vectors_is_taken_into_account_in_large_libraries_alone() -> None:
    random = np.random.default_rng(2)
    vectors = random.standard_normal((2_000, 16)) + 2.0
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    mean = mean_cosine(vectors, np.arange(2_000))
    assert 0.5 < mean <= 0.6
    assert mean_cosine(vectors, np.arange(999)) == 0.0
    assert closeness(np.array([mean, 1.0], np.float32), mean).round(4).tolist() == [0, 1]


# What files show


def form(words: list[str]) -> Image.Image:
    page = Image.new("RGB", (600, 800), "white")
    draw = ImageDraw.Draw(page)
    draw.rectangle((40, 40, 560, 110), fill=(40, 60, 120))
    for at, word in enumerate(words):
        draw.line((40, 200 + at * 60, 560, 200 + at * 60), fill="grey")
        draw.text((60, 165 + at * 60), word, fill="black", font_size=24)
    return page


def test_forms_filled_in_differently_are_no_copies_but_their_copies_are(
    library: xsearch.Library, photos: Path
) -> None:
    words = [f"item {at} for Mr Smith" for at in range(9)]
    others = [f"{at}00 sacks of coal" for at in range(9)]
    write(photos / "form.png", form(words))
    write(photos / "copy.jpg", form(words).resize((300, 400)), quality=60)
    write(photos / "another.png", form(others))
    library.index(photos)
    assert len(only(library.duplicates(look=False)).others) == 2
    assert names(library.duplicates()) == [("form.png", {"copy.jpg"})]


def test_a_photograph_is_itself_however_it_was_saved_and_no_other() -> None:
    cat, cup = photograph(), photograph("coffee")
    whole = reduce(cat)
    width, height = cat.size
    alike = [
        cat.resize((width // 4, height // 4)),
        ImageEnhance.Brightness(cat).enhance(0.6),
        cat.convert("L"),
        cat.crop((width // 10, 0, width, height * 9 // 10)),
        cat.rotate(2, Image.Resampling.BICUBIC).crop((12, 12, width - 12, height - 12)),
    ]
    for copy in alike:
        assert same_picture(whole, reduce(copy), 0, NORMAL.alike)
        assert same_picture(reduce(copy), whole, 0, NORMAL.alike)
    assert same_picture(whole, reduce(cat.transpose(Image.Transpose.ROTATE_180)), 3, NORMAL.alike)
    for other in (
        cup,
        cat.transpose(Image.Transpose.ROTATE_180),
        cat.crop((0, 0, width // 2, height // 2)),
    ):
        assert not same_picture(whole, reduce(other), 0, NORMAL.alike)


# With the encoder that people have


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> xsearch.Library:
    """Photographs, each with a copy of every kind, and parts that are too small for one."""
    folder = tmp_path_factory.mktemp("copies")
    for name in NAMES:
        whole = photograph(name)
        width, height = whole.size
        kinds = {
            "whole": whole,
            "small": whole.resize((width // 2, height // 2)),
            "cropped": whole.crop((width // 20, height // 10, width * 19 // 20, height)),
            "turned": whole.transpose(Image.Transpose.ROTATE_90),
            "bright": ImageEnhance.Brightness(whole).enhance(1.3),
            "part": whole.crop((width // 3, height // 3, width * 2 // 3, height * 2 // 3)),
        }
        for kind, image in kinds.items():
            options = {"quality": 70} if kind != "whole" else {}
            write(folder / f"{name}-{kind}.{'jpg' if options else 'png'}", image, **options)
    library = xsearch.open(folder / "library")
    library.index(folder)
    return library


def test_real_copies_are_found_and_mere_parts_are_not(real: xsearch.Library) -> None:
    found = names(real.duplicates())
    assert len(found) == 4
    for keeper, others in found:
        name, _, kind = Path(keeper).stem.partition("-")
        assert kind == "whole"
        assert others == {f"{name}-{of}.jpg" for of in ("small", "cropped", "turned", "bright")}


def test_without_a_look_at_the_files_whole_copies_are_found(real: xsearch.Library) -> None:
    report = real.duplicates(look=False)
    assert report.checked == 0
    for keeper, others in names(report):
        name = Path(keeper).stem.partition("-")[0]
        assert {f"{name}-{of}.jpg" for of in ("small", "turned", "bright")} <= others
        assert f"{name}-part.jpg" not in others


def test_strict_leaves_cropped_copies_out(real: xsearch.Library) -> None:
    for keeper, others in names(real.duplicates(strictness="strict")):
        name = Path(keeper).stem.partition("-")[0]
        assert f"{name}-small.jpg" in others
        assert f"{name}-cropped.jpg" not in others


# The command

Run = Callable[..., tuple[str, str]]


@pytest.fixture
def run(library: xsearch.Library, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs the command on the library; what it printed on stdout and on stderr."""

    def run(*words: str | Path) -> tuple[str, str]:
        capfd.readouterr()
        app = make_app("duplicates")
        app(["duplicates", "-l", str(library.path), *map(str, words)], standalone_mode=False)
        sys.stdout.flush()
        return tuple(capfd.readouterr())

    return run


@pytest.fixture
def filled(library: xsearch.Library, photos: Path) -> Path:
    """A folder with a near copy and two files of equal bytes, indexed."""
    write(photos / "large.png", photograph(side=400))
    write(photos / "small one.png", photograph(side=200))
    write_picture(photos / "x.jpg", 2)
    age(write_picture(photos / "y.jpg", 2), 10)
    library.index(photos)
    return photos


def test_the_command_shows_groups_and_says_that_nothing_is_deleted(run: Run, filled: Path) -> None:
    out, err = run()
    lines = [line.replace(f"{filled}{os.sep}", "") for line in out.splitlines()]
    assert lines[0].startswith("keep  x.jpg  64 x 48 JPEG, ")
    assert lines[0].endswith("(oldest file)")
    assert lines[1].split()[0] == "y.jpg"
    assert lines[1].endswith("same bytes")
    assert lines[2] == ""
    assert lines[3].startswith("keep  large.png")
    assert lines[4].split("  ")[3] == "small one.png"
    assert "3 pictures compared: 2 groups (1 of equal bytes), 2 copies" in err
    assert "nothing was deleted" in err
    assert "not looked at" in run("--no-look")[0]


def test_the_command_prints_json_paths_and_paths_for_xargs(run: Run, filled: Path) -> None:
    exact, near = map(json.loads, run("--json")[0].splitlines())
    assert (exact["exact"], near["exact"]) == (True, False)
    assert near["keeper"]["path"] == str(filled / "large.png")
    assert near["reason"] == "most pixels"
    assert near["others"][0]["checked"] is True
    paths = [str(filled / "small one.png"), str(filled / "y.jpg")]
    assert sorted(run("-f")[0].splitlines()) == paths
    assert sorted(run("-0")[0].split("\0")) == ["", *paths]
    assert run("--exact", "-f", filled)[0].splitlines() == paths[1:]


def test_paths_are_not_offered_where_the_file_to_keep_is_away(
    library: xsearch.Library, photos: Path, tmp_path: Path, run: Run
) -> None:
    drive = tmp_path / "drive"
    write(photos / "small.png", photograph(side=200))
    write(drive / "large.png", photograph(side=400))
    library.index([photos, drive])
    drive.rename(tmp_path / "unplugged")
    out, err = run("-f")
    assert out == ""
    assert "1 group left out" in err

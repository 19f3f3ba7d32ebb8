"""Conditions to ids: each condition by itself, then any of them together against brute force."""

from __future__ import annotations

import fnmatch
import math
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from support import age, open_colour, write_picture, write_text

import xsearch
from xsearch.core.errors import SourceError
from xsearch.core.filters import Circle, Conditions
from xsearch.core.paths import from_stored, to_stored
from xsearch.core.values import Kind
from xsearch.indexer import schema
from xsearch.indexer.geography import EARTH_KM, distance_km, ranges
from xsearch.indexer.reader import Snapshot
from xsearch.indexer.select import select

# Real libraries


def exif(
    camera: str | None = None,
    lens: str | None = None,
    taken: str | None = None,
    place: tuple[float, float] | None = None,
) -> Image.Exif:
    made = Image.Exif()
    if camera:
        made[0x110] = camera
    inner = made.get_ifd(0x8769)
    if taken:
        inner[0x9003] = taken
    if lens:
        inner[0xA434] = lens
    if place:
        gps = made.get_ifd(0x8825)
        for tag, degrees, signs in ((1, place[0], "NS"), (3, place[1], "EW")):
            gps[tag] = signs[degrees < 0]
            gps[tag + 1] = (abs(degrees), 0, 0)
    return made


def found(library: xsearch.Library, target: Kind = "image", **asked: Any) -> set[str]:
    """What is selected: the names of pictures' first files, or the texts themselves."""
    with library._open_reader().snapshot() as snapshot:
        ids = select(snapshot, Conditions(**asked), target)
        assert ids.dtype == np.int64 and (np.diff(ids) > 0).all()
        if target == "text":
            known = dict(snapshot.all("SELECT id, text FROM items WHERE deleted_at IS NULL"))
        else:
            known = dict(
                snapshot.all(
                    "SELECT item_id, name FROM files"
                    " WHERE item_id IS NOT NULL AND missing_since IS NULL ORDER BY id DESC"
                )
            )
    return {known[id_] for id_ in ids.tolist() if id_ in known}


@pytest.fixture(scope="module")
def trip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[xsearch.Library]:
    """Four pictures that differ in all that can be asked for, and texts; nothing changes it."""
    photos = tmp_path_factory.mktemp("trip") / "photos"
    phone = exif("iPhone 12 Pro", taken="2024:06:15 12:00:00", place=(48.85, 2.35))
    write_picture(photos / "paris/phone.jpg", 1, (80, 60), phone)
    camera = exif("Canon EOS 5D", "EF 50mm", "2023:12:31 23:59:59", place=(48.8, 2.1))
    write_picture(photos / "paris/camera.jpg", 2, (60, 80), camera)
    write_picture(photos / "scan.png", 3, (100, 100))
    write_picture(photos / "fiji/beach.jpg", 4, (200, 20), exif(place=(-17, 179.9)))
    write_text(photos / "paris/phone.txt", "a tower")
    write_text(photos / "notes.txt", "a line of its own\nanother")
    with open_colour(photos.parent / "library") as library:
        library.index([photos, photos / "notes.txt"])
        library.add_tag("city", photos / "paris")
        library.add_tag("day", photos / "paris/phone.jpg")
        library.add_tag("day", photos / "scan.png")
        yield library


def photos_of(library: xsearch.Library) -> Path:
    return library.path.parent / "photos"


ALL = {"phone.jpg", "camera.jpg", "scan.png", "beach.jpg"}
# Files of long ago are of 2017-07-14.
DAY = datetime(2024, 6, 15, 12)


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({}, ALL),
        ({"after": DAY}, {"phone.jpg"}),
        ({"before": DAY}, ALL - {"phone.jpg"}),
        ({"after": datetime(2023, 12, 31), "before": datetime(2024, 1, 1)}, {"camera.jpg"}),
        (
            {"after": datetime(2017, 7, 13), "before": datetime(2017, 7, 16)},
            {"scan.png", "beach.jpg"},
        ),
        ({"after": datetime(1, 1, 1)}, ALL),
        ({"before": datetime(9999, 12, 31)}, ALL),
        ({"camera": ("iphone",)}, {"phone.jpg"}),
        ({"camera": ("5d", "canon")}, {"camera.jpg"}),
        ({"camera": ("canon", "iphone")}, set()),
        ({"lens": ("50mm",)}, {"camera.jpg"}),
        ({"formats": ("PNG", "GIF")}, {"scan.png"}),
        ({"sides": (200, 20)}, {"beach.jpg"}),
        ({"sides": (80, 60)}, {"phone.jpg", "camera.jpg", "scan.png"}),
        ({"sides": (81, 60)}, {"scan.png"}),
        ({"pixels": 4800}, {"phone.jpg", "camera.jpg", "scan.png"}),
        ({"orientation": "landscape"}, {"phone.jpg", "beach.jpg"}),
        ({"orientation": "portrait"}, {"camera.jpg"}),
        ({"orientation": "square"}, {"scan.png"}),
        ({"near": Circle(48.85, 2.35, 5)}, {"phone.jpg"}),
        ({"near": Circle(48.85, 2.35, 20)}, {"phone.jpg", "camera.jpg"}),
        ({"near": Circle(-17, -179.9, 30)}, {"beach.jpg"}),
        ({"has_text": True}, {"phone.jpg"}),
        ({"has_text": False}, ALL - {"phone.jpg"}),
        ({"tags": ("day",)}, {"phone.jpg", "scan.png"}),
        ({"tags": ("day", "city")}, {"phone.jpg"}),
        ({"tags": ("Day",)}, set()),
        ({"paths": ("*.jpg",)}, ALL - {"scan.png"}),
        ({"paths": ("*.JPG",)}, set()),
        ({"paths": ("*.png", "paris/p*")}, {"phone.jpg", "scan.png"}),
        ({"paths": ("paris/*.jpg",), "lens": ("ef",)}, {"camera.jpg"}),
        ({"paths": ("*/[!p]*",)}, {"camera.jpg", "beach.jpg"}),
        ({"paths": ("**/paris/",)}, {"phone.jpg", "camera.jpg"}),
        ({"paths": ("/**/photos/paris/*",)}, {"phone.jpg", "camera.jpg"}),
        ({"paths": ("/*.png",)}, set()),
    ],
)
def test_each_condition_keeps_the_pictures_that_meet_it(
    trip: xsearch.Library, asked: dict[str, Any], names: set[str]
) -> None:
    assert found(trip, **asked) == names


def test_a_root_keeps_what_lies_at_or_below_it(trip: xsearch.Library) -> None:
    photos = photos_of(trip)
    assert found(trip, root=photos) == found(trip, root=photos.parent) == ALL
    assert found(trip, root=photos / "paris") == {"phone.jpg", "camera.jpg"}
    assert found(trip, root=photos / "scan.png") == {"scan.png"}
    assert found(trip, root=photos / "paris", paths=("p*",)) == {"phone.jpg"}
    for wrong in (photos / "pari", photos / "paris/x.jpg", Path("/nowhere")):
        with pytest.raises(SourceError, match="xsearch status"):
            found(trip, root=wrong)


def test_a_text_qualifies_where_its_picture_does(trip: xsearch.Library) -> None:
    texts = {"a tower", "a line of its own", "another"}
    assert found(trip, "text") == texts
    for asked in ({"camera": ("iphone",)}, {"tags": ("city",)}, {"has_text": True}):
        assert found(trip, "text", **asked) == {"a tower"}
    assert found(trip, "text", camera=("canon",)) == set()
    assert found(trip, "text", has_text=False) == set()


def test_a_text_qualifies_by_the_place_of_its_own_file(trip: xsearch.Library) -> None:
    photos = photos_of(trip)
    lines = {"a line of its own", "another"}
    assert found(trip, "text", paths=("notes*",)) == found(trip, "text", root=photos / "notes.txt")
    assert found(trip, "text", paths=("notes*",)) == lines
    assert found(trip, "text", paths=("paris/*",)) == {"a tower"}
    assert found(trip, "text", root=photos) == lines | {"a tower"}
    # A line has no picture that could have been taken with a telephone.
    assert found(trip, "text", paths=("notes*",), camera=("iphone",)) == set()
    # A text beside a picture has no place but the picture's.
    assert found(trip, "text", paths=("phone.txt",)) == set()


def test_a_row_of_a_table_needs_its_picture_for_all_but_its_place(
    library: xsearch.Library, photos: Path
) -> None:
    write_picture(photos / "a/phone.jpg", 1, exif=exif("iPhone"))
    write_picture(photos / "scan.png", 2)
    write_text(photos / "table.csv", "image,text\na/phone.jpg,from afar\nscan.png,on paper\n")
    library.index([photos, photos / "table.csv"])
    assert found(library, "text", paths=("*.csv",)) == {"from afar", "on paper"}
    assert found(library, "text", paths=("*.csv",), camera=("iphone",)) == {"from afar"}
    assert found(library, "text", paths=("*.png",)) == {"on paper"}
    (photos / "scan.png").unlink()
    library.index()
    # The row is still there, its picture is not.
    assert found(library, "text", formats=("PNG",)) == set()
    assert found(library, "text", paths=("*.csv",)) == {"from afar", "on paper"}


def test_one_of_several_files_is_enough_and_the_oldest_dates_the_picture(
    library: xsearch.Library, photos: Path
) -> None:
    write_picture(photos / "a/one.png", 1)
    write_picture(photos / "b/two.png", 1)
    age(photos / "b/two.png", 400 * 86_400)
    library.index(photos)
    assert found(library, paths=("two.png",)) == found(library, paths=("a/*",)) == {"one.png"}
    assert found(library, before=datetime(2018, 1, 1)) == {"one.png"}
    assert found(library, after=datetime(2018, 1, 1)) == set()
    (photos / "a/one.png").unlink()
    library.index(photos)
    assert found(library, paths=("one.png",)) == set()
    assert found(library, after=datetime(2018, 1, 1)) == {"two.png"}


@pytest.mark.parametrize("name", ["caf\udce9", "x[1]", "100%_", "été", "line\nbreak", "\U0010f000"])
def test_odd_names_are_found_by_patterns_and_as_roots(
    library: xsearch.Library, photos: Path, name: str
) -> None:
    place = write_picture(photos / name / f"{name}.png", 1)
    write_picture(photos / "other/other.png", 2)
    library.index(photos)
    asked = name.replace("[", "[[]")
    for pattern in (f"{asked}.png", f"{asked}/*", f"{asked}/", f"**/{asked}.*"):
        assert {from_stored(each) for each in found(library, paths=(pattern,))} == {f"{name}.png"}
    for root in (place, place.parent):
        assert {from_stored(each) for each in found(library, root=root)} == {f"{name}.png"}
    assert found(library, root=photos, paths=("other*",)) == {"other.png"}


def test_roots_are_told_apart_by_case_and_are_no_prefixes(
    library: xsearch.Library, photos: Path
) -> None:
    folders = ("trip", "Trip", "trip2", "a/trip", "tri_", "trip/in", "Trip/in", "trip2/in")
    for at, folder in enumerate(folders):
        write_picture(photos / folder / f"{at}.png", at)
    library.index(photos)
    assert found(library, root=photos / "trip") == {"0.png", "5.png"}
    assert found(library, paths=("trip/",)) == {"0.png", "5.png"}
    assert found(library, paths=("trip[!a-z]in/*",)) == set()
    assert found(library, paths=("tri?/*",)) == {"0.png", "4.png"}
    assert found(library, paths=("t*/*.png",)) == {"0.png", "2.png", "4.png"}
    assert found(library, paths=("t*/**/5*",)) == {"5.png"}
    assert found(library, paths=("**/trip/*",)) == {"0.png", "3.png"}


def test_thousands_of_folders_are_no_limit(library: xsearch.Library, photos: Path) -> None:
    write_picture(photos / "0/x.png", 1)
    library.index(photos)
    with sqlite3.connect(library.path / "catalog.db") as catalog:
        columns = "root_id, name, role, size, mtime_ns, racy, content_hash, item_id, state"
        catalog.executemany(
            f"INSERT INTO files (folder, {columns})"
            f" SELECT ?, {columns} FROM files WHERE folder = '0'",
            [(str(folder),) for folder in range(1, 3_000)],
        )
    assert found(library, paths=("[1-9]*/*.png",)) == {"x.png"}
    assert found(library, paths=("2999/*.png",)) == {"x.png"}
    assert found(library, paths=("3000/*.png",)) == set()


# Distances

# As often as not, close to the date line.
LONGITUDES = st.floats(-180, 180) | st.floats(179, 180) | st.floats(-180, -179)
POINTS = st.tuples(st.floats(-90, 90), LONGITUDES)


def chord_km(one: tuple[float, float], other: tuple[float, float]) -> float:
    """The great-circle distance by another way: the angle between vectors."""

    def vector(point: tuple[float, float]) -> np.ndarray:
        latitude, longitude = map(math.radians, point)
        flat = math.cos(latitude)
        return np.array(
            [flat * math.cos(longitude), flat * math.sin(longitude), math.sin(latitude)]
        )

    a, b = vector(one), vector(other)
    return EARTH_KM * math.atan2(float(np.linalg.norm(np.cross(a, b))), float(a @ b))


@given(POINTS, POINTS)
def test_distances_are_the_angles_between_points(
    one: tuple[float, float], other: tuple[float, float]
) -> None:
    (found,) = distance_km(*one, np.array([other[0]]), np.array([other[1]]))
    # Haversines are least exact for points that lie opposite each other.
    assert found == pytest.approx(chord_km(one, other), abs=1e-6 if found < 19_000 else 1)


@given(POINTS, POINTS, st.floats(1e-3, 20_038) | st.floats(1, 300), st.booleans())
def test_what_lies_in_a_circle_lies_in_its_ranges(
    centre: tuple[float, float], point: tuple[float, float], radius: float, level: bool
) -> None:
    point = (centre[0], point[1]) if level else point
    (south, north), longitudes = ranges(Circle(*centre, radius))
    if distance_km(*centre, np.array([point[0]]), np.array([point[1]]))[0] <= radius:
        assert south <= point[0] <= north
        assert any(west <= point[1] <= east for west, east in longitudes)


def test_paris_is_as_far_from_london_as_it_is() -> None:
    (found,) = distance_km(48.8566, 2.3522, np.array([51.5074]), np.array([-0.1278]))
    assert found == pytest.approx(343.6, abs=0.1)


# Any library, any conditions


@dataclass
class File:
    root: int
    folder: str
    name: str
    mtime: int
    missing: bool

    @property
    def below(self) -> str:
        return f"{self.folder}/{self.name}" if self.folder else self.name

    @property
    def path(self) -> str:
        return f"{ROOTS[self.root][0]}/{self.below}"


@dataclass
class Picture:
    size: tuple[int, int]
    format: str
    taken: datetime | None
    camera: str | None
    lens: str | None
    place: tuple[float, float] | None
    tags: frozenset[str]
    deleted: bool
    files: list[File]


@dataclass
class Text:
    """A text, and where it stands: the source, its picture's number or None, its file or None."""

    links: list[tuple[str, int | None, File | None]] = field(default_factory=list)


@dataclass
class Collection:
    pictures: list[Picture]
    texts: list[Text]

    def files(self) -> list[File]:
        files = [file for picture in self.pictures for file in picture.files]
        links = [link for text in self.texts for link in text.links]
        return files + [own for _, _, own in links if own is not None]


ROOTS = {1: ("/photos", ""), 2: ("/photos/in", ""), 3: ("/one", "a.b")}
SEGMENTS = ["a", "ab", "A", "[", "\udcff", "a%"]
PATTERNS = ["*", "**", "a*", "[!a]", "*b", "?", "**", "*", "a", "[^b]*", "[[]", "*[]%]", "[A-b]*"]
MOMENTS = [datetime(2020, 1, 1), datetime(2021, 6, 15, 12), datetime(2022, 2, 28, 23, 59, 59, 5)]
PLACES = [(0.0, 0.0), (0.0, 179.99), (0.0, -179.99), (89.9, 10.0), (-90.0, 0.0), (48.85, 2.35)]


def times() -> st.SearchStrategy[datetime]:
    return st.sampled_from(MOMENTS)


def some_files() -> st.SearchStrategy[File]:
    folders = st.lists(st.sampled_from(SEGMENTS), max_size=2).map("/".join)
    missing = st.sampled_from([False, False, False, True])
    free = st.builds(
        File,
        st.sampled_from([1, 2]),
        folders,
        st.sampled_from(SEGMENTS),
        # At noon, so that no time zone and no summer time matters.
        times().map(lambda moment: int(moment.replace(hour=12, second=0).timestamp())),
        missing,
    )
    return free | st.builds(
        File, st.just(3), st.just(""), st.just("a.b"), st.just(0), st.booleans()
    )


def collections() -> st.SearchStrategy[Collection]:
    pictures = st.builds(
        Picture,
        st.sampled_from([(4, 3), (3, 4), (2, 2), (10, 1)]),
        st.sampled_from(["JPEG", "PNG", "MPO"]),
        st.none() | times(),
        st.none() | st.sampled_from(["Canon EOS", "iPhone 12", "ÉCLAIR 50%"]),
        st.none() | st.sampled_from(["EF 50mm", "eos_x"]),
        st.none() | st.sampled_from(PLACES),
        st.frozensets(st.sampled_from(["a", "b"])),
        st.booleans(),
        st.lists(some_files(), min_size=1, max_size=2),
    )
    links = st.tuples(
        st.sampled_from(["exif", "sidecar", "row", "line"]), st.integers(0, 3), some_files()
    )

    @st.composite
    def build(draw: st.DrawFn) -> Collection:
        made = draw(st.lists(pictures, min_size=2, max_size=5))
        texts: list[Text] = []
        for drawn in draw(
            st.lists(st.lists(links, min_size=1, max_size=2), min_size=2, max_size=4)
        ):
            text = Text()
            for source, picture, file in drawn:
                image = picture if picture < len(made) and source != "line" else None
                if source in ("row", "line") or image is not None:
                    text.links.append((source, image, None if source == "exif" else file))
            texts += [text] if text.links else []
        collection = Collection(made, texts)
        places: set[str] = set()
        for file in collection.files():
            while file.path in places:
                file.root, file.name = 1, f"{file.name}a"
            places.add(file.path)
        return collection

    return build()


def some_conditions() -> st.SearchStrategy[Conditions]:
    patterns = st.builds(
        lambda prefix, segments, suffix: prefix + "/".join(segments) + suffix,
        st.sampled_from(["", "", "", "/photos/", "/**/"]),
        st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3),
        st.sampled_from(["", "", "/"]),
    )
    roots = ["/photos", "/photos/in", "/photos/in/a", "/photos/a", "/one", "/one/a.b", "/none"]
    options: dict[str, st.SearchStrategy[Any]] = {
        "after": times(),
        "before": times(),
        "camera": st.sampled_from([("canon",), ("o",), ("12", "iphone"), ("éclair",), ("%",)]),
        "lens": st.sampled_from([("50mm",), ("_",), ("e",)]),
        "near": st.builds(
            lambda point, radius: Circle(*point, radius),
            st.sampled_from(PLACES),
            st.sampled_from([0.5, 3.0, 50.0, 5_000.0, 15_000.0, 20_038.0]),
        ),
        "paths": st.lists(patterns, min_size=1, max_size=2).map(tuple),
        "formats": st.sampled_from([("JPEG", "MPO"), ("PNG",)]),
        "sides": st.sampled_from([(4, 3), (2, 2), (10, 1), (11, 1)]),
        "pixels": st.integers(3, 13),
        "orientation": st.sampled_from(["landscape", "portrait", "square"]),
        "root": st.sampled_from(roots).map(Path),
        "has_text": st.booleans(),
        "tags": st.sampled_from([("a",), ("a", "b"), ("c",)]),
    }
    # Few at once, or hardly anything would qualify.
    often = ["paths", "paths", "paths", "root", "near", "before", *sorted(options)]
    few = st.sets(st.sampled_from(often), max_size=2)
    return few.flatmap(
        lambda names: st.builds(Conditions, **{name: options[name] for name in names})
    )


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path = tmp_path_factory.mktemp("empty") / "catalog.db"
    schema.upgrade(path)
    with sqlite3.connect(path) as connection:
        yield connection
    connection.close()


def insert(catalog: sqlite3.Connection, table: str, **row: Any) -> int:
    names, marks = ", ".join(row), ", ".join("?" * len(row))
    values = tuple(row.values())
    return catalog.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", values).lastrowid or 0


def fill(catalog: sqlite3.Connection, collection: Collection) -> tuple[list[int], list[int]]:
    """Write a collection into a catalog; the ids of its pictures and of its texts."""
    known: dict[tuple[int, str, str], int] = {}

    def add_file(file: File, role: str, item: int | None) -> int:
        key = (file.root, file.folder, file.name)
        if key not in known:
            known[key] = insert(
                catalog,
                "files",
                root_id=file.root,
                folder=to_stored(file.folder),
                name=to_stored(file.name),
                role=role,
                size=1,
                mtime_ns=file.mtime * 10**9,
                racy=False,
                item_id=item,
                state="ok",
                missing_since="2026-01-01 00:00:00.000000" if file.missing else None,
            )
        return known[key]

    def add_item(kind: str, number: int, deleted: bool) -> int:
        return insert(
            catalog,
            "items",
            kind=kind,
            content_hash=bytes([number]),
            created_at="2026-01-01 00:00:00.000000",
            deleted_at="2026-01-01 00:00:00.000000" if deleted else None,
        )

    for id_, (path, name) in ROOTS.items():
        added = "2026-01-01 00:00:00.000000"
        rules = {"exclude_dirs": "[]", "include_hidden": False, "added_at": added}
        insert(catalog, "roots", id=id_, path=path, name=name, **rules)
    images = []
    for number, picture in enumerate(collection.pictures):
        images.append(add_item("image", number, picture.deleted))
        for file in picture.files:
            add_file(file, "image", images[-1])
        latitude, longitude = picture.place or (None, None)
        insert(
            catalog,
            "images",
            item_id=images[-1],
            width=picture.size[0],
            height=picture.size[1],
            format=picture.format,
            orientation=6,
            taken_at=picture.taken and picture.taken.isoformat(" ", "microseconds"),
            camera=picture.camera,
            lens=picture.lens,
            latitude=latitude,
            longitude=longitude,
        )
        for tag in picture.tags:
            insert(catalog, "tags", item_id=images[-1], name=tag, added_at="2026-01-01")
    texts = []
    for number, text in enumerate(collection.texts):
        texts.append(add_item("text", number, False))
        for position, (source, image, own) in enumerate(text.links):
            insert(
                catalog,
                "captions",
                item_id=texts[-1],
                image_id=None if image is None else images[image],
                file_id=None if own is None else add_file(own, "text", None),
                source=source,
                position=position,
            )
    return images, texts


def matches(pattern: str, text: str) -> bool:
    """Whether a pattern matches a path, name by name."""

    def match(patterns: list[str], names: list[str]) -> bool:
        if not patterns:
            return not names
        if patterns[0] == "**":
            least = 1 if len(patterns) == 1 else 0
            return any(match(patterns[1:], names[at:]) for at in range(least, len(names) + 1))
        first = patterns[0].replace("[^", "[!")
        return (
            bool(names) and fnmatch.fnmatchcase(names[0], first) and match(patterns[1:], names[1:])
        )

    return match(pattern.split("/"), text.split("/"))


class BruteForce:
    """The conditions, by looking at one value after the other."""

    def __init__(self, collection: Collection, asked: Conditions) -> None:
        self.collection, self.asked = collection, asked
        self.placed = asked.root is not None or bool(asked.paths)
        rest = {name: getattr(asked, name) for name in Conditions.__dataclass_fields__}
        self.described = bool(Conditions(**{**rest, "root": None, "paths": ()}))

    def in_place(self, file: File) -> bool:
        def fits(pattern: str) -> bool:
            pattern = f"{pattern}**" if pattern.endswith("/") else pattern
            if pattern.startswith("/"):
                return matches(pattern[1:], file.path[1:])
            return matches(pattern, file.below if "/" in pattern else file.name)

        paths = self.asked.paths
        return (
            not file.missing
            and self.under_root(file)
            and (not paths or any(fits(pattern) for pattern in paths))
        )

    def under_root(self, file: File) -> bool:
        return self.asked.root is None or Path(file.path).is_relative_to(self.asked.root)

    def meets(self, number: int) -> bool:
        picture, asked = self.collection.pictures[number], self.asked
        living = [file.mtime for file in picture.files if not file.missing]
        taken = picture.taken or (datetime.fromtimestamp(min(living)) if living else None)
        width, height = picture.size
        captioned = any(
            image == number and (own is None or not own.missing)
            for text in self.collection.texts
            for _, image, own in text.links
        )
        shape = (width > height) - (width < height)
        return (
            (asked.after is None or (taken is not None and taken >= asked.after))
            and (asked.before is None or (taken is not None and taken < asked.before))
            and all(word in (picture.camera or "").casefold() for word in asked.camera)
            and all(word in (picture.lens or "").casefold() for word in asked.lens)
            and (not asked.formats or picture.format in asked.formats)
            and (asked.sides is None or self.fits(picture.size, asked.sides))
            and (asked.pixels is None or width * height >= asked.pixels)
            and (
                asked.orientation is None
                or ("square", "landscape", "portrait")[shape] == asked.orientation
            )
            and (asked.has_text is None or captioned == asked.has_text)
            and set(asked.tags) <= picture.tags
            and (asked.near is None or self.is_near(picture.place, asked.near))
        )

    @staticmethod
    def fits(size: tuple[int, int], sides: tuple[int, int]) -> bool:
        return max(size) >= sides[0] and min(size) >= sides[1]

    @staticmethod
    def is_near(place: tuple[float, float] | None, near: Circle) -> bool:
        centre = near.latitude, near.longitude
        return place is not None and chord_km(centre, place) <= near.radius

    def picture(self, number: int) -> bool:
        files = self.collection.pictures[number].files
        return self.meets(number) and (not self.placed or any(map(self.in_place, files)))

    def text(self, text: Text) -> bool:
        return not self.asked or any(self.link(*link) for link in text.links)

    def link(self, source: str, image: int | None, own: File | None) -> bool:
        if own is not None and own.missing:
            return False
        there = image is not None and not self.collection.pictures[image].deleted
        if there and image is not None and self.picture(image):
            return True
        if not self.placed or own is None or source == "sidecar" or not self.in_place(own):
            return False
        return not self.described or (there and image is not None and self.meets(image))


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(collections(), st.lists(some_conditions(), min_size=20, max_size=20))
def test_what_is_selected_is_what_brute_force_finds(
    empty: sqlite3.Connection, collection: Collection, several: list[Conditions]
) -> None:
    catalog = sqlite3.connect(":memory:")
    empty.backup(catalog)
    images, texts = fill(catalog, collection)
    snapshot = Snapshot(catalog)
    for asked in several:
        brute = BruteForce(collection, asked)
        if asked.root is not None and not any(map(brute.under_root, collection.files())):
            with pytest.raises(SourceError):
                select(snapshot, asked, "image")
            continue
        wanted = [id_ for number, id_ in enumerate(images) if brute.picture(number)]
        assert select(snapshot, asked, "image").tolist() == wanted
        pairs = zip(collection.texts, texts, strict=True)
        wanted = [id_ for text, id_ in pairs if brute.text(text)]
        assert select(snapshot, asked, "text").tolist() == wanted
    catalog.close()

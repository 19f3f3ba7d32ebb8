"""Copies of pictures as people make them, and documents that only look like copies."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

Change = Callable[[Image.Image, np.random.Generator], Image.Image]

_WORDS = (
    *("about", "after", "again", "also", "always", "another", "any", "around", "because", "been"),
    *("before", "between", "both", "came", "come", "could", "day", "different", "does", "each"),
    *("find", "first", "get", "give", "good", "great", "hand", "have", "help", "here", "house"),
    *("know", "large", "last", "left", "light", "line", "little", "live", "long", "made", "many"),
)


def saved(image: Image.Image, quality: int = 85) -> Image.Image:
    """What a JPEG of a quality keeps of a picture."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(io.BytesIO(file.getvalue())).convert("RGB")


def scaled(image: Image.Image, factor: float) -> Image.Image:
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.LANCZOS)


def cropped(image: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    """Without a share of the width and of the height, cut off at random sides."""
    width, height = round(image.width * (1 - share)), round(image.height * (1 - share))
    left = int(random.integers(0, image.width - width + 1))
    top = int(random.integers(0, image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


def watermarked(image: Image.Image) -> Image.Image:
    """With a word across the middle and a line at the bottom, half transparent."""
    layer = Image.new("RGBA", image.size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(layer)
    for text, size, across, down, alpha in (
        ("SAMPLE", image.width // 6, 0.2, 0.45, 110),
        ("© Example Photo", image.width // 9, 0.06, 0.82, 150),
    ):
        font = ImageFont.load_default(size=max(10, size))
        place = (image.width * across, image.height * down)
        draw.text(place, text, fill=(255, 255, 255, alpha), font=font)
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


def framed(image: Image.Image) -> Image.Image:
    """With a white border of a twentieth."""
    edge = round(min(image.size) / 20)
    framed = Image.new("RGB", (image.width + 2 * edge, image.height + 2 * edge), "white")
    framed.paste(image, (edge, edge))
    return framed


def tilted(image: Image.Image) -> Image.Image:
    """Turned by 3 degrees, the corners cut off."""
    edge = max(2, round(min(image.size) * 0.04))
    turned = image.rotate(3, Image.Resampling.BICUBIC)
    return turned.crop((edge, edge, image.width - edge, image.height - edge))


def several(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """What happens to a picture on its way: cropped a little, smaller, brighter, marked, saved."""
    smaller = scaled(cropped(image, 0.05, random), 0.6)
    return saved(watermarked(ImageEnhance.Brightness(smaller).enhance(1.1)), 50)


_TURN = Image.Transpose
CHANGES: dict[str, Change] = {
    "resized to 50 %": lambda image, _: saved(scaled(image, 0.5)),
    "resized to 25 %": lambda image, _: saved(scaled(image, 0.25)),
    "resized to 200 %": lambda image, _: saved(scaled(image, 2)),
    "JPEG quality 30": lambda image, _: saved(image, 30),
    "JPEG quality 10": lambda image, _: saved(image, 10),
    "cropped by 10 %": lambda image, random: saved(cropped(image, 0.1, random)),
    "brightness + 30 %": lambda image, _: saved(ImageEnhance.Brightness(image).enhance(1.3)),
    "brightness - 30 %": lambda image, _: saved(ImageEnhance.Brightness(image).enhance(0.7)),
    "contrast + 40 %": lambda image, _: saved(ImageEnhance.Contrast(image).enhance(1.4)),
    "greyscale": lambda image, _: saved(image.convert("L").convert("RGB")),
    "watermark": lambda image, _: saved(watermarked(image)),
    "rotated by 90°": lambda image, _: saved(image.transpose(_TURN.ROTATE_270)),
    "rotated by 180°": lambda image, _: saved(image.transpose(_TURN.ROTATE_180)),
    "rotated by 270°": lambda image, _: saved(image.transpose(_TURN.ROTATE_90)),
    "mirrored": lambda image, _: saved(image.transpose(_TURN.FLIP_LEFT_RIGHT)),
    "border": lambda image, _: saved(framed(image)),
    "tilted by 3°": lambda image, _: saved(tilted(image)),
    "cropped by 20 %": lambda image, random: saved(cropped(image, 0.2, random)),
    "several at once": several,
}
ASKED = (
    *("resized to 50 %", "resized to 25 %", "JPEG quality 30", "JPEG quality 10"),
    *("cropped by 10 %", "brightness + 30 %", "brightness - 30 %", "watermark"),
    *("rotated by 90°", "rotated by 180°", "rotated by 270°"),
)
"""Those that every finder of duplicates should see through; the others are harder, or rarer."""


def form(number: int) -> Image.Image:
    """A filled-in form: of two numbers, the same but for the words and amounts in it."""
    random = np.random.default_rng([7, number])
    page = Image.new("RGB", (850, 1100), "white")
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(size=18)
    draw.rectangle((60, 60, 790, 140), fill=(40, 60, 120))
    draw.text((90, 85), "INVOICE", fill="white", font=ImageFont.load_default(size=36))
    for row in range(220, 940, 60):
        draw.line((60, row + 40, 790, row + 40), fill="grey")
        draw.text((80, row + 10), " ".join(random.choice(_WORDS, 3)), fill="black", font=font)
        draw.text((650, row + 10), f"{random.random() * 1_000:.2f}", fill="black", font=font)
    return page


def letter(number: int) -> Image.Image:
    """A page of text: of two numbers, with other words."""
    random = np.random.default_rng([8, number])
    page = Image.new("RGB", (850, 1100), "white")
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(size=18)
    for row in range(90, 1_020, 26):
        if random.random() < 0.85:
            words = " ".join(random.choice(_WORDS, int(random.integers(3, 12))))
            draw.text((90, row), words, fill="black", font=font)
    return page

"""Words for labelling: sentences that labels are put into, and what pictures commonly show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from xsearch.core.errors import UsageError

TEMPLATES = (
    "{}",
    "a photo of {}.",
    "a photo of a {}.",
    "a picture of a {}.",
    "a close-up of a {}.",
    "a photo of the {} in a scene.",
    "there is a {} in the picture.",
)
"""Plain sentences about photographs of things, actions, places and weather alike."""

LANGUAGES: Mapping[str, tuple[str, ...]] = {
    "en": TEMPLATES,
    "de": ("{}", "ein Foto von {}.", "ein Bild mit {}.", "auf dem Bild ist {} zu sehen."),
    "fr": ("{}", "une photo de {}.", "une image avec {}.", "on voit {} sur la photo."),
    "cs": ("{}", "fotografie: {}.", "na obrázku je {}.", "na fotce je vidět {}."),
    "ar": ("{}", "صورة {}.", "صورة فيها {}.", "يظهر في الصورة {}."),
    "zh": ("{}", "{}的照片。", "一张{}的照片。", "照片里有{}。"),
}
"""Sentences for labels in other languages than English, too."""


def templates_for(language: str | None, labels: Sequence[str]) -> tuple[str, ...]:
    """The sentences for labels of a language, by its code.

    Where none is named, English labels get English sentences, and others stand alone: in an
    English sentence, a label of another language is lost.

    Raises UsageError: there are none for the language.
    """
    if language is None:
        return TEMPLATES if _is_english(", ".join(labels)) else ("{}",)
    if language not in LANGUAGES:
        known = ", ".join(LANGUAGES)
        raise UsageError(
            f"no sentences for labels in {language!r}, only in {known}: give your own templates, "
            "such as --template '{}'"
        )
    return LANGUAGES[language]


def _is_english(text: str) -> bool:
    import xsearch.data

    from .encoders.languages import EnglishDetector

    detector = Path(xsearch.data.__path__[0]) / "builtin" / "english.npy"
    return EnglishDetector.load(detector).is_english(text)


SUBJECTS = tuple(
    name
    for line in """
people, man, woman, child, baby, face, crowd, family
dog, cat, horse, cow, sheep, bird, fish, insect, wild animal, reptile
tree, forest, flower, grass, leaves, garden, mushroom, fruit, vegetables
beach, sea, lake, river, waterfall, mountain, desert, snow, ice, sky, clouds, sunset, night
rain, fog, rocks, field, road, fire, smoke
street, city, village, house, building, church, castle, bridge, tower, ruins, park, farm
harbour, factory, shop, market
room, kitchen, bedroom, bathroom, office, classroom, restaurant, stairs, window, door, wall
furniture, chair, table, bed, sofa, lamp, mirror, carpet, shelf
car, truck, bus, train, aeroplane, boat, bicycle, motorcycle, tractor
computer, phone, television, camera, clock, book, newspaper, toy, tool, machine
musical instrument, weapon, bag, bottle, cup, box, money, jewellery, glasses
clothes, shirt, dress, shoes, hat, uniform
meal, bread, cake, pizza, meat, soup, drink, coffee, beer
sport, football, tennis, swimming, running, cycling, skiing, climbing, dancing, concert
wedding, party, meeting, shopping, travel
painting, drawing, statue, sign, text, document, screenshot, map, diagram, pattern, logo
fabric, paper, metal, wood, glass
""".strip().splitlines()
    for name in line.split(", ")
)
"""What pictures of all kinds show: what a label is compared with."""

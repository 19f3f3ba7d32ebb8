"""The public models that open_clip offers, from the tables that ship with xsearch."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import xsearch.data

from .names import ALIASES, BUILTIN

FOLDER = "models"
COLUMNS = ("name", "parameters", "dim", "resolution", "context_length", "repository")
"""Of `open_clip-VERSION.csv`, which `xsearch.training.models_table` makes."""
RECALLS = (
    "flickr30k_text_to_image",
    "flickr30k_image_to_text",
    "coco_text_to_image",
    "coco_image_to_text",
)
"""Of `figures.csv`: zero-shot recall at 1 in percent, on Flickr30k's test split of 1,000 pictures
and on COCO's of 5,000."""


@dataclass(frozen=True, slots=True)
class Published:
    """What is known of a public model; what nobody has said is None, and an empty text.

    `parameters` are millions, of the whole model; `resolution` is the side of the input in
    pixels, `context_length` counts tokens; `repository` is the one on the Hugging Face hub. The
    `recalls`, by the names of `RECALLS`, are those that `source` states; the `licence` that of the
    model card, or of `licence_source`.
    """

    name: str
    parameters: float | None
    dim: int
    resolution: int
    context_length: int
    repository: str
    licence: str = ""
    licence_source: str = ""
    recalls: Mapping[str, float] | None = None
    source: str = ""


@cache
def published() -> dict[str, Published]:
    """The models of the table by name, ARCH/PRETRAINED."""
    licences = {row["repository"]: row for row in _rows("licences.csv")}
    figures = {row["name"]: row for row in _rows("figures.csv")}
    found = {}
    for row in _rows(_table().name):
        stated = licences.get(row["repository"], {})
        measured = figures.get(row["name"], {})
        recalls = {key: float(measured[key]) for key in RECALLS if measured.get(key)}
        found[row["name"]] = Published(
            name=row["name"],
            parameters=float(row["parameters"]) if row["parameters"] else None,
            dim=int(row["dim"]),
            resolution=int(row["resolution"]),
            context_length=int(row["context_length"]),
            repository=row["repository"],
            licence=stated.get("licence", ""),
            licence_source=stated.get("source", ""),
            recalls=recalls or None,
            source=measured.get("source", ""),
        )
    return found


def table_version() -> str:
    """The version of open_clip whose models the table lists."""
    return _table().stem.partition("-")[2]


def near(name: str) -> list[str]:
    """Names that look like one that does not exist, the likeliest first."""
    from difflib import get_close_matches

    known = {each.lower(): each for each in (BUILTIN, *ALIASES, *published())}
    wanted = name.lower().replace("open_clip:", "").replace("openai/clip-", "")
    close = [known[each] for each in get_close_matches(wanted, known, n=3, cutoff=0.6)]
    # An architecture without its weights is the commonest slip.
    tags = [each for key, each in known.items() if key.startswith(f"{wanted}/")]
    return list(dict.fromkeys([*tags[:3], *close]))[:3]


def suggestion(name: str) -> str:
    """What to try in place of an unknown name, for the end of a message."""
    names = near(name)
    meant = f"did you mean {' or '.join(names)}? " if names else ""
    return f"{meant}`xsearch models list` shows all names"


def builtin_folder() -> Path:
    """The folder of the encoder that comes with xsearch."""
    return Path(xsearch.data.__path__[0]) / BUILTIN


def _table() -> Path:
    return next(_folder().glob("open_clip-*.csv"))


def _rows(name: str) -> Iterator[dict[str, str]]:
    with (_folder() / name).open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def _folder() -> Path:
    return Path(xsearch.data.__path__[0]) / FOLDER

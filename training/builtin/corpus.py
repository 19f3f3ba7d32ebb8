"""Reads the captioned photographs that the encoder is fitted on and measured with."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xsearch.core.errors import SourceError


@dataclass(frozen=True, slots=True)
class Captioned:
    """Photographs and, for each, its English captions."""

    name: str
    files: list[Path]
    captions: list[list[str]]

    @property
    def texts(self) -> list[str]:
        """All captions, those of one photograph together."""
        return [text for group in self.captions for text in group]

    @property
    def owners(self) -> NDArray[np.int64]:
        """For each of `texts`, the number of its photograph."""
        return np.repeat(np.arange(len(self.captions)), [len(group) for group in self.captions])


def read_flickr8k(folder: Path, split: str) -> Captioned:
    """Read a split (`train`, `val`, `test`) of Flickr8k (Hodosh, Young, Hockenmaier 2013)."""
    return read_captions(f"flickr8k-{split}", folder, split, "en")


def read_captions(name: str, folder: Path, split: str | None, language: str) -> Captioned:
    """Read captions of one language; a picture without any keeps its place, with none."""
    listing = folder / "captions.jsonl"
    if not listing.is_file():
        raise SourceError(f"{listing} is missing: give the folder of the data set")
    images = folder / "images" if (folder / "images").is_dir() else folder
    rows = [json.loads(line) for line in listing.read_text(encoding="utf-8").splitlines()]
    chosen = [row for row in rows if split is None or row["split"] == split]
    captions = [row["captions"].get(language, []) for row in chosen]
    return Captioned(name, [images / row["file"] for row in chosen], captions)


def decode(path: Path, prepare: Callable[[Image.Image], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """A picture file as a tower's pixels, uint8 (S, S, 3)."""
    with Image.open(path) as image:
        return prepare(image.convert("RGB"))


@dataclass(frozen=True, slots=True)
class Labelled:
    """Photographs with class names, and what a search for each would say."""

    files: list[Path]
    labels: list[str]

    @property
    def texts(self) -> list[str]:
        """A short caption of each: its label, as a phrase."""
        return [label if label.startswith("a ") else f"a photo of {label}" for label in self.labels]


def read_labelled(folder: Path) -> Labelled:
    """Read folders of photographs, each with a `captions.jsonl` of `file` and `label`."""
    files, labels = [], []
    for listing in sorted(folder.glob("*/captions.jsonl")):
        for line in listing.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            files.append(listing.parent / row["file"])
            labels.append(row["label"])
    if not files:
        raise SourceError(f"{folder} holds no labelled photographs: give the folder above them")
    return Labelled(files, labels)


def read_languages(folder: Path) -> list[dict[str, list[str]]]:
    """Captions by language of each photograph of Flickr8k's training split."""
    lines = (folder / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [row["captions"] for row in rows if row["split"] == "train"]

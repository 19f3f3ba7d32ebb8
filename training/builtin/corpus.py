"""Reads the captioned photographs that the encoder is fitted on and measured with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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
    return _read(f"flickr8k-{split}", folder, folder / "images", split)


def read_captioned(folder: Path) -> Captioned:
    """Read a folder of photographs with a `captions.jsonl` beside them."""
    return _read(folder.name, folder, folder, None)


def _read(name: str, folder: Path, images: Path, split: str | None) -> Captioned:
    listing = folder / "captions.jsonl"
    if not listing.is_file():
        raise SourceError(f"{listing} is missing: give the folder of the data set")
    rows = [json.loads(line) for line in listing.read_text(encoding="utf-8").splitlines()]
    chosen = [row for row in rows if split is None or row["split"] == split]
    return Captioned(
        name, [images / row["file"] for row in chosen], [row["captions"]["en"] for row in chosen]
    )

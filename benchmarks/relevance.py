"""What fits what in a captioned collection, beyond the one picture that a caption was written for.

A caption's words, without stop words and reduced to stems, are looked up in all captions of each
picture. A picture fits a caption if it is its own, or if its captions have all of those words; it
does not if they have at most half; between, nobody knows. A single word fits the pictures of which
two captions or more have it, and not those of which none has. Words are those that at least half
of the pictures mentioning them mention twice: what people agree on seeing.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import shared_data
from numpy.typing import NDArray

from xsearch.data.keywords import keywords

FITS, UNKNOWN, NOT = 1, -1, 0
_HALF = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Collection:
    """Pictures and their English captions; caption j belongs to picture owners[j]."""

    name: str
    files: list[Path]
    captions: list[str]
    owners: NDArray[np.int64]

    @classmethod
    def read(cls, name: str) -> Collection:
        """`val`, `test` or `train` of Flickr8k, or `other_val`."""
        other = name == "other_val"
        folder = shared_data() / ("other_val" if other else "flickr8k")
        with (folder / "captions.jsonl").open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        rows = [row for row in rows if other or row["split"] == name]
        images = folder if other else folder / "images"
        captions = [(at, text) for at, row in enumerate(rows) for text in row["captions"]["en"]]
        return cls(
            name,
            [images / row["file"] for row in rows],
            [text for _, text in captions],
            np.array([at for at, _ in captions]),
        )

    def captions_fit(self) -> NDArray[np.int8]:
        """Whether each picture fits each caption: int8 (captions, pictures)."""
        stems = [frozenset(keywords(text, "en")) for text in self.captions]
        places = {stem: at for at, stem in enumerate(sorted(frozenset().union(*stems)))}
        asked = np.zeros((len(stems), len(places)), np.float32)
        for at, own in enumerate(stems):
            asked[at, [places[stem] for stem in own]] = 1
        said = np.zeros((len(self.files), len(places)), np.float32)
        np.maximum.at(said, self.owners, asked)
        covered = (asked @ said.T) / np.maximum(asked.sum(axis=1, keepdims=True), 1)
        fits = np.where(covered > 1 - 1e-4, FITS, np.where(covered <= _HALF, NOT, UNKNOWN))
        fits[np.arange(len(stems)), self.owners] = FITS
        return fits.astype(np.int8)

    def words(self) -> tuple[list[str], NDArray[np.int8]]:
        """Single words, and whether each picture fits: int8 (words, pictures)."""
        mentions: dict[str, NDArray[np.int64]] = defaultdict(
            lambda: np.zeros(len(self.files), np.int64)
        )
        spelled: dict[str, Counter[str]] = defaultdict(Counter)
        for text, owner in zip(self.captions, self.owners, strict=True):
            for word in sorted(set(re.findall(r"[a-z]{3,}", text.lower()))):
                for stem in keywords(word, "en"):
                    mentions[stem][owner] += 1
                    spelled[stem][word] += 1
        words, fits = [], []
        for stem, counts in sorted(mentions.items()):
            agreed = int((counts >= 2).sum())
            if 2 <= agreed <= 0.4 * len(self.files) and 2 * agreed >= (counts > 0).sum():
                words.append(spelled[stem].most_common(1)[0][0])
                fits.append(np.where(counts >= 2, FITS, np.where(counts == 0, NOT, UNKNOWN)))
        return words, np.array(fits, np.int8)

    def part(self, chosen: Sequence[int]) -> Collection:
        """Some of the pictures, with their captions."""
        place = {at: new for new, at in enumerate(chosen)}
        kept = [at for at, owner in enumerate(self.owners) if int(owner) in place]
        return Collection(
            self.name,
            [self.files[at] for at in chosen],
            [self.captions[at] for at in kept],
            np.array([place[int(self.owners[at])] for at in kept]),
        )

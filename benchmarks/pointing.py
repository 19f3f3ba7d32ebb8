"""The pointing game: does a word's relevance peak on what the word names?

Zhang et al. 2018, "Top-Down Neural Attention by Excitation Backprop", section 4.1, without its
tolerance of 15 pixels, on scenes of coloured shapes (`xsearch.data.scenes`), where the box of all
that is named is known. Counted are phrases that name a single thing: their nouns, and the colours
before them. Beside each figure are two that need no model: the share of the picture that the box
takes, where a random point hits, and how often the picture's middle hits. Intervals are of 95 %, by
bootstrap over scenes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import describe
from numpy.typing import NDArray

import xsearch
from xsearch.core.encoder import DualEncoder
from xsearch.core.explained import MatchExplanation, WordRelevance
from xsearch.data.scenes import COLOURS, SPLITS, Mention, Split, scene
from xsearch.retrieval.encoders import load_encoder
from xsearch.retrieval.explain.match import Explaining
from xsearch.retrieval.rerank.find import find_reranker
from xsearch.training.evaluation.bootstrap import estimates

Box = tuple[float, float, float, float]
SIZE = 400  # pixels of a scene's sides
MIDDLE = (0.5, 0.5)


@dataclass(frozen=True)
class Pointed:
    """A word of a scene's caption, whether it is a noun, and the box of what it names."""

    scene: int
    noun: bool
    peak: tuple[float, float]
    box: Box

    def hit(self, point: tuple[float, float]) -> bool:
        """Whether a point is in the box."""
        left, top, right, bottom = self.box
        return left <= point[0] <= right and top <= point[1] <= bottom

    @property
    def area(self) -> float:
        """The share of the picture that the box takes."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)


def pointed(
    encoder: DualEncoder, reranker: Explaining | None, split: Split, count: int
) -> Iterator[Pointed]:
    """Every word of some scenes' captions that names a single thing, explained."""
    for seed in range(count):
        made = scene(split, seed)
        picture = xsearch.Image(made.draw(SIZE))
        for statement in made.statements:
            found = xsearch.explain(picture, statement.text, encoder=encoder, reranker=reranker)
            for mention in statement.mentions:
                if len(mention.things) == 1:
                    box = made.things[mention.things[0]].box
                    for word in words_of(found, mention):
                        noun = word.start >= mention.noun[0]
                        yield Pointed(seed, noun, word.peak, box)


def words_of(found: MatchExplanation, mention: Mention) -> list[WordRelevance]:
    """The noun of a phrase, and its colour, where it says one."""
    inside = [word for word in found.words if mention.start <= word.start < mention.end]
    return [
        word for word in inside if word.start >= mention.noun[0] or word.text.lower() in COLOURS
    ]


def figures(words: list[Pointed], samples: int) -> dict[str, object]:
    """How often peaks hit, with its interval, and what would hit without a model."""
    hits = np.array([word.hit(word.peak) for word in words], np.float64)

    def share(weights: NDArray[Any]) -> NDArray[Any]:
        return np.array([hits @ weights / weights.sum()])

    (found,) = estimates(share, np.array([word.scene for word in words]), samples=samples)
    return {
        "words": len(words),
        "hit": {key: round(value, 4) for key, value in found.to_dict().items()},
        "chance": round(float(np.mean([word.area for word in words])), 4),
        "middle": round(float(np.mean([word.hit(MIDDLE) for word in words])), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="builtin")
    parser.add_argument("--reranker", type=Path, help="default: the encoder's own")
    parser.add_argument("--scenes", type=int, default=300, help="of each split")
    parser.add_argument("--splits", nargs="+", default=["val", "test"], choices=SPLITS)
    parser.add_argument("--samples", type=int, default=1000, help="of the bootstrap")
    arguments = parser.parse_args()
    encoder = load_encoder(arguments.encoder)
    reranker: Explaining | None = (
        find_reranker(encoder, arguments.reranker) if arguments.reranker else None
    )
    results = {}
    for split in arguments.splits:
        words = list(pointed(encoder, reranker, split, arguments.scenes))
        results[split] = {
            "nouns": figures([word for word in words if word.noun], arguments.samples),
            "colours": figures([word for word in words if not word.noun], arguments.samples),
            "all": figures(words, arguments.samples),
        }
    print(json.dumps(describe("pointing", encoder=encoder.name, splits=results), indent=2))


if __name__ == "__main__":
    main()

"""Whether captions of made-up scenes are told from almost the same, wrong ones.

Run `python benchmarks/scenes.py` (nothing to download). Each true caption of a scene is compared
with each of its wrong ones: the share of pairs in which the true one scores higher, ties counting
half, by what was changed, with a 95 % interval over scenes. 50 % is chance, and what a bag of words
gets: its words are about as true of the scene either way. `test` has combinations of colour and
shape, and of relation and shapes, that no training scene has (see `data/scenes`).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from common import describe
from scorers import Scorer, by_kind, scorers_of, show

from xsearch.data.scenes import KINDS, SPLITS, Scene, scene
from xsearch.retrieval.encoders import load_encoder
from xsearch.training.evaluation.bootstrap import Float64, Int64

_BATCH = 64


def pairs(scenes: Sequence[Scene], scorer: Scorer) -> tuple[Float64, list[str], Int64]:
    """Of every pair of a true and a wrong caption: 1 if the true one scores higher, else 0, a tie
    0.5; what was changed; the scene's number.
    """
    wins, kinds, owners = [], [], []
    for start in range(0, len(scenes), _BATCH):
        batch = scenes[start : start + _BATCH]
        texts = [_texts(each) for each in batch]
        pictures = [each.draw() for each in batch]
        for number, (each, scores) in enumerate(zip(batch, scorer(pictures, texts), strict=True)):
            given = iter(scores)
            for wrongs in each.wrongs:
                true = next(given)
                for wrong in wrongs:
                    false = next(given)
                    wins.append(0.5 * (float(true > false) + float(true >= false)))
                    kinds.append(wrong.kind)
                    owners.append(start + number)
    return np.array(wins), kinds, np.array(owners)


def _texts(each: Scene) -> list[str]:
    """Each true caption, followed by its wrong ones."""
    said = zip(each.statements, each.wrongs, strict=True)
    return [text for true, wrongs in said for text in (true.text, *(w.text for w in wrongs))]


def accuracy(scenes: Sequence[Scene], scorer: Scorer) -> dict[str, dict[str, float]]:
    """Of each kind of wrong caption, and of all: pairs, share that is right, its interval."""
    return by_kind(*pairs(scenes, scorer), KINDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--scenes", type=int, default=1_000, help="how many, of seeds 0, 1, ...")
    parser.add_argument("--encoder", default="builtin")
    parser.add_argument("--reranker", type=Path, help="its folder; the encoder's own by default")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args()
    scenes = [scene(options.split, seed) for seed in range(options.scenes)]
    scorers = scorers_of(load_encoder(options.encoder), options.reranker)
    found = {name: accuracy(scenes, scorer) for name, scorer in scorers.items()}
    report = describe(
        "scenes",
        data=f"{len(scenes)} made-up scenes, {options.split}",
        encoder=options.encoder,
        **found,
    )
    if options.json:
        print(json.dumps(report))
        return
    print(f"{report['machine']}; {report['date']}; {report['data']}; {report['encoder']}")
    show(found)


if __name__ == "__main__":
    main()

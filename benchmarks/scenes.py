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
from typing import Any

import numpy as np
from common import describe
from numpy.typing import NDArray
from scorers import Scorer, by_kind, scorer_of, show, won

from xsearch.data.scenes import KINDS, SPLITS, Scene, scene
from xsearch.retrieval.encoders import load_encoder
from xsearch.training.evaluation.bootstrap import Float64, Int64

_BATCH = 64


def pairs(scenes: Sequence[Scene], scorer: Scorer) -> tuple[dict[str, Float64], list[str], Int64]:
    """Of every pair of a true and a wrong caption: by scorer what `won` says of it, what was
    changed, and the scene's number.
    """
    wins: dict[str, list[Float64]] = {}
    for start in range(0, len(scenes), _BATCH):
        batch = scenes[start : start + _BATCH]
        found = scorer([each.draw() for each in batch], [_texts(each) for each in batch])
        for name, scores in found.items():
            wins.setdefault(name, []).extend(map(_won, batch, scores))
    kinds = [wrong.kind for each in scenes for wrongs in each.wrongs for wrong in wrongs]
    counts = [sum(map(len, each.wrongs)) for each in scenes]
    owners = np.repeat(np.arange(len(scenes)), counts)
    return {name: np.concatenate(each) for name, each in wins.items()}, kinds, owners


def _won(each: Scene, scores: NDArray[Any]) -> Float64:
    """Of a scene's pairs, by the scores of `_texts`."""
    sizes = [1 + len(wrongs) for wrongs in each.wrongs]
    firsts = np.cumsum([0, *sizes[:-1]])
    true = np.repeat(scores[firsts], np.array(sizes) - 1)
    return won(true, np.delete(scores, firsts))


def _texts(each: Scene) -> list[str]:
    """Each true caption, followed by its wrong ones."""
    said = zip(each.statements, each.wrongs, strict=True)
    return [text for true, wrongs in said for text in (true.text, *(w.text for w in wrongs))]


def accuracy(scenes: Sequence[Scene], scorer: Scorer) -> dict[str, dict[str, dict[str, float]]]:
    """By scorer, of each kind of wrong caption and of all: pairs, share that is right, interval."""
    wins, kinds, owners = pairs(scenes, scorer)
    return {name: by_kind(right, kinds, owners, KINDS) for name, right in wins.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--scenes", type=int, default=1_000, help="how many, of seeds 0, 1, ...")
    parser.add_argument("--encoder", default="builtin")
    parser.add_argument("--reranker", type=Path, help="its folder; the encoder's own by default")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args()
    scenes = [scene(options.split, seed) for seed in range(options.scenes)]
    scorer = scorer_of(load_encoder(options.encoder), options.reranker)
    found = accuracy(scenes, scorer)
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

"""Whether true captions of photographs are told from minimally wrong ones, after SugarCrepe.

Run `python benchmarks/hard_negatives.py` (needs the test data; set XSEARCH_TEST_DATA). The wrong
captions are those of `benchmarks/corruptions.py`: made by rules of words, no model that is
measured has judged them. Of each pair a model is right where the true caption scores higher, ties
counting half; by kind, with a 95 % interval over pictures. 50 % is chance. In the kinds `add-*`
the wrong caption is always the longer one, which tells by itself. Rerankers have learnt from wrong
captions of other pictures made by the same rules.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from common import describe, shared_data
from corruptions import Blind, Pair, made, refined
from PIL import Image
from recall import read_split
from scorers import Scorer, by_kind, scorer_of, show, won

from xsearch.data.corruptions import KINDS
from xsearch.retrieval.encoders import load_encoder
from xsearch.training.evaluation.bootstrap import Float64


def wins(pairs: list[Pair], folder: Path, scorer: Scorer) -> dict[str, Float64]:
    """By scorer, what `won` says of each pair."""
    by_file: dict[str, list[int]] = {}
    for at, pair in enumerate(pairs):
        by_file.setdefault(pair.file, []).append(at)
    found: dict[str, Float64] = {}
    for done, (file, members) in enumerate(by_file.items(), 1):
        texts = [text for at in members for text in (pairs[at].true, pairs[at].wrong)]
        with Image.open(folder / file) as picture:
            scores = scorer([picture.convert("RGB")], [texts])
        for name, (own,) in scores.items():
            found.setdefault(name, np.zeros(len(pairs)))[members] = won(own[::2], own[1::2])
        if not done % 100:
            print(f"{done} of {len(by_file)} pictures", file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=("val", "test"), default="val")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--refined", action="store_true", help="blind models' gaps made even")
    parser.add_argument("--encoder", default="builtin")
    parser.add_argument("--reranker", type=Path, help="its folder; the encoder's own by default")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args()
    folder = shared_data() / "flickr8k"
    pairs = made(read_split(folder, options.split), options.seed)
    if options.refined:
        train = read_split(folder, "train")
        blind = Blind([text for texts in train.values() for text in texts], 0.1)
        pairs = refined(pairs, blind.gaps(pairs), options.seed)
    scorer = scorer_of(load_encoder(options.encoder), options.reranker)
    kinds = [pair.kind for pair in pairs]
    _, owners = np.unique([pair.file for pair in pairs], return_inverse=True)
    rows = {
        name: by_kind(right, kinds, owners, KINDS)
        for name, right in wins(pairs, folder / "images", scorer).items()
    }
    report = describe("hard_negatives", data=f"flickr8k {options.split}", **rows)
    if options.json:
        print(json.dumps(report))
        return
    print(f"{report['machine']}; {report['date']}; {report['data']}")
    show(rows)


if __name__ == "__main__":
    main()

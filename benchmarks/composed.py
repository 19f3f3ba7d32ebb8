"""What subtracting, examples and words add to a query, on Flickr8k's captions.

Run `python benchmarks/composed.py` (needs the test data; set XSEARCH_TEST_DATA; weights were chosen
with `--split val`). Mean average precision over single words and pairs of them; what fits is
told by `relevance.py`.

- negation: "A without B", for pairs of which at least 3 pictures show both: what fits A and not B.
  As one text, and with B subtracted by several weights.
- feedback: a word, then the word with two of its first ten hits marked as good (and two as bad, if
  there are any), by the captions; what was marked no longer counts.
- words: the captions of every second picture are in the words index; how well single words find the
  pictures that fit, by meaning alone and by both.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import describe
from numpy.typing import NDArray
from recall import fill
from relevance import FITS, NOT, UNKNOWN, Collection
from worlds import World, embed, embed_texts, world

import xsearch
from xsearch.retrieval.encoders import load_encoder
from xsearch.searching import LIKE, UNLIKE

Float32 = NDArray[np.float32]
_WEIGHTS = (0.25, 0.5, 0.75, 1.0)
_PAIRS = 300


def average_precision(scores: Float32, fits: NDArray[np.int8]) -> float:
    """Average precision among the pictures of which it is known whether they fit."""
    known = fits != UNKNOWN
    order = np.argsort(-scores[known], kind="stable")
    right = fits[known][order] == FITS
    found = np.cumsum(right) / np.arange(1, len(right) + 1)
    return float(found[right].mean())


def ranked(place: World, query: Float32) -> Float32:
    """Corrected cosines of all pictures for a query of any length."""
    unit = query / np.linalg.norm(query)
    scale, cosines, rows = place.scale(unit.astype(np.float32), ("text", "image"))
    return scale.corrected(cosines, rows)


def negation(place: World, words: list[str], fits: NDArray[np.int8]) -> dict[str, float]:
    """Mean average precision of "A without B" by how it is read."""
    shown = fits == FITS
    both = (shown.astype(int) @ shown.T.astype(int)) * (1 - np.eye(len(words), dtype=int))
    pairs = np.argwhere(both >= 3)
    pairs = np.random.default_rng(0).permutation(pairs)[:_PAIRS]
    single = embed_texts(place.encoder, words)
    whole = embed_texts(place.encoder, [f"{words[a]} without {words[b]}" for a, b in pairs])
    found: dict[str, list[float]] = {}
    for (a, b), as_text in zip(pairs, whole, strict=True):
        truth = np.where(fits[b] == NOT, fits[a], np.where(fits[b] == FITS, NOT, UNKNOWN))
        if (truth == FITS).sum() < 2:
            continue
        readings = {"as one text": as_text, "A alone": single[a]}
        readings |= {f"A - {w:g} B": single[a] - w * single[b] for w in _WEIGHTS}
        for name, query in readings.items():
            found.setdefault(name, []).append(average_precision(ranked(place, query), truth))
    return {name: round(float(np.mean(values)), 3) for name, values in found.items()}


def feedback(place: World, words: list[str], fits: NDArray[np.int8]) -> dict[str, float]:
    """Mean average precision of words before and after two good and two bad examples."""
    before, after = [], []
    for vector, truth in zip(embed_texts(place.encoder, words), fits, strict=True):
        plain = ranked(place, vector)
        first = np.argsort(-plain)[:10]
        good = [at for at in first if truth[at] == FITS][:2]
        bad = [at for at in first if truth[at] == NOT][:2]
        left = truth.copy()
        left[[*good, *bad]] = UNKNOWN
        if not good or not (left == FITS).any():
            continue
        moved = vector + LIKE * place.images[good].mean(axis=0)
        if bad:
            moved = moved - UNLIKE * place.images[bad].mean(axis=0)
        before.append(average_precision(plain, left))
        after.append(average_precision(ranked(place, moved), left))
    return {
        "before": round(float(np.mean(before)), 3),
        "after": round(float(np.mean(after)), 3),
        "queries": len(before),
    }


def by_words(collection: Collection, encoder: str, work: Path) -> dict[str, float]:
    """Mean average precision of single words where every second picture has its captions."""
    captions: dict[str, list[str]] = {path.name: [] for path in collection.files}
    for text, owner in zip(collection.captions, collection.owners, strict=True):
        captions[collection.files[owner].name].append(text)
    words, fits = collection.words()
    names = list(captions)
    found: dict[str, list[float]] = {"meaning": [], "hybrid": []}
    with xsearch.open(work / "library", encoder=encoder) as library:
        fill(library, collection.files[0].parent, captions, work, frozenset(names[::2]))
        for word, truth in zip(words, fits, strict=True):
            for mode, values in found.items():
                hits = library.search(word, k=len(names), mode=mode)
                place = {hit.path.name: hit.rank for hit in hits if hit.path}
                order = np.array([-place.get(name, len(names) + 1) for name in names], np.float32)
                values.append(average_precision(order, truth))
    return {mode: round(float(np.mean(values)), 3) for mode, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=("val", "test"), default="test")
    parser.add_argument("--encoder", default="builtin")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args()
    encoder = load_encoder(options.encoder)
    collection = Collection.read(options.split)
    words, fits = collection.words()
    with tempfile.TemporaryDirectory() as work:
        place = world(encoder, *embed(encoder, collection), Path(work) / "world")
        found: dict[str, Any] = {
            "negation": negation(place, words, fits),
            "feedback": feedback(place, words, fits),
            "words": by_words(collection, options.encoder, Path(work)),
        }
    report = describe("composed", data=f"flickr8k {options.split}", **found)
    if options.json:
        print(json.dumps(report))
        return
    print(f"{report['machine']}; {report['date']}; {report['data']}")
    for name, row in found.items():
        print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()

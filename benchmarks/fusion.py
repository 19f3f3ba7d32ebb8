"""A picture and words as one query: added, weighed, multiplied, or joined by what was learnt.

Run `python benchmarks/fusion.py` (needs the test data; set XSEARCH_TEST_DATA). Queries are triples
made of captions, see `xsearch.data.triples`: a picture, words that say what differs, and the
pictures that fit both; the picture itself is taken out of the answers. Recall (any that fits) and
mean average precision, by corrected cosines, as a query ranks them. Differences are of mean average
precision, to plain addition and to the best weight, with 95 % intervals over reference pictures.

`--work DIR` also learns a fusion by concatenation on the training split, for comparison (some
minutes; needs torch). `--words` gives the fewest words ("snow") in place of phrases ("in the
snow"). Weights and settings were chosen with `--split val`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import describe, shared_data
from numpy.typing import NDArray
from relevance import Collection
from worlds import World, embed, embed_texts, world

from xsearch.core.encoder import DualEncoder
from xsearch.core.scoring import DIRECTIONS
from xsearch.data.triples import Triple, make_triples
from xsearch.retrieval.encoders import load_encoder
from xsearch.retrieval.fusion import Fusion, Product, WeightedAverage, fusion_for
from xsearch.training.evaluation.bootstrap import Estimate, estimates

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
WEIGHTS = (0.5, 0.75, 1.25, 1.5, 2.0, 3.0)
BEST = 1.5
"""Of the weights of a text beside a picture of weight 1, the best on Flickr8k val."""
PLAIN = "picture + words"
CUTS = (1, 5, 10)
SAMPLES = 1_000


@dataclass(frozen=True, slots=True, eq=False)
class Queries:
    """Triples of a collection with their vectors: pictures and texts (q, dim); `fits` (q, n)."""

    place: World
    references: NDArray[np.int64]
    pictures: Float32
    texts: Float32
    fits: NDArray[np.bool_]

    @classmethod
    def of(cls, place: World, triples: list[Triple], *, words: bool) -> Queries:
        """With phrases, or with the fewest words."""
        texts = [one.words if words else one.text for one in triples]
        references = np.array([one.reference for one in triples])
        fits = np.zeros((len(triples), len(place.images)), np.bool_)
        for row, one in enumerate(triples):
            fits[row, list(one.relevant)] = True
        vectors = embed_texts(place.encoder, texts)
        return cls(place, references, place.images[references], vectors, fits)

    def measure(self, vectors: Float32) -> Float64:
        """Recall at each cut and average precision of each query, in percent: (q, 4)."""
        rows = np.arange(len(self.place.images))
        bias = self.place.background.bias(DIRECTIONS["text", "image"], "image", rows)
        similarities = vectors @ self.place.images.T - bias
        similarities[np.arange(len(vectors)), self.references] = -np.inf
        order = np.argsort(-similarities, axis=1, kind="stable")
        right = np.take_along_axis(self.fits, order, axis=1)
        precision = np.cumsum(right, axis=1) / np.arange(1, right.shape[1] + 1)
        average = (precision * right).sum(axis=1) / right.sum(axis=1)
        return 100 * np.column_stack([*(right[:, :cut].any(axis=1) for cut in CUTS), average])


def added(weight: float) -> Fusion:
    """Picture + `weight` x text, as a fusion."""
    return WeightedAverage(1 / (1 + weight))


def fusions(encoder: DualEncoder, work: Path | None) -> dict[str, Fusion]:
    """What joins a picture and words, by name."""
    found: dict[str, Fusion] = {
        "words alone": WeightedAverage(0),
        "picture alone": WeightedAverage(1),
        PLAIN: added(1),
        **{f"picture + {weight:g} words": added(weight) for weight in WEIGHTS},
        "product": Product(),
    }
    if work is not None:
        found["concatenation, learnt"] = learnt_concatenation(encoder, work)
    shipped = fusion_for(encoder)
    if shipped is not None:
        found["residual, learnt"] = shipped
    return found


def learnt_concatenation(encoder: DualEncoder, work: Path) -> Fusion:
    """The same data and settings as the shipped fusion's, for a linear map."""
    from xsearch.training.builtin.corpus import read_flickr8k
    from xsearch.training.builtin.fusion import EACH, composed, picture_vectors
    from xsearch.training.fusion import ComposedSettings, TrainableFusion, train_composed

    train = read_flickr8k(shared_data() / "flickr8k", "train")
    images = picture_vectors(encoder, train, work / f"images-{encoder.fingerprint}.npy")
    fusion = TrainableFusion(encoder.dim)
    data = composed(encoder, images, make_triples(train.captions, each=EACH))
    train_composed(fusion, data, ComposedSettings())
    return fusion.export()


def compared(queries: Queries, found: Mapping[str, Fusion]) -> dict[str, list[Estimate]]:
    """Of each fusion the four figures, then average precision less that of the two additions."""
    measured = {
        name: queries.measure(fusion(queries.pictures, queries.texts))
        for name, fusion in found.items()
    }
    rivals = [measured[name][:, 3] for name in (PLAIN, f"picture + {BEST:g} words")]

    def estimated(figures: Float64) -> list[Estimate]:
        columns = np.column_stack([figures, *(figures[:, 3] - rival for rival in rivals)])
        return estimates(
            lambda weights: weights @ columns / weights.sum(), queries.references, samples=SAMPLES
        )

    return {name: estimated(figures) for name, figures in measured.items()}


def shown(estimate: Estimate) -> str:
    """A difference and its interval."""
    return f"{estimate.value:+.1f} [{estimate.low:+.1f}, {estimate.high:+.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=("val", "test", "other_val"), default="test")
    parser.add_argument("--words", action="store_true", help="the fewest words, no phrases")
    parser.add_argument("--work", type=Path, help="folder for what is learnt from")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args()
    encoder = load_encoder("builtin")
    collection = Collection.read(options.split)
    captions: list[list[str]] = [[] for _ in collection.files]
    for text, owner in zip(collection.captions, collection.owners, strict=True):
        captions[owner].append(text)
    triples = make_triples(captions)
    with tempfile.TemporaryDirectory() as folder:
        place = world(encoder, *embed(encoder, collection), Path(folder) / "world")
        queries = Queries.of(place, triples, words=options.words)
        found = compared(queries, fusions(encoder, options.work))
    report = describe(
        "fusion",
        data=options.split,
        queries=len(triples),
        pictures=len(captions),
        found={name: [one.to_dict() for one in figures] for name, figures in found.items()},
    )
    if options.json:
        print(json.dumps(report))
        return
    print(f"{report['machine']}; {report['date']}; {options.split}, {len(triples)} queries")
    print("| | R@1 / 5 / 10 | mAP | less plain addition | less the best weight |")
    print("| --- | --- | ---: | --- | --- |")
    for name, (*recalls, average, plain, best) in found.items():
        values = " / ".join(f"{one.value:.1f}" for one in recalls)
        print(f"| {name} | {values} | {average.value:.1f} | {shown(plain)} | {shown(best)} |")


if __name__ == "__main__":
    main()

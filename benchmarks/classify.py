"""Labels: how often they are right, how well probabilities fit, and how fast `tag` is.

The photographs have no class names but captions: one shows what a label names where most of its
captions mention it, and does not where none does (`xsearch.training.labels`). Labels are drawn
at random from that vocabulary, one to forty at once; half of the pictures count as showing one of
them. Each method is fitted on Flickr8k's validation split and measured on its test split, and on
photographs of COCO (`other_val`), another collection with other subjects. None was trained on.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from common import describe, seconds_of, shared_data
from numpy.typing import NDArray

import xsearch
from xsearch.core.encoder import DualEncoder
from xsearch.core.images import decode
from xsearch.indexer.catalog import Catalog
from xsearch.indexer.liveness import now
from xsearch.indexer.tables import embeddings, encoders, items
from xsearch.indexer.vectors import VectorWriter, checksums, to_rows, vector_path
from xsearch.retrieval.encoders import load_encoder
from xsearch.retrieval.zero_shot import PRIOR, Labels
from xsearch.training.labels import WORDS, Choice, choices, fit_labels, shown

Array = NDArray[np.floating[Any]]
Method = Callable[[Array, NDArray[np.int64]], Array]
"""Image vectors (n, dim) and the labels to choose from (c,): probabilities (n, c)."""

CLIP_SCALE = 100.0
"""What the public models of Radford et al. (2021) multiply cosines by."""
BINS = 15
LABELS = 20


@dataclass(frozen=True)
class Pictures:
    """Unit vectors (n, dim), and the English captions of each picture."""

    vectors: Array
    captions: list[list[str]]


def read(encoder: DualEncoder, folder: Path, split: str | None) -> Pictures:
    """Embed a collection's pictures, as the library would."""
    lines = (folder / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if split is None or row["split"] == split]
    images = folder / "images" if (folder / "images").is_dir() else folder
    parts = []
    for start in range(0, len(rows), 64):
        pixels = [
            encoder.preprocess(decode(images / row["file"], min_side=encoder.image_size).image)
            for row in rows[start : start + 64]
        ]
        parts.append(encoder.embed_images(np.stack(pixels)))
    return Pictures(np.concatenate(parts), [row["captions"]["en"] for row in rows])


def fitted(labels: Labels, val: Pictures) -> Labels:
    """Labels with the scale and margin that suit the validation split."""
    scale = fit_labels(labels, val.vectors.astype(np.float32), val.captions)
    assert scale is not None
    return replace(labels, scale=scale)


def chosen(labels: Labels) -> Method:
    """What `xsearch classify` says."""

    def probabilities(images: Array, which: NDArray[np.int64]) -> Array:
        names = tuple(labels.names[at] for at in which)
        part = replace(labels, names=names, vectors=labels.vectors[which])
        return part.among(images.astype(np.float32)).astype(np.float64)

    return probabilities


def softmax(labels: Labels, scale: float) -> Method:
    """A softmax over the labels alone, which always chooses one."""

    def probabilities(images: Array, which: NDArray[np.int64]) -> Array:
        logits = scale * (images @ labels.vectors[which].T)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    return probabilities


def measure(method: Method, pictures: Pictures, drawn: Sequence[Choice]) -> dict[str, float]:
    """Percentages, each the mean over the draws; the calibration errors over all answers."""
    rows, among, every = [], [], []
    for choice in drawn:
        number = len(choice.labels)
        found = method(pictures.vectors[choice.pictures], choice.labels)
        none = np.maximum(1 - found.sum(axis=1), 0)
        best, some = found.argmax(axis=1), choice.answers < number
        rejected = none > 0.5
        right = np.where(rejected, ~some, best == choice.answers)
        sure = np.where(rejected, none, found.max(axis=1))
        forced = found.max(axis=1) / found.sum(axis=1)
        every.append((sure, right, choice.weights))
        among.append((forced[some], (best == choice.answers)[some], choice.weights[some]))
        rows.append(
            {
                "accuracy": (best == choice.answers)[some].mean(),
                "macro_f1": macro_f1(best[some], choice.answers[some]),
                "right_with_none": float(choice.weights @ right),
                "false_accepts": (~rejected)[~some].mean(),
                "false_rejects": rejected[some].mean(),
            }
        )
    figures = {name: 100 * float(np.mean([row[name] for row in rows])) for name in rows[0]}
    figures["ece"] = calibration_error(every)
    figures["ece_of_those_shown"] = calibration_error(among)
    return {name: round(value, 1) for name, value in figures.items()}


def macro_f1(said: NDArray[np.int64], true: NDArray[np.int64]) -> float:
    """Mean F1 of the classes that some picture has."""
    scores = []
    for label in np.unique(true):
        both = ((said == label) & (true == label)).sum()
        scores.append(2 * both / ((said == label).sum() + (true == label).sum()))
    return float(np.mean(scores))


def calibration_error(answers: Sequence[tuple[Array, NDArray[np.bool_], Array]]) -> float:
    """Expected calibration error in percent (Naeini et al. 2015), over equally wide bins."""
    sure, right, weights = (np.concatenate(part) for part in zip(*answers, strict=True))
    weights = weights / weights.sum()
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights * (sure - right), BINS)
    return 100 * float(np.abs(gaps).sum())


def measure_tags(labels: Labels, pictures: Pictures) -> dict[str, float]:
    """Each label by itself, as `tag` does, as if `PRIOR` of the pictures showed it."""
    truth = shown(pictures.captions)
    found = labels.each(pictures.vectors.astype(np.float32)).astype(np.float64)
    answers, precision, recall = [], [], []
    for column, scores in zip(truth.T, found.T, strict=True):
        yes, no = scores[column == 1], scores[column == 0]
        if not len(yes):
            continue
        weights = np.r_[
            np.full(len(yes), PRIOR / len(yes)), np.full(len(no), (1 - PRIOR) / len(no))
        ]
        answers.append((np.r_[yes, no], np.r_[yes >= 0, no < 0], weights))
        kept, passed = PRIOR * (yes >= 0.5).mean(), (1 - PRIOR) * (no >= 0.5).mean()
        recall.append((yes >= 0.5).mean())
        if kept + passed:
            precision.append(kept / (kept + passed))
    return {
        "labels": len(answers),
        "precision": round(100 * float(np.mean(precision)), 1),
        "recall": round(100 * float(np.mean(recall)), 1),
        "ece": round(calibration_error(answers), 1),
    }


def fill(folder: Path, encoder: DualEncoder, count: int) -> None:
    """A library of `count` pictures without files: random vectors, each tenth near a word's."""
    random = np.random.default_rng(0)
    words = Labels.of(encoder, list(WORDS)[:LABELS]).vectors
    xsearch.open(folder, encoder=encoder).close()
    with Catalog(folder) as catalog:
        row = catalog.use_encoder(encoder.info)
        place = vector_path(folder, row.fingerprint, row.generation)
        with VectorWriter(place, 0, row.dim) as writer:
            for start in range(0, count, 10_000):
                vectors = random.normal(size=(10_000, row.dim)).astype(np.float32) / row.dim**0.5
                vectors[::10] += words[random.integers(len(words), size=1_000)]
                rows = to_rows(vectors)
                writer.append(rows)
                numbers = range(start, start + len(rows))
                with catalog.transaction() as connection:
                    connection.execute(items.insert(), [_item(number) for number in numbers])
                    connection.execute(
                        embeddings.insert(),
                        [
                            {"encoder_id": row.id, "item_id": at + 1, "row": at, "crc": crc}
                            for at, crc in zip(numbers, checksums(rows), strict=True)
                        ],
                    )
        with catalog.transaction() as connection:
            connection.execute(sa.update(encoders).values(rows=count))


def _item(number: int) -> dict[str, object]:
    digest = number.to_bytes(16, "big")
    return {"id": number + 1, "kind": "image", "content_hash": digest, "created_at": now()}


def time_tags(encoder: DualEncoder, count: int) -> dict[str, object]:
    """Seconds of `tag` with as many labels, first and again."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "library"
        fill(place, encoder, count)
        with xsearch.open(place, encoder=encoder) as library:
            names = list(WORDS)[:LABELS]
            dry = seconds_of(lambda: library.tag(names, dry_run=True))
            first = seconds_of(lambda: library.tag(names))
            again = seconds_of(lambda: library.tag(names))
            stored = sum(tag.pictures for tag in library.tags())
    seconds = {"dry_run": dry, "first": first, "again": again}
    return {
        "pictures": count,
        "labels": LABELS,
        "stored": stored,
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", default="builtin")
    parser.add_argument("--pictures", type=int, default=100_000, help="of the timed library")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args()
    encoder = load_encoder(options.encoder)
    flickr, coco = shared_data() / "flickr8k", shared_data() / "other_val"
    val = read(encoder, flickr, "val")
    held_out = {
        "flickr8k test": read(encoder, flickr, "test"),
        "other_val": read(encoder, coco, None),
    }
    names = list(WORDS)
    shipped = Labels.of(encoder, names)
    alone = fitted(Labels.of(encoder, names, ("{}",)), val)
    bare = fitted(replace(shipped, subjects=np.zeros_like(shipped.subjects[:1])), val)
    methods = {
        "as shipped": chosen(shipped),
        "without templates": chosen(alone),
        "without background": chosen(bare),
        "softmax, same scale": softmax(shipped, shipped.scale.scale),
        f"softmax, scale {CLIP_SCALE:.0f}": softmax(shipped, CLIP_SCALE),
    }
    drawn = {name: list(choices(shown(part.captions), seed=1)) for name, part in held_out.items()}
    report = describe(
        "classify",
        encoder=encoder.name,
        scale=shipped.scale.scale,
        margin=shipped.scale.margin,
        classify={
            data: {name: measure(method, part, drawn[data]) for name, method in methods.items()}
            for data, part in held_out.items()
        },
        tag={data: measure_tags(shipped, part) for data, part in held_out.items()},
        speed=time_tags(encoder, options.pictures),
    )
    if options.json:
        print(json.dumps(report))
        return
    print(f"{report['machine']}; {report['date']}")
    for data, found in report["classify"].items():
        for name, figures in found.items():
            print(
                f"{data}, {name}: " + ", ".join(f"{key} {value}" for key, value in figures.items())
            )
        print(f"{data}, each label by itself: {report['tag'][data]}")
    print(f"tag: {report['speed']}")


if __name__ == "__main__":
    main()

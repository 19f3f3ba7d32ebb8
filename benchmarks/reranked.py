"""Recall on Flickr8k with and without reranking, through the public API.

Run `python benchmarks/reranked.py --split test` (needs the test data; set XSEARCH_TEST_DATA).
As `benchmarks/recall.py`: each of the five English captions of each picture asks for its picture,
and each picture for any of its captions. The dual encoder's best 20, 50 and 100 are reordered by
the reranker; intervals are of 95 %, over pictures, and those of differences are of the same
queries with and without it. The pictures of this copy of Flickr8k are squashed to 224 x 224.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from common import describe, shared_data
from numpy.typing import NDArray
from recall import fill, rank_of, read_split

import xsearch
from xsearch.training.evaluation.bootstrap import Float64, Int64, estimates

AT = (1, 5, 10)
_SAMPLES = 1_000
Hits = NDArray[np.float64]
"""Whether each query had a right hit among the first 1, 5 and 10: (q, 3)."""


def asked(
    library: xsearch.Library,
    folder: Path,
    captions: dict[str, list[str]],
    rerank: int | None,
    directions: Sequence[str],
) -> dict[str, Hits]:
    """Whether queries found what they should, in both directions."""
    found: dict[str, list[int | None]] = {}
    if "text_to_image" in directions:
        found["text_to_image"] = [
            rank_of(library.search(text, k=max(AT), mode="meaning", rerank=rerank), name)
            for name, texts in captions.items()
            for text in texts
        ]
    if "image_to_text" in directions:
        found["image_to_text"] = [
            rank_of(library.search(folder / name, k=max(AT), target="text", rerank=rerank), name)
            for name in captions
        ]
    return {name: _within(ranks) for name, ranks in found.items()}


def _within(ranks: list[int | None]) -> Hits:
    placed = np.array([np.inf if rank is None else rank for rank in ranks])
    return np.stack([placed <= at for at in AT], axis=1).astype(np.float64)


def shares(hits: Hits, owners: Int64) -> dict[str, dict[str, float]]:
    """Percent of queries, or of a difference of two such, by cut, with intervals."""

    def means(weights: Int64) -> Float64:
        found: Float64 = 100 * (hits * weights[:, None]).sum(axis=0) / weights.sum()
        return found

    figures = estimates(means, owners, samples=_SAMPLES)
    return {
        f"R@{at}": {key: round(value, 2) for key, value in each.to_dict().items()}
        for at, each in zip(AT, figures, strict=True)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=("val", "test"), default="val", help="of Flickr8k")
    parser.add_argument("--other", action="store_true", help="other_val instead of Flickr8k")
    parser.add_argument("--encoder", default="builtin")
    parser.add_argument("--reranker", type=Path, help="its folder; the encoder's own by default")
    parser.add_argument("--candidates", type=int, nargs="+", default=[20, 50, 100])
    parser.add_argument(
        "--directions", nargs="+", default=["text_to_image", "image_to_text"], help="which way"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args()
    collection = shared_data() / ("other_val" if options.other else "flickr8k")
    folder = collection if options.other else collection / "images"
    captions = read_split(collection, None if options.other else options.split)
    owners = {
        "text_to_image": np.repeat(np.arange(len(captions)), list(map(len, captions.values()))),
        "image_to_text": np.arange(len(captions)),
    }
    rows: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    with (
        tempfile.TemporaryDirectory() as work,
        xsearch.open(
            Path(work) / "library", encoder=options.encoder, reranker=options.reranker
        ) as library,
    ):
        fill(library, folder, captions, Path(work))
        plain = asked(library, folder, captions, None, options.directions)
        for name, hits in plain.items():
            rows[name] = {"dual encoder": shares(hits, owners[name])}
        for count in options.candidates:
            for name, hits in asked(library, folder, captions, count, options.directions).items():
                rows[name][f"rerank {count}"] = shares(hits, owners[name])
                rows[name][f"gain of {count}"] = shares(hits - plain[name], owners[name])
    report = describe(
        "reranked",
        data="other_val" if options.other else f"flickr8k {options.split}",
        images=len(captions),
        **rows,
    )
    if options.json:
        print(json.dumps(report))
        return
    print(f"{report['machine']}; {report['date']}; {report['data']}: {len(captions)} images")
    for name, lines in rows.items():
        print(f"\n{name.replace('_', ' ')}")
        for label, figures in lines.items():
            cells = [
                f"{f['value']:6.2f} [{f['low']:.1f}, {f['high']:.1f}]" for f in figures.values()
            ]
            print(f"{label:14} " + "  ".join(f"{cell:22}" for cell in cells))


if __name__ == "__main__":
    main()

"""Fits the built-in reranker's blend to a library's own scores: `python -m
xsearch.training.builtin.blend`.

Training fits it to plain cosines. A library puts back what is near to every query, above all among
texts, so that less is left for the reranker to put right; this fits the weights to what it is given
there. To be run after the reranker was trained.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import xsearch
import xsearch.data
from xsearch.core.errors import Error
from xsearch.retrieval.rerank.manifest import FILE, Blend
from xsearch.retrieval.scoring import log_odds
from xsearch.training.checkpoint import write_text
from xsearch.training.rerank.blend import CANDIDATES, PAIRS, best_blend

from .corpus import Captioned, read_flickr8k

QUERIES = 2000


def main(arguments: list[str] | None = None) -> int:
    """Fit on Flickr8k's validation split, and write the weights into `reranker.json`."""
    place = Path(xsearch.data.__path__[0]) / "builtin" / "reranker"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flickr8k", type=Path, required=True, help="folder of Flickr8k")
    parser.add_argument("--reranker", type=Path, default=place, help="its folder")
    given = parser.parse_args(arguments)
    try:
        found = fit(read_flickr8k(given.flickr8k, "val"), given.reranker)
    except Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    path = given.reranker / FILE
    content = json.loads(path.read_text(encoding="utf-8"))
    content["blend"] = {pair: asdict(blend) for pair, blend in found.items()}
    write_text(path, json.dumps(content, indent=2) + "\n")
    print(json.dumps(content["blend"], indent=2))
    return 0


def fit(measured: Captioned, reranker: Path) -> Mapping[str, Blend]:
    """Blends of both directions, of searches in a library of pictures and their captions."""
    with tempfile.TemporaryDirectory() as work:
        place = Path(work)
        _write_sources(measured, place)
        alone = _alone(reranker, place / "alone")
        with xsearch.open(place / "library", reranker=alone) as library:
            library.index([place / "photos", place / "captions.csv"])
            return {
                pair: best_blend(*_answers(library, measured, from_text=from_text))
                for pair, _, from_text in PAIRS
            }


def _answers(
    library: xsearch.Library, measured: Captioned, *, from_text: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Candidates' log-odds (q, n), the dual encoder's and the reranker's, and which are right."""
    owner = {path.name: number for number, path in enumerate(measured.files)}
    owners = measured.owners if from_text else np.arange(len(measured.files))
    queries: list[str] | list[Path] = measured.texts if from_text else measured.files
    dual, match, right = [], [], []
    for number in np.linspace(0, len(owners) - 1, min(QUERIES, len(owners))).astype(int).tolist():
        before, after = (
            library.search(
                queries[number],
                k=CANDIDATES,
                target="image" if from_text else "text",
                mode="meaning",
                rerank=rerank,
            )
            for rerank in (None, CANDIDATES)
        )
        odds = {hit.id: hit.score for hit in after}
        kept = [hit for hit in before if hit.id in odds]
        dual.append([hit.score for hit in kept])
        match.append([odds[hit.id] for hit in kept])
        right.append(
            [hit.path is not None and owner[hit.path.name] == owners[number] for hit in kept]
        )
    fewest = min(map(len, dual))
    scores, alone = (np.array([row[:fewest] for row in rows]) for rows in (dual, match))
    return log_odds(scores), log_odds(alone), np.array([row[:fewest] for row in right])


def _alone(reranker: Path, folder: Path) -> Path:
    """A copy of a reranker whose scores are its own alone."""
    shutil.copytree(reranker, folder)
    path = folder / FILE
    content = json.loads(path.read_text(encoding="utf-8"))
    content["blend"] = {pair: asdict(Blend(0.0, 1.0, 0.0)) for pair, *_ in PAIRS}
    path.write_text(json.dumps(content), encoding="utf-8")
    return folder


def _write_sources(measured: Captioned, place: Path) -> None:
    """The pictures of a split as a folder, and their captions as a table."""
    (place / "photos").mkdir()
    with (place / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "image"])
        for path, texts in zip(measured.files, measured.captions, strict=True):
            (place / "photos" / path.name).symlink_to(path.resolve())
            rows.writerows((text, f"photos/{path.name}") for text in texts)


if __name__ == "__main__":
    sys.exit(main())

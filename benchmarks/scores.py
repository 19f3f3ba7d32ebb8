"""What scores mean: one cut-off for all queries, calibration error, and queries without an answer.

Run `python benchmarks/scores.py` (needs the test data; set XSEARCH_TEST_DATA). Queries are all
captions of Flickr8k's test split, and single words; what fits is told by `relevance.py`. The
cut-off is the one that is best on the validation split, for scores and for bare cosines alike.
`--fit` prints the numbers of `core/scoring.py`, fitted on the validation split, instead.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from common import describe
from numpy.typing import NDArray
from relevance import FITS, NOT, UNKNOWN, Collection
from worlds import World, embed, embed_texts, world

from xsearch.core.scoring import CROWD, DIRECTIONS
from xsearch.core.values import Kind
from xsearch.retrieval.encoders import load_encoder
from xsearch.retrieval.rank import good_matches
from xsearch.retrieval.search import NOTHING

Float64 = NDArray[np.float64]
Kinds = tuple[Kind, Kind]
_SIZES = ((1_000, 1), (300, 2))
_BINS = 15


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """Queries of one kind over one world: vectors (q, dim), and what fits, int8 (q, targets)."""

    name: str
    world: World
    kinds: Kinds
    queries: NDArray[np.float32]
    fits: NDArray[np.int8]


def tasks(place: World, collection: Collection) -> list[Task]:
    """Words and captions for pictures, pictures for captions, captions for captions."""
    words, words_fit = collection.words()
    captions_fit = collection.captions_fit()
    same = collection.owners[:, None] == collection.owners
    others = np.where(captions_fit[:, collection.owners] == NOT, NOT, UNKNOWN)
    between = np.where(same, FITS, others).astype(np.int8)
    np.fill_diagonal(between, UNKNOWN)
    return [
        Task("captions", place, ("text", "image"), place.texts, captions_fit),
        Task("words", place, ("text", "image"), embed_texts(place.encoder, words), words_fit),
        Task("pictures", place, ("image", "text"), place.images, captions_fit.T),
        Task("texts", place, ("text", "text"), place.texts[::5], between[::5]),
    ]


By = Literal["score", "cosine", "logistic"]


def scored(task: Task, by: By = "score") -> Iterator[tuple[Float64, NDArray[np.int8]]]:
    """For each query the scores of all targets whose fit is known, and their fit.

    Instead of scores bare cosines, or these through the encoder's one logistic.
    """
    for query, fits in zip(task.queries, task.fits, strict=True):
        scale, cosines, rows = task.world.scale(query, task.kinds, correct=by == "score")
        known = fits != UNKNOWN
        found = cosines if by == "cosine" else scale.scores(scale.corrected(cosines, rows))
        yield found[known].astype(np.float64), fits[known]


def pooled(task: Task, by: By = "score") -> tuple[Float64, NDArray[np.bool_]]:
    """Scores of all pairs of a task in one, and whether they fit."""
    parts = list(scored(task, by))
    return np.concatenate([s for s, _ in parts]), np.concatenate([f for _, f in parts]) == FITS


def best_cut(pools: list[tuple[Float64, NDArray[np.bool_]]]) -> float:
    """The cut-off with the best F1, each pool counting alike."""
    scores = np.concatenate([scores for scores, _ in pools])
    fits = np.concatenate([fits for _, fits in pools])
    weight = np.concatenate([np.full(len(f), 1 / f.sum()) for _, f in pools])
    order = np.argsort(-scores)
    right = np.cumsum(np.where(fits, weight, 0)[order])
    shown = np.cumsum(weight[order])
    return float(scores[order][np.argmax(2 * right / (shown + len(pools)))])


def at_cut(pool: tuple[Float64, NDArray[np.bool_]], cut: float) -> dict[str, float]:
    """Precision, recall and F1 in percent at a cut-off."""
    scores, fits = pool
    kept = scores >= cut
    right = int((kept & fits).sum())
    return {
        "precision": round(100 * right / max(int(kept.sum()), 1), 1),
        "recall": round(100 * right / int(fits.sum()), 1),
        "F1": round(200 * right / (int(kept.sum()) + int(fits.sum())), 1),
    }


def calibration_error(pool: tuple[Float64, NDArray[np.bool_]]) -> dict[str, float]:
    """Expected calibration error (Naeini et al. 2015), in percentage points.

    Over all pairs, nearly all of which are at 0, and over those with a score of 0.05 and more.
    """
    found = {}
    for name, least in (("all pairs", 0.0), ("scores from 0.05", 0.05)):
        scores, fits = (part[pool[0] >= least] for part in pool)
        if not len(scores):
            continue
        bins = np.minimum((scores * _BINS).astype(int), _BINS - 1)
        gaps = np.bincount(bins, scores - fits, _BINS)
        found[name] = round(float(100 * np.abs(gaps).sum() / len(scores)), 3)
    return found


def emptied(task: Task) -> dict[str, float]:
    """How often `auto_cut` shows nothing: with the pictures that fit, and without them."""
    with_, without = bests(task)
    kept = []
    for scores, fits in scored(task):
        right = fits == FITS
        if right.any():
            shown = _shown(scores)
            kept.append((int((shown & right).sum()), int(shown.sum()), int(right.sum())))
    right_, shown_, there = np.array(kept).sum(axis=0)
    return {
        "nothing shown, none fits": round(100 * float((without < NOTHING).mean()), 1),
        "nothing shown, some fit": round(100 * float((with_ < NOTHING).mean()), 1),
        "precision": round(100 * right_ / max(shown_, 1), 1),
        "recall": round(100 * right_ / there, 1),
    }


def bests(task: Task, by: By = "score") -> tuple[Float64, Float64]:
    """The best score of each query that something fits, and what is left without that."""
    pairs = [
        (scores.max(), scores[fits != FITS].max())
        for scores, fits in scored(task, by)
        if (fits == FITS).any()
    ]
    with_, without = np.array(pairs).T
    return with_, without


def emptied_by_cosine(task: Task, least: float) -> dict[str, float]:
    """The same with a least cosine."""
    with_, without = bests(task, "cosine")
    return {
        "nothing shown, none fits": round(100 * float((without < least).mean()), 1),
        "nothing shown, some fit": round(100 * float((with_ < least).mean()), 1),
    }


def _shown(scores: Float64) -> NDArray[np.bool_]:
    best = np.sort(scores)[::-1][:200]
    good = good_matches(best, NOTHING)
    return scores >= best[good - 1] if good else np.zeros(len(scores), np.bool_)


def features(task: Task) -> tuple[Float64, NDArray[np.bool_]]:
    """What `Direction` weighs, (pairs, 3), and whether pairs fit; most misses are left out."""
    chance = np.random.default_rng(0)
    direction, background = DIRECTIONS[task.kinds], task.world.background
    mean, deviation = background.header.moments["-".join(task.kinds)]
    target = task.kinds[1]
    sample, taken = background.measured(target, direction)
    crowd = CROWD * np.log(1_000 / background.header.held[target])
    rows, answers = [], []
    for query, fits in zip(task.queries, task.fits, strict=True):
        if not (fits == FITS).any():
            continue
        scale, cosines, numbers = task.world.scale(query, task.kinds)
        corrected = scale.corrected(cosines, numbers)
        spread = float((sample @ query - taken).std()) / deviation - 1
        kept = (fits == FITS) | ((fits == NOT) & (chance.random(len(fits)) < _KEPT))
        found = (corrected[kept] - mean) / deviation
        rows.append(np.stack([found, np.full(len(found), spread), np.full(len(found), crowd)], 1))
        answers.append(fits[kept] == FITS)
    return np.concatenate(rows), np.concatenate(answers)


_KEPT = 0.05


def fit(groups: list[list[Task]]) -> list[float]:
    """Slope, spread and intercept by weighted logistic regression; each group counts alike."""
    from scipy.optimize import minimize

    parts = [[features(task) for task in group] for group in groups]
    inputs = np.concatenate([x for group in parts for x, _ in group])
    answers = np.concatenate([y for group in parts for _, y in group])
    shares = [
        [
            np.where(y, 1.0, 1 / _KEPT) / len(group) / np.where(y, 1, 1 / _KEPT).sum()
            for _, y in group
        ]
        for group in parts
    ]
    weights = np.concatenate([share for group in shares for share in group])
    found, crowd = np.column_stack([inputs[:, :2], np.ones(len(inputs))]), inputs[:, 2]

    def loss(numbers: Float64) -> tuple[float, Float64]:
        logits = found @ numbers + crowd
        wrong = 1 / (1 + np.exp(-logits)) - answers
        value = weights @ (np.logaddexp(0, logits) - answers * logits)
        return float(value), found.T @ (weights * wrong)

    fitted = minimize(loss, np.array([1.0, 0.0, -5.0]), jac=True, method="BFGS").x
    return [round(float(number), 3) for number in fitted]


def fit_all(encoder: Any, folder: Path) -> dict[str, list[float]]:
    """Fitted numbers by direction, from libraries of several sizes."""
    collection = Collection.read("val")
    images, texts = embed(encoder, collection)
    chance = np.random.default_rng(0)
    by_name: dict[str, list[Task]] = {}
    for size, times in _SIZES:
        for _ in range(times):
            chosen = sorted(chance.choice(len(images), size, replace=False).tolist())
            part = collection.part(chosen)
            kept = np.isin(collection.owners, chosen)
            for task in tasks(world(encoder, images[chosen], texts[kept], folder), part):
                by_name.setdefault(task.name, []).append(task)
    return {
        "text to image": fit([by_name["captions"], by_name["words"]]),
        "image to text": fit([by_name["pictures"]]),
        "text to text": fit([by_name["texts"]]),
    }


def report(encoder: Any, folder: Path, name: str) -> dict[str, Any]:
    """All figures of one collection, with cut-offs from the validation split."""
    found: dict[str, Any] = {}
    chosen = Collection.read("val")
    val = tasks(world(encoder, *embed(encoder, chosen), folder / "val"), chosen)
    cuts: dict[By, float] = {
        by: best_cut([pooled(task, by) for task in val[:2]]) for by in ("score", "cosine")
    }
    # A least cosine that loses as many queries with an answer as the least score does.
    lost = np.mean([(bests(task)[0] < NOTHING).mean() for task in val[:2]])
    least = float(np.quantile(np.concatenate([bests(task, "cosine")[0] for task in val[:2]]), lost))
    found["cut-off"] = {name: round(cut, 3) for name, cut in cuts.items()}
    found["cut-off"]["least cosine"] = round(least, 3)
    tested = Collection.read(name)
    place = world(encoder, *embed(encoder, tested), folder / name)
    for task in tasks(place, tested):
        pool = pooled(task)
        found[task.name] = {
            "by score": at_cut(pool, cuts["score"]),
            "by cosine": at_cut(pooled(task, "cosine"), cuts["cosine"]),
            "calibration error": calibration_error(pool),
            "calibration error, one logistic": calibration_error(pooled(task, "logistic")),
        }
        if task.kinds == ("text", "image"):
            found[task.name]["auto-cut"] = emptied(task)
            found[task.name]["least cosine"] = emptied_by_cosine(task, least)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=("test", "val", "other_val"), default="test")
    parser.add_argument("--encoder", default="builtin")
    parser.add_argument("--fit", action="store_true", help="fit on val and print the numbers")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args()
    encoder = load_encoder(options.encoder)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        if options.fit:
            for name, numbers in fit_all(encoder, folder).items():
                print(f"{name}: slope, spread, intercept = {numbers}")
            return
        found = describe("scores", data=options.data, **report(encoder, folder, options.data))
    if options.json:
        print(json.dumps(found))
        return
    print(f"{found['machine']}; {found['date']}\n{found['data']}; cut-off {found['cut-off']}")
    for task in ("captions", "words", "pictures", "texts"):
        print(task)
        for name, figures in found[task].items():
            print(f"  {name}: " + ", ".join(f"{key} {value}" for key, value in figures.items()))


if __name__ == "__main__":
    main()

"""What scores the texts of a picture: the dual encoder, its reranker, and the blend of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xsearch.core.encoder import DualEncoder, embed_and_look
from xsearch.core.errors import EncoderError
from xsearch.retrieval.rerank.find import find_reranker
from xsearch.training.evaluation.bootstrap import Float64, Int64, estimates

if TYPE_CHECKING:
    from xsearch.core.encoder import Float32, UInt8

Scores = dict[str, list[NDArray[Any]]]
"""By scorer: of each picture its own texts' scores, higher for what fits better."""
Scorer = Callable[[Sequence[Image.Image], Sequence[Sequence[str]]], Scores]
"""Takes pictures, and each one's own texts."""

_SAMPLES = 1_000


def scorer_of(encoder: DualEncoder, folder: Path | None) -> Scorer:
    """`cosine`, and with a reranker `rerank` alone and the `blend` that a search orders by."""

    def cosines(images: Float32, texts: Sequence[Sequence[str]]) -> list[NDArray[Any]]:
        words = encoder.embed_texts([text for own in texts for text in own]).vectors
        ends = np.cumsum([len(own) for own in texts])[:-1]
        return [own @ image for own, image in zip(np.split(words, ends), images, strict=True)]

    def prepared(pictures: Sequence[Image.Image]) -> UInt8:
        return np.stack([encoder.preprocess(picture) for picture in pictures])

    try:
        reranker = find_reranker(encoder, folder)
    except EncoderError:
        if folder is not None:
            raise
        return lambda pictures, texts: {
            "cosine": cosines(encoder.embed_images(prepared(pictures)), texts)
        }
    scale = encoder.calibration("text", "image")
    blend = reranker.info.blend["text-image"]

    def scores(pictures: Sequence[Image.Image], texts: Sequence[Sequence[str]]) -> Scores:
        images, regions = embed_and_look(encoder, prepared(pictures))
        dual = cosines(images, texts)
        matches = [
            reranker.match(*encoder.tokens(list(own)), memory[None])  # type: ignore[attr-defined]
            for own, memory in zip(texts, reranker.memories(regions), strict=True)
        ]
        blended = [
            np.asarray(blend.log_odds(scale.slope * own + scale.intercept, odds))
            for own, odds in zip(dual, matches, strict=True)
        ]
        return {"cosine": dual, "rerank": matches, "blend": blended}

    return scores


def won(true: NDArray[Any], wrong: NDArray[Any]) -> Float64:
    """1 where the true caption scores higher than the wrong one, 0.5 for a tie, else 0."""
    found: Float64 = 0.5 * ((true > wrong).astype(float) + (true >= wrong))
    return found


def by_kind(
    right: Float64, kinds: Sequence[str], owners: Int64, names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Of each kind of pair, and of all: pairs, the share that is right, its interval.

    Pairs of one owner, a picture, are drawn together.
    """
    masks = {"all": np.ones(len(right), bool)}
    masks |= {name: np.array(kinds) == name for name in names}

    def shares(weights: Int64) -> Float64:
        sums = [((right * weights)[mask].sum(), weights[mask].sum()) for mask in masks.values()]
        return np.array([top / max(below, 1) for top, below in sums])

    found = estimates(shares, owners, samples=_SAMPLES)
    return {
        name: {"pairs": int(mask.sum())}
        | {key: round(value, 4) for key, value in estimate.to_dict().items()}
        for (name, mask), estimate in zip(masks.items(), found, strict=True)
    }


def show(rows: dict[str, dict[str, dict[str, float]]]) -> None:
    """Print what `by_kind` found, by scorer."""
    for name, figures in rows.items():
        print(f"\n{name:18} pairs  right  interval")
        for kind, row in figures.items():
            span = f"{row['low']:.1%} to {row['high']:.1%}"
            print(f"{kind:18} {row['pairs']:5}  {row['value']:.1%}  {span}")

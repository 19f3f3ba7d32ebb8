"""Learns to join a picture and words: `python -m xsearch.training.builtin.fusion`.

What is learnt ships with the built-in encoder, and belongs to its space alone: to be run whenever
the encoder changes; `tests/test_fusion.py` tells.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import xsearch.data
from xsearch.core.encoder import DualEncoder
from xsearch.core.errors import Error
from xsearch.data.triples import Triple, make_triples
from xsearch.retrieval.encoders import load_encoder
from xsearch.retrieval.fusion import FILE, Residual, save_fusion
from xsearch.retrieval.many import embed_many
from xsearch.training.fusion import (
    Composed,
    ComposedSettings,
    TrainableResidual,
    train_composed,
)

from .corpus import Captioned, decode, read_flickr8k

EACH = 10
"""Targets of each picture of the training split."""
KEPT = 0.75
"""How much of what was learnt is kept: a little less does no harm on Flickr8k val, and pictures of
another kind (`other_val`) are found as well as by adding."""


def main(arguments: list[str] | None = None) -> int:
    """Train on Flickr8k's training split, and write the file beside the encoder's own."""
    place = Path(xsearch.data.__path__[0]) / "builtin" / FILE
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flickr8k", type=Path, required=True, help="folder of Flickr8k")
    parser.add_argument("--work", type=Path, required=True, help="folder for finished stages")
    parser.add_argument("--out", type=Path, default=place, help="the file to write")
    given = parser.parse_args(arguments)
    try:
        encoder = load_encoder("builtin")
        train = read_flickr8k(given.flickr8k, "train")
        images = picture_vectors(encoder, train, given.work / f"images-{encoder.fingerprint}.npy")
    except Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    save_fusion(_shrunk(learn(encoder, train, images)), given.out, encoder.fingerprint)
    given.out.chmod(0o644)
    print(f"{given.out}: {given.out.stat().st_size / 1e6:.1f} MB")
    return 0


def learn(encoder: DualEncoder, train: Captioned, images: NDArray[np.float32]) -> Residual:
    """A fusion for an encoder, from captioned pictures and their vectors (n, dim)."""
    settings = ComposedSettings()
    torch.manual_seed(settings.seed)
    fusion = TrainableResidual(encoder.dim)
    data = composed(encoder, images, make_triples(train.captions, each=EACH))
    train_composed(fusion, data, settings, _report)
    return fusion.export()


def composed(encoder: DualEncoder, images: NDArray[np.float32], triples: list[Triple]) -> Composed:
    """Each triple twice: with a phrase, and with the fewest words that say the same."""
    queries = [(one, text) for one in triples for text in (one.text, one.words)]
    texts = list(dict.fromkeys(text for _, text in queries))
    places = {text: place for place, text in enumerate(texts)}
    return Composed(
        torch.tensor(images),
        torch.tensor(embed_many(encoder, texts).vectors),
        _numbers([one.reference for one, _ in queries]),
        _numbers([places[text] for _, text in queries]),
        [one.relevant for one, _ in queries],
    )


def _numbers(values: list[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def picture_vectors(encoder: DualEncoder, train: Captioned, kept: Path) -> NDArray[np.float32]:
    """Vectors (n, dim) of pictures; read from a file where an earlier run left them."""
    if not kept.exists():
        parts = []
        for start in range(0, len(train.files), 32):
            pixels = [decode(path, encoder.preprocess) for path in train.files[start : start + 32]]
            parts.append(encoder.embed_images(np.stack(pixels)))
            print(f"pictures {start}/{len(train.files)}", file=sys.stderr, flush=True)
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".partial.npy")
        np.save(partial, np.concatenate(parts))
        partial.replace(kept)
    found: NDArray[np.float32] = np.load(kept, allow_pickle=False)
    return found


def _shrunk(fusion: Residual) -> Residual:
    """Less of what was learnt, in float16: half the size, and vectors change by rounding alone."""
    kept = replace(fusion, outer=KEPT * fusion.outer, outer_bias=KEPT * fusion.outer_bias)
    return replace(
        kept, **{one.name: getattr(kept, one.name).astype(np.float16) for one in fields(kept)}
    )


def _report(step: int, steps: int, loss: float) -> None:
    if step % 50 == 0:
        print(f"step {step}/{steps}  loss {loss:.3f}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

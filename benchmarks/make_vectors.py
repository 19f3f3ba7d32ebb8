"""Makes `vectors.npz`, from which `vectors.py` draws, and says how well the two agree.

Run `python benchmarks/make_vectors.py` (needs the test data; set XSEARCH_TEST_DATA): embeds
Flickr8k's training and validation photographs and English captions with the built-in encoder,
fits the mixture to the training ones, and compares rows and queries drawn from it with the
validation ones, which it never saw. `--check` compares the shipped numbers only. `--keep FILE`
stores the real vectors, and takes them from there when it exists.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from common import shared_data
from PIL import Image
from vectors import DATA, DIM, Source

import xsearch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Real = dict[str, Floats]

_CLUSTERS = 256
_QUANTILES = 33
_CAPTIONS = 5
_BATCH = 8
_RIDGE = 1.0


def embed(encoder: xsearch.DualEncoder) -> Real:
    """Vectors of both splits: `train` and `val` (n, 384), `train_text` and `val_text` (5n, 384)."""
    flickr = shared_data() / "flickr8k"
    with (flickr / "captions.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    found = {}
    for split in ("train", "val"):
        mine = [row for row in rows if row["split"] == split]
        parts = []
        for start in range(0, len(mine), _BATCH):
            files = [flickr / "images" / row["file"] for row in mine[start : start + _BATCH]]
            pixels = [encoder.preprocess(Image.open(file).convert("RGB")) for file in files]
            parts.append(encoder.embed_images(np.stack(pixels)))
        found[split] = np.concatenate(parts)
        texts = [text for row in mine for text in row["captions"]["en"][:_CAPTIONS]]
        found[f"{split}_text"] = encoder.embed_texts(texts).vectors
    return found


def fit(images: Floats, texts: Floats) -> dict[str, NDArray[np.float16]]:
    """The numbers that `vectors.Source` takes, of images (n, 384) and their texts (5n, 384)."""
    import faiss

    means = faiss.Kmeans(DIM, _CLUSTERS, niter=25, seed=1, min_points_per_centroid=1)
    means.train(images)
    cluster = means.index.search(images, 1)[1][:, 0]
    count = np.bincount(cluster, minlength=_CLUSTERS)
    centre = np.stack([images[cluster == at].mean(0) for at in range(_CLUSTERS)])
    # A mean of few is too near to them.
    fair = np.sqrt(count / np.maximum(count - 1, 1))
    apart = ((images - centre[cluster]) * fair[cluster, None])[count[cluster] > 1]
    cluster = cluster[count[cluster] > 1]
    total = np.bincount(cluster, (apart**2).sum(1), minlength=_CLUSTERS)
    sizes = np.where(count > 1, total / np.maximum(count, 1), (apart**2).sum(1).mean())
    detail = apart / np.sqrt(sizes)[cluster, None]
    inputs = np.c_[np.repeat(images, _CAPTIONS, axis=0), np.ones(len(texts), np.float32)]
    square = inputs.T @ inputs + _RIDGE * np.eye(DIM + 1)
    text_map = np.linalg.solve(square, inputs.T @ texts)
    residual = texts - inputs @ text_map
    numbers = {
        "weights": count / count.sum(),
        "means": centre,
        "sizes": sizes,
        "detail": _factor(detail),
        "radii": _quantiles(detail),
        "text_map": text_map,
        "text_noise": _factor(residual),
        "text_radii": _quantiles(residual),
    }
    return {name: value.astype(np.float16) for name, value in numbers.items()}


def _factor(rows: Floats) -> NDArray[np.float64]:
    """A matrix that gives standard normal rows, multiplied from the right, a covariance."""
    return np.linalg.cholesky(np.cov(rows.T) + 1e-9 * np.eye(DIM)).T


def _quantiles(rows: Floats) -> NDArray[np.float64]:
    return np.quantile(np.linalg.norm(rows, axis=1), np.linspace(0, 1, _QUANTILES))


def report(real: Real) -> str:
    """A table: cosines of queries to their nearest, 10th and 100th row, real and drawn."""
    source, size = Source(DIM), len(real["train"])
    drawn = np.concatenate(list(source.images(size)))
    queries = len(real["val"])
    captions = real["val_text"][::_CAPTIONS]
    lines = [
        f"{queries:,} queries on {size:,} rows: cosine at the 5th, 50th and 95th percentile",
        "",
        "| queries | vectors | nearest | 10th | 100th | all: mean, deviation |",
        "| --- | --- | --- | --- | --- | --- |",
        f"| pictures | real | {_cosines(real['val'], real['train'])} |",
        f"| pictures | drawn | {_cosines(source.pictures(queries, size), drawn)} |",
        f"| texts | real | {_cosines(captions, real['train'])} |",
        f"| texts | drawn | {_cosines(source.texts(queries, size), drawn)} |",
        "",
        "Variance in the largest 8 / 32 / 64 / 128 directions: "
        f"real {_spectrum(real['train'])}, drawn {_spectrum(drawn)}",
    ]
    return "\n".join(lines)


def _cosines(queries: Floats, rows: Floats) -> str:
    cosines = np.sort(queries @ rows.T, axis=1)
    columns = [
        " ".join(f"{value:.2f}" for value in np.percentile(cosines[:, -at], (5, 50, 95)))
        for at in (1, 10, 100)
    ]
    return " | ".join([*columns, f"{cosines.mean():.3f}, {cosines.std():.3f}"])


def _spectrum(rows: Floats) -> str:
    values = np.linalg.eigvalsh(np.cov(rows.T))[::-1]
    return " / ".join(f"{values[:at].sum() / values.sum():.0%}" for at in (8, 32, 64, 128))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare only; write nothing")
    parser.add_argument("--keep", type=Path, help="a file to keep the real vectors in (.npz)")
    options = parser.parse_args()
    if options.keep and options.keep.exists():
        with np.load(options.keep) as stored:
            real = {name: stored[name] for name in stored.files}
    else:
        real = embed(xsearch.load_encoder())
        if options.keep:
            np.savez(options.keep, **real)
    if not options.check:
        np.savez_compressed(DATA, **fit(real["train"], real["train_text"]))
        print(f"{DATA}: {DATA.stat().st_size / 1e6:.2f} MB")
    print(report(real))


if __name__ == "__main__":
    main()

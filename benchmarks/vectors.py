"""Vectors like those of real photographs, in any number: what search is measured with.

A Gaussian mixture over the built-in encoder's vectors of Flickr8k's training photographs (256
clusters, each of its own size, with one shape of covariance and heavy tails), which keeps their
clusters and spectrum. Three things are added that a mixture lacks: photographs come in scenes
(20 share `SCENE` of what sets them apart in their cluster), some are bursts (`BURST` of the rows
repeat the one before at a cosine of about 0.97), and queries are texts, which lie off the images'
manifold: a linear map from a picture's vector to its captions', plus noise with the residual's
covariance. `python benchmarks/make_vectors.py` makes the numbers and says how well all this agrees
with real vectors that were not used for it.

A library of n rows is the beginning of any larger one. Vectors have 384 dimensions; more are had
by a fixed rotation, which changes no cosine but spreads every vector over all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

DATA = Path(__file__).parent / "vectors.npz"
DIM = 384
SCENE, SCENE_ROWS = 0.15, 20
BURST, BURST_NOISE = 0.05, 0.25
# Of the residual's length: in full, it would be independent of the other pictures, which real
# captions are not. With this, cosines to the nearest, 10th and 100th agree with real captions'.
TEXT_NOISE = 0.7
_CHUNK = 50_000
_SEED = 20_251


class Source:
    """Makes the rows of a library, and queries for it; the same ones on every machine."""

    def __init__(self, dim: int = 512, data: Path = DATA) -> None:
        if dim < DIM:
            raise ValueError(f"{dim} dimensions are too few for vectors of {DIM}")
        with np.load(data) as stored:
            self._of = {name: stored[name].astype(np.float32) for name in stored.files}
        self._weights = self._of["weights"].astype(np.float64)
        self._weights /= self._weights.sum()
        random = np.random.default_rng(_SEED)
        square = np.linalg.qr(random.standard_normal((dim, DIM)))[0]
        self._rotation = None if dim == DIM else np.ascontiguousarray(square.T, dtype=np.float32)
        self.dim = dim

    def images(self, count: int) -> Iterator[Floats]:
        """The rows of a library in order: pieces of float32 (n, dim), of unit length."""
        for number in range(-(-count // _CHUNK)):
            random = np.random.default_rng([_SEED, number, 1])
            rows = self._pictures(number, np.arange(_CHUNK), random)
            again = np.flatnonzero(random.random(len(rows)) < BURST)
            again = again[again > 0]
            noise = random.standard_normal((len(again), DIM), dtype=np.float32) @ self._of["detail"]
            rows[again] = _unit(rows[again - 1] + BURST_NOISE * _unit(noise))
            yield self._rotate(rows[: count - number * _CHUNK])

    def texts(self, queries: int, count: int, seed: int = 0) -> Floats:
        """Queries for a library of `count` rows: captions of other pictures of its scenes.

        float32 (queries, dim), of unit length.
        """
        random = np.random.default_rng([_SEED, seed, 2])
        pictures = self._others(queries, count, random)
        noise = self._spread("text_noise", "text_radii", queries, random)
        ones = np.ones((queries, 1), np.float32)
        mapped = np.concatenate([pictures, ones], axis=1) @ self._of["text_map"]
        return self._rotate(_unit(mapped + TEXT_NOISE * noise))

    def pictures(self, queries: int, count: int, seed: int = 0) -> Floats:
        """Queries for a library of `count` rows: other pictures of its scenes, as `texts`."""
        return self._rotate(self._others(queries, count, np.random.default_rng([_SEED, seed, 3])))

    def _others(self, queries: int, count: int, random: np.random.Generator) -> Floats:
        wanted = random.integers(0, count, queries)
        rows = np.empty((queries, DIM), np.float32)
        for number in np.unique(wanted // _CHUNK):
            mine = wanted // _CHUNK == number
            rows[mine] = self._pictures(int(number), wanted[mine] % _CHUNK, random)
        return rows

    def _pictures(
        self, number: int, places: NDArray[np.int64], random: np.random.Generator
    ) -> Floats:
        """Pictures of the scenes to which some places of a piece belong: float32 (n, 384)."""
        of_scene = np.random.default_rng([_SEED, number, 0])
        scenes = _CHUNK // SCENE_ROWS
        cluster = of_scene.choice(len(self._weights), scenes, p=self._weights)
        shared = self._spread("detail", "radii", scenes, of_scene)
        scene = np.sort(of_scene.integers(0, scenes, _CHUNK))[places]
        own = self._spread("detail", "radii", len(places), random)
        apart = np.sqrt(SCENE) * shared[scene] + np.sqrt(1 - SCENE) * own
        size = np.sqrt(self._of["sizes"])[cluster[scene], None]
        return _unit(self._of["means"][cluster[scene]] + size * apart)

    def _spread(self, factor: str, radii: str, count: int, random: np.random.Generator) -> Floats:
        """Vectors with a factor's covariance, and lengths from a table of quantiles."""
        drawn = random.standard_normal((count, DIM), dtype=np.float32) @ self._of[factor]
        table = self._of[radii]
        lengths = np.interp(random.random(count), np.linspace(0, 1, len(table)), table)
        return _unit(drawn) * lengths[:, None].astype(np.float32)

    def _rotate(self, rows: Floats) -> Floats:
        return rows if self._rotation is None else rows @ self._rotation


def _unit(rows: Floats) -> Floats:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)

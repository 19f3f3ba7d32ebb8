"""What several test modules need: a small, real, fast encoder, and small, real pictures."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

import xsearch
from xsearch.core.encoder import EncoderInfo, Logistic, TextEmbeddings

# Long before any run of the tests, so that no file counts as just written.
LONG_AGO_NS = 1_500_000_000 * 1_000_000_000


class ColourEncoder:
    """A real encoder of colours: a picture's vector is its mean colours on a square grid.

    Texts have vectors that follow from their bytes alone, equal in every process.
    """

    image_size = 32

    def __init__(self, fingerprint: str = "c010", name: str = "colour", grid: int = 4) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.dim = 3 * grid * grid
        self.info = EncoderInfo(name, name, fingerprint, self.dim, "numpy", "fp32")
        self._grid = grid

    def preprocess(self, image: Image.Image) -> np.ndarray:
        return np.asarray(image.convert("RGB").resize((32, 32)))

    def embed_images(self, batch: np.ndarray) -> np.ndarray:
        grid, side = self._grid, self.image_size // self._grid
        cells = batch.astype(np.float32).reshape(len(batch), grid, side, grid, side, 3)
        cells = cells.mean((2, 4))
        return _unit(cells.reshape(len(batch), -1) - 100.3)

    def embed_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for row, text in enumerate(texts):
            digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
            vectors[row] = np.random.default_rng(list(digest)).normal(size=self.dim)
        cut = np.array([len(text) > 1_000 for text in texts], np.bool_)
        return TextEmbeddings(_unit(vectors), cut)

    def calibration(self, query: str, target: str) -> Logistic:
        return Logistic(10.0, -5.0)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def open_colour(folder: Path, fingerprint: str = "c010") -> xsearch.Library:
    """The library in a folder, made if absent, with the encoder of colours."""
    return xsearch.open(folder, encoder=ColourEncoder(fingerprint))


def picture(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """A picture of 4 x 4 coloured fields; every seed gives another."""
    fields = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(fields).resize(size, Image.Resampling.NEAREST)


def write_picture(
    path: Path, seed: int, size: tuple[int, int] = (64, 48), exif: Image.Exif | None = None
) -> Path:
    """Write the picture of a seed, by the suffix's format, as a file of long ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {} if exif is None else {"exif": exif}
    picture(seed, size).save(path, **options)
    return age(path)


def write_pictures(folder: Path, count: int, first: int = 0) -> list[Path]:
    """Write `count` pictures, `000.jpg` and so on, seeds from `first`."""
    return [write_picture(folder / f"{at:03}.jpg", at) for at in range(first, first + count)]


def write_text(path: Path, text: str | bytes) -> Path:
    """Write a text file (UTF-8, or the bytes as they are) as a file of long ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return age(path)


def age(path: Path, seconds: int = 0) -> Path:
    """Date a file long ago, plus some seconds, so that an edit differs in time from before."""
    moment = LONG_AGO_NS + seconds * 1_000_000_000
    os.utime(path, ns=(moment, moment))
    return path


def paths_of(hits: Sequence[xsearch.Hit]) -> list[Path | None]:
    """The paths of hits, in order."""
    return [hit.path for hit in hits]


ALL = 1_000


def like(library: xsearch.Library, seed: int, k: int = ALL) -> list[xsearch.Hit]:
    """Pictures like that of a seed, nearest first."""
    return library.search(xsearch.Image(picture(seed)), k=k)


def nearest(library: xsearch.Library, seed: int) -> xsearch.Hit:
    """The hit that is the picture of a seed, which must be there."""
    hit = like(library, seed, 1)[0]
    assert hit.similarity > 0.99
    return hit


def ids(library: xsearch.Library) -> dict[str, int]:
    """Every picture's id by its file's name."""
    return {hit.path.name: hit.id for hit in like(library, 0) if hit.path}

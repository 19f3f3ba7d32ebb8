"""What the encoder sees and reads, computed once and kept on disk: regions and tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xsearch.core.encoder import DualEncoder, RegionEncoder, embed_and_look
from xsearch.core.errors import StorageError
from xsearch.core.ordered import map_in_order
from xsearch.core.reports import Progress, ProgressCallback
from xsearch.training.checkpoint import replacing

if TYPE_CHECKING:
    from PIL import Image

    from xsearch.core.encoder import Float32

    Float16 = NDArray[np.float16]
    Indices = NDArray[np.int64]

CHUNK = 2048
"""Texts that are read between two reports of progress."""
BATCH = 32


class Encoder(DualEncoder, RegionEncoder, Protocol):
    """A dual encoder that shows its regions and tokens."""


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """Pictures in several views: float16 (n, R, C) each, memory-mapped; and the vectors (n, d)
    of the first view.
    """

    views: tuple[Float16, ...]
    vectors: Float32

    def batch(self, rows: Indices, views: Indices | None = None) -> Float32:
        """Regions (len(rows), R, C) of pictures, each in a view; the first by default."""
        if views is None:
            return self.views[0][rows].astype(np.float32)
        chosen = zip(rows.tolist(), views.tolist(), strict=True)
        return np.stack([self.views[view][row] for row, view in chosen]).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """Token features of many texts, one after the other: float16 (sum, C), and lengths (n,)."""

    flat: Float16
    lengths: Indices
    starts: Indices

    def batch(
        self, rows: Indices, longest: int, random: np.random.Generator | None = None
    ) -> tuple[Float32, NDArray[np.bool_]]:
        """Features (*rows.shape, T, C) and mask (*rows.shape, T) of texts.

        Of texts longer than `longest` some tokens are left out: by chance, or the last ones.
        """
        wanted = rows.reshape(-1)
        size = min(int(self.lengths[wanted].max()), longest)
        found = np.zeros((len(wanted), size, self.flat.shape[1]), np.float32)
        mask = np.zeros((len(wanted), size), np.bool_)
        for at, row in enumerate(wanted.tolist()):
            start, length = int(self.starts[row]), int(self.lengths[row])
            if length <= size:
                found[at, :length] = self.flat[start : start + length]
                mask[at, :length] = True
                continue
            kept = np.arange(size)
            if random is not None:
                kept = np.sort(random.choice(length, size, replace=False))
            found[at], mask[at] = self.flat[start + kept], True
        return found.reshape(*rows.shape, size, -1), mask.reshape(*rows.shape, size)


def look(
    encoder: Encoder,
    count: int,
    picture: Callable[[int, int], Image.Image],
    views: int,
    folder: Path,
    progress: ProgressCallback,
) -> Regions:
    """Regions of `count` pictures; those of a view that was finished before are not made again.

    `picture(row, view)` opens one. Raises StorageError, and what opening raises.
    """
    made = [_view(encoder, count, picture, view, folder, progress) for view in range(views)]
    return Regions(tuple(regions for regions, _ in made), made[0][1])


def read(encoder: Encoder, texts: Sequence[str], path: Path, progress: ProgressCallback) -> Tokens:
    """Token features of texts, memory-mapped; from the files where the same were read before."""
    raw = path.with_suffix(".f16")
    if not path.exists():
        _write(path, {"lengths": _read(encoder, texts, raw, progress)})
    with np.load(path, allow_pickle=False) as stored:
        lengths = stored["lengths"]
    flat = np.memmap(raw, np.float16, "r").reshape(int(lengths.sum()), -1)
    return Tokens(flat, lengths, np.concatenate([[0], np.cumsum(lengths)[:-1]]))


def embed(
    encoder: Encoder, texts: Sequence[str], path: Path, progress: ProgressCallback
) -> Float32:
    """Vectors (n, d) of texts; from the file where the same were embedded before."""
    if not path.exists():
        chunks = _chunks(texts, progress)
        parts = [encoder.embed_texts(part).vectors for part in chunks]
        _write(path, {"vectors": np.concatenate(parts)})
    with np.load(path, allow_pickle=False) as stored:
        found: Float32 = stored["vectors"]
    return found


def same_as_before(folder: Path, content: dict[str, Any]) -> None:
    """Empty the folder of features unless they were made of the same; remembers what of."""
    path = folder / "made_of.json"
    text = json.dumps(content, sort_keys=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.read_text(encoding="utf-8") == text:
            return
        for old in (*folder.rglob("*.np[yz]"), *folder.rglob("*.f16")):
            old.unlink()
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{folder} cannot be written: {error.strerror or error}") from error


def _view(
    encoder: Encoder,
    count: int,
    picture: Callable[[int, int], Image.Image],
    view: int,
    folder: Path,
    progress: ProgressCallback,
) -> tuple[Float16, Float32]:
    done, place = folder / f"vectors-{view}.npy", folder / f"regions-{view}.npy"
    if not done.exists():
        _make_view(encoder, count, picture, view, (place, done), progress)
    vectors: Float32 = np.load(done, allow_pickle=False)
    return np.load(place, mmap_mode="r", allow_pickle=False), vectors


def _make_view(
    encoder: Encoder,
    count: int,
    picture: Callable[[int, int], Image.Image],
    view: int,
    places: tuple[Path, Path],
    progress: ProgressCallback,
) -> None:
    kept: NDArray[np.float16] | None = None
    vectors = []
    try:
        opened = map_in_order(
            lambda row: encoder.preprocess(picture(row, view)),
            range(count),
            workers=None,
            window=2 * BATCH,
        )
        with closing(opened):
            for start in range(0, count, BATCH):
                size = min(BATCH, count - start)
                pixels = np.stack([each for _, each in islice(opened, size)])
                # The vectors of other views are of no use.
                found, regions = (
                    (np.zeros((size, 1)), encoder.regions(pixels))
                    if view
                    else embed_and_look(encoder, pixels)
                )
                if kept is None:
                    shape = (count, *regions.shape[1:])
                    kept = np.lib.format.open_memmap(places[0], "w+", np.float16, shape)
                kept[start : start + size] = regions
                vectors.append(found)
                progress(Progress("pictures", start + size, count, detail=f"view {view + 1}"))
        if isinstance(kept, np.memmap):
            kept.flush()
        with replacing(places[1]) as file:
            np.save(file, np.concatenate(vectors).astype(np.float32))
    except OSError as error:
        raise StorageError(
            f"{places[0].parent} cannot be written: {error.strerror or error}; free some space, or "
            "look at pictures less often with --set material.views=1"
        ) from error


def _read(encoder: Encoder, texts: Sequence[str], raw: Path, progress: ProgressCallback) -> Indices:
    """Write texts' tokens, one after the other, to a file; returns how many each text has."""
    lengths: list[Indices] = []
    with replacing(raw) as file:
        for part in _chunks(texts, progress):
            found, mask = encoder.tokens(part)
            file.write(found[mask].astype(np.float16).tobytes())
            lengths.append(mask.sum(1))
    return np.concatenate(lengths)


def _chunks(texts: Sequence[str], progress: ProgressCallback) -> Iterator[Sequence[str]]:
    for start in range(0, len(texts), CHUNK):
        progress(Progress("texts", start, len(texts)))
        yield texts[start : start + CHUNK]
    progress(Progress("texts", len(texts), len(texts)))


def _write(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    with replacing(path) as file:
        np.savez(file, allow_pickle=False, **arrays)

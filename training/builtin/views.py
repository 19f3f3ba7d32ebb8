"""Looks at pictures through the frozen blocks once, plain and augmented, and keeps the maps."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from xsearch.data.augment import ImageAugmentation
from xsearch.retrieval.encoders.clip.network import PixelScaling
from xsearch.retrieval.encoders.runtime import OnnxCpu, Session
from xsearch.training.towers.builtin import PIXELS, Backbone
from xsearch.training.tracing import trace

from .alignment import ImageFeatures
from .graph import Array

BATCH = 16
SIDE = PIXELS.preparation.size
AUGMENTATION = ImageAugmentation()


@dataclass(frozen=True, slots=True)
class View:
    """One look at n pictures: maps float16 (n, C, s, s), memory-mapped, and their features."""

    maps: NDArray[np.float16]
    features: ImageFeatures

    def batch(self, rows: Sequence[int]) -> torch.Tensor:
        """Maps of some pictures, float32."""
        return torch.from_numpy(self.maps[np.asarray(rows)].astype(np.float32))


def look(
    backbone: Backbone, files: Sequence[Path], folder: Path, number: int, *, augment: bool
) -> View:
    """The view of this number, from `folder` if it was made before.

    Augmentation depends on the view's number and the picture's place alone.
    """
    maps, features = folder / f"{number}.maps.npy", folder / f"{number}.features.npz"
    if not features.exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = _make(backbone, files, maps, number if augment else None)
        partial = features.with_suffix(".partial.npz")
        np.savez(partial, pooled=made.pooled, narrow=made.narrow, logits=made.logits)
        partial.replace(features)
    with np.load(features, allow_pickle=False) as stored:
        found = ImageFeatures(stored["pooled"], stored["narrow"], stored["logits"])
    return View(np.load(maps, mmap_mode="r"), found)


class _Looking(nn.Module):
    """Pixels uint8 (n, S, S, 3) to the maps after the frozen blocks, and to their features."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.scaling = PixelScaling(PIXELS)
        self.backbone = backbone

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = self.backbone.frozen(self.scaling(pixels))
        pooled, narrow, logits, _ = self.backbone.tail(x)
        return x, pooled, narrow, logits


OUTPUTS = ("maps", "pooled", "narrow", "logits")


def _session(backbone: Backbone) -> Session:
    """The blocks on onnxruntime, which is faster than torch here."""
    pixels = torch.zeros(2, SIDE, SIDE, 3, dtype=torch.uint8)
    axes = {name: {0: "n"} for name in ("pixels", *OUTPUTS)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "looking.onnx"
        onnx.save(trace(_Looking(backbone), (pixels,), axes, 1), path)
        return OnnxCpu().open(path, widen=True)


def _make(backbone: Backbone, files: Sequence[Path], path: Path, seed: int | None) -> ImageFeatures:
    parts: list[list[Array]] = []
    kept: NDArray[np.float16] | None = None
    session = _session(backbone)

    def load(start: int) -> NDArray[np.uint8]:
        rows = range(start, min(start + BATCH, len(files)))
        return np.stack([_pixels(files[row], seed, row) for row in rows])

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(load, 0)
        for start in range(0, len(files), BATCH):
            pixels = waiting.result()
            if start + BATCH < len(files):
                waiting = pool.submit(load, start + BATCH)
            x, *features = session.run(OUTPUTS, {"pixels": pixels})
            parts.append(features)
            if kept is None:
                shape = (len(files), *x.shape[1:])
                kept = np.lib.format.open_memmap(path, "w+", np.float16, shape)
            kept[start : start + len(x)] = x
    assert isinstance(kept, np.memmap)
    kept.flush()
    return ImageFeatures(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _pixels(path: Path, seed: int | None, row: int) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        picture = image.convert("RGB")
    if seed is None:
        squashed = picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        return np.asarray(squashed)
    random = np.random.default_rng([row, seed])
    return np.asarray(AUGMENTATION.apply(picture, SIDE, "squash", random))

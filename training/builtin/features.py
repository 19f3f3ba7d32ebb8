"""Runs the reference towers over pictures and captions, keeping the results in a cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image, ImageOps

from xsearch.retrieval.encoders.runtime import OnnxCpu
from xsearch.training import calibrate

from .alignment import ImageFeatures, unit
from .corpus import Captioned
from .graph import Array
from .image_graph import features_graph
from .towers import IMAGE_SIZE, image_tower, text_features, text_tokenizer, text_tower

Pixels = NDArray[np.uint8]
View = Callable[[Image.Image], Image.Image]
BATCH = 8
"""Pictures at once: as fast as 16 or 32 on two cores, with 200 MB less memory than 16."""
TEXTS = 64


def squash(image: Image.Image) -> Image.Image:
    """The encoder's own preprocessing: the whole picture, its aspect ratio given up."""
    return image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)


def mirror(image: Image.Image) -> Image.Image:
    """Squashed and mirrored; fitting sees both."""
    return ImageOps.mirror(squash(image))


def crop(image: Image.Image) -> Image.Image:
    """The largest central square."""
    return ImageOps.fit(image, (IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)


def half(image: Image.Image) -> Image.Image:
    """Half squashed, half cropped: the aspect ratio's root is kept, the rest is cut."""
    root = (image.width / image.height) ** 0.5
    size = max(IMAGE_SIZE, round(IMAGE_SIZE * root)), max(IMAGE_SIZE, round(IMAGE_SIZE / root))
    return crop(image.resize(size, Image.Resampling.BICUBIC))


def pad(image: Image.Image) -> Image.Image:
    """The whole picture at its own aspect ratio, on grey."""
    grey = (127, 127, 127)
    return ImageOps.pad(image, (IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC, color=grey)


def retaken(image: Image.Image) -> Image.Image:
    """Nearly the same picture once more, squashed."""
    return squash(calibrate.retaken(image))


def pixels(files: Sequence[Path], view: View, batch: int = BATCH) -> Iterator[Pixels]:
    """Decode pictures to uint8 (b, S, S, 3), one batch ahead of the caller."""

    def load(start: int) -> Pixels:
        return np.stack([_decode(path, view) for path in files[start : start + batch]])

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(load, 0)
        for start in range(batch, len(files) + batch, batch):
            ready = waiting.result()
            if start < len(files):
                waiting = pool.submit(load, start)
            yield ready


def _decode(path: Path, view: View) -> Pixels:
    with Image.open(path) as image:
        return np.asarray(view(image.convert("RGB")))


class Reference:
    """The fp32 towers; features are computed once and kept in `cache`, where one is given."""

    def __init__(self, cache: Path | None) -> None:
        self._cache = cache
        self.image = image_tower()
        self.text = text_tower()
        self._tokenizer = text_tokenizer()
        graph = features_graph(self.image).model().SerializeToString()
        self._session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    def features(self, batch: Pixels) -> ImageFeatures:
        """Image features of uint8 pixels (n, S, S, 3)."""
        return ImageFeatures(*self._session.run(["pooled", "narrow", "logits"], {"image": batch}))

    def images(self, data: Captioned, view: View = squash) -> ImageFeatures:
        """Image features of a whole set, seen in one way."""
        found = self._cached(
            f"{data.name}-{view.__name__}",
            lambda: asdict(
                ImageFeatures.concatenate(*map(self.features, pixels(data.files, view)))
            ),
        )
        return ImageFeatures(**found)

    def sentences(self, name: str, texts: list[str]) -> Array:
        """Sentence vectors (n, d) of texts, unit length; `name` is for the cache."""
        found = self._cached(
            name, lambda: {"vectors": text_features(self.text, self._tokenizer, texts).numpy()}
        )
        return found["vectors"]

    def _cached(self, name: str, make: Callable[[], dict[str, Array]]) -> dict[str, Array]:
        if self._cache is None:
            return make()
        path = self._cache / f"{name}.npz"
        if not path.exists():
            self._cache.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial.npz")
            np.savez(partial, **make())  # type: ignore[arg-type]
            partial.replace(path)
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)


def compressed_sentences(path: Path, texts: list[str]) -> Array:
    """Sentence vectors (n, d) from the tokens of a text graph, before it aligns them."""
    session = OnnxCpu().open(path, widen=False)
    tokenizer = text_tokenizer()
    parts = []
    for start in range(0, len(texts), TEXTS):
        encoded = tokenizer.encode_batch(texts[start : start + TEXTS])
        ids, mask = (
            np.array([getattr(e, name) for e in encoded]) for name in ("ids", "attention_mask")
        )
        tokens = session.run(["tokens"], {"input_ids": ids, "attention_mask": mask})[0]
        parts.append(unit((tokens * mask[:, :, None]).sum(axis=1)))
    return np.concatenate(parts)

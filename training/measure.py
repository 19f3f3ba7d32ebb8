"""Recall on the validation pictures, while a model is in training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from xsearch.core.errors import ImageError
from xsearch.core.extras import require

from .evaluation.metrics import CUTS, recall
from .model import TrainableEncoder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xsearch.core.encoder import UInt8
    from xsearch.data.records import Record

require("torch", "train", "training")

import torch  # noqa: E402


class Validation:
    """Held-out pictures with their captions; those that cannot be read are left out.

    `records` are the readable ones, known after the first measuring; `broken` says why.
    """

    def __init__(self, records: Sequence[Record], *, batch: int, workers: int) -> None:
        self.records = list(records)
        self.broken: list[str] = []
        self._batch = batch
        self._workers = workers

    def __bool__(self) -> bool:
        return len(self.records) > 1

    def measure(self, model: TrainableEncoder, device: torch.device) -> dict[str, float]:
        """Percentages such as `text_to_image@10`, means over the languages of the captions.

        With several languages, each has its own as `de.text_to_image@10`. `mean` is the mean of
        recall at 1, 5 and 10 in both directions. Empty where too few pictures can be read, and
        where the model gives vectors that are not finite.
        """
        # Each module by itself: some of a model in training only answer.
        training = [module for module in model.modules() if module.training]
        model.eval()
        try:
            with torch.inference_mode():
                images = self._images(model, device)
                languages = sorted({lang for record in self.records for lang in record.captions})
                each = {lang: self._language(lang, images, model, device) for lang in languages}
        finally:
            for module in training:
                module.training = True
        found = [figures for figures in each.values() if figures]
        if not found:
            return {}
        means = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
        if len(found) > 1:
            for language, figures in each.items():
                means |= {f"{language}.{name}": value for name, value in figures.items()}
        return means

    def _images(self, model: TrainableEncoder, device: torch.device) -> NDArray[np.float32]:
        vectors, kept = [], []
        for records, pixels in self._pictures(model):
            kept += records
            found = model.encode_images(torch.from_numpy(pixels).to(device))
            vectors.append(found.float().cpu().numpy())
        self.records = kept
        return np.concatenate(vectors) if vectors else np.zeros((0, model.dim), np.float32)

    def _pictures(self, model: TrainableEncoder) -> Iterator[tuple[list[Record], UInt8]]:
        def prepared(record: Record) -> UInt8 | ImageError:
            try:
                return model.preprocess(record.image.open(model.preparation.side))
            except ImageError as error:
                return error

        with ThreadPoolExecutor(self._workers) as pool:
            for start in range(0, len(self.records), self._batch):
                part = self.records[start : start + self._batch]
                readable, pixels = [], []
                for record, found in zip(part, pool.map(prepared, part), strict=True):
                    if isinstance(found, ImageError):
                        self.broken.append(f"{record.key}: {found}")
                    else:
                        readable.append(record)
                        pixels.append(found)
                if pixels:
                    yield readable, np.stack(pixels)

    def _language(
        self,
        language: str,
        images: NDArray[np.float32],
        model: TrainableEncoder,
        device: torch.device,
    ) -> dict[str, float]:
        pairs = [
            (text, owner)
            for owner, record in enumerate(self.records)
            for text in record.captions.get(language, ())
        ]
        if len(images) < 2 or not pairs:
            return {}
        texts = [text for text, _ in pairs]
        owners = np.array([owner for _, owner in pairs], np.int64)
        # Only pictures with captions of this language are looked among.
        used, owners = np.unique(owners, return_inverse=True)
        found = [
            model.encode_texts(model.tokenize(texts[start : start + self._batch]).to(device))
            for start in range(0, len(texts), self._batch)
        ]
        vectors = torch.cat(found).float().cpu().numpy()
        if not (np.isfinite(vectors).all() and np.isfinite(images).all()):
            return {}
        return _figures(images[used], vectors, owners.astype(np.int64))


def _figures(
    images: NDArray[np.float32], texts: NDArray[np.float32], owners: NDArray[np.int64]
) -> dict[str, float]:
    found = recall(images, texts, owners)
    figures: dict[str, float] = {}
    for direction in ("text_to_image", "image_to_text"):
        values = getattr(found, direction)
        figures |= {f"{direction}@{cut}": value for cut, value in zip(CUTS, values, strict=True)}
    return {**figures, "mean": float(np.mean(list(figures.values())))}

"""The encoder that runs a folder of ONNX towers, such as `builtin`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xsearch.core.encoder import EncoderInfo, LabelScale, Logistic, TextEmbeddings
from xsearch.core.errors import UsageError

from .languages import EnglishDetector
from .lazy import Lazy
from .manifest import Manifest, read_manifest
from .pictures import check_pixels
from .runtime import OnnxCpu, Runtime
from .texts import OnnxTextTower

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from xsearch.core.encoder import Float32, UInt8


class OnnxEncoder:
    """A dual encoder from a folder with an `encoder.json` (see `manifest.py`).

    Nothing but that description is read until a tower is first used, and a text query never
    loads the image tower. May be used from several threads. Raises EncoderError when files are
    missing, damaged or not understood.

    `threads` is for onnxruntime on the CPU; `runtime` runs pictures elsewhere, `batch` at once.
    Texts stay on the CPU: most are single queries, and starting a GPU takes longer than one.
    `source` is what loads this encoder again, if that is not its folder.
    """

    def __init__(
        self,
        folder: Path,
        *,
        threads: int | None = None,
        runtime: Runtime | None = None,
        batch: int | None = None,
        source: str | None = None,
    ) -> None:
        manifest = read_manifest(folder, source or str(folder.absolute()))
        cpu = OnnxCpu(threads)
        self._manifest = manifest
        self._batch = batch or manifest.image.batch
        self._image = Lazy(lambda: (runtime or cpu).open(manifest.image.path, widen=True))
        self._texts = [OnnxTextTower(tower, cpu) for tower in manifest.text.towers]
        self._english = Lazy(lambda: _detector(manifest))

    @property
    def info(self) -> EncoderInfo:
        """Name, fingerprint, dimension, runtime and precision."""
        return self._manifest.info

    @property
    def name(self) -> str:
        """The name that people use for it, such as `builtin`."""
        return self.info.name

    @property
    def fingerprint(self) -> str:
        """Names the joint space: vectors of different fingerprints are never compared."""
        return self.info.fingerprint

    @property
    def dim(self) -> int:
        """Dimensions of the joint space."""
        return self.info.dim

    @property
    def image_size(self) -> int:
        """Pixels of a side that decoding should aim for: that of the input, or what is cropped."""
        return self._manifest.image.preparation.side

    @property
    def image_batch(self) -> int:
        """Pictures that are best embedded at once; larger batches are split."""
        return self._batch

    @property
    def labels(self) -> LabelScale | None:
        """How sharp the probabilities of labels are; None where that was not fitted."""
        return self._manifest.labels

    def calibration(self, query: str, target: str) -> Logistic:
        """The logistic from cosine to score for a pair of kinds (`image`, `text`)."""
        try:
            return self._manifest.calibration[f"{query}-{target}"]
        except KeyError:
            raise UsageError(f"no calibration from {query!r} to {target!r}") from None

    def preprocess(self, image: Image.Image) -> UInt8:
        """Turn an upright picture into uint8 (S, S, 3) RGB, see `Preparation.apply`."""
        return self._manifest.image.preparation.apply(image)

    def frame(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The part of a picture of so many pixels that the input shows, see `FramingEncoder`."""
        return self._manifest.image.preparation.frame(width, height)

    def embed_images(self, batch: UInt8) -> Float32:
        """Embed uint8 (n, S, S, 3) into float32 (n, dim), unit length."""
        return self._run_images({"embedding": (self.dim,)}, batch)[0]

    def regions(self, batch: UInt8) -> Float32:
        """Region features of uint8 (n, S, S, 3): float32 (n, R, C), row-major over the picture."""
        return self._run_images({"regions": (0, 0)}, batch)[0]

    def embed_with_regions(self, batch: UInt8) -> tuple[Float32, Float32]:
        """What `embed_images` and `regions` give, in one run of the tower."""
        vectors, regions = self._run_images({"embedding": (self.dim,), "regions": (0, 0)}, batch)
        return vectors, regions

    def _run_images(self, outputs: Mapping[str, tuple[int, ...]], batch: UInt8) -> list[Float32]:
        """Run the image tower in batches of bounded size.

        `outputs` are what is wanted of it, each with the shape of a row where there is none.
        """
        check_pixels(batch, self._manifest.image.preparation.size)
        parts = [
            self._image.get().run(list(outputs), {"image": batch[start : start + self._batch]})
            for start in range(0, len(batch), self._batch)
        ]
        if not parts:
            return [np.zeros((0, *shape), np.float32) for shape in outputs.values()]
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    def embed_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        """Embed texts into float32 (n, dim), unit length; says which were cut."""
        vectors = np.empty((len(texts), self.dim), np.float32)
        cut = np.zeros(len(texts), np.bool_)
        for at, rows in self._by_tower(texts):
            asked = [texts[row] for row in rows]
            vectors[rows], cut[rows] = self._texts[at].embed(asked, self.dim)
        return TextEmbeddings(vectors, cut)

    def tokens(self, texts: Sequence[str]) -> tuple[Float32, NDArray[np.bool_]]:
        """Token features float32 (n, T, C) and their mask, bool (n, T).

        Of several text towers, which are of one width, each has columns of its own: what reads
        tokens must not take those of one tower for those of another.
        """
        parts = [
            (at, rows, *self._texts[at].tokens([texts[row] for row in rows]))
            for at, rows in self._by_tower(texts)
        ]
        longest = max((mask.shape[1] for *_, mask in parts), default=0)
        width = max((found.shape[2] for _, _, found, _ in parts), default=0)
        features = np.zeros((len(texts), longest, len(self._texts) * width), np.float32)
        mask = np.zeros((len(texts), longest), np.bool_)
        for at, rows, found, used in parts:
            columns = slice(at * width, at * width + found.shape[2])
            features[rows, : used.shape[1], columns] = found
            mask[rows, : used.shape[1]] = used
        return features, mask

    def spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """The characters of each token of each text, see `SpanEncoder`."""
        found: list[list[tuple[int, int]]] = [[] for _ in texts]
        for at, rows in self._by_tower(texts):
            spans = self._texts[at].spans([texts[row] for row in rows])
            for row, span in zip(rows, spans, strict=True):
                found[row] = span
        return found

    def _by_tower(self, texts: Sequence[str]) -> Iterator[tuple[int, list[int]]]:
        """The numbers of the text towers that are needed, and of the texts that each reads."""
        english = self._english.get()
        for at, tower in enumerate(self._texts):
            rows = [
                row
                for row, text in enumerate(texts)
                if english is None or english.is_english(text) is tower.english
            ]
            if rows:
                yield at, rows


def _detector(manifest: Manifest) -> EnglishDetector | None:
    """What picks between two text towers; None where there is one."""
    path = manifest.text.english
    return EnglishDetector.load(path) if path is not None else None

"""The encoder that runs a model of open_clip in torch, on a GPU or the CPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from xsearch.core.encoder import EncoderInfo, LabelScale, Logistic, TextEmbeddings
from xsearch.core.errors import EncoderError, UsageError

from ..names import LOCAL_DIR, alias_of, canonical
from ..pictures import check_pixels
from ..runtime import first_line
from ..texts import TOKENS_PER_BATCH, batches, pad, spans, tokenise
from . import device as devices
from .attribution import attribute
from .build import build, quiet
from .hub import fetch
from .identity import fingerprint
from .network import ClipNetwork
from .scores import default_calibration

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from xsearch.core.encoder import Float32, UInt8

AGREEMENT = 0.999
"""Least cosine of vectors in half precision with those in fp32."""
_SAMPLES = ("a photo of a cat", "two people on a red bridge", "")

Outputs = tuple[Tensor, Tensor]


class TorchEncoder:
    """A dual encoder from a model of open_clip: ARCH/PRETRAINED, `hf-hub:` or `local-dir:`.

    The whole model is fetched (see `hub.fetch`) and read when this is made. May be used from
    several threads; pictures take turns.

    `device` is `cuda`, `mps`, `cpu` or `auto`, the fastest there is. On a GPU, arithmetic is in
    half precision where that makes no difference to the vectors: the weights stay in fp32, and
    torch casts them as it goes, so that sums, norms and softmax stay in fp32 for every kind of
    tower. `half` overrides where it is used, `batch` how many pictures are embedded at once, and
    `compiled_from` after how many the image tower is compiled. Raises EncoderError, UsageError,
    MissingExtraError.
    """

    def __init__(
        self,
        name: str,
        *,
        device: str = "auto",
        half: bool | None = None,
        batch: int | None = None,
        compiled_from: int | None = None,
    ) -> None:
        self._device = devices.choose(device)
        full = canonical(name)
        if not full.startswith(LOCAL_DIR):
            fetch(full)
        self._network = ClipNetwork(build(full)).eval().requires_grad_(False)
        identity = fingerprint(self._network)
        if hasattr(self._network.net, "text_decoder"):  # CoCa's, which writes captions
            del self._network.net.text_decoder
        self._lock = Lock()
        self._compiled: Callable[[Tensor], Outputs] | None = None
        self._compiled_from = compiled_from or devices.compiled_from(self._device)
        self._seen = self._batch = 0
        with _plainly(f"{full} cannot be loaded on {self._device.type}"):
            self._network.to(self._device)
            self._half = self._agrees() if half is None else half
            self._batch = batch or devices.first_batch(self._device, self._sample)
        scale = self._network.scale or 1.0
        self._scores = default_calibration(scale, self._network.bias)
        self._labels = LabelScale(scale)
        self._info = EncoderInfo(
            name=alias_of(full) or full,
            source=full,
            fingerprint=identity,
            dim=self._network.dim,
            runtime="torch",
            precision="weights fp32, arithmetic " + ("fp16" if self._half else "fp32"),
        )

    @property
    def info(self) -> EncoderInfo:
        """Name, fingerprint, dimension, runtime and precision."""
        return self._info

    @property
    def name(self) -> str:
        """The name that people use for it, such as `small`."""
        return self._info.name

    @property
    def fingerprint(self) -> str:
        """Names the joint space: vectors of different fingerprints are never compared."""
        return self._info.fingerprint

    @property
    def dim(self) -> int:
        """Dimensions of the joint space."""
        return self._info.dim

    @property
    def image_size(self) -> int:
        """Pixels of a side that decoding should aim for."""
        return self._network.preparation.side

    @property
    def image_batch(self) -> int:
        """Pictures that are best embedded at once; larger batches are split."""
        return self._batch

    @property
    def labels(self) -> LabelScale:
        """How sharp the probabilities of labels are: as the model was trained."""
        return self._labels

    def calibration(self, query: str, target: str) -> Logistic:
        """The logistic from cosine to score for a pair of kinds, see `default_calibration`."""
        try:
            return self._scores[f"{query}-{target}"]
        except KeyError:
            raise UsageError(f"no calibration from {query!r} to {target!r}") from None

    def preprocess(self, image: Image.Image) -> UInt8:
        """Turn an upright picture into uint8 (S, S, 3) RGB, see `Preparation.apply`."""
        return self._network.preparation.apply(image)

    def frame(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The part of a picture of so many pixels that the input shows, see `FramingEncoder`."""
        return self._network.preparation.frame(width, height)

    def embed_images(self, batch: UInt8) -> Float32:
        """Embed uint8 (n, S, S, 3) into float32 (n, dim), unit length."""
        return self._run_images(batch, 0, (self.dim,))

    def regions(self, batch: UInt8) -> Float32:
        """Region features of uint8 (n, S, S, 3): float32 (n, R, C), row-major over the picture."""
        return self._run_images(batch, 1, (0, 0))

    def embed_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        """Embed texts into float32 (n, dim), unit length; says which were cut."""
        ids, cut = self._tokenise(texts)
        vectors = np.empty((len(ids), self.dim), np.float32)
        for rows in self._batches(ids):
            vectors[rows] = self._run_texts([ids[row] for row in rows])[0]
        return TextEmbeddings(vectors, cut)

    def tokens(self, texts: Sequence[str]) -> tuple[Float32, NDArray[np.bool_]]:
        """Token features float32 (n, T, C), zero where the mask, bool (n, T), is not set."""
        ids, _ = self._tokenise(texts)
        parts = [
            (rows, *self._run_texts([ids[row] for row in rows])) for rows in self._batches(ids)
        ]
        longest = max((mask.shape[1] for *_, mask in parts), default=0)
        width = max((found.shape[2] for _, _, found, _ in parts), default=0)
        features = np.zeros((len(ids), longest, width), np.float32)
        used = np.zeros((len(ids), longest), np.bool_)
        for rows, _, found, mask in parts:
            features[rows, : mask.shape[1]] = found * mask[:, :, None]
            used[rows, : mask.shape[1]] = mask
        return features, used

    def spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """The characters of each token of each text, see `SpanEncoder`."""
        return spans(self._network.tokenizer, texts, self._network.context_length)

    def attribute(self, pixels: UInt8, vectors: Float32) -> tuple[Float32, str]:
        """Where a picture's vector comes from, see `AttributingEncoder` and `attribution.py`."""
        check_pixels(pixels[None], self._network.preparation.size)
        inputs = torch.tensor(pixels[None]).to(self._device)
        with self._lock, _plainly(f"{self.name} failed on a picture"):
            wanted = torch.tensor(vectors).to(self._device)
            found, method = attribute(self._network, inputs, wanted)
        return _array(found), method

    def _run_images(self, batch: UInt8, output: int, empty: tuple[int, ...]) -> Float32:
        """Run the image tower on as many pictures at once as fit; `empty` shapes no rows."""
        check_pixels(batch, self._network.preparation.size)
        parts: list[Float32] = []
        start = 0
        with self._lock, _plainly(f"{self.name} failed on a picture"):
            while start < len(batch):
                step = min(self._batch, len(batch) - start)
                found = self._fitting(batch[start : start + step], output)
                if found is not None:
                    parts.append(found)
                    start += step
        return np.concatenate(parts) if parts else np.zeros((0, *empty), np.float32)

    def _fitting(self, pictures: UInt8, output: int) -> Float32 | None:
        """One batch; None where it does not fit into memory: the next is half as large, for good.

        Raises EncoderError where not even one picture fits.
        """
        try:
            return _array(self._image_outputs(pictures)[output])
        except Exception as error:
            if not devices.out_of_memory(error):
                raise
            reason = first_line(error)
        # Only here: the traceback held on to what the batch had taken.
        if len(pictures) == 1:
            raise EncoderError(
                f"{self._device.type} has too little memory for one picture with {self.name} "
                f"({reason}): give --device cpu, or take a smaller encoder"
            )
        self._batch = len(pictures) // 2
        devices.free(self._device)
        return None

    def _image_outputs(self, pictures: UInt8) -> Outputs:
        # Copied: torch warns of arrays that cannot be written to, which Pillow's are.
        pixels = torch.tensor(pictures).to(self._device)
        self._seen += len(pictures)
        # Compiled code is for one size of batch; the last one of a run would compile again.
        whole = len(pictures) == self._batch
        with torch.inference_mode(), self._arithmetic():
            if self._compiled_from and whole and self._seen > self._compiled_from:
                return self._compile_and_run(pixels)
            return self._network.images(pixels)

    def _compile_and_run(self, pixels: Tensor) -> Outputs:
        """The same by compiled code; where it cannot be compiled, never again."""
        if self._compiled is None:
            self._compiled = torch.compile(self._network.images)
        try:
            with quiet():
                return self._compiled(pixels)
        except Exception as error:
            if devices.out_of_memory(error):
                raise
            self._compiled_from = None
            warnings.warn(
                f"{self.name} cannot be compiled ({first_line(error)}); it goes on as it was",
                stacklevel=2,
            )
        return self._network.images(pixels)

    def _tokenise(self, texts: Sequence[str]) -> tuple[list[list[int]], NDArray[np.bool_]]:
        return tokenise(self._network.tokenizer, texts, self._network.context_length)

    def _batches(self, ids: Sequence[Sequence[int]]) -> list[list[int]]:
        """Numbers of texts that are embedded together."""
        budget = TOKENS_PER_BATCH if self._device.type == "cpu" else 4 * TOKENS_PER_BATCH
        full = self._network.context_length
        return list(batches([full if self._network.pads else len(row) for row in ids], budget))

    def _run_texts(
        self, ids: Sequence[Sequence[int]]
    ) -> tuple[Float32, Float32, NDArray[np.bool_]]:
        """Vectors, token features and mask of one batch of token ids."""
        padded, mask = pad(ids)
        inputs = (torch.from_numpy(part).to(self._device) for part in (padded, mask))
        with (
            _plainly(f"{self.name} failed on a text"),
            torch.inference_mode(),
            self._arithmetic(),
        ):
            vectors, tokens = self._network.texts(*inputs)
        return _array(vectors), _array(tokens), mask

    def _arithmetic(self, *, half: bool | None = None) -> AbstractContextManager[Any]:
        wanted = self._half if half is None else half
        return torch.autocast(self._device.type, torch.float16) if wanted else nullcontext()

    def _agrees(self) -> bool:
        """Whether half precision is worth trying here, and gives the vectors of fp32.

        A few models have features too large for it.
        """
        if self._device.type == "cpu":
            return False
        random = np.random.default_rng(0)
        side = self._network.preparation.size
        pictures = torch.from_numpy(random.integers(0, 256, (2, side, side, 3), dtype=np.uint8))
        padded, mask = pad(self._tokenise(_SAMPLES)[0])
        pixels, ids, used = (
            part.to(self._device)
            for part in (pictures, torch.from_numpy(padded), torch.from_numpy(mask))
        )
        found = []
        for half in (False, True):
            with torch.inference_mode(), self._arithmetic(half=half):
                vectors = self._network.images(pixels)[0], self._network.texts(ids, used)[0]
                found.append(torch.cat(vectors))
        # Not a number, which too large a feature becomes, agrees with nothing.
        return bool(((found[0] * found[1]).sum(dim=1) >= AGREEMENT).all())

    def _sample(self, count: int) -> Outputs:
        side = self._network.preparation.size
        return self._image_outputs(np.zeros((count, side, side, 3), np.uint8))


@contextmanager
def _plainly(what: str) -> Iterator[None]:
    """Say in one line what went wrong inside torch."""
    try:
        yield
    except RuntimeError as error:
        raise EncoderError(f"{what}: {first_line(error)}") from error


def _array(found: Tensor) -> Float32:
    values: Float32 = found.float().cpu().numpy()
    return values

"""The encoder that runs a folder of ONNX towers, such as `builtin`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from xsearch.core.encoder import EncoderInfo, Logistic, TextEmbeddings
from xsearch.core.errors import EncoderError, UsageError

from .manifest import advice, read_manifest
from .runtime import OnnxCpu, Runtime

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image
    from tokenizers import Tokenizer

    from xsearch.core.encoder import Float32, UInt8

T = TypeVar("T")

TOKENS_PER_BATCH = 2048
"""Bounds a batch of texts, padding included: about 30 MB of activations in a small BERT."""
CHARACTERS_PER_TOKEN = 64
"""Longer texts are cut before they are tokenised: a line of a gigabyte must not take minutes."""


class OnnxEncoder:
    """A dual encoder from a folder with an `encoder.json` (see `manifest.py`).

    Nothing but that description is read until a tower is first used, and a text query never
    loads the image tower. May be used from several threads. Raises EncoderError when files are
    missing, damaged or not understood.

    `threads` is for onnxruntime on the CPU, `runtime` runs it elsewhere; `source` is what loads
    this encoder again, if that is not its folder.
    """

    def __init__(
        self,
        folder: Path,
        *,
        threads: int | None = None,
        runtime: Runtime | None = None,
        source: str | None = None,
    ) -> None:
        manifest = read_manifest(folder, source or str(folder.absolute()))
        runtime = runtime or OnnxCpu(threads)
        self._folder = folder
        self._manifest = manifest
        self._image = _Lazy(lambda: runtime.open(manifest.image.path, widen=True))
        # Most processes embed one short query and end: what counts is the start. A batch is as
        # fast either way, and a single later query takes 8 ms instead of 3.
        self._text = _Lazy(lambda: runtime.open(manifest.text.path, widen=False))
        self._tokenizer = _Lazy(self._load_tokenizer)

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
        return self._manifest.image.batch

    def calibration(self, query: str, target: str) -> Logistic:
        """The logistic from cosine to score for a pair of kinds (`image`, `text`)."""
        try:
            return self._manifest.calibration[f"{query}-{target}"]
        except KeyError:
            raise UsageError(f"no calibration from {query!r} to {target!r}") from None

    def preprocess(self, image: Image.Image) -> UInt8:
        """Turn an upright picture into uint8 (S, S, 3) RGB, see `Preparation.apply`."""
        return self._manifest.image.preparation.apply(image)

    def embed_images(self, batch: UInt8) -> Float32:
        """Embed uint8 (n, S, S, 3) into float32 (n, dim), unit length."""
        return self._run_images("embedding", batch, (self.dim,))

    def regions(self, batch: UInt8) -> Float32:
        """Region features of uint8 (n, S, S, 3): float32 (n, R, C), row-major over the picture."""
        return self._run_images("regions", batch, (0, 0))

    def _run_images(self, output: str, batch: UInt8, empty: tuple[int, ...]) -> Float32:
        """Run the image tower in batches of bounded size; `empty` shapes a result without rows."""
        side = self._manifest.image.preparation.size
        if batch.shape[1:] != (side, side, 3) or batch.dtype != np.uint8:
            raise UsageError(
                f"pictures must be uint8 (n, {side}, {side}, 3), as `preprocess` makes them; "
                f"these are {batch.dtype} {batch.shape}"
            )
        step = self._manifest.image.batch
        parts = [
            self._image.get().run([output], {"image": batch[start : start + step]})[0]
            for start in range(0, len(batch), step)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, *empty), np.float32)

    def embed_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        """Embed texts into float32 (n, dim), unit length; says which were cut."""
        ids, cut = self._tokenise(texts)
        vectors = np.empty((len(ids), self.dim), np.float32)
        for rows in _batches([len(row) for row in ids]):
            vectors[rows] = self._run_texts("embedding", [ids[row] for row in rows])[0]
        return TextEmbeddings(vectors, cut)

    def tokens(self, texts: Sequence[str]) -> tuple[Float32, NDArray[np.bool_]]:
        """Token features float32 (n, T, C) and their mask, bool (n, T)."""
        ids, _ = self._tokenise(texts)
        longest = max(map(len, ids), default=0)
        mask = np.zeros((len(ids), longest), np.bool_)
        features = np.zeros((len(ids), longest, 0), np.float32)
        for rows in _batches([len(row) for row in ids]):
            found, used = self._run_texts("tokens", [ids[row] for row in rows])
            if not features.shape[2]:
                features = np.zeros((len(ids), longest, found.shape[2]), np.float32)
            features[rows, : found.shape[1]] = found * used[:, :, None]
            mask[rows, : found.shape[1]] = used
        return features, mask

    def _run_texts(
        self, output: str, ids: Sequence[Sequence[int]]
    ) -> tuple[Float32, NDArray[np.bool_]]:
        """Run the text tower on one batch of token ids, padded to its longest; also the mask."""
        lengths = np.array([len(row) for row in ids])
        mask = np.arange(lengths.max()) < lengths[:, None]
        padded = np.zeros(mask.shape, np.int64)
        padded[mask] = np.concatenate(ids)
        inputs = {"input_ids": padded, "attention_mask": mask.astype(np.int64)}
        return self._text.get().run([output], inputs)[0], mask

    def _tokenise(self, texts: Sequence[str]) -> tuple[list[list[int]], NDArray[np.bool_]]:
        """Token ids of each text, cut to the context length, and which were cut."""
        limit = self._manifest.text.context_length * CHARACTERS_PER_TOKEN
        encoded = self._tokenizer.get().encode_batch([_readable(text[:limit]) for text in texts])
        cut = [
            bool(found.overflowing) or len(text) > limit
            for found, text in zip(encoded, texts, strict=True)
        ]
        return [found.ids for found in encoded], np.array(cut, np.bool_)

    def _load_tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer

        path = self._manifest.text.tokenizer
        try:
            tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise EncoderError(f"{path} is missing; {advice(self._folder)}") from None
        except Exception as error:  # tokenizers raises plain Exception
            raise EncoderError(
                f"{path} cannot be loaded, it is probably damaged ({error}); {advice(self._folder)}"
            ) from error
        tokenizer.enable_truncation(self._manifest.text.context_length)
        tokenizer.no_padding()
        return tokenizer


class _Lazy(Generic[T]):
    """A value made once, on first use, whichever thread comes first; a failure is tried again."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = Lock()
        self._made: list[T] = []

    def get(self) -> T:
        """The value, made now if it was not yet."""
        if not self._made:
            with self._lock:
                if not self._made:
                    self._made.append(self._make())
        return self._made[0]


def _batches(lengths: Sequence[int], budget: int = TOKENS_PER_BATCH) -> Iterator[list[int]]:
    """Split rows into batches of similar length that hold at most `budget` tokens, padded.

    Yields row numbers; shorter rows first, each row once, a row over the budget alone.
    """
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[row] > budget:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _readable(text: str) -> str:
    """The text with lone surrogates, which no tokenizer takes, as replacement characters."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

"""One text tower of an encoder's folder: its tokenizer, and its graph in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xsearch.core.errors import EncoderError

from .lazy import Lazy
from .manifest import TextTower, advice
from .quick import QuickTokenizer, quick_files
from .runtime import Runtime

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tokenizers import Encoding, Tokenizer

    from xsearch.core.encoder import Float32

TOKENS_PER_BATCH = 2048
"""Bounds a batch of texts, padding included: about 30 MB of activations in a small BERT."""
CHARACTERS_PER_TOKEN = 64
"""Longer texts are cut before they are tokenised: a line of a gigabyte must not take minutes."""


class OnnxTextTower:
    """Reads texts through one graph; nothing is loaded before the first."""

    def __init__(self, tower: TextTower, runtime: Runtime) -> None:
        self.english = tower.english
        self._context_length = tower.context_length
        # Most processes embed one short query and end: what counts is the start. A batch is as
        # fast either way, and a single later query takes 8 ms instead of 3.
        self.session = Lazy(lambda: runtime.open(tower.path, widen=False))
        self._tokenizer = Lazy(lambda: _open(tower.tokenizer, tower.context_length))

    def embed(self, texts: Sequence[str], dim: int) -> tuple[Float32, NDArray[np.bool_]]:
        """Vectors float32 (n, dim), unit length, and which texts were cut, bool (n,)."""
        ids, cut = tokenise(self._tokenizer.get(), texts, self._context_length)
        vectors = np.empty((len(ids), dim), np.float32)
        for rows in batches([len(row) for row in ids]):
            vectors[rows] = self._run("embedding", [ids[row] for row in rows])[0]
        return vectors, cut

    def tokens(self, texts: Sequence[str]) -> tuple[Float32, NDArray[np.bool_]]:
        """Token features float32 (n, T, C), zero where the mask, bool (n, T), is not set."""
        ids, _ = tokenise(self._tokenizer.get(), texts, self._context_length)
        longest = max(map(len, ids), default=0)
        mask = np.zeros((len(ids), longest), np.bool_)
        features = np.zeros((len(ids), longest, 0), np.float32)
        for rows in batches([len(row) for row in ids]):
            found, used = self._run("tokens", [ids[row] for row in rows])
            if not features.shape[2]:
                features = np.zeros((len(ids), longest, found.shape[2]), np.float32)
            features[rows, : found.shape[1]] = found * used[:, :, None]
            mask[rows, : found.shape[1]] = used
        return features, mask

    def spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """The characters of each token of each text, see `SpanEncoder`."""
        return spans(self._tokenizer.get(), texts, self._context_length)

    def _run(self, output: str, ids: Sequence[Sequence[int]]) -> tuple[Float32, NDArray[np.bool_]]:
        """Run the graph on one batch of token ids, padded to its longest; also the mask."""
        padded, mask = pad(ids)
        inputs = {"input_ids": padded, "attention_mask": mask.astype(np.int64)}
        return self.session.get().run([output], inputs)[0], mask


def _open(path: Path, context_length: int) -> Tokenizer | QuickTokenizer:
    """The tokenizer, or where it has tables beside it one that reads what it needs of them."""
    if not all(table.is_file() for table in quick_files(path)):
        return _load(path, context_length)
    try:
        return QuickTokenizer(
            path,
            lambda: _load(path, context_length),
            lambda tokenizer: cutting(tokenizer, context_length),
        )
    except (OSError, ValueError, KeyError) as error:
        raise EncoderError(
            f"the tables beside {path} are damaged ({error}); {advice(path.parent)}"
        ) from error


def _load(path: Path, context_length: int) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EncoderError(f"{path} is missing; {advice(path.parent)}") from None
    except Exception as error:  # tokenizers raises plain Exception
        raise EncoderError(
            f"{path} cannot be loaded, it is probably damaged ({error}); {advice(path.parent)}"
        ) from error
    return cutting(tokenizer, context_length)


def cutting(tokenizer: Tokenizer, context_length: int) -> Tokenizer:
    """The tokenizer, changed to cut texts to so many tokens and never to pad them."""
    tokenizer.enable_truncation(context_length)
    tokenizer.no_padding()
    return tokenizer


def tokenise(
    tokenizer: Tokenizer | QuickTokenizer, texts: Sequence[str], context_length: int
) -> tuple[list[list[int]], NDArray[np.bool_]]:
    """Token ids of each text by a `cutting` tokenizer, and which texts were cut."""
    limit = context_length * CHARACTERS_PER_TOKEN
    encoded = _encode(tokenizer, texts, limit)
    cut = [
        bool(found.overflowing) or len(text) > limit
        for found, text in zip(encoded, texts, strict=True)
    ]
    return [found.ids for found in encoded], np.array(cut, np.bool_)


def spans(
    tokenizer: Tokenizer | QuickTokenizer, texts: Sequence[str], context_length: int
) -> list[list[tuple[int, int]]]:
    """The characters of each token that `tokenise` gives: [start, end), (0, 0) for marks.

    They are those of the text as `readable` makes it.
    """
    encoded = _encode(tokenizer, texts, context_length * CHARACTERS_PER_TOKEN)
    return [[(start, end) for start, end in found.offsets] for found in encoded]


def _encode(
    tokenizer: Tokenizer | QuickTokenizer, texts: Sequence[str], limit: int
) -> list[Encoding]:
    return tokenizer.encode_batch([readable(text[:limit]) for text in texts])


def pad(ids: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Token ids padded with 0 to the longest, int64 (n, t), and the mask of what is a token."""
    lengths = np.array([len(row) for row in ids])
    mask = np.arange(lengths.max()) < lengths[:, None]
    padded = np.zeros(mask.shape, np.int64)
    padded[mask] = np.concatenate(ids)
    return padded, mask


def batches(lengths: Sequence[int], budget: int = TOKENS_PER_BATCH) -> Iterator[list[int]]:
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


def readable(text: str) -> str:
    """The text with lone surrogates, which no tokenizer takes, as replacement characters."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

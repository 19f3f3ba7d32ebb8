"""BERT, as both text towers of the built-in encoder are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class BertConfig:
    """The sizes of a BERT."""

    words: int
    width: int
    inner: int
    layers: int
    positions: int
    types: int
    heads: int
    eps: float


class BertLayer(nn.Module):
    """One post-norm transformer layer (Devlin et al. 2019)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width, inner = config.width, config.inner
        self.heads = config.heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.norm1 = nn.LayerNorm(width, eps=config.eps)
        self.up = nn.Linear(width, inner)
        self.down = nn.Linear(inner, width)
        self.norm2 = nn.LayerNorm(width, eps=config.eps)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Attend and transform (n, t, width); `bias` (n, 1, 1, t) is added to the scores."""
        n, t, width = x.shape
        size = width // self.heads

        def split(y: Tensor) -> Tensor:
            return y.view(n, t, self.heads, size).transpose(1, 2)

        q, k, v = split(self.query(x)), split(self.key(x)), split(self.value(x))
        weights = torch.softmax(q @ k.transpose(2, 3) / size**0.5 + bias, dim=-1)
        mixed = (weights @ v).transpose(1, 2).reshape(n, t, width)
        x = self.norm1(x + self.out(mixed))
        return cast(Tensor, self.norm2(x + self.down(functional.gelu(self.up(x)))))


class Bert(nn.Module):
    """A plain BERT encoder, its parts named after what they do."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.words = nn.Embedding(config.words, config.width)
        self.positions = nn.Embedding(config.positions, config.width)
        self.types = nn.Embedding(config.types, config.width)
        self.norm = nn.LayerNorm(config.width, eps=config.eps)
        self.layers = nn.ModuleList(BertLayer(config) for _ in range(config.layers))

    @classmethod
    def published(cls, weights: dict[str, Tensor], *, heads: int = 12, eps: float = 1e-12) -> Bert:
        """From weights under the names that Hugging Face's BertModel has for them."""
        words, width = weights["embeddings.word_embeddings.weight"].shape
        config = BertConfig(
            words=words,
            width=width,
            inner=len(weights["encoder.layer.0.intermediate.dense.weight"]),
            layers=1 + max(int(k.split(".")[2]) for k in weights if k.startswith("encoder.")),
            positions=len(weights["embeddings.position_embeddings.weight"]),
            types=len(weights["embeddings.token_type_embeddings.weight"]),
            heads=heads,
            eps=eps,
        )
        made = cls(config)
        made.load_state_dict({_own_name(k): v for k, v in weights.items() if _own_name(k)})
        return made

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token features (n, t, width) of ids and mask, int64 (n, t)."""
        x = self.words(ids) + self.positions.weight[: ids.shape[1]] + self.types.weight[0]
        x = self.norm(x)
        bias = (1.0 - mask[:, None, None, :].float()) * torch.finfo(torch.float32).min
        for layer in self.layers:
            x = layer(x, bias)
        return cast(Tensor, x)


_PARTS = {
    "embeddings.word_embeddings": "words",
    "embeddings.position_embeddings": "positions",
    "embeddings.token_type_embeddings": "types",
    "embeddings.LayerNorm": "norm",
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "out",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "up",
    "output.dense": "down",
    "output.LayerNorm": "norm2",
}


def _own_name(key: str) -> str:
    """Our name of a published parameter; empty for those that plain encoding does not use."""
    part, _, kind = key.rpartition(".")
    if part in _PARTS:
        return f"{_PARTS[part]}.{kind}"
    if part.startswith("encoder.layer."):
        number, _, rest = part.removeprefix("encoder.layer.").partition(".")
        return f"layers.{number}.{_PARTS[rest]}.{kind}"
    return ""

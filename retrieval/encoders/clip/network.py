"""The two towers of a model of open_clip, from pixels and token ids to unit vectors."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

from xsearch.core.extras import require

from ..pictures import Preparation
from ..texts import cutting

if TYPE_CHECKING:
    from tokenizers import Tokenizer

require("torch", "clip", "a model of open_clip")

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402


@dataclass(frozen=True, slots=True)
class Pixels:
    """What an image tower reads: how a picture is made square, and how its pixels are scaled.

    `mean` and `std` are of red, green and blue, in units of uint8 (0 to 255).
    """

    preparation: Preparation
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def config(self) -> dict[str, Any]:
        """The same, JSON-ready."""
        return asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Pixels:
        """Undo `config`."""
        preparation = Preparation(**config["preparation"])
        return cls(preparation, tuple(config["mean"]), tuple(config["std"]))


class PixelScaling(nn.Module):
    """uint8 pixels (n, S, S, 3) to scaled planes (n, 3, S, S), on the device they are on."""

    def __init__(self, pixels: Pixels) -> None:
        super().__init__()
        for name, values in (("mean", pixels.mean), ("std", pixels.std)):
            planes = torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)
            self.register_buffer(name, planes, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Subtract the mean, divide by the deviation."""
        mean, std = cast(Tensor, self.mean), cast(Tensor, self.std)
        return (pixels.permute(0, 3, 1, 2).float() - mean) / std


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """A network of open_clip with what travels with it.

    `settings` is its `model_cfg`; `padding` the token id that its texts are filled up with.
    """

    name: str
    net: nn.Module
    settings: dict[str, Any]
    pixels: Pixels
    tokenizer: Tokenizer
    padding: int


class ClipNetwork(nn.Module):
    """A CLIP (Radford et al. 2021) or one of its relatives in open_clip (Ilharco et al. 2021).

    Attributes: `dim` counts the dimensions of the joint space; `preparation` says how a picture
    becomes pixels, `tokenizer`, which cuts to `context_length` tokens, how a text becomes ids;
    `scale` and `bias` are what the model multiplies its cosines with and adds to them; the bias
    may be None.
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.name = parts.name
        self.net = cast(Any, parts.net)
        self.settings = parts.settings
        self.pixels = parts.pixels
        self.padding = parts.padding
        self.dim = int(parts.settings["embed_dim"])
        self.preparation = parts.pixels.preparation
        self.context_length = int(parts.settings["text_cfg"].get("context_length", 77))
        self.tokenizer = cutting(parts.tokenizer, self.context_length)
        self.scaling = PixelScaling(parts.pixels)
        # A loss has a temperature of its own, which starts from this one.
        self.scale: float | None = float(self.net.logit_scale.detach().exp().flatten()[0])
        bias = self.net.logit_bias
        self.bias: float | None = None if bias is None else float(bias.detach().flatten()[0])
        del self.net.logit_scale, self.net.logit_bias
        self._patches = hasattr(self.net.visual, "output_tokens")
        if self._patches:
            self.net.visual.output_tokens = True
        self.net.text.output_tokens = True

    @property
    def pads(self) -> bool:
        """Whether the text tower works on texts filled up to the context length, as trained."""
        text = self.net.text
        return hasattr(text, "token_embedding") and not self._causal

    @property
    def _causal(self) -> bool:
        """Whether what follows a text's end changes nothing, so that it may be left out."""
        text = self.net.text
        return (
            text.attn_mask is not None
            and text.pool_type in ("argmax", "eos")
            and text.cls_emb is None
        )

    def images(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (n, dim) and regions (n, R, C) of uint8 pixels (n, S, S, 3).

        Regions are patch tokens, or the last feature map, row by row.
        """
        planes = self.scaling(pixels)
        visual = self.net.visual
        if self._patches:
            pooled, regions = visual(planes)
            return unit(pooled), regions
        maps = self.features(planes)
        return unit(self.pool(maps)), in_rows(maps, visual)

    def features(self, planes: Tensor) -> Tensor:
        """What is pooled of scaled planes, where the tower is none of open_clip's transformers.

        Tokens (n, t, C), class tokens first, or maps (n, C, H, W), with timm also (n, H, W, C).
        """
        visual = self.net.visual
        if hasattr(visual, "trunk"):
            found: Tensor = visual.trunk.forward_features(planes)
            return found
        maps: Tensor = visual.stem(planes)  # open_clip's own ResNet
        for stage in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            maps = stage(maps)
        return maps

    def pool(self, maps: Tensor) -> Tensor:
        """The joint space's vectors (n, dim), of any length, of such features."""
        visual = self.net.visual
        if hasattr(visual, "trunk"):
            pooled: Tensor = visual.head(visual.trunk.forward_head(maps))
            return pooled
        attended: Tensor = visual.attnpool(maps)
        return attended

    def texts(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (n, dim) and token features (n, t, C) of ids and mask, int64 (n, t)."""
        text = self.net.text
        filled = torch.where(mask.bool(), ids, self.padding)
        if not hasattr(text, "token_embedding"):  # a model of transformers, which masks padding
            pooled, tokens = text(filled)
        elif self._causal:
            pooled, tokens = _to_the_end(text, filled)
        else:
            pooled, tokens = text(self._full(filled))
        return unit(pooled), tokens[:, : ids.shape[1]]

    def _full(self, ids: Tensor) -> Tensor:
        """Ids padded to the context length: some towers attend to the padding, as trained."""
        filler = torch.full_like(ids[:, :1], self.padding).expand(-1, self.context_length)
        return torch.cat([ids, filler], dim=1)[:, : self.context_length]


def unit(vectors: Tensor) -> Tensor:
    """Scale vectors along the last axis to unit length, in fp32."""
    return functional.normalize(vectors.float(), dim=-1)


def in_rows(maps: Tensor, visual: Any) -> Tensor:
    """Regions (n, R, C), row by row, of what `ClipNetwork.features` gives."""
    trunk = getattr(visual, "trunk", None)
    if maps.ndim == 3:
        return maps[:, getattr(trunk, "num_prefix_tokens", 0) :]
    if getattr(trunk, "output_fmt", "NCHW") == "NHWC":
        return maps.flatten(1, 2)
    return maps.flatten(2).transpose(1, 2)


def _to_the_end(text: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
    """A causal text tower on ids of any length: what follows a text's end changes nothing."""
    length = ids.shape[1]
    x = text.token_embedding(ids) + text.positional_embedding[:length]
    tokens = text.ln_final(text.transformer(x, attn_mask=text.attn_mask[:length, :length]))
    ends = ids if text.pool_type == "argmax" else (ids == text.eos_id).int()
    # A product instead of indexing: ONNX then needs no gathering along two axes.
    chosen = functional.one_hot(ends.argmax(dim=-1), length).to(tokens.dtype)
    pooled = (chosen[:, None, :] @ tokens)[:, 0]
    if text.text_projection is None:
        return pooled, tokens
    if isinstance(text.text_projection, nn.Linear):
        return text.text_projection(pooled), tokens
    return pooled @ text.text_projection, tokens

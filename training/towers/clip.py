"""Whole open_clip models as encoders that can be trained further."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from torch import Tensor

from xsearch.retrieval.encoders.clip.build import build, rebuild
from xsearch.retrieval.encoders.clip.network import ClipNetwork, Pixels
from xsearch.training.model import Layers, TextBatch, TrainableEncoder

from .image import timm_groups
from .parts import Groups, by_depth
from .spec import EncoderSpec
from .text import model_config

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SCHEMES = ("open_clip:", "local-dir:", "hf-hub:")


class OpenClip(ClipNetwork, TrainableEncoder):
    """A model of open_clip, see `ClipNetwork`, with what training asks of it."""

    @classmethod
    def from_spec(cls, spec: EncoderSpec) -> OpenClip:
        """Build what `spec.encoder` names. Raises EncoderError, UsageError."""
        parts = build(
            cast(str, spec.encoder).removeprefix("open_clip:"),
            pretrained=spec.pretrained,
            image_size=spec.image_size,
            context_length=spec.context_length,
            resize=spec.resize,
        )
        made = cls(parts)
        made.name = cast(str, spec.encoder)
        return made

    @classmethod
    def from_config(cls, config: dict[str, Any], tokenizer: Tokenizer) -> OpenClip:
        """Undo `config`, with random weights and without the network."""
        parts = rebuild(
            config["name"],
            config["model"],
            config["text_model"],
            Pixels.from_config(config["pixels"]),
            tokenizer,
            config["padding"],
        )
        made = cls(parts)
        made.scale, made.bias = config["scale"], config["bias"]
        return made

    def config(self) -> dict[str, Any]:
        """See `TrainableEncoder`."""
        inner = getattr(self.net.text, "config", None)
        return {
            "kind": "open_clip",
            "name": self.name,
            "model": self.settings,
            "text_model": None if inner is None else model_config(inner),
            "pixels": self.pixels.config(),
            "padding": self.padding,
            "scale": self.scale,
            "bias": self.bias,
        }

    def image_outputs(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """See `TrainableEncoder`; regions are patch tokens, or the last feature map."""
        return self.images(pixels)

    def text_outputs(self, batch: TextBatch) -> tuple[Tensor, Tensor]:
        """See `TrainableEncoder`."""
        return self.texts(batch.ids, batch.mask)

    def layers(self) -> Layers:
        """See `TrainableEncoder`; the projections belong to the towers' last groups."""
        visual = self.net.visual
        image: Groups
        if hasattr(visual, "trunk"):
            rest = list(visual.head.parameters())
            image = [*timm_groups(visual.trunk), *([rest] if rest else [])]
        else:
            image = by_depth(visual.named_parameters())
        return {"image": image, "text": by_depth(self.net.text.named_parameters()), "head": []}

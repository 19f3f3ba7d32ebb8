"""Whole open_clip models as encoders that can be trained further."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from xsearch.core.errors import EncoderError, UsageError
from xsearch.retrieval.encoders.pictures import INTERPOLATIONS, Preparation
from xsearch.training.extras import require
from xsearch.training.model import Layers, TextBatch, TrainableEncoder, cutting, unit

from .clip_tokenizer import convert
from .image import timm_groups
from .parts import Groups, Pixels, PixelScaling, by_depth, first_line
from .spec import EncoderSpec
from .text import model_config

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SCHEMES = ("open_clip:", "local-dir:", "hf-hub:")


class OpenClip(TrainableEncoder):
    """A CLIP (Radford et al. 2021) or one of its relatives in open_clip (Ilharco et al. 2021)."""

    def __init__(
        self,
        name: str,
        net: nn.Module,
        settings: dict[str, Any],
        pixels: Pixels,
        tokenizer: Tokenizer,
        padding: int,
    ) -> None:
        super().__init__()
        self.name = name
        self.net = cast(Any, net)
        self.settings = settings
        self.pixels = pixels
        self.padding = padding
        self.dim = int(settings["embed_dim"])
        self.preparation = pixels.preparation
        self.context_length = int(settings["text_cfg"].get("context_length", 77))
        self.tokenizer = cutting(tokenizer, self.context_length)
        self.scaling = PixelScaling(pixels)
        # A loss has a temperature of its own, which starts from this one.
        self.scale = float(self.net.logit_scale.detach().exp().flatten()[0])
        bias = self.net.logit_bias
        self.bias = None if bias is None else float(bias.detach().flatten()[0])
        del self.net.logit_scale, self.net.logit_bias
        self._patches = hasattr(self.net.visual, "output_tokens")
        if self._patches:
            self.net.visual.output_tokens = True
        self.net.text.output_tokens = True

    @classmethod
    def from_spec(cls, spec: EncoderSpec) -> OpenClip:
        """Build what `spec.encoder` names. Raises EncoderError."""
        open_clip = require("open_clip", "train", f"the encoder {spec.encoder}")
        source = cast(str, spec.encoder).removeprefix("open_clip:")
        model, _, pretrained = source.partition("/") if ":" not in source else (source, "", "")
        try:
            settings = deepcopy(open_clip.get_model_config(model))
            if settings is None:
                raise UsageError(f"open_clip has no model {model!r}")
            with _quiet():
                net = open_clip.create_model(
                    model,
                    pretrained=(pretrained or None) if spec.pretrained else None,
                    load_weights=spec.pretrained,
                    pretrained_text=False,
                    force_custom_text=True,
                    force_image_size=spec.image_size,
                    force_context_length=spec.context_length,
                )
                own = open_clip.get_tokenizer(model, context_length=spec.context_length)
            tokenizer, padding = convert(own)
        except (EncoderError, UsageError):
            raise
        except Exception as error:  # anything, from the network to a wrong shape
            raise EncoderError(
                f"the encoder {spec.encoder} cannot be made: {first_line(error)}"
            ) from error
        if spec.image_size:
            settings["vision_cfg"]["image_size"] = spec.image_size
        if spec.context_length:
            settings["text_cfg"]["context_length"] = spec.context_length
        pixels = _pixels(spec, net.visual.preprocess_cfg)
        return cls(cast(str, spec.encoder), net, settings, pixels, tokenizer, padding)

    @classmethod
    def from_config(cls, config: dict[str, Any], tokenizer: Tokenizer) -> OpenClip:
        """Undo `config`, with random weights and without the network."""
        open_clip = require("open_clip", "train", f"the encoder {config['name']}")
        settings = deepcopy(config["model"])
        with tempfile.TemporaryDirectory() as folder:
            if config["text_model"] is not None:
                inner = Path(folder) / "text"
                inner.mkdir()
                (inner / "config.json").write_text(json.dumps(config["text_model"]))
                settings["text_cfg"]["hf_model_name"] = str(inner)
            content = {"model_cfg": settings, "preprocess_cfg": {}}
            (Path(folder) / "open_clip_config.json").write_text(json.dumps(content))
            with _quiet():
                net = open_clip.create_model(
                    f"local-dir:{folder}",
                    load_weights=False,
                    pretrained_text=False,
                    force_custom_text=True,
                )
        pixels = Pixels.from_config(config["pixels"])
        made = cls(config["name"], net, config["model"], pixels, tokenizer, config["padding"])
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
        planes = self.scaling(pixels)
        visual = self.net.visual
        if self._patches:
            pooled, regions = visual(planes)
            return unit(pooled), regions
        maps = visual.trunk.forward_features(planes) if hasattr(visual, "trunk") else None
        if maps is None:  # open_clip's own ResNet
            maps = visual.stem(planes)
            for stage in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
                maps = stage(maps)
            return unit(visual.attnpool(maps)), maps.flatten(2).transpose(1, 2)
        pooled = visual.head(visual.trunk.forward_head(maps))
        if maps.ndim == 3:
            return unit(pooled), maps[:, getattr(visual.trunk, "num_prefix_tokens", 0) :]
        if getattr(visual.trunk, "output_fmt", "NCHW") == "NHWC":
            return unit(pooled), maps.flatten(1, 2)
        return unit(pooled), maps.flatten(2).transpose(1, 2)

    def text_outputs(self, batch: TextBatch) -> tuple[Tensor, Tensor]:
        """See `TrainableEncoder`."""
        text = self.net.text
        ids = torch.where(batch.mask.bool(), batch.ids, self.padding)
        if not hasattr(text, "token_embedding"):  # a model of transformers, which masks padding
            pooled, tokens = text(ids)
        elif text.attn_mask is not None and text.pool_type in ("argmax", "eos"):
            pooled, tokens = _causal(text, ids) if text.cls_emb is None else text(self._full(ids))
        else:
            pooled, tokens = text(self._full(ids))
        return unit(pooled), tokens[:, : batch.ids.shape[1]]

    def _full(self, ids: Tensor) -> Tensor:
        """Ids padded to the context length: some towers attend to the padding, as trained."""
        filler = torch.full_like(ids[:, :1], self.padding).expand(-1, self.context_length)
        return torch.cat([ids, filler], dim=1)[:, : self.context_length]

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


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep open_clip's log lines away: it logs to the root, which then prints all there is."""
    root = logging.getLogger()
    handler = logging.NullHandler()
    before = root.manager.disable
    root.addHandler(handler)
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
        root.removeHandler(handler)


def _causal(text: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
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


def _pixels(spec: EncoderSpec, found: dict[str, Any]) -> Pixels:
    """The model's own preprocessing, as `open_clip.image_transform` would do it."""
    resize = spec.resize or {"shortest": "crop"}.get(found["resize_mode"], found["resize_mode"])
    if resize not in ("crop", "squash") or found["interpolation"] not in INTERPOLATIONS:
        raise EncoderError(
            f"{spec.encoder} wants its pictures {found['resize_mode']}, {found['interpolation']}, "
            "which no encoder of xsearch does; set resize, or take another model"
        )
    size = found["size"]
    side = size if isinstance(size, int) else size[0]
    if not isinstance(size, int) and len(set(size)) > 1:
        raise EncoderError(f"{spec.encoder} reads {size} pixels, and only squares are supported")
    mean, std = (tuple(255 * value for value in found[key]) for key in ("mean", "std"))
    return Pixels(Preparation(side, resize, found["interpolation"]), mean, std)

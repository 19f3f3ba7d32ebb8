"""What to train, in words: the specification of an encoder. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xsearch.core.errors import UsageError
from xsearch.retrieval.encoders.pictures import RESIZES

HEADS = ("linear", "mlp", "none")


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """A whole encoder by name, or an image tower and a text tower with heads into `dim`.

    encoder: `builtin` (with its English text tower) or `builtin:multilingual` (with the other), as
        they ship; `open_clip:ARCH/PRETRAINED` (`open_clip:ARCH` has random weights),
        `local-dir:FOLDER` or `hf-hub:OWNER/NAME` as open_clip reads them, or a folder made by
        training.
    image: `efficientnet-lite0`, `efficientnet-lite2`, or `timm:NAME` for any model of timm. A NAME
        with a tag (`resnet50.a1_in1k`) has that tag's weights, one without has random ones;
        `timm:hf-hub:OWNER/NAME` and `timm:local-dir:FOLDER` bring theirs.
    image_weights: a file of weights for a `timm:` model.
    text: `minilm`, `e5-small`, or `hf:FOLDER` or `hf:OWNER/NAME` for a model of transformers.
    dim: dimensions of the joint space.
    head: `linear`, `mlp` (one hidden layer, GELU), or `none` where both towers have `dim` outputs.
    pretrained: False gives the same architectures with random weights.
    image_size, resize: in place of the model's own; pixels, and `squash` or `crop`.
    context_length: tokens that the text tower reads at most, in place of the model's own.

    The network is used only for what is named and lies elsewhere. Raises UsageError.
    """

    encoder: str | None = None
    image: str | None = None
    text: str | None = None
    dim: int = 384
    head: str = "linear"
    pretrained: bool = True
    image_size: int | None = None
    resize: str | None = None
    context_length: int | None = None
    image_weights: Path | None = None

    def __post_init__(self) -> None:
        if self.encoder and (self.image or self.text):
            raise UsageError("give a whole encoder, or an image and a text tower, not both")
        if not self.encoder and not (self.image and self.text):
            raise UsageError("an encoder needs both an image tower and a text tower")
        if self.head not in HEADS:
            raise UsageError(f"head is {self.head!r}; it must be one of {', '.join(HEADS)}")
        if self.resize is not None and self.resize not in RESIZES:
            raise UsageError(f"resize is {self.resize!r}; it must be one of {', '.join(RESIZES)}")
        for name in ("dim", "image_size", "context_length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}; it must be 1 or more")

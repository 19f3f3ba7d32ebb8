"""Turns the two halves of an encoder into ONNX graphs by tracing them."""

from __future__ import annotations

import tempfile
import warnings
from copy import deepcopy
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from xsearch.core.errors import EncoderError

from .model import TextBatch, TrainableEncoder

OPSET = 20
"""Known to onnxruntime 1.17 and later."""


class _Images(nn.Module):
    """The image half alone, for tracing."""

    def __init__(self, encoder: TrainableEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return self.encoder.image_outputs(pixels)


class _Texts(nn.Module):
    """The text half alone, for tracing."""

    def __init__(self, encoder: TrainableEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return self.encoder.text_outputs(TextBatch(ids, mask))


class _Attention(nn.Module):
    """`nn.MultiheadAttention` in plain steps: torch's own keeps the length that it was traced at.

    Vaswani et al. 2017, section 3.2.2.
    """

    def __init__(self, source: nn.MultiheadAttention) -> None:
        super().__init__()
        if source.bias_k is not None or source.add_zero_attn:
            raise EncoderError("an attention with extra keys cannot become ONNX; use another model")
        self.heads = source.num_heads
        self.batch_first = source.batch_first
        weights = (
            source.in_proj_weight.chunk(3)
            if source.in_proj_weight is not None
            else (source.q_proj_weight, source.k_proj_weight, source.v_proj_weight)
        )
        biases = [None] * 3 if source.in_proj_bias is None else source.in_proj_bias.chunk(3)
        self.inward = nn.ModuleList(map(_linear, weights, biases))
        self.outward = source.out_proj

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        need_weights: bool = False,  # noqa: ARG002 - callers say that they need none
        attn_mask: Tensor | None = None,
    ) -> tuple[Tensor, None]:
        q, k, v = (
            part(x if self.batch_first else x.transpose(0, 1))
            .unflatten(-1, (self.heads, -1))
            .transpose(1, 2)
            for part, x in zip(self.inward, (query, key, value), strict=True)
        )
        scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
        if attn_mask is not None:
            # Of three dimensions, it has a row for each head of each text.
            if attn_mask.ndim == 3:
                attn_mask = attn_mask.view(-1, self.heads, *attn_mask.shape[1:])
            scores = scores + attn_mask
        mixed = self.outward((scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2))
        return (mixed if self.batch_first else mixed.transpose(0, 1)), None


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    made.weight = nn.Parameter(weight.detach())
    if bias is not None:
        made.bias = nn.Parameter(bias.detach())
    return made


def _traceable(half: nn.Module) -> nn.Module:
    """A copy in which each attention can be traced; its weights are those of the original."""
    shared = {id(tensor): tensor for tensor in (*half.parameters(), *half.buffers())}
    copied = deepcopy(half, shared).eval()
    for parent in list(copied.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.MultiheadAttention):
                setattr(parent, name, _Attention(child))
    return copied


def image_graph(encoder: TrainableEncoder) -> onnx.ModelProto:
    """The image tower as ONNX: uint8 `image` (n, S, S, 3) to `embedding` and `regions`."""
    side = encoder.image_size
    pixels = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    axes = {"image": {0: "n"}, "embedding": {0: "n"}, "regions": {0: "n"}}
    return trace(_Images(encoder), (pixels,), axes, 1)


def text_graph(encoder: TrainableEncoder) -> onnx.ModelProto:
    """The text tower as ONNX: int64 `input_ids`, `attention_mask` to `embedding`, `tokens`."""
    batch = encoder.tokenize(["a cat", "a cat on green grass"])
    free = {0: "n", 1: "t"}
    axes = {"input_ids": free, "attention_mask": free, "embedding": {0: "n"}, "tokens": free}
    return trace(_Texts(encoder), (batch.ids, batch.mask), axes, 2)


def trace(
    half: nn.Module,
    arguments: tuple[Tensor, ...],
    axes: dict[str, dict[int, str]],
    inputs: int,
    *,
    fold: bool = True,
) -> onnx.ModelProto:
    """Run torch's tracing exporter, which needs no further package (the newer one does).

    `axes` names the first `inputs` inputs, then the outputs, each with its free sizes. Without
    `fold`, what is computed from weights alone is not stored in their place. Raises EncoderError
    when the module cannot be traced.
    """
    names = list(axes)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # Tracing warns of each size that becomes a constant; the checks find the wrong ones.
        warnings.simplefilter("ignore")
        path = Path(folder) / "traced.onnx"
        try:
            torch.onnx.export(
                _traceable(half),
                arguments,
                str(path),
                dynamo=False,
                opset_version=OPSET,
                input_names=names[:inputs],
                output_names=names[inputs:],
                dynamic_axes=axes,
                do_constant_folding=fold,
            )
            return onnx.load(path)
        except Exception as error:  # torch's and onnx's own classes share no base
            what = str(error).strip().partition("\n")[0]
            raise EncoderError(f"the {names[0]} tower cannot become ONNX: {what}") from error

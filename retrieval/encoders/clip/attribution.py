"""Where in a picture a model's vector comes from: gradients at the last features of each place.

Two ways, by how a model reads its patches.

*Grad-ECLIP* (Zhao et al. 2024, "Gradient-based Visual Explanation for Transformer-based CLIP",
section 3.2), where a class token attends to them in open_clip's vision transformers: the values of
the last attention, weighted by the gradient at its output and by how near each patch's key is to
the class token's query, scaled to 0 to 1; the softmax in its place would leave too few places.

*gradient x features* (Draelos and Carin 2020, "Use HiResCAM instead of Grad-CAM", section 3), where
anything else is pooled: the elementwise product, summed over channels. Where only a class token
counts after the last block, the features are those before that block.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .network import ClipNetwork, in_rows, unit

ECLIP = "Grad-ECLIP"
FEATURES = "gradient x features"


def attribute(network: ClipNetwork, pixels: Tensor, vectors: Tensor) -> tuple[Tensor, str]:
    """What each place gives to the products of a picture's unit vector with others.

    Of uint8 pixels (1, S, S, 3) and vectors (n, dim): float32 (n, rows, columns), and the method's
    name.
    """
    visual = network.net.visual
    with torch.enable_grad():
        planes = network.scaling(pixels)
        if hasattr(visual, "output_tokens"):
            return _of_transformer(visual, planes, vectors)
        return _of_other(network, planes, vectors), FEATURES


def _of_transformer(visual: Any, planes: Tensor, vectors: Tensor) -> tuple[Tensor, str]:
    """Of a vision transformer of open_clip."""
    last = visual.transformer.resblocks[-1]
    by_class = visual.attn_pool is None and visual.pool_type == "tok"
    if by_class and isinstance(getattr(last, "attn", None), nn.MultiheadAttention):
        return _grad_eclip(visual, last.attn, planes, vectors), ECLIP
    with _kept(last, before=by_class) as kept:
        pooled, _ = visual(planes)
    return _summed((_gradients(pooled, vectors, kept[0]) * kept[0])[:, 1:]), FEATURES


def _of_other(network: ClipNetwork, planes: Tensor, vectors: Tensor) -> Tensor:
    """Of a tower of timm, or a ResNet of open_clip."""
    visual = network.net.visual
    trunk: Any = getattr(visual, "trunk", None)
    if getattr(trunk, "global_pool", "") == "token" and hasattr(trunk, "blocks"):
        with _kept(trunk.blocks[-1], before=True) as kept:
            pooled = network.pool(network.features(planes))
        source = kept[0]
    else:
        source = network.features(planes).detach().requires_grad_()
        pooled = network.pool(source)
    return _summed(in_rows(_gradients(pooled, vectors, source) * source, visual))


def _grad_eclip(
    visual: Any, attention: nn.MultiheadAttention, planes: Tensor, vectors: Tensor
) -> Tensor:
    """The formula (7) of the paper, its sum before it is clipped at zero."""
    with _kept(attention, before=True) as given, _kept(attention) as kept:
        pooled, _ = visual(planes)
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    queries, keys, values = functional.linear(given[0], weight, bias).chunk(3, dim=-1)
    near = functional.cosine_similarity(queries[0, :1], keys[0, 1:], dim=-1)
    near = (near - near.min()) / (near.max() - near.min()).clamp_min(1e-12)
    weights = _gradients(pooled, vectors, kept[0])[:, 0] @ attention.out_proj.weight
    return _square((weights @ values[0, 1:].T) * near)


@contextmanager
def _kept(module: nn.Module, *, before: bool = False) -> Iterator[list[Tensor]]:
    """Keep what a module gives, or with `before` what it is given, as what gradients end at."""
    kept: list[Tensor] = []

    def keep(found: Any) -> Any:
        first, *others = found if isinstance(found, tuple) else (found,)
        kept.append(first.detach().requires_grad_())
        return (kept[0], *others) if isinstance(found, tuple) else kept[0]

    hook = (
        module.register_forward_pre_hook(lambda _, given: keep(given))
        if before
        else module.register_forward_hook(lambda _, __, found: keep(found))
    )
    try:
        yield kept
    finally:
        hook.remove()


def _gradients(pooled: Tensor, vectors: Tensor, source: Tensor) -> Tensor:
    """Gradients (n, ...) of the products with vectors (n, dim), at a source (1, ...)."""
    products = unit(pooled)[0] @ vectors.T
    found = [torch.autograd.grad(one, source, retain_graph=True)[0] for one in products]
    return torch.cat(found)


def _summed(products: Tensor) -> Tensor:
    """Places' (n, R, C), summed over channels: (n, rows, columns)."""
    return _square(products.sum(dim=-1))


def _square(places: Tensor) -> Tensor:
    """Places (n, R) of a square input, row by row: (n, rows, columns)."""
    side = math.isqrt(places.shape[1])
    return places.detach().float().reshape(len(places), side, -1)

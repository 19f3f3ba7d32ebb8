"""Writes a trained reranker as two ONNX graphs, its weights stored in int8, and checks them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path

import numpy as np

from xsearch.core.errors import EncoderError
from xsearch.core.extras import require
from xsearch.retrieval.rerank.manifest import FILE, FORMAT, Blend
from xsearch.retrieval.rerank.model import OnnxReranker
from xsearch.training.checkpoint import replacing, write_text

from .network import STEP, Reranker, whole

require("torch", "train", "training")
require("onnx", "train", "exporting a reranker")

import onnx  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from xsearch.training.compress import Precision, compress  # noqa: E402
from xsearch.training.tracing import trace  # noqa: E402

UNIT = 0.25
"""Of an offset: int8 holds 31 to either side."""
AGREEMENT = 0.05
"""Largest difference of log-odds that stored weights may make, as a share of their deviation."""


class _Remember(nn.Module):
    """From regions float32 (n, R, C) to memories int8 (n, R, W); with a background (n, R + 1, W).

    The last row's mean is then the picture's offset in units of `UNIT`: each of its numbers is
    rounded up or down, as many as it takes.
    """

    steps: Tensor

    def __init__(self, network: Reranker) -> None:
        super().__init__()
        self.network = network
        width = network.shape.width
        self.register_buffer("steps", (torch.arange(width) + 0.5) / width)

    def forward(self, regions: Tensor) -> Tensor:
        found = whole(self.network.remember(regions))
        if self.network.background is not None:
            offset = self.network.offset(found / STEP)
            row = torch.floor(offset[:, None, None] / UNIT + self.steps)
            found = torch.cat([found, torch.clamp(row, -127, 127)], 1)
        return found.to(torch.int8)


class _Match(nn.Module):
    """From tokens, their mask and memories to log-odds, contributions and attention.

    Attention is what words look at by themselves, which is learnt from pictures; in drawings what
    they look at in their text, which is learnt from made-up scenes.
    """

    def __init__(self, network: Reranker) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor, mask: Tensor, memory: Tensor) -> tuple[Tensor, ...]:
        spread = mask[:, None]
        texts = self.network.understand(tokens[:, None], spread)
        shown = memory.float()
        offset = torch.zeros(1)
        if self.network.background is not None:
            shown, last = shown[:, :-1], shown[:, -1]
            offset = last.mean(-1) * UNIT
        shown = shown / STEP
        found = self.network.match(texts, shown)
        attention = found.attention
        if self.network.guidance is not None:
            share = self.network.guided_share(shown)[:, None, None, None]
            attention = attention + share * (found.guided[-1] - attention)
        return found.log_odds[:, 0] - offset, found.contributions[:, 0], attention[:, 0]


def export(
    network: Reranker,
    folder: Path,
    *,
    name: str,
    encoder: str,
    blend: Mapping[str, Blend],
    precision: str = "int8",
) -> str:
    """Write `reranker.json` and its graphs into a folder; returns the fingerprint.

    `encoder` is the fingerprint of the dual encoder that it belongs to. Raises EncoderError where
    it does not come out as it was, StorageError.
    """
    network = deepcopy(network).eval().float().cpu()
    shape = network.shape
    graphs = {"regions": _regions_graph(network), "match": _match_graph(network)}
    digest = hashlib.sha256(encoder.encode())
    for value in network.state_dict().values():
        digest.update(value.numpy().tobytes())
    files: dict[str, str] = {}
    for part, model in graphs.items():
        stored = compress(model, Precision(precision))
        content = stored.SerializeToString(deterministic=True)
        digest.update(content)
        files[part] = f"{part}.onnx"
        with replacing(folder / files[part]) as file:
            file.write(content)
    fingerprint = digest.hexdigest()[:16]
    content = {
        "format": FORMAT,
        "name": name,
        "fingerprint": fingerprint,
        "encoder": encoder,
        "grid": list(shape.grid),
        "channels": shape.channels,
        "width": shape.width,
        "extra": int(network.background is not None),
        **files,
        "blend": {pair: asdict(each) for pair, each in blend.items()},
    }
    write_text(folder / FILE, json.dumps(content, indent=2) + "\n")
    try:
        _check(network, folder)
    except EncoderError:
        (folder / FILE).unlink()
        raise
    return fingerprint


def _regions_graph(network: Reranker) -> onnx.ModelProto:
    shape = network.shape
    regions = torch.randn(2, shape.grid[0] * shape.grid[1], shape.channels)
    axes = {"regions": {0: "n"}, "memory": {0: "n"}}
    # A background's directions are int8, and read in three shapes: folded, they are 12 times as
    # large.
    return trace(_Remember(network), (regions,), axes, 1, fold=network.background is None)


def _match_graph(network: Reranker) -> onnx.ModelProto:
    shape = network.shape
    tokens, mask = torch.randn(3, 5, shape.token_channels), torch.ones(3, 5, dtype=torch.bool)
    rows = shape.grid[0] * shape.grid[1] + (network.background is not None)
    memory = torch.zeros(3, rows, shape.width, dtype=torch.int8)
    axes = {
        "tokens": {0: "q", 1: "t"},
        "mask": {0: "q", 1: "t"},
        "memory": {0: "m"},
        "log_odds": {0: "b"},
        "contributions": {0: "b", 1: "t"},
        "attention": {0: "b", 1: "t"},
    }
    return trace(_Match(network), (tokens, mask, memory), axes, 3)


def _check(network: Reranker, folder: Path) -> None:
    """Compare what was written with the network, a text against pictures and the other way."""
    shape, random = network.shape, np.random.default_rng(0)
    written = OnnxReranker(folder)
    regions = random.normal(size=(4, shape.grid[0] * shape.grid[1], shape.channels))
    scaled = regions * network.deviation.numpy() + network.mean.numpy()
    memories = written.memories(scaled.astype(np.float32))
    tokens = random.normal(size=(4, 7, shape.token_channels)).astype(np.float32)
    mask = np.arange(7) < random.integers(2, 8, size=(4, 1))
    for texts, pictures in ((1, 4), (4, 1), (4, 4)):
        found = written.match(tokens[:texts], mask[:texts], memories[:pictures])
        with torch.inference_mode():
            expected = _Match(network)(
                torch.from_numpy(tokens[:texts]),
                torch.from_numpy(mask[:texts]),
                torch.from_numpy(memories[:pictures]),
            )[0].numpy()
        spread = max(float(expected.std()), 1.0)
        difference = float(np.abs(found - expected).max())
        if not difference <= AGREEMENT * spread:
            raise EncoderError(
                f"{folder}: the written reranker differs from the trained one by {difference:.3f} "
                f"where log-odds differ by {spread:.3f}; export it in fp32"
            )

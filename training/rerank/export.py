"""Writes a trained reranker as two ONNX graphs, its weights stored in int8, and checks them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

import numpy as np

from xsearch.core.errors import EncoderError
from xsearch.core.extras import require
from xsearch.retrieval.rerank.manifest import FILE, FORMAT, Blend
from xsearch.retrieval.rerank.model import OnnxReranker
from xsearch.training.checkpoint import replacing, write_text

from .network import STEP, Reranker

require("torch", "train", "training")
require("onnx", "train", "exporting a reranker")

import onnx  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from xsearch.training.compress import Precision, compress  # noqa: E402
from xsearch.training.tracing import trace  # noqa: E402

AGREEMENT = 0.05
"""Largest difference of log-odds that stored weights may make, as a share of their deviation."""


class _Remember(nn.Module):
    """From regions float32 (n, R, C) to memories int8 (n, R, W)."""

    def __init__(self, network: Reranker) -> None:
        super().__init__()
        self.network = network

    def forward(self, regions: Tensor) -> Tensor:
        found = self.network.remember(regions)
        return torch.clamp(torch.round(found * STEP), -127, 127).to(torch.int8)


class _Match(nn.Module):
    """From tokens, their mask and memories to log-odds, contributions and attention."""

    def __init__(self, network: Reranker) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor, mask: Tensor, memory: Tensor) -> tuple[Tensor, ...]:
        spread = mask[:, None]
        texts = self.network.understand(tokens[:, None], spread)
        found = self.network.match(texts, memory.float() / STEP)
        return found.log_odds[:, 0], found.contributions[:, 0], found.attention[:, 0]


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
        **files,
        "blend": {
            pair: {"score": each.score, "match": each.match, "intercept": each.intercept}
            for pair, each in blend.items()
        },
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
    return trace(_Remember(network), (regions,), axes, 1)


def _match_graph(network: Reranker) -> onnx.ModelProto:
    shape = network.shape
    tokens, mask = torch.randn(3, 5, shape.token_channels), torch.ones(3, 5, dtype=torch.bool)
    memory = torch.zeros(3, shape.grid[0] * shape.grid[1], shape.width, dtype=torch.int8)
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

"""Runs a reranker: pictures' regions into what is kept of them, and texts against those."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xsearch.core.errors import EncoderError, UsageError

from ..encoders.lazy import Lazy
from ..encoders.runtime import OnnxCpu
from .manifest import RerankerInfo, read_reranker

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xsearch.core.encoder import Float32

    Int8 = NDArray[np.int8]
    Bool = NDArray[np.bool_]

BATCH = 64
"""Pairs that are compared at once: bounds memory, and more are no faster."""


@dataclass(frozen=True, slots=True)
class Explained:
    """Why a text and a picture match: log-odds, and each token's part in them.

    `contributions` float32 (T,), which with a constant of the picture add up to `log_odds`;
    `attention` float32 (T, rows, columns), which over the picture adds up to 1 for each token.
    """

    log_odds: float
    contributions: Float32
    attention: Float32


class OnnxReranker:
    """A cross-attention reranker from a folder with a `reranker.json` (see `manifest.py`).

    Text tokens are the queries, image regions keys and values (Vaswani et al. 2017, section 3.2;
    matching head and hard negatives after Li et al. 2021, "ALBEF", section 3.2). What a picture's
    regions become does not depend on the text, and can be kept: its memory, int8 (R, width).

    Nothing but the description is read until it is first used. May be used from several threads.
    Raises EncoderError when files are missing, damaged or not understood.
    """

    def __init__(self, folder: Path, *, threads: int | None = None) -> None:
        self.info: RerankerInfo = read_reranker(folder)
        cpu = OnnxCpu(threads)
        self._regions = Lazy(lambda: cpu.open(self.info.regions, widen=True))
        self._match = Lazy(lambda: cpu.open(self.info.match, widen=True))

    @property
    def memory_shape(self) -> tuple[int, int]:
        """Rows and numbers of one picture's memory: (R, width), R regions and extra rows."""
        rows, columns = self.info.grid
        return rows * columns + self.info.extra, self.info.width

    def memories(self, regions: Float32) -> Int8:
        """What is kept of pictures' regions, float32 (n, regions, C): int8 (n, R, width)."""
        expected = (math.prod(self.info.grid), self.info.channels)
        if regions.ndim != 3 or regions.shape[1:] != expected:
            raise UsageError(
                f"{self.info.name} reads regions of shape (n, {expected[0]}, {expected[1]}), not "
                f"{regions.shape}: they are of another encoder"
            )
        parts: list[Int8] = [
            self._regions.get().run(["memory"], {"regions": regions[start : start + BATCH]})[0]
            for start in range(0, len(regions), BATCH)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, *self.memory_shape), np.int8)

    def match(self, tokens: Float32, mask: Bool, memories: Int8) -> Float32:
        """Log-odds float32 (n,) that texts describe pictures, pair by pair.

        Token features (n, T, C) and mask (n, T), memories (n, R, width); a single text, or a
        single picture, is compared with all of the others.
        """
        count = max(len(tokens), len(memories))
        if not len(tokens) or not len(memories):
            return np.zeros(0, np.float32)
        found = np.empty(count, np.float32)
        for start in range(0, count, BATCH):
            rows = slice(start, start + BATCH)
            found[rows] = self._run(["log_odds"], tokens, mask, memories, rows)[0]
        return found

    def explain(self, tokens: Float32, mask: Bool, memory: Int8) -> Explained:
        """Why one text, (1, T, C) and (1, T), and one picture, (1, R, width), match."""
        wanted = ["log_odds", "contributions", "attention"]
        log_odds, contributions, attention = self._run(wanted, tokens, mask, memory, slice(1))
        grid = attention[0].reshape(-1, *self.info.grid)
        return Explained(float(log_odds[0]), contributions[0], grid)

    def _run(
        self, outputs: list[str], tokens: Float32, mask: Bool, memories: Int8, rows: slice
    ) -> list[Float32]:
        """Run the graph on some pairs; of what there is one, that one serves them all."""
        inputs = {
            "tokens": tokens if len(tokens) == 1 else tokens[rows],
            "mask": mask if len(mask) == 1 else mask[rows],
            "memory": memories if len(memories) == 1 else memories[rows],
        }
        try:
            return self._match.get().run(outputs, inputs)
        except EncoderError as error:
            raise EncoderError(f"{error}; is the reranker one for this encoder?") from error

"""From cosines to scores: takes off what is no evidence, and weighs what is left.

How much each direction takes off, and what the rest is worth, is in `xsearch.core.scoring`; what
an item is near to anyhow, and how queries spread over a library, in its background.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from xsearch.core.scoring import CROWD, DIRECTIONS, FEW, LARGEST, Direction

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from xsearch.core.encoder import Logistic
    from xsearch.core.values import Kind
    from xsearch.indexer.background import Background

    Float32 = NDArray[np.float32]
    Float64 = NDArray[np.float64]
    Int64 = NDArray[np.int64]

# Log-odds beyond those of such a probability say no more.
_LEAST = 1e-9
_PLAIN = Direction(0.0, 0.0, 0.0, 0.0, 0.0)


class Scale:
    """Corrects and scores what one query found with one encoder.

    Without a background, or where look-alikes of a picture are wanted, cosines stay as they are
    and the encoder's logistic scores them.
    """

    def __init__(
        self,
        vector: Float32,
        kinds: tuple[Kind, Kind],
        logistic: Logistic,
        background: Background | None,
        *,
        correct: bool = True,
    ) -> None:
        self._background = background if correct and kinds in DIRECTIONS else None
        self._direction = DIRECTIONS.get(kinds, _PLAIN)
        self._target = kinds[1]
        self._slope, self._intercept = logistic.slope, logistic.intercept
        if self._background is not None:
            self._measure(self._background, vector, kinds)

    def _measure(self, background: Background, vector: Float32, kinds: tuple[Kind, Kind]) -> None:
        """Mixes the encoder's logistic with the library's own, by how much the library holds."""
        direction, target = self._direction, kinds[1]
        moments = background.header.moments.get("-".join(kinds))
        # Corrected cosines are lower; the encoder's logistic knows plain ones.
        typical = background.typical(direction, target)
        self._intercept += self._slope * typical
        if moments is None:
            return
        mean, deviation = moments
        sample, taken = background.measured(target, direction)
        found = sample @ vector - taken
        # A few items say little about a query's spread: it is drawn to that of other queries.
        variance = float(found.var()) if len(found) else 0.0
        spread = math.sqrt((len(found) * variance + FEW * deviation**2) / (len(found) + FEW))
        slope = direction.slope / deviation
        held = background.header.held[target]
        intercept = direction.intercept - slope * mean
        intercept += direction.spread * (spread / deviation - 1)
        intercept += CROWD * math.log(1_000 / min(max(held, 1), LARGEST))
        share = held / (held + FEW)
        self._slope = share * slope + (1 - share) * self._slope
        self._intercept = share * intercept + (1 - share) * self._intercept

    @property
    def corrects(self) -> bool:
        """Whether the order changes."""
        return self._background is not None

    def corrected(self, cosines: Float32, rows: Int64) -> Float32:
        """What is left of cosines (n,) of some rows (n,): that puts them in order."""
        if self._background is None:
            return cosines
        return cosines - self._background.bias(self._direction, self._target, rows)

    def scores(self, corrected: Float32) -> Float64:
        """Scores (n,), 0 to 1, of corrected cosines."""
        return logistic(self._slope * corrected.astype(np.float64) + self._intercept)


def logistic(log_odds: Float64) -> Float64:
    """Probabilities (n,) of log-odds, in a form that cannot overflow."""
    found: Float64 = 0.5 + 0.5 * np.tanh(0.5 * log_odds)
    return found


def log_odds(scores: Float64) -> Float64:
    """Log-odds (n,) of probabilities, finite for 0 and 1, too."""
    inside = np.clip(scores, _LEAST, 1 - _LEAST)
    found: Float64 = np.log(inside / (1 - inside))
    return found

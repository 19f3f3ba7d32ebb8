"""Reads `reranker.json`, the description that travels with a reranker's files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xsearch.core.errors import EncoderError
from xsearch.core.paths import displayable

FORMAT = 1
FILE = "reranker.json"
PAIRS = ("text-image", "image-text")


@dataclass(frozen=True, slots=True)
class Blend:
    """How the dual encoder's score and the reranker's log-odds become one.

    log-odds = `score` x log-odds of the dual encoder's score + `match` x the reranker's log-odds,
    `limited`, + `intercept`. The order of hits is that of these log-odds, and their logistic is the
    score.

    Below `low` the reranker's log-odds count less and less: that it does not find something is
    weaker evidence than that it does, above all in pictures and texts unlike those it was trained
    on. Above `high` they count no more. None: there is no such limit.
    """

    score: float
    match: float
    intercept: float
    low: float | None = None
    high: float | None = None

    def log_odds(self, score: Any, match: Any) -> Any:
        """Blended log-odds of both models' log-odds, numbers or arrays."""
        return self.score * score + self.match * self.limited(match) + self.intercept

    def limited(self, match: Any) -> Any:
        """What counts of the reranker's log-odds: a soft floor at `low`, a ceiling at `high`."""
        if self.low is not None:
            match = self.low + np.logaddexp(0, match - self.low)
        return match if self.high is None else np.minimum(match, self.high)


@dataclass(frozen=True, slots=True)
class RerankerInfo:
    """What a reranker's folder says of it.

    `encoder` is the fingerprint of the encoder whose regions and tokens it reads; `grid` rows and
    columns of regions, `width` numbers that are kept of each, `extra` rows that are kept beside
    those of regions.
    """

    folder: Path
    name: str
    fingerprint: str
    encoder: str
    grid: tuple[int, int]
    channels: int
    width: int
    extra: int
    regions: Path
    match: Path
    blend: Mapping[str, Blend]


def read_reranker(folder: Path) -> RerankerInfo:
    """Read and check `folder/reranker.json`; EncoderError names the file and what is wrong."""
    path = folder / FILE
    shown = displayable(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EncoderError(f"{shown} is missing: this folder is not a reranker") from None
    except OSError as error:
        raise EncoderError(f"{shown} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise EncoderError(
            f"{shown} is not valid JSON ({error}); train the reranker again"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise EncoderError(
            f"{shown}: this version of xsearch reads rerankers of format {FORMAT}; update xsearch, "
            "or train the reranker again"
        )
    try:
        return _info(content, folder)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EncoderError(
            f"{shown}: {error!r} is missing or not what it should be; train the reranker again"
        ) from error


def _info(content: dict[str, Any], folder: Path) -> RerankerInfo:
    rows, columns = content["grid"]
    files = [_file(content[key], folder) for key in ("regions", "match")]
    return RerankerInfo(
        folder=folder,
        name=str(content["name"]),
        fingerprint=str(content["fingerprint"]),
        encoder=str(content["encoder"]),
        grid=(_positive(rows), _positive(columns)),
        channels=_positive(content["channels"]),
        width=_positive(content["width"]),
        extra=_positive(content.get("extra", 0) + 1) - 1,
        regions=files[0],
        match=files[1],
        blend={pair: _blend(content["blend"][pair]) for pair in PAIRS},
    )


def _file(name: str, folder: Path) -> Path:
    if Path(name).name != name:
        raise ValueError(name)
    return folder / name


def _positive(value: int) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError(value)
    return value


def _blend(content: Mapping[str, Any]) -> Blend:
    limits = [key for key in ("low", "high") if content.get(key) is not None]
    values = {key: float(content[key]) for key in ("score", "match", "intercept", *limits)}
    if not all(map(math.isfinite, values.values())):
        raise ValueError(values)
    return Blend(**values)

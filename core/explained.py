"""What is told of a match: which word of a text fits a picture, and where."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xsearch.core.paths import displayable

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from xsearch.core.encoder import Float32


@dataclass(frozen=True, slots=True, eq=False)
class WordRelevance:
    """A word of a text: how much it speaks for the match, and where in the picture.

    `start` and `end` are its characters in the text. Stop words and punctuation are no content.
    `contribution` is in log-odds, negative where the word speaks against the match. `relevance`
    float32 (rows, columns) lies over the whole picture, from its top left corner, is not negative
    and adds up to 1. `peak` is its highest place: (x, y) from the left and the top, as shares of
    the picture's width and height.
    """

    text: str
    start: int
    end: int
    is_content: bool
    contribution: float
    relevance: Float32 = field(repr=False)
    peak: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """The word as JSON-ready values; `relevance` is a list of rows."""
        return {
            "text": self.text,
            "start": self.start,
            "end": self.end,
            "content": self.is_content,
            "contribution": round(self.contribution, 4),
            "peak": [round(share, 4) for share in self.peak],
            "relevance": [[round(float(part), 5) for part in row] for row in self.relevance],
        }


@dataclass(frozen=True, slots=True, eq=False)
class MatchExplanation:
    """Why a text and a picture match, or do not.

    `similarity` is the encoder's cosine; `score`, 0 to 1, the logistic of `log_odds`. `words` are
    those that the encoder read, in their order, and `method` says how they were explained.
    `picture` is what they were found in: upright, RGB, perhaps reduced; `path` its file, if it has
    one.
    """

    text: str
    score: float
    log_odds: float
    similarity: float
    words: tuple[WordRelevance, ...]
    method: str
    picture: Image.Image = field(repr=False)
    path: Path | None = None

    @property
    def shown(self) -> tuple[WordRelevance, ...]:
        """The words worth showing: those with content, or all where none has any."""
        return tuple(word for word in self.words if word.is_content) or self.words

    @property
    def rest(self) -> float:
        """The part of `log_odds` that no word accounts for."""
        return self.log_odds - sum(word.contribution for word in self.words)

    def to_dict(self) -> dict[str, Any]:
        """The explanation as JSON-ready values, without the picture."""
        return {
            "path": None if self.path is None else displayable(self.path),
            "text": self.text,
            "score": round(self.score, 4),
            "log_odds": round(self.log_odds, 4),
            "similarity": round(self.similarity, 4),
            "method": self.method,
            "words": [word.to_dict() for word in self.words],
        }

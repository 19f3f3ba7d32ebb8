"""What an evaluation found, as values: figures for JSON, and what reports draw and show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from xsearch.core.encoder import EncoderInfo
from xsearch.data.records import Record

from .bootstrap import CONFIDENCE, Estimate
from .captions import Bleu
from .embed import Failure
from .metrics import Float64, Retrieval
from .zero_shot import Classification

DIRECTIONS = ("text_to_image", "image_to_text")


@dataclass(frozen=True, slots=True)
class TextExample:
    """A text as a query, the rank of its picture, and the pictures found first."""

    text: str
    rank: int
    picture: Record
    found: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class PictureExample:
    """A picture as a query, the rank of its best text, and the texts found first.

    `found` says of each text whether it is the picture's own.
    """

    picture: Record
    rank: int
    found: tuple[tuple[str, bool], ...]


@dataclass(frozen=True, slots=True)
class Examples:
    """The best and the worst queries of both directions, each of another picture."""

    best_texts: tuple[TextExample, ...]
    worst_texts: tuple[TextExample, ...]
    best_pictures: tuple[PictureExample, ...]
    worst_pictures: tuple[PictureExample, ...]


@dataclass(frozen=True, slots=True, eq=False)
class LanguageEvaluation:
    """Retrieval with the texts of one language, among the pictures that have one.

    text_to_image, image_to_text: figures by name (see `metrics.figures`).
    cut: how many texts were longer than the encoder reads.
    bleu: of the nearest sentences of another split, where that was asked for.
    retrieval: the ranks behind the figures.
    true_similarity, random_similarity: cosines of true pairs, and of texts with other pictures.
    """

    language: str
    pictures: int
    texts: int
    cut: int
    text_to_image: Mapping[str, Estimate]
    image_to_text: Mapping[str, Estimate]
    bleu: Bleu | None
    retrieval: Retrieval
    true_similarity: Float64
    random_similarity: Float64
    examples: Examples

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready figures, without what is only drawn and shown."""
        row: dict[str, Any] = {"pictures": self.pictures, "texts": self.texts, "cut": self.cut}
        for direction in DIRECTIONS:
            found: Mapping[str, Estimate] = getattr(self, direction)
            row[direction] = {name: estimate.to_dict() for name, estimate in found.items()}
        if self.bleu is not None:
            row["bleu"] = self.bleu.to_dict()
        return row


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """All that one run of `evaluate` found.

    pictures: how many were embedded. failures: those that could not be. problems: what reading
    the data set complained of. captions_from: the split or file whose
    sentences BLEU judged, or `bank`.
    """

    encoder: EncoderInfo
    dataset: str
    split: str | None
    limit: int | None
    pictures: int
    failures: tuple[Failure, ...]
    problems: tuple[str, ...]
    languages: Mapping[str, LanguageEvaluation]
    zero_shot: Classification | None
    captions_from: str | None
    bootstrap: int
    seed: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready figures and how they came about; percentages but for ranks."""
        row: dict[str, Any] = {
            "encoder": asdict(self.encoder),
            "dataset": self.dataset,
            "split": self.split,
            "limit": self.limit,
            "pictures": self.pictures,
            "failures": [asdict(failure) for failure in self.failures],
            "problems": list(self.problems),
            "languages": {name: found.to_dict() for name, found in self.languages.items()},
        }
        if self.zero_shot is not None:
            row["zero_shot"] = self.zero_shot.to_dict()
        if self.captions_from is not None:
            row["captions_from"] = self.captions_from
        if self.bootstrap:
            row["bootstrap"] = {
                "samples": self.bootstrap,
                "seed": self.seed,
                "confidence": CONFIDENCE,
            }
        row["seconds"] = round(self.seconds, 3)
        return row

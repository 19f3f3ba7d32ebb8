"""An evaluation's figures as tables of text, for the terminal and for reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .bootstrap import CONFIDENCE, Estimate
from .results import DIRECTIONS, Evaluation


@dataclass(frozen=True, slots=True)
class Table:
    """Cells of text; the first `names` columns are names, the others are numbers."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int = 1


def tables(evaluation: Evaluation) -> list[Table]:
    """Retrieval by language and direction, classification, captions: those that there are."""
    found = []
    if evaluation.languages:
        found.append(_retrieval(evaluation))
    if evaluation.zero_shot is not None:
        found.append(_zero_shot(evaluation.zero_shot.figures))
    if any(one.bleu for one in evaluation.languages.values()):
        found.append(_captions(evaluation))
    return found


def class_table(evaluation: Evaluation) -> Table | None:
    """Precision, recall and F1 of each class, the worst first."""
    if evaluation.zero_shot is None:
        return None
    classes = sorted(evaluation.zero_shot.classes, key=lambda found: (found.f1, found.name))
    rows = tuple(
        (one.name, f"{one.pictures:,}", *(f"{x:.1f}" for x in (one.precision, one.recall, one.f1)))
        for one in classes
        if one.pictures
    )
    return Table("Classes", ("class", "pictures", "precision", "recall", "F1"), rows)


def headline(evaluation: Evaluation) -> str:
    """One line: which encoder, on what, how much of it."""
    part = f", split {evaluation.split}" if evaluation.split else ""
    sampled = " (a sample)" if evaluation.limit else ""
    return (
        f"{evaluation.encoder.name} ({evaluation.encoder.fingerprint}) on {evaluation.dataset}"
        f"{part}: {evaluation.pictures:,} pictures{sampled}"
    )


def notes(evaluation: Evaluation) -> list[str]:
    """How the figures are to be read, a sentence each."""
    found = [
        "All figures are percentages, but for ranks, which count from 1; vectors are rounded to "
        "float16 as a library keeps them, and a tie counts against."
    ]
    if evaluation.bootstrap:
        found.append(
            f"Intervals: {CONFIDENCE:.0%} percentile bootstrap over pictures, "
            f"{evaluation.bootstrap:,} samples, seed {evaluation.seed}."
        )
    if evaluation.limit and evaluation.languages:
        found.append(
            f"At most {evaluation.limit:,} pictures were used. Recall among few candidates is "
            "higher than among all: compare it only with runs on the same pictures."
        )
    signatures = {
        language: one.bleu.signature for language, one in evaluation.languages.items() if one.bleu
    }
    found += [
        f"BLEU of the nearest sentence from {evaluation.captions_from}, {language}: {text}."
        for language, text in signatures.items()
    ]
    for language, one in evaluation.languages.items():
        if one.cut:
            found.append(
                f"{one.cut:,} of {one.texts:,} texts ({language}) are longer than the encoder "
                "reads, and were cut."
            )
    if evaluation.failures:
        found.append(
            f"{len(evaluation.failures):,} pictures could not be read, and were left out with "
            "their texts."
        )
    if evaluation.problems:
        found.append(f"{len(evaluation.problems):,} problems in the data set's files.")
    return found


def _retrieval(evaluation: Evaluation) -> Table:
    rows: list[tuple[str, ...]] = []
    figures: Mapping[str, Estimate] = {}
    for language, found in evaluation.languages.items():
        for direction in DIRECTIONS:
            figures = getattr(found, direction)
            forward = direction == "text_to_image"
            queries, candidates = (
                (found.texts, found.pictures) if forward else (found.pictures, found.texts)
            )
            names = (language, direction.replace("_", " "), f"{queries:,}", f"{candidates:,}")
            rows += _with_interval(names, figures)
    titles = {"median_rank": "median", "mean_rank": "mean"}
    columns = (titles.get(name, name.replace("recall@", "R@")) for name in figures)
    header = ("language", "direction", "queries", "among", *columns)
    return Table("Retrieval", header, tuple(rows), names=2)


def _zero_shot(figures: Mapping[str, Estimate]) -> Table:
    names = {"f1": "F1"}
    header = ("zero-shot", *(names.get(name, name) for name in figures))
    return Table(
        "Zero-shot classification (precision, recall, F1: mean over classes)",
        header,
        tuple(_with_interval(("all classes",), figures)),
    )


def _captions(evaluation: Evaluation) -> Table:
    rows = tuple(
        (
            language,
            f"{one.bleu.captions:,}",
            *(f"{score:.1f}" for score in one.bleu.scores),
            f"{one.bleu.brevity_penalty:.3f}",
        )
        for language, one in evaluation.languages.items()
        if one.bleu
    )
    header = ("language", "captions", *(f"BLEU-{n}" for n in range(1, 5)), "brevity penalty")
    return Table(f"Captions: the nearest from {evaluation.captions_from}", header, rows)


def _with_interval(
    names: tuple[str, ...], figures: Mapping[str, Estimate]
) -> Iterator[tuple[str, ...]]:
    """A row of figures, and one each for the ends of their intervals, if any."""
    yield (*names, *(_shown(name, found.value) for name, found in figures.items()))
    for side, label in (("low", "from"), ("high", "to")):
        ends = {name: getattr(found, side) for name, found in figures.items()}
        if None not in ends.values():
            # Under the last name, so that a table is read without its lines.
            blank = [""] * len(names)
            blank[min(1, len(names) - 1)] = f"{CONFIDENCE:.0%} {label}"
            yield (*blank, *(_shown(name, value) for name, value in ends.items()))


def _shown(name: str, value: float) -> str:
    return f"{value:,.1f}".removesuffix(".0") if name == "median_rank" else f"{value:,.1f}"

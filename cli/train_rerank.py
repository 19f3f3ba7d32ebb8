"""`xsearch train --task rerank`: a reranker for an encoder, from pictures with captions."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xsearch.cli.render import (
    complain,
    complain_first,
    counted,
    duration,
    short_path,
    write_line,
)
from xsearch.core.errors import UsageError
from xsearch.core.paths import absolute

if TYPE_CHECKING:
    from xsearch.core.reports import ProgressCallback
    from xsearch.training.report import TrainReport
    from xsearch.training.rerank.config import RerankConfig
    from xsearch.training.rerank.report import RerankReport

NAMES = {
    "encoder.name": "encoder",
    "batch.size": "batch.pictures",
    "run.device": "device",
}
"""Settings that training an encoder calls by other names."""


def rerank_settings(
    out: Path, config: Path | None, resume: bool, given: Mapping[str, Any], words: Sequence[str]
) -> RerankConfig:
    """The stored, read or default settings, with those of the command line in place.

    `given` has the names that training an encoder uses. Raises UsageError.
    """
    from xsearch.training.rerank.config import RerankConfig, read_rerank_config
    from xsearch.training.rerank.folder import stored_config
    from xsearch.training.settings import with_words

    base = read_rerank_config(config) if config is not None else None
    if base is None:
        base = stored_config(absolute(out)) if resume else RerankConfig()
    return with_words(base, {NAMES.get(name, name): value for name, value in given.items()}, words)


def refuse(given: Mapping[str, object]) -> None:
    """Raise UsageError where an option is given that only training an encoder has."""
    for option, value in given.items():
        if value is not None:
            raise UsageError(
                f"{option} is for training an encoder; a reranker (--task rerank) has no such "
                "choice: leave it out"
            )


def run_rerank(
    config: RerankConfig, out: Path, resume: bool, progress: ProgressCallback
) -> RerankReport:
    """Train it. Raises what `train_reranker` raises."""
    from xsearch.training.rerank.trainer import train_reranker

    return train_reranker(config, out, resume=resume, progress=progress)


def write_learnt(report: TrainReport | RerankReport) -> None:
    """What either kind of training learnt from."""
    if report.leaks:
        pictures = counted(report.leaks, "picture")
        complain(f"{pictures} left out: in what is held out, too", prefix="note: ")
    learnt = f"{counted(report.images, 'picture')}, {counted(report.captions, 'caption')}"
    write_line(f"learnt from: {learnt}; {counted(report.epochs, 'epoch')}, loss {report.loss:.3f}")


def write_kept(report: TrainReport | RerankReport) -> None:
    """Where what either kind of training measured comes from, and how long it took."""
    if report.figures:
        pictures = counted(report.validation, "validation picture")
        write_line(f"on {pictures}, after epoch {report.best_epoch}, whose weights were kept")
    write_line(f"time: {duration(report.seconds)}")


def write_rerank_report(report: RerankReport, encoder: str) -> None:
    """What was done, for people; `encoder` is the name that a query gives."""
    complain_first(report.problems, "note: ", "more of such lines")
    complain_first(report.broken, "not readable: ")
    write_learnt(report)
    for direction in ("text_to_image", "image_to_text"):
        if report.figures:
            plain, reranked = (
                " / ".join(
                    f"{report.figures[f'{direction}{mark}@{cut}']:.1f}" for cut in (1, 5, 10)
                )
                for mark in ("_without", "")
            )
            name = direction.replace("_", " ")
            write_line(f"{name}, recall at 1 / 5 / 10: {reranked}, not reranked {plain}")
    write_kept(report)
    place = short_path(report.out)
    write_line(f"reranker: {place}")
    named = "" if encoder == "builtin" else f" --encoder {shlex.quote(encoder)}"
    write_line(f'use it: xsearch query{named} --reranker {shlex.quote(place)} --rerank "..."')

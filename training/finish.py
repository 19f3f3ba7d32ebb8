"""The result of a run: an encoder folder with its model card."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xsearch.core.errors import ImageError
from xsearch.core.extras import require
from xsearch.core.paths import displayable

from .card import Card
from .folder import CONFIG
from .log import CURVES, FILE

if TYPE_CHECKING:
    from xsearch.data.records import Record

    from .config import TrainConfig
    from .export import Pairs
    from .material import Material
    from .measure import Validation
    from .model import TrainableEncoder
    from .report import TrainReport

require("onnx", "train", "exporting an encoder")

_PAIRS = 1000
"""Pictures at most that the exported encoder is checked on."""


def write_encoder(
    model: TrainableEncoder,
    out: Path,
    config: TrainConfig,
    data: Material,
    validation: Validation,
    report: TrainReport,
) -> str:
    """Export the model into the folder of its run, beside what is there; its fingerprint.

    Scores are calibrated on the validation pictures, without any on those learnt from.

    Raises EncoderError where it does not come out as it was, StorageError.
    """
    from .compress import Precision
    from .export import export_encoder

    text = config.export.text_precision
    exported = export_encoder(
        model,
        out,
        _pairs(validation.records if validation else data.train),
        precision=Precision(config.export.precision),
        text_precision=Precision(text) if text is not None else None,
        card=_card(config, data, report),
    )
    return exported.fingerprint


def _pairs(records: Iterable[Record]) -> Pairs:
    from .export import Pairs

    kept = list(islice((record for record in records if _is_readable(record)), _PAIRS))
    texts = [(text, owner) for owner, record in enumerate(kept) for text in record.texts()]
    owners = np.array([owner for _, owner in texts], np.int64)
    return Pairs([record.image for record in kept], [text for text, _ in texts], owners)


def _is_readable(record: Record) -> bool:
    try:
        record.image.open(32)
    except ImageError:
        return False
    return True


def _card(config: TrainConfig, data: Material, report: TrainReport) -> Card:
    names = [displayable(Path(name).name or name) for name in config.data.train]
    if config.data.library is not None:
        names.append("the captions of a library")
    languages = sorted({language for record in data.train for language in record.captions})
    figures = report.figures
    rows = [
        f"| {direction.replace('_', ' ')} | "
        + " | ".join(f"{figures[f'{direction}@{cut}']:.1f}" for cut in (1, 5, 10))
        + " |"
        for direction in ("text_to_image", "image_to_text")
        if figures
    ]
    table = "\n".join(["| recall at | 1 | 5 | 10 |", "|---|---|---|---|", *rows])
    return Card(
        data=f"Learnt from {report.images:,} pictures with {report.captions:,} captions "
        f"({', '.join(languages)}): {', '.join(names)}. {report.leaks:,} pictures that are in what "
        f"is held out were left out, {len(report.broken):,} could not be read.",
        recipe=f"Started from {_start(config)}; loss `{config.loss.name}`, "
        f"{config.optimiser.name}, {report.epochs} epochs of batches of {config.batch.size}. "
        f"Every setting is in `{CONFIG}`, every step in `{FILE}`, drawn in `{CURVES}`.",
        figures=f"On {report.validation:,} validation pictures, after {report.best_epoch} epochs, "
        f"the best ones:\n\n{table}"
        if figures
        else "Not measured: there were no validation pictures.",
        limits="It knows what its pictures and captions show, and what its start knew. Check it on "
        "pictures of your own with `xsearch evaluate` before you rely on it.",
        licence=config.export.licence,
    )


def _start(config: TrainConfig) -> str:
    encoder = config.encoder
    if encoder.image or encoder.text:
        return f"the towers `{encoder.image}` and `{encoder.text}`"
    return f"`{encoder.name}`"

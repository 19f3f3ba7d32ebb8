"""The model card of a reranker: what it learnt from, how well it does, what it does not know."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from xsearch.core.paths import displayable
from xsearch.training.checkpoint import write_text

if TYPE_CHECKING:
    from .config import RerankConfig
    from .material import RerankMaterial
    from .report import RerankReport

FILE = "MODEL_CARD.md"


def write_card(
    out: Path, config: RerankConfig, material: RerankMaterial, report: RerankReport
) -> None:
    """Write the card beside the reranker. Raises StorageError."""
    names = [displayable(Path(name).name or name) for name in config.data.train]
    extra = []
    if material.wrongs is not None:
        extra.append("wrong captions made of the English ones")
    if material.scenes is not None:
        extra.append(f"{len(material.scenes.texts):,} made-up scenes of coloured shapes")
    beside = f" Beside them: {' and '.join(extra)}." if extra else ""
    rows = [
        f"| {direction.replace('_', ' ')}{', not reranked' if mark else ''} | "
        + " | ".join(f"{report.figures[f'{direction}{mark}@{cut}']:.1f}" for cut in (1, 5, 10))
        + " |"
        for direction in ("text_to_image", "image_to_text")
        for mark in ("_without", "")
        if report.figures
    ]
    table = "\n".join(["| recall at | 1 | 5 | 10 |", "|---|---|---|---|", *rows])
    measured = (
        f"On {report.validation:,} validation pictures, 50 candidates reordered, without the "
        f"library's hub correction; the weights after {report.best_epoch} epochs, and the blend "
        f"with the dual encoder's score, were chosen on these:\n\n{table}"
        if report.figures
        else "Not measured: there were no validation pictures."
    )
    write_text(
        out / FILE,
        f"""# {report.encoder} reranker

A cross-attention reranker for the encoder `{report.encoder}`, made by xsearch. Fingerprint
`{report.fingerprint}`; it reads the regions and tokens of that encoder alone.

## Data

Learnt from {report.images:,} pictures with {report.captions:,} captions
({", ".join(material.languages)}): {", ".join(names)}.{beside}

## Figures

{measured}

## Limits

It knows what its pictures and captions show. Scores are blended with the dual encoder's; a picture
that the dual encoder does not find is not found by reranking. Attention shows where words look,
which is no proof of why a picture was chosen.

## Licence

{config.licence}
""",
    )

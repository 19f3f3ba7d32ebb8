"""What is known of an exported encoder, and its model card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .calibrate import PRIOR, Calibration


@dataclass(frozen=True, slots=True)
class Card:
    """What only the caller can say of an encoder, in Markdown, for its MODEL_CARD.md."""

    data: str
    recipe: str
    figures: str
    limits: str
    licence: str = "not stated"


@dataclass(frozen=True, slots=True)
class Agreement:
    """Lowest cosines: to torch in fp32, and alone against in a batch, padded."""

    image: float
    text: float
    image_alone: float
    text_alone: float


@dataclass(frozen=True, slots=True)
class Exported:
    """A finished folder: its space, what was checked, and the bytes of its files by name."""

    folder: Path
    fingerprint: str
    agreement: Agreement
    calibrations: dict[str, Calibration]
    sizes: dict[str, int]


def card_text(name: str, card: Card, made: Exported) -> str:
    """The content of MODEL_CARD.md."""
    parts = [f"# {name}"]
    for title in ("data", "recipe", "figures", "limits", "licence"):
        parts += [f"## {title.capitalize()}", getattr(card, title).strip()]
    agreement = made.agreement
    sizes = ", ".join(f"`{file}` {size / 1e6:.1f} MB" for file, size in made.sizes.items())
    parts += [
        "## Checks",
        f"- Cosine to the same model in torch, fp32: images at least {agreement.image:.5f}, texts "
        f"at least {agreement.text:.5f}.\n- Alone against in a batch, padded: images at least "
        f"{agreement.image_alone:.6f}, texts at least {agreement.text_alone:.6f}.\n"
        f"- Fingerprint `{made.fingerprint}`. Sizes: {sizes}.",
        "## Scores",
        "A score is the probability that a hit fits, if one item in "
        f"{round(1 / PRIOR)} of a library does. At 0.5:",
        _score_table(made.calibrations),
    ]
    return "\n\n".join(parts) + "\n"


def _score_table(fitted: dict[str, Calibration]) -> str:
    rows = (
        f"| {pair} | {c.cosine:.3f} | {c.kept:.1%} | {c.passed:.3%} |" for pair, c in fitted.items()
    )
    head = "| pair | cosine | true pairs kept | random pairs passed |"
    return "\n".join([head, "|---|---|---|---|", *rows])

"""Writes the model card: parts, terms, recipe, figures, limits."""

from __future__ import annotations

from pathlib import Path

from xsearch.training.calibrate import PRIOR

from .alignment import Settings
from .figures import Figures
from .languages import LanguageSettings
from .tune import TuneSettings


def write_card(
    path: Path,
    figures: Figures,
    start: Settings,
    tuned: TuneSettings,
    taught: LanguageSettings,
) -> None:
    """Write the card from the template beside this module."""
    template = Path(__file__).with_name("card.md").read_text(encoding="utf-8")
    content = template.format(
        prior=PRIOR,
        start=start,
        tuned=tuned,
        taught=taught,
        recalls=figures.by_set(),
        pairs=figures.by_pair(),
        checks=figures.checks(),
    )
    path.write_text(content, encoding="utf-8")

"""Draws an evaluation: recall curves, where true ones stand, similarities of pairs. PNG bytes."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from xsearch.core.extras import require

from .results import DIRECTIONS, Evaluation, LanguageEvaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Told apart by people of any colour vision, and in grey (Okabe and Ito 2008).
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#999999")
_DEEPEST = 100
_EDGES = (1, 2, 6, 11, 51, 101, 501, 1001)
_BINS = 60


def recall_curves(evaluation: Evaluation) -> bytes:
    """Recall against the number of results looked at, both directions, a line a language."""
    figure = _figure()
    for panel, direction in zip(_panels(figure), DIRECTIONS, strict=True):
        for at, (language, found) in enumerate(evaluation.languages.items()):
            first = getattr(found.retrieval, direction).first
            depth = min(_DEEPEST, getattr(found.retrieval, direction).candidates)
            cuts = np.arange(1, depth + 1)
            ordered = np.sort(first)
            share = np.searchsorted(ordered, cuts, side="right") / len(ordered) * 100
            style = "-" if at < len(_COLOURS) else "--"
            panel.plot(cuts, share, style, color=_COLOURS[at % len(_COLOURS)], label=language)
        panel.set(
            title=direction.replace("_", " ").capitalize(),
            xlabel="results looked at",
            ylabel="recall, %",
            ylim=(0, 100),
            xscale="log",
        )
        panel.set_xticks([1, 2, 5, 10, 20, 50, 100], ["1", "2", "5", "10", "20", "50", "100"])
        panel.minorticks_off()
        panel.set_xlim(1, _DEEPEST)
        if len(evaluation.languages) > 1:
            panel.legend(frameon=False, fontsize=8)
    return _png(figure)


def distributions(found: LanguageEvaluation) -> bytes:
    """One language: ranks of the true ones, and cosines of true and of random pairs."""
    figure = _figure()
    ranks, similarities = _panels(figure)
    _draw_ranks(ranks, found)
    _draw_similarities(similarities, found)
    return _png(figure)


def _draw_ranks(panel: Axes, found: LanguageEvaluation) -> None:
    deepest = max(getattr(found.retrieval, name).candidates for name in DIRECTIONS)
    edges = [edge for edge in _EDGES if edge <= deepest] + [deepest + 1]
    labels = [
        f"{low:,}" if high - low == 1 else f"{low:,}-{high - 1:,}"
        for low, high in itertools.pairwise(edges)
    ]
    for at, direction in enumerate(DIRECTIONS):
        first = getattr(found.retrieval, direction).first
        share = np.histogram(first, bins=edges)[0] / len(first) * 100
        places = np.arange(len(labels)) + (at - 0.5) * 0.4
        name = direction.replace("_", " ")
        panel.bar(places, share, width=0.38, color=_COLOURS[at], label=name)
    panel.set_xticks(range(len(labels)), labels, rotation=30, ha="right", fontsize=8)
    panel.set(title="Where the true one stands", xlabel="rank", ylabel="share of queries, %")
    panel.legend(frameon=False, fontsize=8)


def _draw_similarities(panel: Axes, found: LanguageEvaluation) -> None:
    drawn = {"true pairs": found.true_similarity, "random pairs": found.random_similarity}
    together = np.concatenate(list(drawn.values()))
    edges = np.linspace(together.min() - 1e-3, together.max() + 1e-3, _BINS + 1)
    for at, (name, values) in enumerate(drawn.items()):
        if len(values):
            share = np.histogram(values, bins=edges)[0] / len(values) * 100
            panel.stairs(share, edges, fill=True, alpha=0.55, color=_COLOURS[at], label=name)
    panel.set(title="How similar pairs are", xlabel="cosine", ylabel="share of pairs, %")
    panel.legend(frameon=False, fontsize=8)


def _figure() -> Figure:
    # The class itself rather than pyplot, which keeps figures and picks a window system.
    figure: Figure = require("matplotlib.figure", "evaluate", "A report's plots").Figure(
        figsize=(9, 3.4), layout="constrained"
    )
    return figure


def _panels(figure: Figure) -> Iterable[Axes]:
    for panel in (panels := figure.subplots(1, 2)):
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.25)
        panel.set_axisbelow(True)
    return list(panels)


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=130, metadata={"Software": None})
    return file.getvalue()

"""Writes the model card: parts, terms, recipe, figures, limits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xsearch.training.calibrate import PRIOR, Calibration
from xsearch.training.evaluation.metrics import Recalls

from .alignment import Settings
from .verify import Agreement


@dataclass(frozen=True, slots=True)
class Figures:
    """All that was measured; recalls by the name of the data set or of the view."""

    reference: dict[str, Recalls]
    shipped: dict[str, Recalls]
    views: dict[str, Recalls]
    agreement: Agreement
    calibrations: dict[str, Calibration]
    sizes: dict[str, int]

    def __str__(self) -> str:
        return "\n\n".join((self.recalls(), self.by_view(), self.by_pair(), self.agreements()))

    def recalls(self) -> str:
        """Recall of the reference and of the files."""
        rows = [("fp32 reference", n, r) for n, r in self.reference.items()]
        rows += [("these files", n, r) for n, r in self.shipped.items()]
        head = "| what | data | text to image R@1 / 5 / 10 | image to text R@1 / 5 / 10 |"
        return "\n".join([head, "|---|---|---|---|", *(f"| {w} | {n} | {r} |" for w, n, r in rows)])

    def by_view(self) -> str:
        """Recall on photographs of any aspect ratio, by how they are made square."""
        head = "| made square by | text to image R@1 / 5 / 10 | image to text R@1 / 5 / 10 |"
        return "\n".join(
            [head, "|---|---|---|", *(f"| {n} | {r} |" for n, r in self.views.items())]
        )

    def by_pair(self) -> str:
        """What a score of 0.5 means for each pair of kinds."""
        head = "| pair | cosine at 0.5 | true pairs kept | random pairs passed |"
        rows = (
            f"| {pair} | {c.cosine:.3f} | {c.kept:.1%} | {c.passed:.3%} |"
            for pair, c in self.calibrations.items()
        )
        return "\n".join([head, "|---|---|---|---|", *rows])

    def agreements(self) -> str:
        """Cosines to the reference and to itself in a batch, and the files' sizes."""
        a = self.agreement
        sizes = ", ".join(f"`{name}` {size / 1e6:.1f} MB" for name, size in self.sizes.items())
        return "\n".join(
            [
                f"- Cosine to the fp32 reference on Flickr8k val: images at least {a.image:.5f}, "
                f"{a.image_mean:.5f} on average; captions at least {a.text:.5f}, "
                f"{a.text_mean:.5f} on average.",
                f"- Alone against in a batch, padded to the full context: images "
                f"{a.image_alone:.7f}, texts {a.text_alone:.7f} at least.",
                f"- Sizes: {sizes}.",
            ]
        )


def write_card(path: Path, figures: Figures, settings: Settings) -> None:
    """Write the card from the template beside this module."""
    template = Path(__file__).with_name("card.md").read_text(encoding="utf-8")
    content = template.format(
        prior=PRIOR,
        settings=settings,
        recalls=figures.recalls(),
        views=figures.by_view(),
        pairs=figures.by_pair(),
        agreements=figures.agreements(),
    )
    path.write_text(content, encoding="utf-8")

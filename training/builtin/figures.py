"""Measures the finished files: recall by data set and by language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xsearch.retrieval.encoders.onnx import OnnxEncoder
from xsearch.training.calibrate import Calibration
from xsearch.training.evaluation.metrics import Recalls, recall

from .assemble import Agreement, embed_files
from .corpus import Captioned, read_captions

LANGUAGES = ("en", "zh", "zh_human_translation", "de", "de_translation", "fr", "cs", "ar")


@dataclass(frozen=True, slots=True)
class Figures:
    """All that was measured; recalls by data set and language."""

    recalls: Mapping[tuple[str, str], Recalls]
    agreement: Agreement
    calibrations: Mapping[str, Calibration]
    sizes: Mapping[str, int]

    def __str__(self) -> str:
        return "\n\n".join((self.by_set(), self.by_pair(), self.checks()))

    def by_set(self) -> str:
        """Recall of each data set and language."""
        head = "| data | captions | text to image R@1 / 5 / 10 | image to text R@1 / 5 / 10 |"
        rows = (f"| {data} | {language} | {r} |" for (data, language), r in self.recalls.items())
        return "\n".join([head, "|---|---|---|---|", *rows])

    def by_pair(self) -> str:
        """What a score of 0.5 means for each pair of kinds."""
        head = "| pair | cosine at 0.5 | true pairs kept | random pairs passed |"
        rows = (
            f"| {pair} | {c.cosine:.3f} | {c.kept:.1%} | {c.passed:.3%} |"
            for pair, c in self.calibrations.items()
        )
        return "\n".join([head, "|---|---|---|---|", *rows])

    def checks(self) -> str:
        """Cosines to torch and to itself in a batch, and the files' sizes."""
        a = self.agreement
        sizes = ", ".join(f"`{name}` {size / 1e6:.1f} MB" for name, size in self.sizes.items())
        return "\n".join(
            [
                f"- Cosine to torch in fp32 on Flickr8k: images at least {a.image:.5f}, English "
                f"captions {a.english:.5f}, captions of other languages {a.general:.5f}.",
                f"- Alone against in a batch, padded: images {a.image_alone:.6f}, texts "
                f"{a.text_alone:.6f} at least.",
                f"- Sizes: {sizes}.",
            ]
        )


def measure(
    encoder: OnnxEncoder, name: str, folder: Path, split: str | None
) -> dict[tuple[str, str], Recalls]:
    """Recall of one split in each of its languages, from the encoder's files."""
    found = {}
    images = None
    for language in LANGUAGES:
        data = read_captions(name, folder, split, language)
        if not any(data.captions):
            continue
        if images is None:
            images = embed_files(encoder, data)
        found[name, language] = _recall(encoder, images, data)
    return found


def _recall(encoder: OnnxEncoder, images: np.ndarray, data: Captioned) -> Recalls:
    """Only pictures with captions in the language take part."""
    there = np.array([bool(group) for group in data.captions])
    part = Captioned(
        data.name,
        [path for path, has in zip(data.files, there, strict=True) if has],
        [group for group in data.captions if group],
    )
    return recall(images[there], encoder.embed_texts(part.texts).vectors, part.owners)


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of the encoder's files by name."""
    return {path.name: path.stat().st_size for path in sorted(folder.glob("*.*"))}

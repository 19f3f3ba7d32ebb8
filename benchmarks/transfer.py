"""What taking vectors over saves, and how near others' vectors are to those made here.

Run `python benchmarks/transfer.py` (needs the extras `demo` and `parquet`). Pictures are crops of
sample photographs. They are indexed, exported in clip-retrieval's layout and imported into a new
library. Then the built-in encoder embeds larger ones as other programs prepare them: the cosine
to xsearch's own vector tells which differences an import's check lets pass.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import describe, seconds_of, write_crops
from PIL import Image

import xsearch
from xsearch.core.images import decode
from xsearch.retrieval.encoders import load_encoder

SIDE = 1_920


def times(photos: Path, folder: Path) -> dict[str, float]:
    """Seconds to index, and to import what that gave, into a new library each."""
    with xsearch.open(folder / "indexed") as library:
        indexed = seconds_of(lambda: library.index(photos))
        library.export(folder / "out", "clip-retrieval")
    with xsearch.open(folder / "imported", encoder="builtin") as library:
        imported = seconds_of(
            lambda: library.import_embeddings("clip-retrieval", folder / "out", photos)
        )
    return {"index_s": round(indexed, 1), "import_s": round(imported, 1)}


def _squashed(picture: Image.Image, side: int, how: Image.Resampling) -> Image.Image:
    return picture.resize((side, side), how)


def _middle(picture: Image.Image, side: int) -> Image.Image:
    short = min(picture.size)
    left, top = ((length - short) // 2 for length in picture.size)
    square = picture.crop((left, top, left + short, top + short))
    return square.resize((side, side), Image.Resampling.BICUBIC)


def cosines(photos: Path) -> dict[str, dict[str, float]]:
    """Median and lowest cosine of each way to prepare a picture."""
    encoder = load_encoder("builtin")
    side = encoder.image_size
    ways: dict[str, Callable[[Image.Image], Image.Image]] = {
        "whole picture, bicubic": lambda p: _squashed(p, side, Image.Resampling.BICUBIC),
        "nearest neighbour": lambda p: _squashed(p, side, Image.Resampling.NEAREST),
        "square in the middle": lambda p: _middle(p, side),
        "on its side": lambda p: _squashed(
            p.rotate(90, expand=True), side, Image.Resampling.BICUBIC
        ),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for path in sorted(photos.iterdir()):
        own = encoder.preprocess(decode(path, min_side=side).image)
        whole = Image.open(path).convert("RGB")
        others = [np.asarray(way(whole)) for way in ways.values()]
        vectors = np.concatenate([encoder.embed_images(one[None]) for one in (own, *others)])
        for name, cosine in zip(ways, vectors[1:] @ vectors[0], strict=True):
            found[name].append(float(cosine))
    return {
        name: {"median": round(float(np.median(all_)), 3), "lowest": round(min(all_), 3)}
        for name, all_ in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1_000)
    parser.add_argument("--compared", type=int, default=100)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_crops(folder / "photos", options.images)
        taken = times(folder / "photos", folder)
        write_crops(folder / "large", options.compared, (SIDE, SIDE * 2 // 3))
        near = cosines(folder / "large")
    report = describe("transfer", images=options.images, **taken, cosines=near)
    if options.json:
        print(json.dumps(report))
        return
    print(f"{report['machine']}; {report['date']}")
    print(f"{options.images:,} pictures: index {taken['index_s']} s, import {taken['import_s']} s")
    for way, row in near.items():
        print(f"  median {row['median']:.3f}  lowest {row['lowest']:.3f}  {way}")


if __name__ == "__main__":
    main()

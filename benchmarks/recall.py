"""Recall on Flickr8k through the public API: index the pictures and captions, then search.

Run `python benchmarks/recall.py --split test` (needs the test data; set XSEARCH_TEST_DATA).
Text to image: each of the five English captions of each picture is a query, and only its own
picture is right. Image to text: each picture is a query, and any of its captions is right.
The pictures of this copy of Flickr8k are squashed to 224 x 224.

`--plain` leaves out the correction of what is near to every query. `--hybrid` measures text to
image where words count, too: a library has the captions of every second picture, and is asked
with the captions of the others, of which none of the words is its own; then the other way round.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from common import describe, shared_data

import xsearch

_AT = (1, 5, 10)


def read_split(collection: Path, split: str | None) -> dict[str, list[str]]:
    """English captions by file name; all of a collection where `split` is None."""
    with (collection / "captions.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return {row["file"]: row["captions"]["en"] for row in rows if row.get("split") == split}


def fill(
    library: xsearch.Library,
    folder: Path,
    captions: dict[str, list[str]],
    work: Path,
    captioned: Collection[str] | None = None,
) -> None:
    """Index the pictures of one split, and their captions, or those of some, linked."""
    photos = work / "photos"
    photos.mkdir()
    for name in captions:
        (photos / name).symlink_to((folder / name).resolve())
    with (work / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "image"])
        for name, texts in captions.items():
            if captioned is None or name in captioned:
                writer.writerows((text, f"photos/{name}") for text in texts)
    report = library.index([photos, work / "captions.csv"])
    assert report.failed == 0, report.failures
    assert report.added == len(captions) + 1, report


def recalls(ranks: list[int | None]) -> dict[str, float]:
    """Percent of queries whose first right hit stands at most at 1, 5 and 10."""
    return {
        f"R@{at}": round(
            100 * sum(rank is not None and rank <= at for rank in ranks) / len(ranks), 2
        )
        for at in _AT
    }


def rank_of(hits: list[xsearch.Hit], name: str) -> int | None:
    return next((hit.rank for hit in hits if hit.path and hit.path.name == name), None)


def hybrid(
    folder: Path, captions: dict[str, list[str]], encoder: str, work: Path
) -> dict[str, dict[str, float]]:
    """Text to image where only other pictures' captions are words, by mode."""
    ranks: dict[str, list[int | None]] = {"meaning": [], "hybrid": []}
    for half in (0, 1):
        there = work / str(half)
        there.mkdir()
        captioned = frozenset(list(captions)[half::2])
        with xsearch.open(there / "library", encoder=encoder) as library:
            fill(library, folder, captions, there, captioned)
            for name, texts in captions.items():
                if name in captioned:
                    continue
                for mode, found in ranks.items():
                    found += [
                        rank_of(library.search(text, k=max(_AT), mode=mode), name) for text in texts
                    ]
    return {mode: recalls(found) for mode, found in ranks.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=("val", "test"), default="val", help="of Flickr8k")
    parser.add_argument("--other", action="store_true", help="other_val instead of Flickr8k")
    parser.add_argument("--encoder", default="builtin")
    parser.add_argument("--plain", action="store_true", help="cosines as they are")
    parser.add_argument("--hybrid", action="store_true", help="words beside meaning")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args()
    if options.other:
        collection = shared_data() / "other_val"
        folder, captions = collection, read_split(collection, None)
    else:
        collection = shared_data() / "flickr8k"
        folder, captions = collection / "images", read_split(collection, options.split)
    name = "other_val" if options.other else f"flickr8k {options.split}"
    if options.hybrid:
        with tempfile.TemporaryDirectory() as work:
            found = hybrid(folder, captions, options.encoder, Path(work))
        report = describe("recall", data=name, images=len(captions), **found)
        print(json.dumps(report) if options.json else _table(report, tuple(found)))
        return
    with tempfile.TemporaryDirectory() as work:
        place = Path(work) / "library"
        with xsearch.open(place, encoder=options.encoder) as library:
            fill(library, folder, captions, Path(work))
            to_image = [
                rank_of(
                    library.search(text, k=max(_AT), mode="meaning", correct=not options.plain),
                    name,
                )
                for name, texts in captions.items()
                for text in texts
            ]
            to_text = [
                rank_of(
                    library.search(
                        folder / name, k=max(_AT), target="text", correct=not options.plain
                    ),
                    name,
                )
                for name in captions
            ]
    report = describe(
        "recall",
        data=name,
        images=len(captions),
        texts=len(to_image),
        corrected=not options.plain,
        text_to_image=recalls(to_image),
        image_to_text=recalls(to_text),
    )
    directions = ("text_to_image", "image_to_text")
    print(json.dumps(report) if options.json else _table(report, directions))


def _table(report: dict[str, Any], rows: Sequence[str]) -> str:
    lines = [
        f"{report['machine']}; {report['date']}",
        f"{report['data']}: {report['images']} images",
    ]
    for row in rows:
        figures = ", ".join(f"{name} {value}" for name, value in report[row].items())
        lines.append(f"{row.replace('_', ' ')}: {figures}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

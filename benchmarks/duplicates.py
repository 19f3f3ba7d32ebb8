"""How well and how fast `xsearch duplicates` finds copies: `python benchmarks/duplicates.py`.

Precision and recall: photographs, and copies of every fourth of them, changed in one way after the
other, are indexed; then copies are looked for among the photographs and the copies of one kind. A
pair of files in one group is right where both come from one photograph. `look-alikes` are the
pairs of different photographs with the nearest vectors, one for each photograph, and documents of
one form with other words in it.

Thresholds were set on `--data tune` (Flickr8k's train and val, and `varied`); figures are reported
for the default, `--data test`: Flickr8k's test split, of which 125 come at their true aspect from
`photos`, and `other_val`. Groups of different photographs are printed and, with `--sheet`, shown
side by side, to be judged by eye: Flickr8k has some true copies, named here.

`--rows 100000` measures the time instead, over a drawn library with planted copies, whose files
cannot be reached: the catalog and the vectors alone.
"""

from __future__ import annotations

import argparse
import json
import random as choices
import tempfile
import time
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from common import describe, resident_mb, shared_data
from PIL import Image
from transformed import ASKED, CHANGES, form, letter

import xsearch
from xsearch.core.perceptual import hamming

# Different names, one photograph, as seen by eye.
SAME = {
    frozenset({"3640417354_b0b3e4aec9.jpg", "3656225270_cdf89e3240.jpg"}),
    frozenset({"1525153022_06c48dbe52.jpg", "2637959357_dd64a03efa.jpg"}),
    frozenset({"2851198725_37b6027625.jpg", "3050606344_af711c726c.jpg"}),
}
_EVERY, _DOCUMENTS = 4, 30
_TUNED_ON = 1_200


def sources(data: Path, part: str) -> list[Path]:
    """The photographs of a part of the test data."""
    with (data / "flickr8k" / "captions.jsonl").open(encoding="utf-8") as lines:
        split = {row["file"]: row["split"] for row in map(json.loads, lines)}
    images = data / "flickr8k" / "images"
    if part == "tune":
        known = [images / name for name, of in split.items() if of != "test"]
        known += sorted((data / "varied").rglob("*.jpg"))
        return choices.Random(0).sample(known, _TUNED_ON)
    whole = sorted((data / "photos").glob("*.jpg"))
    named = {path.name for path in whole}
    squashed = [images / name for name, of in split.items() if of == "test" and name not in named]
    return [*squashed, *whole, *sorted((data / "other_val").glob("*.jpg"))]


def write(photographs: list[Path], folder: Path) -> None:
    """Lay out originals, copies (`copies/KIND/NAME.jpg`) and documents."""
    (folder / "originals").mkdir()
    (folder / "documents").mkdir()
    for path in photographs:
        (folder / "originals" / path.name).write_bytes(path.read_bytes())
    for number, (kind, change) in enumerate(CHANGES.items()):
        place = folder / "copies" / kind
        place.mkdir(parents=True)
        for at, path in enumerate(photographs[::_EVERY]):
            with Image.open(path) as image:
                changed = change(image.convert("RGB"), np.random.default_rng([number, at]))
            changed.save(place / path.name, quality=90)
    for number in range(_DOCUMENTS):
        form(number).save(folder / "documents" / f"form{number}.png")
        letter(number).save(folder / "documents" / f"letter{number}.png")


def pairs(report: xsearch.DuplicateReport) -> set[frozenset[Path]]:
    """All pairs of files that are in one group."""
    groups = ([group.keeper, *group.others] for group in report.groups)
    return {
        frozenset({one.path, two.path}) for group in groups for one, two in combinations(group, 2)
    }


def right(pair: Iterable[Path]) -> bool:
    """Whether two files come from one photograph."""
    names = {path.name for path in pair}
    return len(names) == 1 or frozenset(names) in SAME


def measure(
    library: xsearch.Library, folder: Path, kinds: list[str], look: bool, strictness: Any
) -> dict[str, Any]:
    """Precision and recall among the photographs and the copies of some kinds."""
    copies = [folder / "copies" / kind for kind in kinds]
    report = library.duplicates([folder / "originals", *copies], look=look, strictness=strictness)
    found = pairs(report)
    wanted = {
        frozenset({folder / "originals" / path.name, path})
        for place in copies
        for path in place.iterdir()
    }
    wrong = [pair for pair in found if not right(pair)]
    return {
        "copies": len(wanted),
        "recall": round(100 * len(wanted & found) / len(wanted), 1),
        "precision": round(100 * (1 - len(wrong) / len(found)), 2) if found else None,
        "wrong": len(wrong),
        "seconds": round(report.seconds, 2),
        "checked": report.checked,
    }


def baseline(library: xsearch.Library, kind: str) -> dict[str, float]:
    """Recall and precision of one threshold alone, as other programs have it by default."""
    known = _stored(library)
    names = [path for path in known if path.parent.name == "originals"]
    copies = [path for path in known if path.parent.name == kind]
    hashes = np.array([known[path][0] for path in names])
    vectors = np.stack([known[path][1] for path in names])
    found = {"hash": [0, 0], "vector": [0, 0]}
    for copy in copies:
        own, vector = known[copy]
        near = {
            "hash": [hamming(int(one), own) <= 10 for one in hashes],
            "vector": vectors @ vector >= 0.9,
        }
        for which, hits in near.items():
            for path, hit in zip(names, hits, strict=True):
                found[which][0] += hit and path.name == copy.name
                found[which][1] += hit and path.name != copy.name
    return {
        f"{which} {figure}": round(value, 1)
        for which, (good, bad) in found.items()
        for figure, value in (
            ("recall", 100 * good / len(copies)),
            ("precision", 100 * good / max(good + bad, 1)),
        )
    }


def _stored(library: xsearch.Library) -> dict[Path, tuple[int, Any]]:
    """Hash and vector of every file."""
    from xsearch.indexer.reader import Reader
    from xsearch.indexer.vectors import open_rows, vector_path

    reader = Reader(library.path)
    with reader.snapshot() as snapshot:
        encoder = snapshot.encoder()
        assert encoder is not None
        place = vector_path(library.path, encoder.fingerprint, encoder.generation)
        vectors = open_rows(place, encoder.rows, encoder.dim)
        found = {
            Path(root) / folder / name: (digest, vectors[row].astype(np.float32))
            for root, folder, name, digest, row in snapshot.all(
                "SELECT r.path, f.folder, f.name, m.perceptual_hash, e.row FROM files f"
                " JOIN roots r ON r.id = f.root_id JOIN images m ON m.item_id = f.item_id"
                " JOIN embeddings e ON e.item_id = f.item_id AND e.encoder_id = ?",
                (encoder.id,),
            )
        }
    reader.close()
    return found


def look_alikes(library: xsearch.Library, folder: Path) -> dict[str, Any]:
    """Of the pairs of different photographs with the nearest vectors, those that were grouped."""
    known = _stored(library)
    names = [path for path in known if path.parent.name == "originals"]
    vectors = np.stack([known[path][1] for path in names])
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)
    near = {
        frozenset({path, names[int(at)]}) for path, at in zip(names, cosines.argmax(1), strict=True)
    }
    near = {pair for pair in near if not right(pair)}
    found = pairs(library.duplicates(folder / "originals"))
    documents = pairs(library.duplicates(folder / "documents"))
    return {
        "look_alikes": len(near),
        "median_cosine": round(float(np.median(cosines.max(1))), 3),
        "look_alikes_grouped": len(near & found),
        "photographs_grouped": sorted(sorted(path.name for path in pair) for pair in found),
        "documents_grouped": len(documents),
        "documents_grouped_without_look": len(
            pairs(library.duplicates(folder / "documents", look=False))
        ),
        "document_pairs": len(list(combinations(range(2 * _DOCUMENTS), 2))),
    }


def draw(found: list[list[str]], folder: Path, sheet: Path) -> None:
    """Pairs of photographs side by side."""
    side = 240
    page = Image.new("RGB", (2 * side, side * max(len(found), 1)), "white")
    for row, names in enumerate(found):
        for column, name in enumerate(names):
            with Image.open(folder / "originals" / name) as image:
                image.thumbnail((side, side))
                page.paste(image, (column * side, row * side))
    page.save(sheet)


def quality(part: str, sheet: Path | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "pictures"
        folder.mkdir()
        write(sources(shared_data(), part), folder)
        with xsearch.open(Path(work) / "library") as library:
            indexed = library.index([folder])
            assert indexed.failed == 0, indexed.failures
            rows = {
                kind: {
                    "looked": measure(library, folder, [kind], True, "normal"),
                    "not looked": measure(library, folder, [kind], False, "normal"),
                    "alone": baseline(library, kind),
                }
                for kind in CHANGES
            }
            together = {
                "asked for": measure(library, folder, list(ASKED), True, "normal"),
                "all": measure(library, folder, list(CHANGES), True, "normal"),
                "all, strict": measure(library, folder, list(CHANGES), True, "strict"),
                "all, loose": measure(library, folder, list(CHANGES), True, "loose"),
                "all, not looked": measure(library, folder, list(CHANGES), False, "normal"),
            }
            alike = look_alikes(library, folder)
        if sheet is not None:
            draw(alike["photographs_grouped"], folder, sheet)
    return describe(
        "duplicates", data=part, pictures=indexed.added, kinds=rows, together=together, **alike
    )


def speed(rows: int, dim: int) -> dict[str, Any]:
    """Seconds over a drawn library, without any file."""
    from made_library import DrawnEncoder, fill

    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "library"
        encoder = DrawnEncoder(dim, rows, np.empty((0, dim), np.float32))
        fill(folder, encoder, rows)
        planted = _describe(folder, rows)
        before = resident_mb()
        peak = before
        with xsearch.open(folder, encoder=encoder) as library:

            def follow(_: xsearch.Progress) -> None:
                nonlocal peak
                peak = max(peak, resident_mb())

            start = time.perf_counter()
            exact = library.duplicates(exact=True)
            exact_seconds = time.perf_counter() - start
            start = time.perf_counter()
            report = library.duplicates(progress=follow)
            seconds = time.perf_counter() - start
    return describe(
        "duplicates at scale",
        rows=rows,
        dim=dim,
        planted=planted,
        groups=len(report.groups),
        copies=sum(len(group.others) for group in report.groups),
        exact_groups=len(exact.groups),
        exact_seconds=round(exact_seconds, 2),
        seconds=round(seconds, 2),
        memory_mb=round(peak - before),
    )


def _describe(folder: Path, rows: int) -> int:
    """Give the drawn pictures sizes and hashes; of bursts, every second hash is nearly the last's.

    Returns how many pictures are near copies of the one before.
    """
    from xsearch.indexer.catalog import Catalog
    from xsearch.indexer.tables import images
    from xsearch.indexer.vectors import open_rows, vector_path

    random = np.random.default_rng(3)
    hashes = random.integers(-(2**63), 2**63 - 1, rows, dtype=np.int64)
    with Catalog(folder) as catalog:
        row = catalog.encoder()
        assert row is not None
        vectors = open_rows(
            vector_path(folder, row.fingerprint, row.generation), row.rows, row.dim
        )[:rows].astype(np.float32)
        burst = np.flatnonzero(np.einsum("ij,ij->i", vectors[1:], vectors[:-1]) > 0.94)[::2] + 1
        for at in burst:
            hashes[at] = hashes[at - 1] ^ (1 << int(random.integers(0, 63)))
        with catalog.transaction() as connection:
            for start in range(0, rows, 10_000):
                connection.execute(
                    images.insert(),
                    [
                        {
                            "item_id": at + 1,
                            "width": 4_000,
                            "height": 3_000,
                            "format": "JPEG",
                            "orientation": 1,
                            "perceptual_hash": int(hashes[at]),
                        }
                        for at in range(start, min(start + 10_000, rows))
                    ],
                )
    return len(burst)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=("test", "tune"), default="test")
    parser.add_argument("--sheet", type=Path, help="show grouped photographs side by side")
    parser.add_argument("--rows", type=int, help="measure the time over so many drawn pictures")
    parser.add_argument("--dim", type=int, default=384, help="of the drawn vectors")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args()
    if options.rows:
        report = speed(options.rows, options.dim)
    else:
        report = quality(options.data, options.sheet)
    if options.json:
        print(json.dumps(report))
        return
    kinds = report.pop("kinds", {})
    for kind, row in kinds.items():
        looked, trusted, alone = row["looked"], row["not looked"], row["alone"]
        print(
            f"{kind:<18} recall {looked['recall']:5} precision {looked['precision']}"
            f" | without look {trusted['recall']:5} {trusted['precision']}"
            f" | hash <= 10 {alone['hash recall']:5} {alone['hash precision']:5}"
            f" | cosine >= 0.9 {alone['vector recall']:5} {alone['vector precision']:5}"
        )
    for what, value in report.items():
        if isinstance(value, dict):
            for name, figures in value.items():
                print(f"{name}: {figures}")
        else:
            print(f"{what}: {value}")


if __name__ == "__main__":
    main()

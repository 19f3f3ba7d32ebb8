"""Indexing: files a second by format and stage, a scan of unchanged files, memory over time.

Run `python benchmarks/index.py` (needs the extra `demo`; an hour, of which `--only speed` is ten
minutes). The built-in encoder, public API, files in the cache:

- `speed`: small JPEG, PNG, 12-megapixel JPEG (also decoded in full) and HEIC, with one and two
  workers: rates of decoding, encoding and writing, each of its own time though all run side by
  side, and files a second of the whole run;
- `scan`: `index` again on unchanged files, nothing decoded, against walking the tree with `stat`;
- `memory`: resident memory while as many small pictures are indexed, all different.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import compare, describe, resident_mb, write_crops
from decode import make_photographs
from PIL import Image
from rescan import make_tree, walk_with_stat

import xsearch

# Memory comes first: large pictures would leave the process with more of it.
_PARTS = ("memory", "scan", "speed")
# A small file takes a tenth of the time of a large one.
_SMALL = 10


def _make_small(folder: Path, count: int) -> None:
    write_crops(folder, count * _SMALL)


def _make_png(folder: Path, count: int) -> None:
    write_crops(folder, count, (1_600, 1_200))
    for path in sorted(folder.iterdir()):
        Image.open(path).save(path.with_suffix(".png"), compress_level=6)
        path.unlink()


def _make_large(folder: Path, count: int) -> None:
    folder.mkdir()
    make_photographs(folder, count)


def _make_heic(folder: Path, count: int) -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    _make_large(folder, count)
    for path in sorted(folder.iterdir()):
        Image.open(path).save(path.with_suffix(".heic"), quality=60)
        path.unlink()


# A name, what makes the files, and whether JPEG is decoded at a reduced scale.
_FORMATS: tuple[tuple[str, Callable[[Path, int], None], bool], ...] = (
    ("JPEG 256 x 256", _make_small, True),
    ("PNG 1600 x 1200", _make_png, True),
    ("JPEG 4000 x 3000", _make_large, True),
    ("JPEG 4000 x 3000, decoded in full", _make_large, False),
    ("HEIC 4000 x 3000", _make_heic, True),
)


def speed(count: int) -> list[dict[str, Any]]:
    """Each format, indexed into a new library with one and with two workers."""
    rows = []
    for name, make, draft in _FORMATS:
        with tempfile.TemporaryDirectory() as work:
            photos = Path(work) / "photos"
            make(photos, count)
            files = sorted(photos.iterdir())
            size = sum(path.stat().st_size for path in files) / len(files)
            for workers in (1, 2):
                with xsearch.open(Path(work) / f"library-{workers}") as library:
                    library.search("warm up")
                    report = library.index(photos, draft=draft, workers=workers)
                assert report.added == len(files), report
                rows.append(
                    {
                        "format": name,
                        "file_mb": round(size / 1e6, 2),
                        "workers": workers,
                        "decode_per_s": report.rates.decode,
                        "encode_per_s": report.rates.encode,
                        "write_per_s": report.rates.write,
                        "files_per_s": round(report.added / report.seconds, 1),
                    }
                )
    return rows


def scan(files: int, runs: int) -> dict[str, Any]:
    """`index` on unchanged files against `os.scandir` with `stat`, in turn, in one process."""
    with tempfile.TemporaryDirectory() as work:
        root = Path(work) / "photos"
        make_tree(root, files)
        with xsearch.open(Path(work) / "library") as library:
            library.index(root)

            def again() -> None:
                report = library.index(root)
                assert report.unchanged == files, report
                assert report.decoded == report.embedded == 0, report

            return {"files": files, **compare(again, lambda: walk_with_stat(str(root)), runs)}


def memory(files: int, points: int = 20) -> dict[str, Any]:
    """Resident memory in MB as the files go by, and how it grows after the first fifth."""
    with tempfile.TemporaryDirectory() as work:
        root = Path(work) / "photos"
        _make_distinct(root, files)
        found: list[dict[str, float]] = []

        def look(progress: xsearch.Progress) -> None:
            if progress.stage == "embed" and progress.done >= files * len(found) / points:
                found.append({"files": progress.done, "resident_mb": round(resident_mb(), 1)})

        with xsearch.open(Path(work) / "library") as library:
            library.search("warm up")
            report = library.index(root, progress=look)
            assert report.added == files, report
            found.append({"files": files, "resident_mb": round(resident_mb(), 1)})
    late = [point for point in found if point["files"] >= files / 5]
    line = np.polyfit(
        *([point[name] for point in late] for name in ("files", "resident_mb")), deg=1
    )
    return {
        "files": files,
        "files_per_s": round(files / report.seconds, 1),
        "mb_per_10000_files": round(float(line[0]) * 1e4, 2),
        "points": found,
    }


def _make_distinct(root: Path, files: int) -> None:
    """Small pictures of noise, a thousand in a folder."""
    for number in range(files):
        folder = root / f"{number // 1_000:03}"
        if number % 1_000 == 0:
            folder.mkdir(parents=True)
        noise = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((64, 64)).save(folder / f"{number:06}.jpg", quality=80)


def render(report: dict[str, Any]) -> str:
    lines = [f"{report['machine']}; {report['date']}"]
    if "speed" in report:
        lines += [
            "",
            "| files | MB each | workers | decode/s | encode/s | write/s | whole run, files/s |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        lines += [f"| {' | '.join(map(str, row.values()))} |" for row in report["speed"]]
    if "scan" in report:
        row = report["scan"]
        lines += [
            "",
            f"index of {row['files']:,} unchanged files: {row['ms']} ms; scandir with stat: "
            f"{row['baseline_ms']} ms; ratio {row['ratio']}",
        ]
    if "memory" in report:
        row = report["memory"]
        lines += [
            "",
            f"{row['files']:,} pictures at {row['files_per_s']}/s; after the first fifth, resident "
            f"memory grows by {row['mb_per_10000_files']} MB in 10,000 files:",
            ", ".join(f"{point['files']:,}: {point['resident_mb']} MB" for point in row["points"]),
        ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=_PARTS, action="append", help="may be given twice")
    parser.add_argument("--pictures", type=int, default=60, help="of each format, small ones x 10")
    parser.add_argument("--files", type=int, default=100_000, help="for scan and memory")
    parser.add_argument("--runs", type=int, default=3, help="of the scan")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args()
    parts: dict[str, Callable[[], object]] = {
        "speed": lambda: speed(options.pictures),
        "scan": lambda: scan(options.files, options.runs),
        "memory": lambda: memory(options.files),
    }
    found = {}
    for part in (part for part in _PARTS if part in (options.only or _PARTS)):
        print(f"{part} ...", file=sys.stderr)
        found[part] = parts[part]()
    report = describe("index", **found)
    print(json.dumps(report) if options.json else render(report))


if __name__ == "__main__":
    main()

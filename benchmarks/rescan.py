"""How long `index` takes when nothing changed, against walking the same tree with `stat`.

Run `python benchmarks/rescan.py` (needs the extra `demo`). Ten thousand files in a hundred
folders; the ratio is taken pair by pair in one process, so that both see the same caches.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path

from common import compare, describe, write_crops

import xsearch

_DISTINCT = 20


def make_tree(root: Path, files: int) -> None:
    """Copies of a few pictures: scanning does not care, and embedding is soon done."""
    crops = root.parent / "crops"
    write_crops(crops, _DISTINCT, (64, 64))
    pictures = sorted(crops.iterdir())
    for number in range(files):
        folder = root / f"{number // 100:03}"
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{number:06}.jpg"
        shutil.copyfile(pictures[number % _DISTINCT], target)
        os.utime(target, (1_600_000_000, 1_600_000_000))


def walk_with_stat(root: str) -> int:
    """The least that any tool must do to notice changes."""
    count, stack = 0, [root]
    while stack:
        with os.scandir(stack.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    stack.append(entry.path)
                else:
                    entry.stat()
                    count += 1
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "photos"
        make_tree(root, options.files)
        with xsearch.open(Path(folder) / "library") as library:
            library.index(root)

            def again() -> None:
                report = library.index(root)
                assert report.unchanged == options.files, report
                assert report.decoded == report.embedded == 0, report

            row = compare(again, lambda: walk_with_stat(str(root)), options.runs)
    report = describe(
        "rescan",
        files=options.files,
        **row,
    )
    if options.json:
        print(json.dumps(report))
        return
    print(f"{report['machine']}; {report['date']}")
    print(
        f"index of {options.files:,} unchanged files: {row['ms']} ms; scandir with stat: "
        f"{row['baseline_ms']} ms; ratio {row['ratio']}"
    )


if __name__ == "__main__":
    main()

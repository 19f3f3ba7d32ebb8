"""How fast photographs are decoded: 12-megapixel JPEG files to the pixels an encoder takes.

Run `python benchmarks/decode.py` (needs the extra `demo`, for its photographs). The files are
made in a temporary folder: sample photographs enlarged to 4000 x 3000 with sensor-like noise, so
that a file is of the size that a camera writes. Read from memory cache, they measure decoding,
not the disk.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from common import describe
from PIL import Image

from xsearch.core.images import decode

_SIZE = (4000, 3000)


def make_photographs(folder: Path, count: int) -> list[Path]:
    """Write `count` JPEG files of 4000 x 3000 pixels, each with noise of its own."""
    from skimage import data

    sources = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
    paths = []
    for number in range(count):
        photo = Image.fromarray(sources[number % len(sources)])
        pixels = np.asarray(photo.resize(_SIZE, Image.Resampling.BICUBIC), dtype=np.float32)
        noise = np.random.default_rng(number).normal(0, 7, pixels.shape).astype(np.float32)
        path = folder / f"{number}.jpg"
        noisy = np.clip(pixels + noise, 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(path, quality=90, subsampling="4:2:0")
        paths.append(path)
    return paths


def decode_and_resize(path: Path, side: int, draft: bool) -> np.ndarray:
    """What an indexing thread does with a file: uint8 (side, side, 3)."""
    image = decode(path, min_side=side, draft=draft).image
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))


def rate(paths: list[Path], side: int, draft: bool, threads: int, seconds: float) -> float:
    """Pictures a second, over whole rounds of the set until `seconds` have passed."""
    with ThreadPoolExecutor(threads) as pool:

        def round_of_all() -> None:
            for _ in pool.map(lambda path: decode_and_resize(path, side, draft), paths):
                pass

        round_of_all()  # plugins are loaded and files are in the cache
        done, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            round_of_all()
            done += len(paths)
        return done / (time.perf_counter() - start)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        paths = make_photographs(Path(folder), options.files)
        size = sum(path.stat().st_size for path in paths) / len(paths)
        rows = [
            {
                "draft": draft,
                "threads": threads,
                "images_per_second": round(
                    rate(paths, options.side, draft, threads, options.seconds), 2
                ),
            }
            for draft in (False, True)
            for threads in (1, 2)
        ]
    return describe(
        "decode",
        pixels=list(_SIZE),
        mean_file_mb=round(size / 1e6, 2),
        side=options.side,
        results=rows,
    )


def render(report: dict[str, Any]) -> str:
    width, height = report["pixels"]
    lines = [
        f"JPEG {width} x {height}, {report['mean_file_mb']} MB each, decoded and resized to "
        f"{report['side']} x {report['side']}",
        f"{report['machine']}; {report['date']}",
        "",
        "| draft | threads | images/s |",
        "| --- | ---: | ---: |",
    ]
    lines += [
        f"| {'yes' if row['draft'] else 'no'} | {row['threads']} | {row['images_per_second']} |"
        for row in report["results"]
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=8, help="how many pictures to make")
    parser.add_argument("--side", type=int, default=260, help="side of the encoder's input")
    parser.add_argument("--seconds", type=float, default=5, help="how long to measure each row")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args()
    report = measure(options)
    print(json.dumps(report) if options.json else render(report))


if __name__ == "__main__":
    main()

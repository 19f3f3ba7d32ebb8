"""What the benchmarks share: the machine in words, pictures to work on, fair comparisons."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from PIL import Image, features


def machine() -> str:
    """The processor as the system names it, the cores usable here, and the libraries."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].partition(":")[2].strip() if lines else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    packages = ("pillow", "onnxruntime", "sqlalchemy", "typer")
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    # Its distribution is faiss-cpu or one of those for cards.
    versions += f", faiss {faiss.__version__}"
    return (
        f"{name}, {cores} cores, {platform.system()}, Python {platform.python_version()}, "
        f"{versions}, libjpeg-turbo {features.version('libjpeg_turbo')}"
    )


def shared_data() -> Path:
    """The folder of test data: `$XSEARCH_TEST_DATA`, or `../shared/data` from the repository."""
    default = Path(__file__).parent.parent.parent / "shared" / "data"
    folder = Path(os.environ.get("XSEARCH_TEST_DATA", default))
    if not folder.is_dir():
        raise SystemExit(f"{folder}: no such folder; set XSEARCH_TEST_DATA")
    return folder


def write_crops(folder: Path, count: int, size: tuple[int, int] = (256, 256)) -> None:
    """Write distinct JPEG files: random square crops of sample photographs (extra `demo`), scaled
    to (width, height) pixels.
    """
    from skimage import data

    sources = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = sources[number % len(sources)]
        height, width = pixels.shape[:2]
        side = int(random.integers(min(height, width) // 3, min(height, width)))
        top, left = (int(random.integers(0, limit - side)) for limit in (height, width))
        crop = Image.fromarray(pixels[top : top + side, left : left + side])
        crop.resize(size).save(folder / f"{number:05}.jpg", quality=88)


def seconds_of(task: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def run_quietly(*command: str) -> None:
    """Run a whole process; its failure is ours."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def describe(benchmark: str, **values: object) -> dict[str, Any]:
    """A report as one JSON-ready object: which benchmark, when, where, and what it found."""
    return {
        "benchmark": benchmark,
        "date": date.today().isoformat(),
        "machine": machine(),
        **values,
    }


def resident_mb() -> float:
    """Memory of this process in MB, with mapped pages of files; elsewhere than on Linux, the
    highest so far.
    """
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    try:
        import resource
    except ImportError:
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1_024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def compare(
    ours: Callable[[], object], theirs: Callable[[], object], runs: int
) -> dict[str, float]:
    """Time two tasks in turn, after one run of each; medians in ms, and of the paired ratios."""
    ours()
    theirs()
    pairs = [(seconds_of(ours), seconds_of(theirs)) for _ in range(runs)]
    return {
        "ms": round(statistics.median(pair[0] for pair in pairs) * 1e3, 1),
        "baseline_ms": round(statistics.median(pair[1] for pair in pairs) * 1e3, 1),
        "ratio": round(statistics.median(pair[0] / pair[1] for pair in pairs), 2),
    }

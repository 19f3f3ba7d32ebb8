"""Search on a graphics card: building, queries a second, recall, share of the memory's speed.

Run `python benchmarks/gpu.py` on a machine with a card and a FAISS for it (`pip install
faiss-gpu-cu12` in place of faiss-cpu; CAGRA needs a build with cuVS). On vectors like those of real
photographs (`vectors.py`), as float16, texts as queries. Each structure is placed as xsearch places
it, and searched in batches of 1, 32 and 1,024 queries: FAISS alone (`per_s`), and with what the
library adds, which compares the best exactly once more (`library_per_s`).

`of_memory` is for the flat structure: each batch reads all vectors at least once; how many bytes a
second that is, as a share of `--bandwidth` (GB/s; by default what the maker of the card that
`nvidia-smi` names states).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
from common import describe
from peers import nearest
from vectors import Source

from xsearch.indexer.indices import gpu
from xsearch.indexer.indices.coverage import Coverage
from xsearch.indexer.indices.flat import FlatIndex
from xsearch.indexer.indices.gpu import CardIndex
from xsearch.indexer.indices.rows import StoredRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BATCHES = (1, 32, 1_024)
_SECONDS = 3.0
# What makers state, in GB/s.
_BANDWIDTH = {
    "H200": 4_800,
    "H100 PCIe": 2_000,
    "H100": 3_350,
    "A100-SXM4-80GB": 2_039,
    "A100": 1_555,
    "L40S": 864,
    "L4": 300,
    "A10": 600,
    "T4": 320,
    "V100": 900,
    "RTX 4090": 1_008,
    "RTX 3090": 936,
}


def card() -> str:
    """The first card's name; empty where nobody tells."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    command = [tool, "--query-gpu=name", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True).stdout.partition("\n")[0].strip()


def draw(count: int, dim: int) -> NDArray[np.float16]:
    """The rows of a library, in memory: float16 (count, dim)."""
    rows = np.empty((count, dim), "<f2")
    at = 0
    for piece in Source(dim).images(count):
        rows[at : at + len(piece)] = piece
        at += len(piece)
    return rows


def measure(
    structure: gpu.OnCard,
    stored: StoredRows,
    queries: NDArray[np.float32],
    truth: NDArray[np.int64],
    options: argparse.Namespace,
) -> dict[str, Any]:
    count, dim = stored.vectors.shape
    coverage = Coverage.of(0, count, np.arange(count))
    behind = FlatIndex(stored, coverage)
    ways = gpu.placements(count, dim, gpu.device_count(), options.budget, structure)
    row: dict[str, Any] = {"structure": structure, "count": count, "dim": dim}
    if not ways:
        return {**row, "failed": "more than the budget"}
    start = time.perf_counter()
    try:
        index = gpu.build(ways[0], stored.vectors, coverage.rows)
    except RuntimeError as error:
        return {**row, "failed": str(error).strip().splitlines()[-1]}
    row |= {"sharded": ways[0].sharded, "build_s": round(time.perf_counter() - start, 2)}
    library = CardIndex(index, behind, stored, coverage.rows, exact=structure == "flat")
    found = library.search(queries, 10)[1]
    same = [len(set(mine) & set(best)) for mine, best in zip(found, truth, strict=True)]
    row["recall_at_10"] = round(sum(same) / truth.size, 4)
    row["per_s"], row["library_per_s"] = {}, {}
    for batch in _BATCHES:
        asked = np.resize(queries, (batch, dim))
        alone = _rate(lambda asked=asked: index.search(asked, 10))
        row["per_s"][batch] = round(alone * batch, 1)
        whole = _rate(lambda asked=asked: library.search(asked, 10))
        row["library_per_s"][batch] = round(whole * batch, 1)
        if structure == "flat" and batch == 1:
            read = count * dim * 2 * alone / 1e9
            row["gb_per_s"] = round(read, 1)
            row["of_memory"] = round(read / options.bandwidth, 3) if options.bandwidth else None
    return row


def _rate(task: Callable[[], object]) -> float:
    """Calls a second, after a few to warm up."""
    for _ in range(3):
        task()
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < _SECONDS:
        task()
        done += 1
    return done / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="1000000,10000000")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--structures", default=",".join(gpu.ON_CARD))
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--budget", type=int, help="bytes to take of each card; default: any")
    parser.add_argument("--bandwidth", type=float, help="GB/s of the card's memory")
    parser.add_argument("--json", action="store_true", help="print one JSON object a row instead")
    options = parser.parse_args()
    if not gpu.device_count():
        build = "is built for CPUs" if not hasattr(faiss, "StandardGpuResources") else "sees none"
        print(
            f"No graphics card to measure: FAISS {faiss.__version__} {build}. On a machine with "
            "one: pip uninstall faiss-cpu; pip install faiss-gpu-cu12",
            file=sys.stderr,
        )
        return
    name = card()
    if options.bandwidth is None:
        options.bandwidth = next(
            (speed for part, speed in _BANDWIDTH.items() if part in name), None
        )
    about = describe("gpu", card=name, cards=gpu.device_count(), bandwidth=options.bandwidth)
    print(f"{name}, {about['cards']} of them; {about['machine']}", file=sys.stderr)
    for count in map(int, options.sizes.split(",")):
        stored = StoredRows(draw(count, options.dim))
        queries = Source(options.dim).texts(options.queries, count)
        truth = nearest(stored.vectors, queries, 10)
        for structure in options.structures.split(","):
            row = measure(structure, stored, queries, truth, options)
            print(json.dumps({**about, **row}) if options.json else row, flush=True)


if __name__ == "__main__":
    main()

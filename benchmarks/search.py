"""Search at scale: every kind of index, and other libraries beside it, on the same vectors.

Run `python benchmarks/search.py` (it needs nothing but xsearch; `--peers all` takes what is
installed of hnswlib, usearch and sqlite-vec, and `--plot` matplotlib). For each size a library is
made of vectors like those of real photographs (`vectors.py`), with its catalog, and each kind is
built and searched in processes of its own through the public API: text queries that belong to no
picture of the library, and pictures. A row has

- `open_ms`: from the imports to the first answer; `open_from_disk_ms`: with files out of the
  system's cache, and `p50_from_disk_ms` the next queries then;
- `p50_ms`, `p95_ms`: single queries, one after another, with the files in the system's cache;
  `queries_per_s`: asked by as many threads as there are cores;
- `recall_at_10`: of the exact 10 nearest of text queries; `recall_at_10_pictures`: of pictures;
- `resident_mb`: the highest resident memory while searching, beyond that of the imports, with
  mapped pages of files; `budget_mb` beside it is what an index was allowed, if anything was said;
- `build_s`, `build_mb`: the same for building, the catalog's part included;
- `disk_mb`: vectors and index, without the catalog;
- `add_1000_s`, for the kind that xsearch chooses: `index` after 1,000 pictures came, which are
  embedded and written already.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import describe
from made_library import DrawnEncoder, fill
from peers import PEERS, nearest
from vectors import Source

from xsearch.indexer.vectors import open_rows, vector_path

_ONE = Path(__file__).parent / "one_search.py"
_COLUMNS = (
    "kind",
    "chosen",
    "count",
    "open_ms",
    "p50_ms",
    "p95_ms",
    "queries_per_s",
    "recall_at_10",
    "resident_mb",
    "build_s",
    "disk_mb",
)


def prepare(folder: Path, count: int, options: argparse.Namespace) -> None:
    """Make the library, and queries (texts and pictures in turn) with their exact neighbours."""
    source, dim = Source(options.dim), options.dim
    asked = np.empty((options.queries, dim), np.float32)
    asked[::2] = source.texts(len(asked[::2]), count)
    asked[1::2] = source.pictures(len(asked[1::2]), count)
    encoder = DrawnEncoder(dim, count, asked)
    fill(folder / "library", encoder, count)
    place = vector_path(folder / "library", encoder.fingerprint, 1)
    truth = nearest(open_rows(place, count, dim), asked, 10)
    np.savez(
        folder / "queries.npz",
        queries=asked,
        truth=truth,
        count=count,
        budget=options.memory_budget * 10**6,
    )


def rows(options: argparse.Namespace, count: int) -> Iterator[dict[str, Any]]:
    """One row for each kind and peer at one size, the kind that xsearch chooses first."""
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        prepare(folder, count, options)
        chosen = None
        for kind in ("auto", *options.kinds):
            if kind == chosen:
                continue
            row = _run(folder, f"xsearch:{kind}", "build")
            if kind not in ("auto", row["kind"]):
                print(f"{kind}, {count:,}: not built for so few vectors", file=sys.stderr)
                continue
            chosen = chosen or row["kind"]
            row["chosen"] = kind == "auto"
            row = _complete(options, folder, f"xsearch:{kind}", row, count)
            yield {**row, **_grow(folder)} if row["chosen"] else row
        for peer in options.peers:
            row = {**_run(folder, peer, "build"), "chosen": False}
            yield _complete(options, folder, peer, row, count)


def _complete(
    options: argparse.Namespace, folder: Path, name: str, row: dict[str, Any], count: int
) -> dict[str, Any]:
    size = {"count": count, "dim": options.dim}
    cold = _run(folder, name, "search", "--cold")
    return {**row, **size, **cold, **_run(folder, name, "search")}


def _grow(folder: Path) -> dict[str, Any]:
    """Pictures come to a copy of the library."""
    copy = folder / "grown"
    shutil.copytree(folder / "library", copy / "library")
    shutil.copy(folder / "queries.npz", copy)
    found = _run(copy, "xsearch:auto", "grow")
    shutil.rmtree(copy)
    return found


def _run(folder: Path, name: str, step: str, *more: str) -> dict[str, Any]:
    command = [sys.executable, str(_ONE), step, name, str(folder), *more]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name}: {step} failed\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def slopes(found: list[dict[str, Any]]) -> dict[str, float]:
    """How the time of a query grows with size: the exponent of a fitted power, by kind.

    `xsearch` is the kind chosen at each size.
    """
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in found:
        point = (math.log(row["count"]), math.log(row["p50_ms"]))
        for name in (row["kind"], *(("xsearch",) if row["chosen"] else ())):
            lines.setdefault(name, []).append(point)
    return {
        name: round(float(np.polyfit(*np.array(points).T, deg=1)[0]), 2)
        for name, points in lines.items()
        if len(points) > 1
    }


def plot(found: list[dict[str, Any]], path: Path) -> None:
    """Draw the time of a query and the memory against size, both logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.5))
    growth = slopes(found)
    for name in dict.fromkeys(row["kind"] for row in found):
        mine = [row for row in found if row["kind"] == name]
        sizes = [row["count"] for row in mine]
        label = f"{name} (slope {growth[name]})" if name in growth else name
        style = "--" if name in PEERS else "-"
        left.plot(sizes, [row["p50_ms"] for row in mine], f"o{style}", label=label)
        right.plot(sizes, [max(row["resident_mb"], 1) for row in mine], f"o{style}", label=name)
    best = [row for row in found if row["chosen"]]
    for axes, key in ((left, "p50_ms"), (right, "resident_mb")):
        points = [max(row[key], 1) if key == "resident_mb" else row[key] for row in best]
        sizes = [row["count"] for row in best]
        axes.plot(sizes, points, "s", ms=12, mfc="none", color="black", label="chosen by xsearch")
        axes.set(xscale="log", yscale="log", xlabel="vectors")
        axes.grid(alpha=0.3)
    left.set_ylabel("one query, ms (median)")
    right.set_ylabel("resident memory while searching, MB")
    left.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)


def table(found: list[dict[str, Any]]) -> str:
    """The rows in Markdown, then the slopes."""
    lines = [
        f"| {' | '.join(_COLUMNS)} |",
        f"| --- | --- | {' | '.join('---:' for _ in _COLUMNS[2:])} |",
    ]
    for row in found:
        cells = [row["kind"], "yes" if row["chosen"] else ""]
        cells += [f"{row[name]:,}" for name in _COLUMNS[2:]]
        lines.append(f"| {' | '.join(cells)} |")
    for name, slope in slopes(found).items():
        lines.append(f"{name}: the time of a query grows with size to the power of {slope}")
    return "\n".join(lines)


def _peers(wanted: str) -> list[str]:
    if wanted == "none":
        return []
    names = list(PEERS) if wanted == "all" else wanted.split(",")
    found = []
    for name in names:
        if name not in PEERS:
            raise SystemExit(f"--peers: {name} is none of {', '.join(PEERS)}")
        missing = PEERS[name].missing()
        if missing:
            print(f"{name}: left out; {missing}", file=sys.stderr)
        else:
            found.append(name)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="10000,100000,1000000", help="10000000 takes an hour")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--kinds", default="flat,rabitq,ivf", help="beside the chosen one")
    parser.add_argument("--peers", default="none", help=f"all, none or {','.join(PEERS)}")
    parser.add_argument("--queries", type=int, default=400, help="half texts, half pictures")
    parser.add_argument("--memory-budget", type=int, default=0, help="MB for an index; 0: any")
    parser.add_argument("--folder", help="where to put the libraries meanwhile: a real disk")
    parser.add_argument("--plot", type=Path, help="draw to this file (.svg or .png)")
    parser.add_argument("--json", action="store_true", help="print one JSON object a row instead")
    options = parser.parse_args()
    options.kinds = [kind for kind in options.kinds.split(",") if kind]
    options.peers = _peers(options.peers)
    found = []
    for count in map(int, options.sizes.split(",")):
        for row in rows(options, count):
            found.append(row)
            if options.json:
                print(json.dumps(describe("search", **row)), flush=True)
            else:
                print(f"{row['kind']}, {count:,}: {row['p50_ms']} ms", file=sys.stderr)
    if not options.json:
        about = describe("search")
        print(f"{about['machine']}; {about['date']}; {options.dim} dimensions")
        print(table(found))
    if options.plot:
        plot(found, options.plot)


if __name__ == "__main__":
    main()

"""One way of searching in a process of its own: what `search.py` starts, once for each.

`python one_search.py build|search|grow NAME FOLDER` prints one JSON object. NAME is `xsearch:KIND`
(or `xsearch:auto`) or one of `peers.PEERS`. FOLDER holds `queries.npz` and the library that
`search.py` made of them.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from common import resident_mb
from made_library import DrawnEncoder, add
from peers import PEERS, Peer
from vectors import Source

import xsearch
from xsearch.indexer.vectors import open_rows, vector_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Search = Callable[[int], list[int]]

K = 10
# Of each slow way only so many queries are asked as fit into this, but always a few.
_SECONDS = 30.0
_FEW = 3
_WARM = 20
_COLD = 51
_NEW = 1_000


def main() -> None:
    step, name, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    setup = Setup(folder)
    if step == "build":
        found = build(setup, name)
    elif step == "grow":
        found = grow(setup)
    else:
        found = measure(setup, name, cold="--cold" in sys.argv)
    print(json.dumps(found))


class Setup:
    """What the parent prepared: queries, half of them texts, and their exact neighbours."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.library = folder / "library"
        with np.load(folder / "queries.npz") as stored:
            self.queries: NDArray[np.float32] = stored["queries"]
            self.truth: NDArray[np.int64] = stored["truth"]
            self.count, self.budget = int(stored["count"]), int(stored["budget"])
        self.dim = self.queries.shape[1]
        self.encoder = DrawnEncoder(self.dim, self.count, self.queries)

    def open(self) -> xsearch.Library:
        return xsearch.open(self.library, encoder=self.encoder, create=False)

    def rows(self) -> NDArray[np.float16]:
        """The pictures' vectors, memory-mapped."""
        place = vector_path(self.library, self.encoder.fingerprint, 1)
        return open_rows(place, self.count, self.dim)

    def peer(self, name: str) -> Peer:
        return PEERS[name](self.folder / name, self.dim)


def build(setup: Setup, name: str) -> dict[str, Any]:
    """Build an index: seconds, and the memory that it took beyond the process's own."""
    before, start = resident_mb(), time.perf_counter()
    with _Peak() as peak:
        if name.startswith("xsearch:"):
            kind = name.removeprefix("xsearch:")
            with setup.open() as library:
                library.index(index_kind=kind, memory_budget=setup.budget)
        else:
            peer = setup.peer(name)
            peer.folder.mkdir()
            peer.build(setup.rows())
    spent = time.perf_counter() - start
    found = {"build_s": round(spent, 2), "build_mb": round(peak.highest - before, 1)}
    if name.startswith("xsearch:"):
        with setup.open() as library:
            status = library.status()
        # The catalog is not counted: paths and texts are there whatever the index.
        vectors, index = (status.bytes_on_disk[part] for part in ("vectors", "indices"))
        return {
            "kind": status.index_kind,
            **found,
            "disk_mb": round((vectors + index) / 1e6, 1),
            "index_mb": round(index / 1e6, 1),
            "budget_mb": round(setup.budget / 1e6, 1) or None,
        }
    size = sum(path.stat().st_size for path in peer.folder.iterdir())
    return {"kind": name, **found, "disk_mb": round(size / 1e6, 1)}


def grow(setup: Setup) -> dict[str, Any]:
    """Seconds of `index` when a few pictures have come, beyond embedding them and writing rows.

    Their ids are free: the library's captions end before them.
    """
    with setup.open() as library:
        held = sum(library.status().items.values())
        made = Source(setup.dim).pictures(_NEW, setup.count, seed=4)
        add(setup.library, setup.encoder, held, made)
        start = time.perf_counter()
        library.index()
        return {"add_1000_s": round(time.perf_counter() - start, 2)}


def measure(setup: Setup, name: str, cold: bool) -> dict[str, Any]:
    """Open and search: from the disk for the first time (`cold`), or all figures in memory."""
    (_forget if cold else _remember)(setup.folder)
    _import()
    before, start = resident_mb(), time.perf_counter()
    search = _open(setup, name)
    search(0)
    opened = round((time.perf_counter() - start) * 1e3, 1)
    queries = range(len(setup.queries))
    if cold:
        times, _ = _timed(search, queries[1:_COLD], _SECONDS)
        return {"open_from_disk_ms": opened, "p50_from_disk_ms": _middle(times)}
    _timed(search, queries[1 : _WARM + 1], _SECONDS)
    times, found = _timed(search, queries, _SECONDS)
    with _Peak() as peak:
        for number in queries[: max(_FEW, len(found) // 4)]:
            search(number)
    texts = [_recall(ids, setup.truth[at]) for at, ids in enumerate(found) if at % 2 == 0]
    pictures = [_recall(ids, setup.truth[at]) for at, ids in enumerate(found) if at % 2]
    return {
        "open_ms": opened,
        "p50_ms": _middle(times),
        "p95_ms": round(float(np.percentile(times, 95)), 3),
        "queries_per_s": round(_throughput(search, times), 1),
        "recall_at_10": round(statistics.fmean(texts), 4),
        "recall_at_10_pictures": round(statistics.fmean(pictures), 4),
        "resident_mb": round(peak.highest - before, 1),
        "queries": len(found),
    }


def _timed(
    search: Search, queries: Sequence[int], seconds: float
) -> tuple[list[float], list[list[int]]]:
    """Milliseconds and results of queries, of a few at least, as many as time allows."""
    times, found = [], []
    limit = time.perf_counter() + seconds
    for number in queries:
        if len(found) >= _FEW and time.perf_counter() > limit:
            break
        began = time.perf_counter()
        found.append(search(number))
        times.append((time.perf_counter() - began) * 1e3)
    return times, found


def _middle(times: list[float]) -> float:
    return round(statistics.median(times), 3)


def _open(setup: Setup, name: str) -> Search:
    if not name.startswith("xsearch:"):
        peer = setup.peer(name)
        peer.open()
        return lambda number: peer.search(setup.queries[number], K)
    library = setup.open()
    return lambda number: [hit.id - 1 for hit in library.search(f"query {number}", k=K, **_BARE)]


# What the index alone finds, in its own order.
_BARE = {"mode": "meaning", "correct": False}


def _import() -> None:
    """What every query needs and no library changes: its time and memory are not the index's."""
    import faiss  # noqa: F401

    import xsearch.indexer.reader
    import xsearch.retrieval.query
    import xsearch.retrieval.search  # noqa: F401


def _recall(found: list[int], truth: NDArray[np.int64]) -> float:
    return len(set(found) & set(truth.tolist())) / len(truth)


def _throughput(search: Search, times: list[float]) -> float:
    """Queries a second, asked by as many threads as there are cores."""
    threads = os.cpu_count() or 1
    asked = len(times) if len(times) > _FEW else threads
    with ThreadPoolExecutor(threads) as pool:
        start = time.perf_counter()
        for _ in pool.map(search, (number % len(times) for number in range(asked))):
            pass
        return asked / (time.perf_counter() - start)


def _remember(folder: Path) -> None:
    """Have the system's cache hold the files, which an earlier measurement had dropped from it."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                while file.read(1 << 22):
                    pass


def _forget(folder: Path) -> None:
    """Ask the system to drop the files from its cache, where it can be asked."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


class _Peak:
    """The highest resident memory, in MB, while a block runs, looked at every few ms."""

    highest = 0.0

    def __enter__(self) -> _Peak:
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.highest = max(self.highest, resident_mb())
            if self._done.wait(0.005):
                return


if __name__ == "__main__":
    main()

"""Other ways to search the same rows, measured beside xsearch; each needs its own package.

Approximate ones get as much search effort as xsearch gives its own: the least, by doubling, that
finds 98% of the nearest 10 for a hundred texts that are not among the queries.
"""

from __future__ import annotations

import json
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from vectors import Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Rows = NDArray[np.float16]

_CHUNK = 50_000
_WANTED = 0.98
_MOST_EFFORT = 2_048


class Peer(ABC):
    """One way: `build` writes files into a folder, `open` and `search` are another process's."""

    package: str
    install: str

    def __init__(self, folder: Path, dim: int) -> None:
        self.folder = folder
        self.dim = dim

    @classmethod
    def missing(cls) -> str | None:
        """What is needed for it and is not here; None where nothing is."""
        return None if find_spec(cls.package) else f"pip install {cls.install}"

    @abstractmethod
    def build(self, rows: Rows) -> None:
        """Write everything that searching rows float16 (n, dim) needs."""

    @abstractmethod
    def open(self) -> None:
        """Make ready for searching."""

    @abstractmethod
    def search(self, query: Floats, k: int) -> list[int]:
        """The numbers of the k rows nearest to a query, float32 (dim,), best first."""

    def set_effort(self, effort: int) -> None:
        """How hard to look; only approximate ways know less than all."""
        raise NotImplementedError(f"{type(self).__name__} compares every row")

    def tune(self, rows: Rows) -> None:
        """Find the least effort that is enough, set it, and keep it for `open`."""
        queries = Source(self.dim).texts(100, len(rows), seed=3)
        truth = nearest(rows, queries, 10)
        effort = 16
        while effort < _MOST_EFFORT:
            self.set_effort(effort)
            found = [
                len({*self.search(query, 10)} & {*map(int, best)})
                for query, best in zip(queries, truth, strict=True)
            ]
            if sum(found) >= _WANTED * truth.size:
                break
            effort *= 2
        (self.folder / "effort.json").write_text(json.dumps(effort))

    def tuned(self) -> int:
        return int(json.loads((self.folder / "effort.json").read_text()))


def nearest(rows: Rows, queries: Floats, k: int) -> NDArray[np.int64]:
    """The exact nearest rows of each query, (n, k), best first."""
    best = np.full((len(queries), k), -np.inf, np.float32)
    found = np.full((len(queries), k), -1, np.int64)
    for start, piece in _pieces(rows):
        cosines = np.concatenate([best, queries @ piece.T], axis=1)
        numbers = np.concatenate(
            [
                found,
                np.broadcast_to(np.arange(start, start + len(piece)), (len(queries), len(piece))),
            ],
            axis=1,
        )
        top = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
        best, found = np.take_along_axis(cosines, top, 1), np.take_along_axis(numbers, top, 1)
    order = np.argsort(-best, axis=1)
    return np.take_along_axis(found, order, 1)


def _pieces(rows: Rows) -> Iterator[tuple[int, Floats]]:
    for start in range(0, len(rows), _CHUNK):
        yield start, rows[start : start + _CHUNK].astype(np.float32)


class FaissFlat(Peer):
    """FAISS' own flat index: every float32 in memory."""

    package, install = "faiss", "faiss-cpu"

    def build(self, rows: Rows) -> None:
        import faiss

        index = faiss.IndexFlatIP(self.dim)
        for _, piece in _pieces(rows):
            index.add(piece)
        faiss.write_index(index, str(self.folder / "flat.faiss"))

    def open(self) -> None:
        import faiss

        self._index: Any = faiss.read_index(str(self.folder / "flat.faiss"))

    def search(self, query: Floats, k: int) -> list[int]:
        found: list[int] = self._index.search(query[None], k)[1][0].tolist()
        return found


class Hnswlib(Peer):
    """hnswlib: a graph over float32 rows, all in memory."""

    package = install = "hnswlib"

    def build(self, rows: Rows) -> None:
        index = self._new()
        index.init_index(max_elements=len(rows), M=16, ef_construction=200, random_seed=1)
        for start, piece in _pieces(rows):
            index.add_items(piece, np.arange(start, start + len(piece)))
        index.save_index(str(self.folder / "graph.bin"))
        self._index = index
        self.tune(rows)

    def open(self) -> None:
        self._index = self._new()
        self._index.load_index(str(self.folder / "graph.bin"))
        self.set_effort(self.tuned())

    def set_effort(self, effort: int) -> None:
        self._index.set_ef(effort)

    def search(self, query: Floats, k: int) -> list[int]:
        found: list[int] = self._index.knn_query(query[None], k)[0][0].tolist()
        return found

    def _new(self) -> Any:
        import hnswlib

        return hnswlib.Index(space="ip", dim=self.dim)


class Usearch(Peer):
    """usearch: a graph over float16 rows, memory-mapped."""

    package = install = "usearch"

    def build(self, rows: Rows) -> None:
        index = self._new()
        for start, piece in _pieces(rows):
            index.add(np.arange(start, start + len(piece)), piece.astype(np.float16))
        index.save(str(self.folder / "graph.usearch"))
        self._index = index
        self.tune(rows)

    def open(self) -> None:
        self._index = self._new()
        self._index.view(str(self.folder / "graph.usearch"))
        self.set_effort(self.tuned())

    def set_effort(self, effort: int) -> None:
        self._index.expansion_search = effort

    def search(self, query: Floats, k: int) -> list[int]:
        found: list[int] = self._index.search(query.astype(np.float16), k).keys.tolist()
        return found

    def _new(self) -> Any:
        from usearch.index import Index

        return Index(ndim=self.dim, metric="ip", dtype="f16", connectivity=16)


class SqliteVec(Peer):
    """sqlite-vec: float32 rows in SQLite's pages, scanned by an extension."""

    package, install = "sqlite_vec", "sqlite-vec"

    @classmethod
    def missing(cls) -> str | None:
        if not hasattr(sqlite3.Connection, "enable_load_extension"):
            return "this Python was built without SQLite's extensions"
        return super().missing()

    def build(self, rows: Rows) -> None:
        self.open()
        self._database.execute(
            f"CREATE VIRTUAL TABLE rows USING vec0(vector float[{self.dim}] distance_metric=cosine)"
        )
        for start, piece in _pieces(rows):
            with self._database:
                self._database.executemany(
                    "INSERT INTO rows (rowid, vector) VALUES (?, ?)",
                    ((start + at, row.tobytes()) for at, row in enumerate(piece)),
                )
        self._database.close()

    def open(self) -> None:
        import sqlite_vec

        self._database = sqlite3.connect(self.folder / "rows.db", check_same_thread=False)
        self._database.enable_load_extension(True)
        sqlite_vec.load(self._database)

    def search(self, query: Floats, k: int) -> list[int]:
        found = self._database.execute(
            "SELECT rowid FROM rows WHERE vector MATCH ? AND k = ? ORDER BY distance",
            (query.tobytes(), k),
        )
        return [row[0] for row in found]


class SqliteBlobs(Peer):
    """What small tools do: every vector is read from SQLite for every query, then compared."""

    package, install = "sqlite3", "Python"

    def build(self, rows: Rows) -> None:
        self.open()
        self._database.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, vector BLOB NOT NULL)")
        for start, piece in _pieces(rows):
            with self._database:
                self._database.executemany(
                    "INSERT INTO rows VALUES (?, ?)",
                    ((start + at, row.tobytes()) for at, row in enumerate(piece)),
                )
        self._database.close()

    def open(self) -> None:
        self._database = sqlite3.connect(self.folder / "rows.db", check_same_thread=False)

    def search(self, query: Floats, k: int) -> list[int]:
        rows = self._database.execute("SELECT id, vector FROM rows").fetchall()
        vectors = np.stack([np.frombuffer(vector, np.float32) for _, vector in rows])
        best = np.argsort(-(vectors @ query))[:k]
        return [rows[at][0] for at in best]


PEERS: dict[str, type[Peer]] = {
    "faiss-flat": FaissFlat,
    "hnswlib": Hnswlib,
    "usearch": Usearch,
    "sqlite-vec": SqliteVec,
    "sqlite-blobs": SqliteBlobs,
}

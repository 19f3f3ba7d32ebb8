"""Warm queries of every kind over a large library: what each part costs beside a bare search.

Run `python benchmarks/queries.py` (`--pictures` sets the size, 100,000 at first). The library is
made of drawn vectors, see `vectors.py`, each picture with a date, a camera, and tags as words: one
word in a fifth of the library, one in a fiftieth. A query's time is that of the whole search, from
its vector to hits with their paths; an encoder's time comes on top. `bare` leaves out words, scores
measured against the library, and corrections.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import sqlalchemy as sa
from common import describe
from made_library import DrawnEncoder, fill
from vectors import Source

import xsearch
from xsearch.core.encoder import TextEmbeddings
from xsearch.indexer.catalog import Catalog
from xsearch.indexer.liveness import now
from xsearch.indexer.tables import images, library, tags

_DIM = 384
_QUERIES = 32
_VECTORS = 512
_CHUNK = 20_000


class SpokenEncoder(DrawnEncoder):
    """Each text has a query's vector that follows from its letters, capitals included."""

    def embed_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        """See `DrawnEncoder`."""
        return super().embed_texts(
            [
                text if text.startswith("caption ") else f"query {crc32(text.encode()) % _VECTORS}"
                for text in texts
            ]
        )


def spelled(word: str, number: int) -> str:
    """A word with some capitals: the same to the words index, another vector to the encoder."""
    return "".join(letter.upper() if number >> at & 1 else letter for at, letter in enumerate(word))


def describe_pictures(folder: Path, count: int) -> None:
    """Dates, sizes, cameras and tags: half of the library is landscape, half of 2015 or later."""
    random = np.random.default_rng(0)
    with Catalog(folder) as catalog:
        for start in range(0, count, _CHUNK):
            ids = range(start + 1, min(start + _CHUNK, count) + 1)
            days = random.integers(0, 3_652, len(ids))
            wide = random.random(len(ids)) < 0.5
            named = random.random(len(ids))
            rows = [
                {
                    "item_id": id_,
                    "width": 4_000 if broad else 3_000,
                    "height": 3_000 if broad else 4_000,
                    "format": "JPEG",
                    "orientation": 1,
                    "taken_at": datetime(2010, 1, 1) + timedelta(days=int(day)),
                    "camera": f"Maker {id_ % 20}",
                }
                for id_, day, broad in zip(ids, days, wide, strict=True)
            ]
            words = [
                {"item_id": id_, "name": word, "added_at": now()}
                for id_, share in zip(ids, named, strict=True)
                for word, most in (("beach", 0.2), ("harbour", 0.02))
                if share < most
            ]
            with catalog.transaction() as connection:
                connection.execute(sa.insert(images), rows)
                connection.execute(sa.insert(tags), words)
                # The next run of `index` makes the documents.
                connection.execute(library.update().values(words_version=None))


def timed(search: Callable[[int], list[xsearch.Hit]]) -> dict[str, float]:
    """Median and 95th percentile in ms, after a warm-up."""
    for number in range(8):
        search(number)
    times = []
    for number in range(_QUERIES):
        start = time.perf_counter()
        found = search(number)
        times.append(time.perf_counter() - start)
        assert len(found) == 10, found
    return {
        "p50_ms": round(statistics.median(times) * 1e3, 2),
        "p95_ms": round(statistics.quantiles(times, n=20)[-1] * 1e3, 2),
    }


def kinds(opened: xsearch.Library) -> dict[str, Callable[[int], list[xsearch.Hit]]]:
    """The searches to time, by name."""
    half = xsearch.Filters(after="2015")
    narrow = xsearch.Filters(after="2015-06", before="2015-07")
    both = xsearch.Filters(after="2015", orientation="landscape", camera="maker 7")

    def fresh(number: int) -> xsearch.Filters:
        """A filter that was not asked before, so that nothing of it is known."""
        return xsearch.Filters(after=f"2015-01-01 {number // 60:02}:{number % 60:02}")

    def ask(word: str = "xyzzy", **options: Any) -> Callable[[int], list[xsearch.Hit]]:
        return lambda number: opened.search(spelled(word, number), 10, **options)

    return {
        "bare": ask(mode="meaning", correct=False),
        "by meaning": ask(mode="meaning"),
        "plain (hybrid, no such words)": ask(),
        "hybrid, a word in a fifth": ask("beach"),
        "hybrid, a word in a fiftieth": ask("harbour"),
        "filter that keeps half, asked before": ask(filters=half),
        "filter that keeps half, new": lambda n: opened.search(f"query {n}", 10, filters=fresh(n)),
        "filter that keeps half, new, and a word in a fifth": lambda n: opened.search(
            spelled("beach", n), 10, filters=fresh(n + 200)
        ),
        "filter that keeps a month, asked before": ask(filters=narrow),
        "three filters, asked before": ask(filters=both),
        "diverse": ask(diversity=0.5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "library"
        queries = Source(_DIM).texts(_VECTORS, options.pictures, seed=3)
        encoder = SpokenEncoder(_DIM, options.pictures, queries)
        fill(folder, encoder, options.pictures)
        describe_pictures(folder, options.pictures)
        with xsearch.open(folder, encoder=encoder) as opened:
            start = time.perf_counter()
            opened.index()
            found["index_s"] = round(time.perf_counter() - start, 1)
            rows = {name: timed(search) for name, search in kinds(opened).items()}
            # In turn, so that a moment when the machine is slow costs both.
            pairs = kinds(opened)
            plain, bare = pairs["plain (hybrid, no such words)"], pairs["bare"]
            ratios = []
            for number in range(200):
                marks = [time.perf_counter()]
                for search in (plain, bare):
                    search(number)
                    marks.append(time.perf_counter())
                ratios.append((marks[1] - marks[0]) / (marks[2] - marks[1]))
            found["plain_to_bare"] = round(statistics.median(ratios), 2)
    report = describe("queries", pictures=options.pictures, **found, searches=rows)
    if options.json:
        print(json.dumps(report))
        return
    print(f"{report['machine']}; {report['date']}; {options.pictures:,} pictures")
    print(f"index: {found['index_s']} s; plain to bare: {found['plain_to_bare']}")
    for name, row in rows.items():
        print(f"{row['p50_ms']:8.2f} {row['p95_ms']:8.2f} ms  {name}")


if __name__ == "__main__":
    main()

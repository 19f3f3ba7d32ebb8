"""What reranking costs: a warm query with it beside the same without, and bytes a picture.

Run `python benchmarks/rerank.py` (`--pictures` sets the size, 400 at first; `--reranker DIR` takes
another reranker than the built-in encoder's own). Pictures are crops of sample photographs (extra
`demo`), JPEG files of 1,600 x 1,200 pixels, texts the reference texts that ship with xsearch. Each
query is asked with and without reranking in turn, so that a slow moment costs both. Regions come
from the region cache, from memory (asked a second time), or from the files. How good reranking is,
`recall.py` and others measure.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common import describe, write_crops

import xsearch
from xsearch.data.bank import bank

_COUNTS = (20, 50, 100)
_QUERIES = 24
_COLD_QUERIES = 3
_SIZE = (1_600, 1_200)


def in_turn(
    reranked: Callable[[Any], object], plain: Callable[[Any], object], queries: Sequence[Any]
) -> dict[str, float]:
    """Medians in ms of a search with and without reranking, and of the ratios of each pair."""
    times: list[list[float]] = []
    for query in queries:
        marks = [time.perf_counter()]
        for search in (reranked, plain):
            search(query)
            marks.append(time.perf_counter())
        times.append([(marks[1] - marks[0]) * 1e3, (marks[2] - marks[1]) * 1e3])
    return {
        "ms": round(statistics.median(with_ for with_, _ in times), 1),
        "plain_ms": round(statistics.median(without for _, without in times), 1),
        "ratio": round(statistics.median(with_ / without for with_, without in times), 1),
    }


def searches(
    library: xsearch.Library, count: int, target: str = "image"
) -> tuple[Callable[[Any], object], Callable[[Any], object]]:
    """A search with `count` candidates reranked, and the same without."""

    def ask(query: Any, **options: Any) -> object:
        return library.search(query, 10, target, mode="meaning", **options)

    return lambda query: ask(query, rerank=count), ask


def warm(
    library: xsearch.Library, count: int, queries: Sequence[Any], target: str = "image"
) -> dict[str, float]:
    """Every query was asked before."""
    pair = searches(library, count, target)
    for query in queries:
        for search in pair:
            search(query)
    return in_turn(*pair, queries)


def from_files(library: xsearch.Library, count: int, queries: Sequence[str]) -> dict[str, float]:
    """Nothing is known of any picture."""
    reranked, plain = searches(library, count)
    times = []
    for query in queries:
        library.close()
        plain(query)
        times.append(in_turn(reranked, plain, [query]))
    return {key: round(statistics.median(row[key] for row in times), 1) for key in times[0]}


def index_seconds(folder: Path, photos: Path, reranker: Path | None, **options: Any) -> float:
    """How long indexing takes, in a new library or one that is there."""
    with xsearch.open(folder, encoder="builtin", reranker=reranker) as library:
        start = time.perf_counter()
        library.index(photos, **options)
        return round(time.perf_counter() - start, 1)


def measure(work: Path, pictures: int, reranker: Path | None) -> dict[str, Any]:
    """All figures."""
    photos, folder = work / "photos", work / "library"
    write_crops(photos, pictures, _SIZE)
    lines = work / "texts.txt"
    texts = bank()
    lines.write_text("\n".join(texts), encoding="utf-8")
    asked = texts[:: len(texts) // _QUERIES][:_QUERIES]
    # Once, so that the first of those that are timed does not pay for what is loaded.
    index_seconds(work / "first", photos / "00000.jpg", reranker, region_cache=True)
    seconds = {
        "without": index_seconds(folder, photos, reranker),
        "same pass": index_seconds(work / "other", photos, reranker, region_cache=True),
    }
    found: dict[str, Any] = {"index_s": seconds, "searches": {}}
    rows = found["searches"]
    with xsearch.open(folder, encoder="builtin", reranker=reranker) as library:
        for count in _COUNTS:
            rows[f"{count}, from files"] = from_files(library, count, asked[:_COLD_QUERIES])
            rows[f"{count}, in memory"] = warm(library, count, asked)
    seconds["later pass"] = index_seconds(folder, photos, reranker, region_cache=True)
    with xsearch.open(folder, encoder="builtin", reranker=reranker) as library:
        for count in _COUNTS:
            rows[f"{count}, region cache"] = warm(library, count, asked)
        size = library.status().bytes_on_disk["regions"]
        found["bytes_a_picture"] = round(size / pictures)
        library.index(lines)
        shown = [xsearch.Image(path) for path in sorted(photos.iterdir())[:8]]
        for count in _COUNTS:
            rows[f"{count} texts for a picture"] = warm(library, count, shown, "text")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--reranker", type=Path, help="its folder; default: the encoder's own")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        found = measure(Path(work), options.pictures, options.reranker)
    report = describe("rerank", pictures=options.pictures, **found)
    if options.json:
        print(json.dumps(report))
        return
    print(f"{report['machine']}; {report['date']}; {options.pictures:,} pictures")
    print(f"{report['bytes_a_picture']:,} bytes a picture")
    print("index, region cache: " + ", ".join(f"{k} {v} s" for k, v in found["index_s"].items()))
    print("      ms  plain ms   ratio")
    for name, row in found["searches"].items():
        print(f"{row['ms']:8.1f}  {row['plain_ms']:8.1f}  {row['ratio']:6.1f}  {name}")


if __name__ == "__main__":
    main()

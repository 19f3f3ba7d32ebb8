"""A query from a cold start: the whole process, where its time goes, and the ratio to imports.

Run `python benchmarks/cold_query.py` (needs the extra `demo`). The library holds 1,000 pictures.
The baseline is a process that only imports what any such search needs: `import numpy,
onnxruntime, faiss`. Both run in turn, and the ratio is the median of the pairs'.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from common import compare, describe, run_quietly, write_crops

import xsearch

_STAGES = """
import sys, time
start = time.perf_counter()
marks = {}
def mark(name):
    global start
    now = time.perf_counter()
    marks[name] = (now - start) * 1e3
    start = now
import xsearch.cli.main
mark("command line")
import numpy, onnxruntime, tokenizers
mark("imports: numpy, onnxruntime, tokenizers")
import faiss
mark("imports: faiss")
import xsearch
library = xsearch.open(sys.argv[1], create=False)
encoder = library.encoder
mark("catalog opened")
encoder.embed_texts(["cat on grass"])
mark("encoder loaded, query embedded")
hits = library.search("cat on grass")
mark("search, with a second embedding")
assert len(hits) == 10
import json
print(json.dumps(marks))
"""


def stages(library: Path, runs: int) -> dict[str, float]:
    """Median ms of each stage, one after another in fresh processes."""
    rows = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", _STAGES, str(library)],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for _ in range(runs)
    ]
    return {name: round(statistics.median(row[name] for row in rows), 1) for name in rows[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1_000)
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args()
    command = shutil.which("xsearch", path=str(Path(sys.executable).parent)) or "xsearch"
    with tempfile.TemporaryDirectory() as folder:
        photos, place = Path(folder) / "photos", Path(folder) / "library"
        write_crops(photos, options.images)
        with xsearch.open(place) as library:
            library.index(photos)
        row = compare(
            lambda: run_quietly(command, "query", "cat on grass", "--library", str(place)),
            lambda: run_quietly(sys.executable, "-c", "import numpy, onnxruntime, faiss"),
            options.runs,
        )
        parts = stages(place, options.runs)
    report = describe(
        "cold_query",
        images=options.images,
        **row,
        stages_ms=parts,
    )
    if options.json:
        print(json.dumps(report))
        return
    print(f"{report['machine']}; {report['date']}")
    print(
        f"xsearch query over {options.images:,} images: {row['ms']} ms; importing numpy, "
        f"onnxruntime and faiss: {row['baseline_ms']} ms; ratio {row['ratio']}"
    )
    for name, spent in parts.items():
        print(f"  {spent:7.1f} ms  {name}")


if __name__ == "__main__":
    main()

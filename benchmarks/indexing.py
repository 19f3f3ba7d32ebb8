"""The three rates of indexing on 12-megapixel photographs: decode, encode, write.

Run `python benchmarks/indexing.py` (needs the extra `demo`). The same files are indexed into a
new library twice: with JPEG decoded at a reduced scale (`draft`, the default), and in full.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from common import describe
from decode import make_photographs

import xsearch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=100, help="how many pictures to make")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        photos.mkdir()
        make_photographs(photos, options.files)
        for draft in (True, False):
            with xsearch.open(Path(folder) / f"library-{draft}") as library:
                library.search("warm up")
                report = library.index(photos, draft=draft)
            assert report.added == options.files, report
            rows.append(
                {
                    "draft": draft,
                    "decode": report.rates.decode,
                    "encode": report.rates.encode,
                    "write": report.rates.write,
                    "images_per_second": round(report.added / report.seconds, 1),
                }
            )
    result = describe(
        "indexing",
        files=options.files,
        results=rows,
    )
    if options.json:
        print(json.dumps(result))
        return
    print(f"{result['machine']}; {result['date']}")
    print(f"{options.files} JPEG files of 4000 x 3000 pixels")
    print("| draft | decode/s | encode/s | write/s | whole run, images/s |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for row in rows:
        values = (row[name] for name in ("decode", "encode", "write", "images_per_second"))
        print(
            f"| {'yes' if row['draft'] else 'no'} | {' | '.join(str(value) for value in values)} |"
        )


if __name__ == "__main__":
    main()

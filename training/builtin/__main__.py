"""Makes the built-in encoder: train, export, check, measure, describe."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from xsearch.core.errors import Error


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 when every check passed."""
    parser = argparse.ArgumentParser(prog="python -m xsearch.training.builtin", description=__doc__)
    parser.add_argument("--flickr8k", type=Path, required=True, help="folder of Flickr8k")
    parser.add_argument("--other-val", type=Path, required=True, help="folder of COCO photographs")
    parser.add_argument("--varied", type=Path, required=True, help="folders of labelled ones")
    parser.add_argument("--names", type=Path, required=True, help="annotations of CLDR, from npm")
    parser.add_argument("--work", type=Path, required=True, help="folder for finished stages")
    parser.add_argument("--out", type=Path, required=True, help="folder for the encoder's files")
    given = parser.parse_args(arguments)
    try:
        # Here rather than above: --help works without torch, and its absence is one line.
        from .make import Sources, make

        sources = Sources(given.flickr8k, given.other_val, given.varied, given.names)
        print(make(sources, given.work, given.out))
    except Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Where the command starts: Ctrl-C while the rest is loaded ends it as at any other moment."""

from __future__ import annotations

import sys


def run() -> None:
    """Entry point; see `xsearch.cli.main.run`."""
    try:
        from xsearch.cli.main import run as run_command
    except KeyboardInterrupt:
        print("xsearch: interrupted", file=sys.stderr)
        sys.exit(130)
    run_command()

"""What to do with hits: list them, show their pictures, open, collect or lay them out."""

from xsearch.cli.show.output import Output
from xsearch.cli.show.showing import show

__all__ = ["Output", "show"]

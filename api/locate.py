"""Which library a command means, when none is named."""

from __future__ import annotations

import os
from pathlib import Path

from xsearch.core.paths import absolute

FOLDER_NAME = ".xsearch"
VARIABLE = "XSEARCH_LIBRARY"


def default_library() -> Path:
    """The user's own library, in the place the system keeps such data."""
    import platformdirs

    return Path(platformdirs.user_data_dir("xsearch", appauthor=False)) / "library"


def locate(given: Path | str | None = None) -> Path:
    """The library's folder: the one given, `$XSEARCH_LIBRARY`, `.xsearch` here or above, or
    else the user's own. It need not exist.
    """
    if given is not None:
        return absolute(given)
    if variable := os.environ.get(VARIABLE):
        return absolute(variable)
    here = absolute(".")
    for folder in (here, *here.parents):
        if (folder / FOLDER_NAME).is_dir():
            return folder / FOLDER_NAME
    return default_library()

"""Where models that were pulled are kept: one encoder folder each, named after its model."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from .manifest import FILE
from .names import LOCAL_DIR, canonical

VARIABLE = "XSEARCH_MODELS"


def models_folder() -> Path:
    """The folder of all pulled models: `$XSEARCH_MODELS`, or a place in the user's own data."""
    if variable := os.environ.get(VARIABLE):
        return Path(variable).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("xsearch", appauthor=False)) / "models"


def place_of(name: str) -> Path:
    """The folder that a model has, or would have once it is pulled."""
    full = canonical(name)
    if full.startswith(LOCAL_DIR):
        # Two folders may end alike.
        mark = hashlib.sha256(full.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        full = f"{Path(full.removeprefix(LOCAL_DIR)).name}-{mark}"
    return models_folder() / full.replace(":", "--").replace("/", "--")


def pulled(name: str) -> Path | None:
    """The folder of a model that was pulled; None where it was not."""
    place = place_of(name)
    return place if (place / FILE).is_file() else None

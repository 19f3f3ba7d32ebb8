"""Names the `pip install` line when an optional dependency is missing."""

from __future__ import annotations

import importlib
from typing import Any

from xsearch.core.errors import MissingExtraError


def require(module: str, extra: str, what: str) -> Any:
    """Import a module of an extra and return it.

    Raises MissingExtraError, saying that `what` needs it and how to install the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{what} needs {error.name or module}: pip install 'xsearch-engine[{extra}]'"
        ) from error

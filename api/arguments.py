"""What callers may give in several forms, brought into one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from xsearch.core.errors import UsageError

if TYPE_CHECKING:
    PathLike = str | os.PathLike[str]


def check_counts(workers: int | None, batch_size: int | None) -> None:
    """Raise UsageError where there would be no thread or no picture."""
    if (batch_size is not None and batch_size < 1) or (workers is not None and workers < 1):
        raise UsageError("workers and batch size must be at least 1")


def as_paths(paths: PathLike | Iterable[PathLike]) -> list[Path]:
    """One path or several as a list."""
    given = [paths] if isinstance(paths, str | os.PathLike) else paths
    return [Path(path) for path in given]


def names(names: Iterable[str] | None) -> tuple[str, ...] | None:
    """One name or several as a tuple; None stays."""
    if names is None:
        return None
    return (names,) if isinstance(names, str) else tuple(names)

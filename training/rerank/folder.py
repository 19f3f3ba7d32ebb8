"""The folder of a reranker's run: begun anew only where there is none, gone on with as begun."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xsearch.core.errors import UsageError
from xsearch.retrieval.rerank.manifest import FILE
from xsearch.training import checkpoint
from xsearch.training.config import TrainConfig
from xsearch.training.folder import read_stored
from xsearch.training.settings import flat

from .config import RerankConfig

FREE = (
    *("device", "threads", "schedule.epochs", "check", "optimiser.rate", "licence"),
    *("data.workers", "data.prefetch"),
)
"""Settings that a run that goes on may change."""


def open_folder(config: RerankConfig, out: Path, *, resume: bool) -> dict[str, Any] | None:
    """The state to go on from; None at the beginning. Nothing is written yet.

    Raises UsageError where a reranker or a run is there and none is to be gone on with, or where
    settings were changed that cannot change; TrainingError where the checkpoint is damaged.
    """
    last = checkpoint.last_of(out)
    if not resume:
        for path, what in ((last, "a training run"), (out / FILE, "a reranker")):
            if path.exists():
                raise UsageError(
                    f"{out}: there is {what} already. Go on with it with --resume, or choose "
                    "another folder with --out"
                )
        return None
    old, new = flat(stored_config(out)), flat(config)
    fixed = [name for name in new if new[name] != old[name] and not name.startswith(FREE)]
    if fixed:
        what = ", ".join(f"{name} from {old[name]!r} to {new[name]!r}" for name in fixed)
        raise UsageError(
            f"{out}: a run that goes on cannot change {what}. Leave it as it was, or begin a new "
            "run in another folder with --out"
        )
    return checkpoint.read(last) if last.exists() else None


def stored_config(out: Path) -> RerankConfig:
    """The settings that a run was begun with. Raises UsageError where there is none."""
    return read_stored(
        out, RerankConfig, TrainConfig, "an encoder was trained here: leave out --task rerank"
    )

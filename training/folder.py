"""The folder of a run: begun anew only where there is none, gone on with as it was begun."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from xsearch.core.errors import UsageError
from xsearch.retrieval.encoders.manifest import FILE as ENCODER

from . import checkpoint
from .config import TrainConfig, changed
from .rerank.config import RerankConfig
from .settings import flat, read_toml

CONFIG = "config.toml"

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """The settings of the run, and the state to go on from; None at the beginning."""

    config: TrainConfig
    checkpoint: dict[str, Any] | None


def stored_config(out: Path) -> TrainConfig:
    """The settings that a run was begun with. Raises UsageError where there is none."""
    return read_stored(
        out, TrainConfig, RerankConfig, "a reranker was trained here: add --task rerank"
    )


def read_stored(out: Path, kind: type[T], other: type[Any], instead: str) -> T:
    """Settings of a `kind` of run. Raises UsageError where there are none, saying `instead` where
    they are those of the `other` kind.
    """
    path = out / CONFIG
    if not path.is_file():
        raise UsageError(f"{out}: there is no training run here to go on with (no {CONFIG})")
    try:
        return read_toml(kind, path)
    except UsageError as error:
        try:
            read_toml(other, path)
        except UsageError:
            raise error from None
        raise UsageError(f"{out}: {instead}") from None


def open_folder(config: TrainConfig, out: Path, *, resume: bool) -> Opened:
    """Begin a run in a folder, or go on with the one that is there. Nothing is written yet.

    Raises UsageError where an encoder or a run with checkpoints is there and none is to be gone
    on with, or where settings were changed that cannot change; TrainingError where the checkpoint
    is damaged.
    """
    state = None
    if resume:
        _check(stored_config(out), config, out)
        last = checkpoint.last_of(out)
        # Without one, the run was stopped before its first checkpoint, and starts again.
        state = checkpoint.read(last) if last.exists() else None
    else:
        for path, what in (
            (checkpoint.last_of(out), "a training run"),
            (out / ENCODER, "an encoder"),
        ):
            if path.exists():
                raise UsageError(
                    f"{out}: there is {what} already. Go on with it with --resume, or choose "
                    "another folder with --out"
                )
    return Opened(config, state)


def write_config(out: Path, config: TrainConfig) -> None:
    """Keep the settings beside the result. Raises StorageError."""
    checkpoint.write_text(out / CONFIG, config.to_toml())


def _check(stored: TrainConfig, config: TrainConfig, out: Path) -> None:
    _, fixed = changed(stored, config)
    if fixed:
        old, new = flat(stored), flat(config)
        what = ", ".join(f"{name} from {old[name]!r} to {new[name]!r}" for name in fixed)
        raise UsageError(
            f"{out}: a run that goes on cannot change {what}. Leave it as it was, or begin a new "
            "run in another folder with --out"
        )

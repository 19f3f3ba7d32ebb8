"""Looks into the cache that the tools of the Hugging Face hub share; needs none of them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""A repository's weights in the form that open_clip reads, the better one first."""

TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
"""What a tokenizer of transformers consists of at least."""


def hub_cache() -> Path:
    """The folder of the hub's cache, as `HF_HUB_CACHE` or `HF_HOME` say or where it lies else."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if value := os.environ.get(name):
            return Path(value).expanduser()
    if value := os.environ.get("HF_HOME"):
        return Path(value).expanduser() / "hub"
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "huggingface" / "hub"


def folder_of(repository: str) -> Path:
    """The folder that a repository, OWNER/NAME, has in the cache or would have."""
    return hub_cache() / f"models--{repository.replace('/', '--')}"


def cached_folder(repository: str, names: Iterable[str]) -> Path | None:
    """The newest fetched version of a repository, if it has files of all these names."""
    folder = folder_of(repository)
    try:
        revision = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
    except OSError:
        return None
    version = folder / "snapshots" / revision
    return version if all((version / name).is_file() for name in names) else None


def cached_bytes(repository: str) -> int:
    """What a repository takes in the cache; 0 where its weights are not there."""
    folder = folder_of(repository)
    snapshots = folder / "snapshots"
    try:
        whole = any(
            path.is_file() for name in WEIGHTS for path in snapshots.glob(f"*/{name}")
        ) or any(snapshots.glob("*/pytorch_model.bin"))
        files = list((folder / "blobs").iterdir()) if whole else []
        return sum(path.stat().st_size for path in files) or int(whole)
    except OSError:
        return 0


def cached_repositories() -> list[str]:
    """Repositories of the cache that hold a model as open_clip saves it, OWNER/NAME, sorted."""
    found = []
    for path in hub_cache().glob(f"models--*/snapshots/*/{CONFIG}"):
        owner, _, name = path.parts[-4].removeprefix("models--").partition("--")
        if name:
            found.append(f"{owner}/{name}")
    return sorted(set(found))

"""A small, made-up data set that can be learnt, and a model small enough to learn it in seconds."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tiny_models import bert_folder

PAINTS = {
    "red": (220, 30, 30),
    "green": (30, 190, 40),
    "blue": (40, 60, 220),
    "yellow": (230, 220, 40),
    "white": (240, 240, 240),
    "black": (20, 20, 20),
    "pink": (240, 140, 190),
    "brown": (120, 70, 30),
}
SIDE = 32
COMBINATIONS = list(itertools.permutations(PAINTS, 2))
WORDS = [f"{above} above {below}, or {below} below {above}" for above, below in COMBINATIONS]


def captions(above: str, below: str) -> list[str]:
    return [f"{above} above {below}", f"{below} below {above}"]


def painting(above: str, below: str, seed: int) -> Image.Image:
    """One colour over another, with noise of its own, so that no two pictures are equal."""
    noise = np.random.default_rng(seed).normal(0, 12, (48, 40, 3))
    noise[:24] += PAINTS[above]
    noise[24:] += PAINTS[below]
    return Image.fromarray(noise.clip(0, 255).astype(np.uint8))


def painted(folder: Path, *, train: int = 112, val: int = 24, first: int = 0) -> Path:
    """Write pictures and `captions.jsonl`; the pictures of `val` are of the same kinds."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(train + val):
        above, below = COMBINATIONS[number % len(COMBINATIONS)]
        name = f"{number:03}.png"
        painting(above, below, first + number).save(folder / "images" / name)
        split = "train" if number < train else "val"
        row = {"file": name, "split": split, "captions": {"en": captions(above, below)}}
        rows.append(json.dumps(row))
    (folder / "captions.jsonl").write_text("\n".join(rows) + "\n")
    return folder


def tiny_bert(folder: Path) -> Path:
    """A text tower that knows the words of these captions."""
    return bert_folder(folder, WORDS, hidden_dropout_prob=0, attention_probs_dropout_prob=0)


def settings(data: Path | None, bert: Path, **changes: Any) -> Any:
    """A short run of the tiny model; `changes` are by dotted names, with `_` for the dot's `__`."""
    from xsearch.training.config import TrainConfig
    from xsearch.training.settings import with_settings

    values: dict[str, Any] = {
        "data.train": [] if data is None else [str(data)],
        "data.workers": 2,
        # Validation pictures are of the same kinds, and look like those learnt from.
        "data.leaks": "keep",
        "encoder.image": "timm:test_vit",
        "encoder.text": f"hf:{bert}",
        "encoder.dim": 32,
        "encoder.image_size": SIDE,
        "encoder.pretrained": False,
        "augmentation.enabled": False,
        "optimiser.rate": 2e-3,
        "schedule.epochs": 2,
        "batch.size": 28,
        "run.device": "cpu",
    }
    values |= {name.replace("__", "."): value for name, value in changes.items()}
    return with_settings(TrainConfig(), values)


def losses(out: Path) -> list[float]:
    """The loss of every step, from the log."""
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if row["kind"] == "step"]


__all__ = ["captions", "losses", "painted", "painting", "replace", "settings", "tiny_bert"]

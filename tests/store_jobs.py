"""Jobs for processes that are killed while they write to the store of models."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

from children import Say

from xsearch.retrieval.encoders import store


def pull(say: Say, name: str, models: str) -> None:
    """Pull, telling each step."""
    from xsearch.training.pull import pull_model

    os.environ[store.VARIABLE] = models
    pull_model(name, force=True, progress=lambda moment: say("step", moment.done))


def publish(say: Say, models: str, versions: list[str]) -> None:
    """Put one version after the other in place, for ever."""
    os.environ[store.VARIABLE] = models
    place = store.place_of("a/model")
    for number, version in enumerate(itertools.cycle(versions)):
        with store.staging("a/model") as stage:
            _fill(stage, store.fresh_files(place), version)
            say("publishing", number)
            store.publish(stage, place)


def _fill(stage: Path, files: store.Files, version: str) -> None:
    """Files that say which version they are of, and a description that names them."""
    for name in (files.image, files.text, files.tokenizer):
        (stage / name).write_text(version)
    content = {
        "version": version,
        "image": {"file": files.image},
        "text": {"file": files.text, "tokenizer": files.tokenizer},
    }
    (stage / "encoder.json").write_text(json.dumps(content))

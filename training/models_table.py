"""Makes the table of the models that open_clip offers: `python -m xsearch.training.models_table`.

It is shipped as `data/models/open_clip-VERSION.csv`, so that listing models needs neither torch
nor open_clip. Parameters are counted on networks that have shapes alone; where the configuration
of a text tower lies on a hub that cannot be reached, the count of the older table stays.
"""

from __future__ import annotations

import csv
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import xsearch.data
from xsearch.core.extras import require
from xsearch.retrieval.encoders.catalogue import COLUMNS, FOLDER, published
from xsearch.retrieval.encoders.clip.offered import repository_of


def rows() -> list[dict[str, str]]:
    """A row for each ARCH/PRETRAINED of the installed open_clip, by name."""
    open_clip = require("open_clip", "clip", "the table of models")
    counts: dict[str, str] = {}
    made = []
    for architecture, tag in open_clip.list_pretrained():
        name = f"{architecture}/{tag}"
        config = open_clip.get_model_config(architecture)
        if architecture not in counts:
            counts[architecture] = _millions(architecture) or _older(name)
        found = open_clip.get_pretrained_cfg(architecture, tag)
        values = (
            name,
            counts[architecture],
            config["embed_dim"],
            _side(config["vision_cfg"].get("image_size", 224)),
            config["text_cfg"].get("context_length", 77),
            repository_of(found.get("hf_hub", "")),
        )
        made.append(dict(zip(COLUMNS, map(str, values), strict=True)))
    return sorted(made, key=lambda row: row["name"].lower())


def _millions(architecture: str) -> str:
    """Millions of parameters; empty where the network cannot be built."""
    torch = require("torch", "clip", "the table of models")
    open_clip = require("open_clip", "clip", "the table of models")
    try:
        with torch.device("meta"):
            net = open_clip.create_model(
                architecture, load_weights=False, pretrained_text=False, device="meta"
            )
    except Exception as error:  # what is missing makes libraries raise nearly anything
        first = str(error).strip().partition("\n")[0]
        print(f"{architecture}: not counted ({first})", file=sys.stderr)
        return ""
    return f"{sum(weight.numel() for weight in net.parameters()) / 1e6:.1f}"


def _older(name: str) -> str:
    known = published().get(name)
    return "" if known is None or known.parameters is None else f"{known.parameters:.1f}"


def _side(size: Any) -> int:
    return int(size if isinstance(size, int) else size[0])


def main() -> None:
    """Write the table beside the others, and take away that of an older open_clip."""
    folder = Path(xsearch.data.__path__[0]) / FOLDER
    made = rows()
    older = list(folder.glob("open_clip-*.csv"))
    path = folder / f"open_clip-{version('open_clip_torch')}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(made)
    for other in older:
        if other != path:
            other.unlink()
    print(f"{path}: {len(made)} models", file=sys.stderr)


if __name__ == "__main__":
    main()

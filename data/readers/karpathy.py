"""The splits of Karpathy and Fei-Fei 2015: `dataset_flickr8k.json`, `dataset_coco.json`.

`{"images": [{"filename": "1.jpg", "split": "train", "sentences": [{"raw": "A dog ."}]}]}`; the
split `restval` of COCO is kept by that name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .collect import Collector
from .files import Source, files_like, listed, read_json
from .rows import RowError, sentences_of


def find(source: Source) -> list[Path]:
    """The files of this form that a folder holds, or the file itself where it is one."""
    if source.is_folder:
        return files_like(source.path, r"dataset(_.+)?\.json", ("", "annotations"))
    return [source.path] if _is_form(source.json) else []


def read(path: Path, out: Collector) -> None:
    """Read a file's pictures; those that cannot be used are listed, and counted as broken."""
    for number, fields in enumerate(listed(read_json(path), "images", path), 1):
        where = f"{path.name}, picture {number}"
        try:
            name, folder, split, captions = _parsed(fields)
        except RowError as error:
            out.broken(where, str(error))
            continue
        names = (f"{folder}/{name}", name) if folder else (name,)
        image = out.picture(where, *names)
        if image is not None:
            out.add(where, names[0], image, captions={out.language: captions}, split=split)


def _is_form(content: Any) -> bool:
    images = content.get("images") if isinstance(content, dict) else None
    first = images[0] if isinstance(images, list) and images else None
    return isinstance(first, dict) and "sentences" in first


def _parsed(fields: Any) -> tuple[str, str, str | None, list[str]]:
    if not isinstance(fields, dict) or not isinstance(fields.get("filename"), str):
        raise RowError("no `filename`")
    captions = sentences_of(fields.get("sentences"))
    if not any(map(str.strip, captions)):
        raise RowError("no sentence")
    folder, split = fields.get("filepath"), fields.get("split")
    return (
        fields["filename"],
        folder if isinstance(folder, str) else "",
        split if isinstance(split, str) else None,
        captions,
    )

"""COCO Captions as published: `annotations/captions_train2017.json` and the like.

`{"images": [{"id": 9, "file_name": "000000000009.jpg"}], "annotations": [{"image_id": 9,
"caption": "A bear ."}]}`. The split is in the file's name. Chen et al. 2015, "Microsoft COCO
Captions".
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from .collect import Collector
from .files import Source, files_like, listed, read_json, split_of_year

_YEAR = re.compile(r"(?:train|val|test)20\d\d")


def find(source: Source) -> list[Path]:
    """The files of this form that a folder holds, or the file itself where it is one."""
    if source.is_folder:
        return files_like(source.path, r"captions_.+\.json", ("", "annotations"))
    return [source.path] if _is_form(source.json) else []


def read(path: Path, out: Collector) -> None:
    """Read a file's pictures; what cannot be used is listed, and counted as broken."""
    content = read_json(path)
    names = _names(listed(content, "images", path), path.name, out)
    captions: dict[int | str, list[str]] = {}
    for number, fields in enumerate(listed(content, "annotations", path), 1):
        where = f"{path.name}, annotation {number}"
        text = fields.get("caption") if isinstance(fields, dict) else None
        if not isinstance(text, str) or not text.strip():
            out.broken(where, "no caption")
        elif (image_id := _id(fields.get("image_id"))) not in names:
            out.broken(where, f"there is no picture with the id {fields.get('image_id')!r}")
        else:
            captions.setdefault(image_id, []).append(text)
    split = split_of_year(path.name)
    for image_id, name in names.items():
        where = f"{path.name}, picture {name}"
        if image_id not in captions:
            out.note(where, "it has no caption")
        elif (image := out.picture(where, *places(name, path.name))) is not None:
            texts = captions[image_id]
            out.add(where, name, image, captions={out.language: texts}, split=split)


def places(name: str, source: str) -> tuple[str, ...]:
    """Where COCO's pictures lie: as named, or in a folder of their split and year (`val2017`)."""
    return (name, *(f"{year}/{name}" for year in _YEAR.findall(source)))


def _is_form(content: Any) -> bool:
    notes = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(notes, list) or not isinstance(content.get("images"), list):
        return False
    return bool(notes) and isinstance(notes[0], dict) and "caption" in notes[0]


def _names(images: list[Any], source: str, out: Collector) -> dict[int | str, str]:
    """File names by picture id."""
    names: dict[int | str, str] = {}
    for number, fields in enumerate(images, 1):
        name = fields.get("file_name") if isinstance(fields, dict) else None
        image_id = _id(fields.get("id")) if isinstance(fields, dict) else ""
        if not isinstance(name, str) or not name or image_id == "":
            out.broken(f"{source}, image {number}", "no `id` or no `file_name`")
        else:
            names[image_id] = name
    return names


def _id(value: Any) -> int | str:
    return value if isinstance(value, int | str) else ""

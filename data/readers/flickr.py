"""Flickr8k and Flickr30k as they were published: `1000.jpg#0<tab>A dog runs .`, a line a caption.

`Flickr8k.token.txt` or `results_20130124.token`; splits are in lists of file names beside it,
`Flickr_8k.trainImages.txt` and so on, or `train.txt`, `val.txt`, `test.txt`.
Hodosh, Young, Hockenmaier 2013; Young et al. 2014.
"""

from __future__ import annotations

import re
from pathlib import Path

from .collect import Collector
from .files import Source, files_like, lines, split_named

# The same captions, reduced to base forms, lie beside them.
_NAMES = r"(?!.*lemma).*(\.token(\.txt)?|captions?\.txt)"
_LISTS = r".*?(?:^|[_.])(train|dev|val|test)(?:Images)?\.txt"
_INSIDE = ("", "Flickr8k_text", "text", "flickr30k")
_LINE = re.compile(r"(.+)#(\w+)\t\s*(.*\S)\s*")


def find(source: Source) -> list[Path]:
    """The files of this form that a folder holds, or the file itself where it is one."""
    if source.is_folder:
        return [path for path in files_like(source.path, _NAMES, _INSIDE) if _is_tokens(path)]
    known = source.suffix in (".token", ".txt") and _is_tokens(source.path)
    return [source.path] if known else []


def read(path: Path, out: Collector) -> None:
    """Read a file's captions; lines that cannot be used are listed, and counted as broken."""
    splits = _splits(path.parent)
    seen: set[tuple[str, str]] = set()
    for number, line in lines(path):
        where = f"{path.name}:{number}"
        found = _LINE.fullmatch(line) if line is not None else None
        if found is None:
            out.broken(where, "not UTF-8" if line is None else "not `picture.jpg#0<tab>caption`")
            continue
        name, place, text = found.groups()
        if (name, place) in seen:
            out.note(where, f"there is a caption {name}#{place} already")
            continue
        seen.add((name, place))
        image = out.picture(where, name)
        if image is not None:
            split = splits.get(name) or splits.get(name.rpartition(".")[0])
            out.add(where, name, image, captions={out.language: [text]}, split=split)


def _is_tokens(path: Path) -> bool:
    _, first = next(lines(path), (0, None))
    return first is not None and _LINE.fullmatch(first) is not None


def _splits(folder: Path) -> dict[str, str]:
    """The split of each picture that the lists beside the captions name, with suffix or not."""
    splits = {}
    for path in files_like(folder, _LISTS):
        found = re.fullmatch(_LISTS, path.name, re.IGNORECASE)
        split = split_named(found[1]) if found else None
        names = [line.strip() for _, line in lines(path) if line is not None]
        # A list, not a text: one word a line.
        if split and not any("\t" in name or " " in name for name in names):
            splits.update(dict.fromkeys(names, split))
    return splits

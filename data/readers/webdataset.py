"""WebDataset: tar files in which `000.jpg`, `000.txt` and `000.json` are one sample.

Pictures are read where they lie, nothing is unpacked, so that no name in a tar file leads
anywhere. `000.txt` holds a caption a line, `000.de.txt` German ones, `000.json` an object as a line
of JSON Lines does, `000.cls` a class: its name, or its line in `classnames.txt`.
https://github.com/webdataset/webdataset
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from xsearch.core.errors import SourceError
from xsearch.core.formats import is_image_name
from xsearch.core.paths import displayable
from xsearch.data.records import ImageFile

from .collect import Collector
from .files import Source, files_like, lines, refuse, split_named
from .rows import Row, RowError, add_row, joined, rows_of

_TEXT_BYTES = 1 << 20
"""Texts longer than this are not captions."""
_BLOCK = 512
_NAME = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")
_TEXT = re.compile(r"(?:([a-z]{2,3}(?:_\w+)?)\.)?(?:txt|text|caption)")
_SHARDS = r".+\.tar"
_COMPRESSED = r".+\.(tar\.\w+|tgz)"


@dataclass(slots=True)
class _Sample:
    """Pictures by ending, and the ending, offset and size of each text."""

    images: dict[str, ImageFile] = field(default_factory=dict)
    texts: list[tuple[str, int, int]] = field(default_factory=list)

    @property
    def image(self) -> ImageFile | None:
        """The picture itself: `000.jpg` rather than `000.mask.png`, else the first."""
        return next((self.images[each] for each in sorted(self.images, key=_dots)), None)


def find(source: Source) -> list[Path]:
    """The tar files that a folder holds, itself or in its splits, or the file itself.

    Raises SourceError for compressed ones: pictures cannot be read out of their middle.
    """
    inside = ("", "train", "val", "test")
    if source.is_folder:
        found = files_like(source.path, _SHARDS, inside)
        packed = [] if found else files_like(source.path, _COMPRESSED, inside)
    else:
        found = [source.path] if source.suffix == ".tar" else []
        packed = [source.path] * bool(re.fullmatch(_COMPRESSED, source.path.name.lower()))
    if packed:
        raise SourceError(
            f"{displayable(packed[0])} is compressed, and pictures cannot be read where they lie "
            "in it: decompress it first (gunzip, xz -d or the like); pictures hardly shrink"
        )
    return found


def read(path: Path, out: Collector) -> None:
    """Read a shard's samples; those that cannot be used are listed, and counted as broken."""
    classes = _classes(path)
    split = split_named(re.split(r"[-_.\d]", path.name)[0]) or split_named(path.parent.name)
    try:
        with path.open("rb") as file:
            for key, sample in _samples(path, file, out).items():
                where = f"{path.name}, {key}"
                image = sample.image
                if image is None:
                    out.broken(where, "no picture in this sample")
                    continue
                try:
                    row = _row(f"{path.stem}/{key}", sample, file, classes, out.language)
                except RowError as error:
                    out.broken(where, str(error))
                else:
                    add_row(out, where, row, image, split)
    except OSError as error:
        refuse(path, error)


def _row(key: str, sample: _Sample, file: BinaryIO, classes: list[str], language: str) -> Row:
    """What the texts of a sample say. Raises RowError where one is broken."""
    captions: dict[str, list[str]] = {}
    labels: list[str] = []
    objects: list[Row] = []
    for ending, offset, size in sample.texts:
        file.seek(offset)
        try:
            text = file.read(size).decode("utf-8-sig")
            if ending == "json":
                objects += rows_of(json.loads(text), language, key)
            elif ending == "cls":
                labels.append(_class_name(text.strip(), classes))
            elif found := _TEXT.fullmatch(ending):
                captions.setdefault(found[1] or language, []).extend(text.splitlines())
        except (ValueError, RecursionError) as error:
            raise RowError(f"its .{ending} is broken: {error}") from error
    return joined(key, captions, labels, objects)


def _samples(path: Path, file: BinaryIO, out: Collector) -> dict[str, _Sample]:
    """The samples of a shard by key, in order; a damaged end costs what comes after."""
    samples: dict[str, _Sample] = {}
    for member in _members(path, file, out):
        found = _NAME.fullmatch(member.name)
        if found is None:
            continue
        sample = samples.setdefault(found[1], _Sample())
        ending, offset, size = found[2].lower(), member.offset_data, member.size
        if ending in sample.images:
            out.note(f"{path.name}, {member.name}", "it is there twice, and the first is taken")
        elif is_image_name(f"x.{ending}"):
            name = f"{path.name}/{member.name}"
            sample.images[ending] = ImageFile(path, offset, size, name)
        elif size <= _TEXT_BYTES and (ending in ("json", "cls") or _TEXT.fullmatch(ending)):
            sample.texts.append((ending, offset, size))
    return samples


def _members(path: Path, file: BinaryIO, out: Collector) -> Iterator[tarfile.TarInfo]:
    """The plain files of a tar file that are there in full."""
    total = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if member.isreg() and not member.issparse():
                    if member.offset_data + member.size > total:
                        out.note(path.name, f"it is cut short in {member.name}")
                        return
                    yield member
            # tarfile takes a damaged header for the end, which is a block of zeros.
            file.seek(tar.offset)
            end = file.read(_BLOCK)
            if len(end) < _BLOCK or any(end):
                out.note(path.name, f"it is cut short or damaged at byte {tar.offset:,}")
    except tarfile.TarError as error:
        out.note(path.name, f"it is damaged: {error}")


def _classes(path: Path) -> list[str]:
    """Names of classes by number, from `classnames.txt` beside the shards or above them."""
    for folder in (path.parent, path.parent.parent):
        names = folder / "classnames.txt"
        if names.is_file():
            return [line.strip() for _, line in lines(names) if line is not None]
    return []


def _class_name(text: str, classes: list[str]) -> str:
    number = int(text) if text.isdecimal() else -1
    return classes[number] if 0 <= number < len(classes) else text


def _dots(ending: str) -> int:
    return ending.count(".")

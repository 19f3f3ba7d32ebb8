"""Puts hits' pictures into a folder, as copies or links; what is there already stays as it is."""

from __future__ import annotations

import errno
import filecmp
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, BinaryIO

from xsearch.cli.render import complain, complain_first, counted, short_path
from xsearch.cli.show.files import partial_name, put, settle
from xsearch.cli.show.pictures import picture_of
from xsearch.core.errors import SourceError, StorageError
from xsearch.core.paths import absolute, displayable

if TYPE_CHECKING:
    from xsearch.core.values import Hit

_CHUNK = 1 << 20
_LONGEST_NAME = 255  # bytes, of the common file systems
_NO_PRIVILEGE = 1314  # of Windows
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def copy_pictures(hits: Sequence[Hit], folder: Path) -> int:
    """Copy the pictures of hits into a folder, made if absent, with their names and dates.

    Where a name is taken, a number is added, unless the same content is there already: then
    nothing is done. A copy is whole or not there. Returns how many pictures could not be read;
    each was complained about.

    Raises:
        StorageError: the disk refused; says how many were copied.
    """
    return _collect(hits, folder, _copy, "copied")


def link_pictures(hits: Sequence[Hit], folder: Path) -> int:
    """Make symbolic links to the pictures of hits; else as `copy_pictures`.

    Raises:
        StorageError: the disk refused, or links cannot be made there.
    """
    return _collect(hits, folder, _link, "linked")


def _collect(
    hits: Sequence[Hit], folder: Path, take: Callable[[Path, Path], bool], done: str
) -> int:
    pictures = {path: hit.missing for hit in hits if (path := picture_of(hit)) is not None}
    without = sum(picture_of(hit) is None for hit in hits)
    if without:
        complain(f"{counted(without, 'hit')} without a picture: not {done}", prefix="note: ")
    if not pictures:
        return 0
    new, failures = 0, []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, missing in pictures.items():
            try:
                if missing:
                    raise SourceError(f"{displayable(path)}: cannot be reached now")
                new += take(absolute(path), folder)
            except SourceError as error:
                failures.append(str(error))
    except OSError as error:
        raise StorageError(
            f"{displayable(folder)}: {_reason(error)}. {new} of {len(pictures)} pictures were "
            f"{done}, each whole."
        ) from error
    there = len(pictures) - len(failures) - new
    told = f"{counted(new, 'picture')} {done} to {short_path(folder)}"
    complain(f"{told}, {there} there already" if there else told, prefix="")
    complain_first(failures, f"not {done}: ", f"more not {done}")
    return len(failures)


def _reason(error: OSError) -> str:
    no_privilege = getattr(error, "winerror", None) == _NO_PRIVILEGE
    if no_privilege:
        return "Windows lets you make links only in its developer mode; --copy-to needs none"
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "is no folder"
    return error.strerror or str(error)


def _copy(source: Path, folder: Path) -> bool:
    """Copy one file; False if its content is there already."""
    try:
        stream = source.open("rb")
    except OSError as error:
        raise _unreadable(source, error) from error
    with stream:
        for place in _names(folder, source.name):
            if not os.path.lexists(place):
                try:
                    _copy_whole(source, stream, place)
                except FileExistsError:  # taken this very moment
                    continue
                return True
            if _same_content(source, place):
                return False
    raise AssertionError("names never end")


def _copy_whole(source: Path, stream: BinaryIO, place: Path) -> None:
    partial = partial_name(place.parent)
    try:
        with partial.open("xb") as file:
            stream.seek(0)
            while chunk := _read(source, stream):
                file.write(chunk)
            settle(file)
        status = os.fstat(stream.fileno())
        with suppress(OSError):  # some file systems keep no dates
            os.utime(partial, ns=(status.st_atime_ns, status.st_mtime_ns))
        put(partial, place)
    finally:
        partial.unlink(missing_ok=True)


def _read(source: Path, stream: BinaryIO) -> bytes:
    try:
        return stream.read(_CHUNK)
    except OSError as error:
        raise _unreadable(source, error) from error


def _unreadable(source: Path, error: OSError) -> SourceError:
    return SourceError(f"{displayable(source)}: {error.strerror or error}")


def _same_content(source: Path, place: Path) -> bool:
    try:
        return place.is_file() and filecmp.cmp(source, place, shallow=False)
    except OSError:
        return False


def _link(source: Path, folder: Path) -> bool:
    """Link to one file; False if the same link, or the file itself, is there already."""
    for place in _names(folder, source.name):
        with suppress(OSError):
            if place.samefile(source):
                return False
        try:
            place.symlink_to(source)
        except FileExistsError:
            continue
        except OSError as error:
            if error.errno in _NO_LINKS:
                raise OSError(error.errno, "no links can be made there; try --copy-to") from error
            raise
        return True
    raise AssertionError("names never end")


def _names(folder: Path, name: str) -> Iterator[Path]:
    """`photo.jpg`, `photo-2.jpg`, `photo-3.jpg`, ..., none longer than a file system takes."""
    yield folder / name
    stem, suffix = PurePath(name).stem, PurePath(name).suffix
    for number in itertools.count(2):
        ending = f"-{number}{suffix}"
        while len(os.fsencode(stem + ending)) > _LONGEST_NAME:
            stem = stem[:-1]
        yield folder / (stem + ending)

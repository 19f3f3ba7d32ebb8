"""Where models that were pulled are kept: one encoder folder each, named after its model."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xsearch.core.errors import EncoderError, StorageError
from xsearch.core.paths import displayable

from .manifest import FILE
from .names import LOCAL_DIR, canonical

VARIABLE = "XSEARCH_MODELS"
PARTIAL = ".partial"
"""Holds what is being made, in the folder of all models."""

_OWN = re.compile(
    r"(image|text)(-\d+)?\.onnx(\.data)?|tokenizer(-\d+)?(\.frame)?(\.words|\.merges)?\.(json|npy)"
)


@dataclass(frozen=True, slots=True)
class Stored:
    """A model of the store: its full name, its folder, and what its `encoder.json` says."""

    name: str
    folder: Path
    content: dict[str, Any]

    @property
    def bytes(self) -> int:
        """What its files take on disk."""
        return sum(path.stat().st_size for path in self.folder.iterdir())


@dataclass(frozen=True, slots=True)
class Files:
    """Names of the files of one version of a model in its folder, beside `encoder.json`."""

    image: str = "image.onnx"
    text: str = "text.onnx"
    tokenizer: str = "tokenizer.json"


def models_folder() -> Path:
    """The folder of all pulled models: `$XSEARCH_MODELS`, or a place in the user's own data."""
    if variable := os.environ.get(VARIABLE):
        return Path(variable).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("xsearch", appauthor=False)) / "models"


def place_of(name: str) -> Path:
    """The folder that a model has, or would have once it is pulled."""
    return models_folder() / _key(canonical(name))


def pulled(name: str) -> Path | None:
    """The folder of a model that was pulled; None where it was not."""
    place = place_of(name)
    return place if (place / FILE).is_file() else None


def stored() -> list[Stored]:
    """All models of the store, by name; a folder whose description cannot be read is left out."""
    try:
        places = sorted(models_folder().iterdir())
    except OSError:
        return []
    found = []
    for place in places:
        content = content_of(place)
        if content is not None and not place.name.startswith("."):
            found.append(Stored(str(content.get("source", place.name)), place, content))
    return found


def content_of(folder: Path) -> dict[str, Any] | None:
    """What `encoder.json` says, unchecked; None where there is none that can be read."""
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def fresh_files(place: Path) -> Files:
    """Names that are free in a folder, so that a new version can be put beside the old one."""
    for number in range(1, 1_000):
        mark = "" if number == 1 else f"-{number}"
        files = Files(f"image{mark}.onnx", f"text{mark}.onnx", f"tokenizer{mark}.json")
        if not any((place / name).exists() for name in (files.image, files.text, files.tokenizer)):
            return files
    raise EncoderError(f"{displayable(place)} is full of versions: remove it and try again")


@contextmanager
def staging(name: str) -> Iterator[Path]:
    """An empty folder in the store to make a model's files in; it is gone afterwards.

    What killed processes left behind is cleared away first. Raises EncoderError where another
    process makes the same model, StorageError where the disk refuses.
    """
    root = models_folder() / PARTIAL
    key = _key(canonical(name))
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _alone(root, key) as free:
            if not free:
                raise EncoderError(
                    f"another process is pulling {name} just now; wait until it is done"
                )
            _sweep(root, key)
            stage = root / key
            stage.mkdir()
            try:
                yield stage
            finally:
                shutil.rmtree(stage, ignore_errors=True)
    except OSError as error:
        raise StorageError(
            f"{displayable(Path(error.filename or root))} cannot be written: "
            f"{error.strerror or error}; free some space, or set ${VARIABLE} to another folder"
        ) from error


def publish(stage: Path, place: Path) -> None:
    """Put a finished version of a model where it belongs; there is a whole one at every moment.

    The files of the new version have names that are free in the old one's folder, see
    `fresh_files`. `encoder.json`, which names them, is replaced last and in one step; files that
    it does not name go after that.
    """
    for path in stage.iterdir():
        _flush(path)
    if not (place / FILE).is_file() and _moved(stage, place):
        return
    place.mkdir(parents=True, exist_ok=True)
    for path in stage.iterdir():
        if path.name != FILE:
            shutil.move(path, place / path.name)
    half = place / f".{FILE}"
    shutil.move(stage / FILE, half)
    half.replace(place / FILE)
    kept = named_files(content_of(place) or {})
    for path in place.iterdir():
        if _OWN.fullmatch(path.name) and path.name not in kept:
            # On Windows a file that somebody searches with cannot be deleted; the next one does.
            with contextlib.suppress(OSError):
                path.unlink()


def named_files(content: dict[str, Any]) -> set[str]:
    """The files that belong to a description."""
    parts = [part for key in ("image", "text") if isinstance(part := content.get(key), dict)]
    keys = ("file", "weights", "tokenizer")
    named = {str(part[key]) for part in parts for key in keys if key in part}
    return named | {str(name) for part in parts for name in part.get("tables", ())}


def remove(name: str) -> int:
    """Delete a pulled model; returns the bytes that were freed. Raises EncoderError, StorageError.

    Nobody sees half a model: its description goes first.
    """
    place = pulled(name)
    if place is None:
        raise EncoderError(f"{name} was not pulled; `xsearch models list --pulled` lists what was")
    freed = Stored(name, place, {}).bytes
    try:
        (place / FILE).unlink()
        shutil.rmtree(place)
    except OSError as error:
        raise StorageError(
            f"{displayable(place)} cannot be removed: {error.strerror or error}"
        ) from error
    return freed


def _key(full: str) -> str:
    if full.startswith(LOCAL_DIR):
        # Two folders may end alike.
        mark = hashlib.sha256(full.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        full = f"{Path(full.removeprefix(LOCAL_DIR)).name}-{mark}"
    return full.replace(":", "--").replace("/", "--")


def _moved(stage: Path, place: Path) -> bool:
    """Whether a whole folder could be moved to its place in one step."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        stage.rename(place)
    except OSError:  # another disk, or something lies there
        return False
    return True


def _flush(path: Path) -> None:
    """Make a file last through a power cut."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def _alone(root: Path, key: str) -> Iterator[bool]:
    """Hold the lock of a model; says whether it was free."""
    from filelock import FileLock, Timeout

    lock = FileLock(root / f"{key}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _sweep(root: Path, own: str) -> None:
    """Delete what was being made by processes that are gone."""
    for folder in [path for path in root.iterdir() if path.is_dir()]:
        if folder.name == own:
            shutil.rmtree(folder)
            continue
        with _alone(root, folder.name) as free:
            if free:
                shutil.rmtree(folder, ignore_errors=True)

"""Reads `encoder.json`, the description that travels with an encoder's files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from xsearch.core.encoder import EncoderInfo, LabelScale, Logistic
from xsearch.core.errors import EncoderError

from .pictures import INTERPOLATIONS, RESIZES, Preparation

FORMAT = 1
FILE = "encoder.json"
RUNTIMES = ("onnxruntime",)
PAIRS = ("text-image", "image-text", "image-image", "text-text")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ImageTower:
    """What the image tower reads, and how much of it at once."""

    path: Path
    preparation: Preparation
    batch: int


@dataclass(frozen=True, slots=True)
class TextTower:
    """What a text tower reads: English alone, or every language."""

    path: Path
    tokenizer: Path
    context_length: int
    english: bool = False


@dataclass(frozen=True, slots=True)
class TextTowers:
    """One text tower for all texts, or an English one before it and what tells the two apart."""

    towers: tuple[TextTower, ...]
    english: Path | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A whole `encoder.json`, checked."""

    info: EncoderInfo
    image: ImageTower
    text: TextTowers
    calibration: Mapping[str, Logistic]
    labels: LabelScale | None = None


def read_manifest(folder: Path, source: str) -> Manifest:
    """Read and check `folder/encoder.json`; EncoderError names the file and what is wrong.

    `source` is what loads this encoder again, for the record.

    A value this version does not know is an error, never guessed at: a picture prepared in the
    wrong way still gives a vector, only a useless one.
    """
    path = folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EncoderError(f"{path} is missing: this folder is not an encoder") from None
    except OSError as error:
        raise EncoderError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise EncoderError(f"{path} is not valid JSON ({error}); {advice(folder)}") from error
    return _manifest(_Section(content, "", path), folder, source)


def _manifest(top: _Section, folder: Path, source: str) -> Manifest:
    top.known("format", int, (FORMAT,), "; a newer xsearch may read it")
    image, calibration = (top.section(key) for key in ("image", "calibration"))
    info = EncoderInfo(
        name=top.get("name", str),
        source=source,
        fingerprint=top.get("fingerprint", str),
        dim=top.get("dim", int),
        runtime=top.known("runtime", str, RUNTIMES),
        precision=top.get("precision", str),
    )
    return Manifest(
        info=info,
        image=ImageTower(
            path=image.file("file", folder),
            preparation=_preparation(image),
            batch=image.positive("batch"),
        ),
        text=_texts(top.section("text"), folder),
        calibration={
            pair: Logistic(part.get("slope", float), part.get("intercept", float))
            for pair in PAIRS
            for part in [calibration.section(pair)]
        },
        labels=_labels(top),
    )


def _labels(top: _Section) -> LabelScale | None:
    """How sharp the probabilities of labels are: as fitted, else with the scale of training."""
    if top.has("labels"):
        part = top.section("labels")
        return LabelScale(part.above_zero("scale"), part.get("margin", float))
    return LabelScale(top.above_zero("scale")) if top.has("scale") else None


def _texts(text: _Section, folder: Path) -> TextTowers:
    """The text tower; under `english` the one beside it, and the `detector` of its language."""
    general = _text(text, folder)
    if not text.has("english"):
        return TextTowers((general,))
    english = text.section("english")
    return TextTowers(
        (_text(english, folder, english=True), general), english.file("detector", folder)
    )


def _text(text: _Section, folder: Path, *, english: bool = False) -> TextTower:
    return TextTower(
        path=text.file("file", folder),
        tokenizer=text.file("tokenizer", folder),
        context_length=text.positive("context_length"),
        english=english,
    )


def _preparation(image: _Section) -> Preparation:
    resize = image.known("resize", str, RESIZES)
    # A crop without its share would be a guess; the others always keep the whole picture.
    crop_pct = image.share("crop_pct") if resize == "crop" else 1.0
    fill = image.grey("fill") if resize == "longest" else 0
    return Preparation(
        size=image.positive("size"),
        resize=resize,
        interpolation=image.known("interpolation", str, INTERPOLATIONS),
        crop_pct=crop_pct,
        fill=fill,
    )


class _Section:
    """An object of the file, and where it stands in it for error messages."""

    def __init__(self, content: object, place: str, path: Path) -> None:
        if not isinstance(content, dict):
            raise EncoderError(f"{path}: {place or 'the content'} is not an object")
        self._content = content
        self._place = place
        self._path = path

    def _name(self, key: str) -> str:
        return f"{self._place}.{key}" if self._place else key

    def has(self, key: str) -> bool:
        """Whether there is anything under a key."""
        return key in self._content

    def get(self, key: str, kind: type[T]) -> T:
        """The value of a key, which must be there and of its kind."""
        value = self._content.get(key)
        if kind is float and isinstance(value, int):
            value = float(value)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise EncoderError(f"{self._path}: {self._name(key)} should be {kind.__name__}")
        return value

    def known(self, key: str, kind: type[T], values: tuple[T, ...], hint: str = "") -> T:
        """The same, and one of the values that this version understands."""
        value = self.get(key, kind)
        if value not in values:
            wanted = ", ".join(map(repr, values))
            raise EncoderError(
                f"{self._path}: {self._name(key)} is {value!r}, and this version of xsearch "
                f"knows only {wanted}{hint}"
            )
        return value

    def positive(self, key: str) -> int:
        """A whole number of at least one."""
        value = self.get(key, int)
        if value < 1:
            raise EncoderError(f"{self._path}: {self._name(key)} is {value}; it must be 1 or more")
        return value

    def share(self, key: str) -> float:
        """A number above zero, up to one."""
        value = self.get(key, float)
        if not 0 < value <= 1:
            raise EncoderError(f"{self._path}: {self._name(key)} is {value}; it must be 0 to 1")
        return value

    def above_zero(self, key: str) -> float:
        """A number above zero."""
        value = self.get(key, float)
        if not value > 0:
            raise EncoderError(f"{self._path}: {self._name(key)} is {value}; it must be above 0")
        return value

    def grey(self, key: str) -> int:
        """A level of brightness, 0 to 255."""
        value = self.get(key, int)
        if not 0 <= value <= 255:
            raise EncoderError(f"{self._path}: {self._name(key)} is {value}; it must be 0 to 255")
        return value

    def file(self, key: str, folder: Path) -> Path:
        """The name of a file in the encoder's own folder, never elsewhere."""
        name = self.get(key, str)
        if name in ("", ".", "..") or any(mark in name for mark in "/\\:"):
            raise EncoderError(
                f"{self._path}: {self._name(key)} is {name!r}; it must name a file in this folder"
            )
        return folder / name

    def section(self, key: str) -> _Section:
        """The object under a key."""
        return _Section(self._content.get(key), self._name(key), self._path)


def advice(folder: Path) -> str:
    """What to do about a damaged file of the encoder in this folder."""
    if folder.name == "builtin" and folder.parent.name == "data":
        return "install xsearch-engine again: pip install --force-reinstall xsearch-engine"
    return "fetch or make this encoder again"

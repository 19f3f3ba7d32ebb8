"""What one row of a table, or one JSON object, says of a picture, whatever it calls its fields."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xsearch.data.records import ImageFile, Question

from .collect import Collector
from .files import split_named

FILE_FIELDS = (
    "file",
    "file_name",
    "filename",
    "image",
    "image_name",
    "image_path",
    "image_file",
    "filepath",
    "path",
    "img",
)
CAPTION_FIELDS = (
    "captions",
    "caption",
    "texts",
    "text",
    "sentences",
    "sentence",
    "comment",
    "description",
)
LABEL_FIELDS = ("labels", "label", "class")
_IN_LANGUAGE = re.compile(r"(?:captions?|texts?)_([a-z]{2,3}(?:[_-]\w+)?)")


class RowError(ValueError):
    """A row that cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """`file` is the picture's name; `captions` are by language."""

    file: str
    captions: Mapping[str, tuple[str, ...]]
    labels: tuple[str, ...]
    questions: tuple[Question, ...]
    split: str | None


def parse_row(fields: Any, language: str, *, file: str | None = None) -> Row:
    """Read a row's fields; `file` is the picture's name where the row need not have one.

    Raises RowError: no picture, nothing said of it, or a field of the wrong type.
    """
    if not isinstance(fields, Mapping):
        raise RowError("not an object with fields")
    name = file or _text(fields, FILE_FIELDS)
    if not name:
        raise RowError("no picture named")
    language = _text(fields, ("language", "lang")) or language
    captions: dict[str, list[str]] = {}
    _first_captions(fields, language, captions)
    for key, value in fields.items():
        if found := _IN_LANGUAGE.fullmatch(str(key)):
            captions.setdefault(found[1], []).extend(sentences_of(value))
    row = Row(
        name,
        {code: tuple(texts) for code, texts in captions.items() if any(map(str.strip, texts))},
        _labels(fields),
        _questions(fields),
        _split(fields),
    )
    if not row.captions and not row.labels and not row.questions:
        raise RowError("neither caption nor label")
    return row


def rows_of(fields: Any, language: str, file: str) -> list[Row]:
    """What an object beside a picture says: nothing where it has some other purpose."""
    try:
        return [parse_row(fields, language, file=file)]
    except RowError:
        return []


def joined(
    file: str, captions: Mapping[str, Sequence[str]], labels: Sequence[str], objects: Sequence[Row]
) -> Row:
    """What texts beside a picture and objects beside it say together.

    An object's captions count in languages that no text has: img2dataset writes them into both.
    """
    found = {language: tuple(texts) for language, texts in captions.items()}
    for each in objects:
        found = {**each.captions, **found}
    return Row(
        file,
        found,
        (*labels, *(label for each in objects for label in each.labels)),
        tuple(question for each in objects for question in each.questions),
        next((each.split for each in objects if each.split), None),
    )


def add_row(out: Collector, where: str, row: Row, image: ImageFile, split: str | None) -> None:
    """Hand a row to a collector; `split` is that of rows that do not say."""
    out.add(
        where,
        row.file,
        image,
        captions=row.captions,
        labels=row.labels,
        questions=row.questions,
        split=row.split or split,
    )


def sentences_of(value: Any) -> list[str]:
    """A text, texts, or objects that hold one, as Karpathy's `{"raw": ...}`. Raises RowError."""
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [_text(value, ("raw", "caption", "text"))]
    if isinstance(value, list):
        return [text for part in value for text in sentences_of(part)]
    raise RowError(f"a caption must be a text, not {_kind(value)}")


def is_caption(name: str) -> bool:
    """Whether a field holds captions in the language that its name ends with: `caption_de`."""
    return _IN_LANGUAGE.fullmatch(name) is not None


def _text(fields: Mapping[str, Any], names: tuple[str, ...]) -> str:
    for name in names:
        value = fields.get(name)
        if value is None or value == "":
            continue
        if not isinstance(value, str):
            raise RowError(f"`{name}` must be a text, not {_kind(value)}")
        return value
    return ""


def _first_captions(fields: Mapping[str, Any], language: str, into: dict[str, list[str]]) -> None:
    """The captions of the first field that has any: `caption` often repeats one of `captions`."""
    for name in CAPTION_FIELDS:
        value = fields.get(name)
        if not value:
            continue
        if isinstance(value, Mapping):
            for code, texts in value.items():
                into.setdefault(str(code), []).extend(sentences_of(texts))
        else:
            into.setdefault(language, []).extend(sentences_of(value))
        return


def _labels(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of classes; a text may hold several, separated by commas."""
    for name in LABEL_FIELDS:
        value = fields.get(name)
        if isinstance(value, str):
            parts = tuple(part.strip() for part in value.split(","))
            if any(parts):
                return tuple(part for part in parts if part)
        elif isinstance(value, list) and all(isinstance(part, str) for part in value):
            if value:
                return tuple(value)
        elif value is not None:
            raise RowError(f"`{name}` must be the name of a class, not {_kind(value)}")
    return ()


def _questions(fields: Mapping[str, Any]) -> tuple[Question, ...]:
    text = _text(fields, ("question",))
    if not text:
        return ()
    answers = fields.get("answers", fields.get("answer"))
    return (Question(text, tuple(each for each in sentences_of(answers) if each)),)


def _split(fields: Mapping[str, Any]) -> str | None:
    name = _text(fields, ("split",)).strip()
    return (split_named(name) or name) if name else None


def _kind(value: Any) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", list: "a list"}
    return kinds.get(type(value), "an object")

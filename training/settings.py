"""Settings as nested frozen dataclasses: read from TOML and from words, checked, written back."""

from __future__ import annotations

import json
import re
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from xsearch.core.errors import SourceError, UsageError
from xsearch.core.paths import from_stored, to_stored

T = TypeVar("T")

_MISSING = object()


def read_toml(kind: type[T], path: Path) -> T:
    """Read settings from a TOML file; what it leaves out has its default.

    Raises SourceError where it cannot be read, UsageError naming file, line and setting where it
    holds one that does not exist or is of the wrong type.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except FileNotFoundError:
        raise SourceError(f"{path}: there is no such file") from None
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # TOML's errors and those of UTF-8
        raise UsageError(f"{path} is not valid TOML: {error}") from error
    return from_mapping(kind, content, _Place(path, text))


def from_mapping(kind: type[T], content: Mapping[str, Any], place: _Place | None = None) -> T:
    """Settings of a nested mapping. Raises UsageError naming what does not fit."""
    return typing.cast(T, _section(kind, content, (), place or _Place()))


def with_settings(settings: T, values: Mapping[str, Any]) -> T:
    """The settings with some changed, by dotted name; all at once, since some depend on others.

    Raises UsageError naming what does not exist or is of the wrong type.
    """
    read = {}
    for path, value in values.items():
        names = path.split(".")
        read[path] = _read(_kind_at(type(settings), names, path), value, tuple(names), _Place())
    return typing.cast(T, _replaced(settings, read))


def with_words(settings: T, values: Mapping[str, Any], words: Sequence[str]) -> T:
    """The settings with values in place, but for those that are None, and words of `--set`.

    Raises UsageError, as `with_settings`, and for a word that is no NAME=VALUE.
    """
    given = {name: value for name, value in values.items() if value is not None}
    for word in words:
        name, mark, text = word.partition("=")
        if not mark:
            raise UsageError(f"--set {word}: write it as NAME=VALUE, such as schedule.epochs=5")
        given[name] = parsed(settings, name, text)
    return with_settings(settings, given)


def parsed(settings: Any, path: str, text: str) -> Any:
    """What the words of `--set section.name=value` mean for this setting.

    The text is read as TOML, or else taken as it is: `optimiser.rate` and `1e-4`. Lists may be
    written without brackets: `en,de`. Raises UsageError where there is no such setting.
    """
    return _value_of(text, _kind_at(type(settings), path.split("."), path))


def flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Every setting by its dotted name, in order."""
    found: dict[str, Any] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if is_dataclass(value):
            found |= flat(value, f"{prefix}{field.name}.")
        else:
            found[prefix + field.name] = value
    return found


def to_toml(settings: Any) -> str:
    """Every setting as TOML; what is None is left out, since TOML has no word for it."""
    return "\n".join(_lines(settings, ())).lstrip("\n") + "\n"


class _Place:
    """Where a setting stands, for error messages."""

    def __init__(self, path: Path | None = None, text: str = "") -> None:
        self._path = path
        self._text = text

    def of(self, names: Sequence[str]) -> str:
        """`config.toml, line 7: ` for a setting of a file, else nothing."""
        if self._path is None:
            return ""
        line = self._line(names)
        return f"{self._path}, line {line}: " if line else f"{self._path}: "

    def _line(self, names: Sequence[str]) -> int | None:
        table = ""
        wanted = {".".join(names)}
        for number, line in enumerate(self._text.splitlines(), 1):
            if header := re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", line):
                table = header[1].replace('"', "").replace(" ", "") + "."
                if table[:-1] in wanted:
                    return number
            elif key := re.match(r"""\s*([\w"'.\- ]+?)\s*=""", line):
                name = re.sub(r"""["' ]""", "", key[1])
                if table + name in wanted:
                    return number
        return None


def _section(kind: type[Any], content: Any, names: tuple[str, ...], place: _Place) -> Any:
    if not isinstance(content, Mapping):
        raise UsageError(
            f"{place.of(names)}{'.'.join(names)} is a section of settings, not a value"
        )
    hints = typing.get_type_hints(kind)
    known = [field.name for field in fields(kind)]
    for name in content:
        if name not in known:
            raise UsageError(place.of((*names, name)) + _unknown((*names, name), known))
    values = {
        name: _read(hints[name], content[name], (*names, name), place)
        for name in known
        if name in content
    }
    try:
        return kind(**values)
    except UsageError as error:
        section = ".".join(names)
        raise UsageError(f"{place.of(names)}{section}{': ' if section else ''}{error}") from error


def _read(kind: Any, value: Any, names: tuple[str, ...], place: _Place) -> Any:
    if is_dataclass(kind):
        return _section(typing.cast(type[Any], kind), value, names, place)
    found = _convert(kind, value)
    if found is _MISSING:
        raise UsageError(
            f"{place.of(names)}{'.'.join(names)} must be {_described(kind)}, not {value!r}"
        )
    return found


def _convert(kind: Any, value: Any) -> Any:
    """The value as this type, or `_MISSING` where it is none."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        for part in inner:
            found = None if part is type(None) and value is None else _convert(part, value)
            if found is not _MISSING:
                return found
        return _MISSING
    if origin is Literal:
        return value if value in inner and type(value) in map(type, inner) else _MISSING
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return _MISSING
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else list(inner)
        if len(kinds) != len(value):
            return _MISSING
        parts = [_convert(part, item) for part, item in zip(kinds, value, strict=True)]
        return _MISSING if any(part is _MISSING for part in parts) else tuple(parts)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(from_stored(value))
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        return _MISSING
    return from_stored(value) if kind is str else value


def _described(kind: Any) -> str:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(_described(part) for part in inner if part is not type(None))
    if origin is Literal:
        return "one of " + ", ".join(map(str, inner))
    if origin is tuple:
        count = "" if inner[-1] is Ellipsis else f"{len(inner)} "
        return f"a list of {count}{_plural(inner[0])}"
    return {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, "a text")


def _plural(kind: Any) -> str:
    return {int: "whole numbers", float: "numbers"}.get(kind, "texts")


def _unknown(names: Sequence[str], known: Sequence[str]) -> str:
    near = get_close_matches(names[-1], known, 1)
    hint = f"did you mean {'.'.join([*names[:-1], near[0]])}?" if near else None
    return f"there is no setting {'.'.join(names)}; {hint or 'there are ' + ', '.join(known)}"


def _kind_at(kind: Any, names: Sequence[str], path: str) -> Any:
    for at, name in enumerate(names):
        hints = typing.get_type_hints(kind) if is_dataclass(kind) else {}
        if name not in hints:
            raise UsageError(_unknown(names[: at + 1], list(hints)) if hints else f"no {path}")
        kind = hints[name]
    if is_dataclass(kind):
        inside = ", ".join(f"{path}.{field.name}" for field in fields(kind))
        raise UsageError(f"{path} is a section: set one of {inside}")
    return kind


def _value_of(text: str, kind: Any) -> Any:
    if kind is str:
        return text
    try:
        value = tomllib.loads(f"value = {text}")["value"]
        return text if _convert(kind, value) is _MISSING else value
    except ValueError:
        if typing.get_origin(kind) is tuple:
            inner = typing.get_args(kind)[0]
            return [_value_of(part.strip(), inner) for part in text.split(",") if part.strip()]
        return text


def _replaced(settings: Any, values: Mapping[str, Any], section: str = "") -> Any:
    own: dict[str, Any] = {}
    inside: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        name, _, rest = path.partition(".")
        if rest:
            inside.setdefault(name, {})[rest] = value
        else:
            own[name] = value
    for name, part in inside.items():
        own[name] = _replaced(getattr(settings, name), part, f"{section}{name}.")
    try:
        return replace(settings, **own)
    except UsageError as error:
        # Sections of others say what is wrong, not where they stand.
        raise UsageError(f"{section.rstrip('.')}: {error}" if section else str(error)) from error


def _lines(settings: Any, names: tuple[str, ...]) -> Iterator[str]:
    """Plain settings come before sections, as TOML wants them."""
    sections = []
    if names:
        yield f"\n[{'.'.join(names)}]"
    for field in fields(settings):
        value = getattr(settings, field.name)
        if is_dataclass(value):
            sections.append((value, (*names, field.name)))
        elif value is not None:
            yield f"{field.name} = {_written(value)}"
    for value, inner in sections:
        yield from _lines(value, inner)


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | Path):
        # JSON's escapes are TOML's, but for DEL, which TOML wants escaped.
        return json.dumps(to_stored(str(value)), ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple):
        return f"[{', '.join(map(_written, value))}]"
    return repr(value)

"""Writes an evaluation to a folder: JSON, Markdown with plots, and one HTML page with it all."""

from __future__ import annotations

import json
from pathlib import Path

from xsearch.core.errors import StorageError
from xsearch.core.extras import require

from .page import page
from .plots import distributions, recall_curves
from .results import Evaluation, PictureExample, TextExample
from .tables import Table, class_table, headline, notes, tables


def prepare_report(folder: Path) -> None:
    """Make the folder, before a long evaluation rather than after it.

    Raises StorageError when it cannot be made, MissingExtraError without matplotlib.
    """
    require("matplotlib.figure", "evaluate", "A report's plots")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder} cannot be made: {error.strerror or error}") from error


def write_report(evaluation: Evaluation, folder: Path) -> tuple[Path, ...]:
    """Write `evaluation.json`, `report.md` with its plots, and `report.html`, which needs no other.

    The folder is made if absent; files of these names in it are replaced. Pictures are read
    again for thumbnails. Raises StorageError when the folder cannot be written to,
    MissingExtraError without matplotlib.
    """
    prepare_report(folder)
    plots = _plots(evaluation)
    content = {
        "evaluation.json": (json.dumps(evaluation.to_dict(), indent=2) + "\n").encode(),
        "report.md": _markdown(evaluation, plots).encode("utf-8", "backslashreplace"),
        "report.html": page(evaluation, plots).encode("utf-8", "backslashreplace"),
        **{f"{name}.png": drawn for name, drawn in plots.items()},
    }
    written = []
    for name, data in content.items():
        path = folder / name
        try:
            path.write_bytes(data)
        except OSError as error:
            raise StorageError(f"{path} cannot be written: {error.strerror or error}") from error
        written.append(path)
    return tuple(written)


def _plots(evaluation: Evaluation) -> dict[str, bytes]:
    """PNG files by name: `recall`, and one for each language."""
    if not evaluation.languages:
        return {}
    drawn = {"recall": recall_curves(evaluation)}
    for at, found in enumerate(evaluation.languages.values(), start=1):
        drawn[f"language-{at}"] = distributions(found)
    return drawn


def _markdown(evaluation: Evaluation, plots: dict[str, bytes]) -> str:
    parts = [f"# {_escaped(headline(evaluation))}"]
    for table in tables(evaluation):
        parts += [f"## {table.title}", _markdown_table(table)]
    if "recall" in plots:
        parts.append("![Recall against the number of results](recall.png)")
    parts.append("\n".join(f"- {_escaped(note)}" for note in notes(evaluation)))
    for at, (language, found) in enumerate(evaluation.languages.items(), start=1):
        parts += [
            f"## Language {_escaped(language)}",
            f"![Ranks, and similarities of pairs](language-{at}.png)",
        ]
        for title, rows in (
            ("Texts found best", found.examples.best_texts),
            ("Texts found worst", found.examples.worst_texts),
            ("Pictures found best", found.examples.best_pictures),
            ("Pictures found worst", found.examples.worst_pictures),
        ):
            parts += [f"### {title}", "\n".join(_example(row) for row in rows)]
    if classes := class_table(evaluation):
        parts += [f"## {classes.title}", _markdown_table(classes)]
    if evaluation.failures:
        parts.append("## Pictures that could not be read")
        parts.append(
            "\n".join(f"- {_escaped(f'{one.key}: {one.reason}')}" for one in evaluation.failures)
        )
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> str:
    rule = ["---"] * table.names + ["--:"] * (len(table.header) - table.names)
    rows = [table.header, tuple(rule), *table.rows]
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in rows)


def _example(row: TextExample | PictureExample) -> str:
    if isinstance(row, TextExample):
        query = f"{row.text} ({row.picture.key})"
        found = ", ".join(record.key for record in row.found)
    else:
        query = row.picture.key
        found = "; ".join(f"{text} ({'its own' if own else 'another'})" for text, own in row.found)
    return f"- rank {row.rank:,}: {_escaped(query)}; found: {_escaped(found)}"


def _cell(text: str) -> str:
    return text if text.startswith("--") else _escaped(text)


def _escaped(text: str) -> str:
    """Text of others as plain Markdown, on one line."""
    line = " ".join(text.split())
    for mark in "\\`*_[]<>|":
        line = line.replace(mark, f"\\{mark}")
    return line

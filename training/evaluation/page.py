"""An evaluation as one HTML page that needs no other file: figures, plots, thumbnails."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from html import escape

from xsearch.core.errors import SourceError
from xsearch.core.images import quiet_pillow
from xsearch.data.records import Record

from .results import Evaluation, LanguageEvaluation, PictureExample, TextExample
from .tables import Table, class_table, headline, notes, tables

_THUMBNAIL = 200
"""Pixels of a thumbnail's longer side."""
_OPEN_ROWS = 30
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #009e73; --bad: #d55e00; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; } h3 { font-size: 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; }
th.name, td.name { text-align: left; }
img.plot { max-width: 100%; background: #fff; border-radius: 4px; }
.row { display: flex; gap: 1rem; align-items: flex-start; padding: .6rem 0;
  border-bottom: 1px solid var(--line); flex-wrap: wrap; }
.row > div { flex: 1 1 16rem; }
.found { display: flex; gap: .4rem; flex-wrap: wrap; flex: 0 1 auto !important; }
figure { margin: 0; }
figure img { display: block; width: 9rem; height: 7rem; object-fit: cover; border-radius: 4px;
  border: 3px solid transparent; }
figure.own img { border-color: var(--good); }
.lost { width: 9rem; height: 7rem; display: grid; place-items: center; background: #8882; }
ul.texts { margin: 0; padding-left: 1.2rem; } li.own { color: var(--good); font-weight: 600; }
.rank { font-weight: 600; } .small { font-size: .85rem; opacity: .8; overflow-wrap: anywhere; }
"""


def page(evaluation: Evaluation, plots: Mapping[str, bytes]) -> str:
    """The page; `plots` are PNG files: `recall`, and `language-1` and so on for the languages.

    A picture that can no longer be read is shown as its name.
    """
    title = escape(headline(evaluation))
    with quiet_pillow():
        body = [f"<h1>{title}</h1>", *map(_table, tables(evaluation))]
        if "recall" in plots:
            body.append(_plot(plots["recall"], "Recall against the number of results looked at"))
        body.append(f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in notes(evaluation))}</ul>")
        for at, found in enumerate(evaluation.languages.values(), start=1):
            body += _language(found, plots[f"language-{at}"])
    if classes := class_table(evaluation):
        body.append(_table(classes, folded=len(classes.rows) > _OPEN_ROWS))
    if evaluation.failures:
        rows = "".join(
            f"<li>{escape(one.key)}: {escape(one.reason)}</li>" for one in evaluation.failures
        )
        body.append(f"<h2>Pictures that could not be read</h2><ul>{rows}</ul>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _table(table: Table, folded: bool = False) -> str:
    def row(cells: Iterable[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=name' if at < table.names else ''}>{escape(cell)}</{tag}>"
            for at, cell in enumerate(cells)
        )

    lines = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in table.rows)
    shown = (
        f"<div class=wide><table><thead><tr>{row(table.header, 'th')}</tr></thead>"
        f"<tbody>{lines}</tbody></table></div>"
    )
    if folded:
        shown = f"<details><summary>{len(table.rows):,} rows</summary>{shown}</details>"
    return f"<h2>{escape(table.title)}</h2>{shown}"


def _language(found: LanguageEvaluation, plot: bytes) -> list[str]:
    examples = found.examples
    parts = [
        f"<h2>Language {escape(found.language)}</h2>",
        _plot(plot, "Ranks of the true ones, and similarities of pairs"),
        "<p class=small>In green: what belongs to the query.</p>",
    ]
    for title, texts in (
        ("Texts whose picture was found best", examples.best_texts),
        ("Texts whose picture was found worst", examples.worst_texts),
    ):
        parts += [f"<h3>{title}</h3>", *map(_text_example, texts)]
    for title, pictures in (
        ("Pictures whose text was found best", examples.best_pictures),
        ("Pictures whose text was found worst", examples.worst_pictures),
    ):
        parts += [f"<h3>{title}</h3>", *map(_picture_example, pictures)]
    return parts


def _text_example(example: TextExample) -> str:
    found = "".join(_thumbnail(record, own=record is example.picture) for record in example.found)
    return (
        f"<div class=row>{_thumbnail(example.picture, own=True)}<div><p dir=auto>"
        f"{escape(example.text)}</p><p><span class=rank>rank {example.rank:,}</span> "
        f"<span class=small>{escape(example.picture.key)}</span></p></div>"
        f"<div class=found>{found}</div></div>"
    )


def _picture_example(example: PictureExample) -> str:
    found = "".join(
        f"<li dir=auto{' class=own' if own else ''}>{escape(text)}</li>"
        for text, own in example.found
    )
    return (
        f"<div class=row>{_thumbnail(example.picture, own=True)}<div>"
        f"<p><span class=rank>rank {example.rank:,}</span> "
        f"<span class=small>{escape(example.picture.key)}</span></p></div>"
        f"<div><ul class=texts>{found}</ul></div></div>"
    )


def _thumbnail(record: Record, *, own: bool) -> str:
    mark = " class=own" if own else ""
    name = escape(record.key, quote=True)
    try:
        image = record.image.open(_THUMBNAIL)
    except (SourceError, OSError):
        return f"<figure{mark}><div class=lost>{name}</div></figure>"
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return f'<figure{mark}><img src="{_data(file.getvalue(), "jpeg")}" alt="{name}"></figure>'


def _plot(png: bytes, text: str) -> str:
    return f'<p><img class=plot src="{_data(png, "png")}" alt="{escape(text, quote=True)}"></p>'


def _data(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"

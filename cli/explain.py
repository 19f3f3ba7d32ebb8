"""`xsearch explain`: which words of a text fit a picture, and where."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xsearch.cli.options import EncoderOption, JsonOption, LibraryOption, RerankerOption
from xsearch.cli.render import (
    complain,
    native_stderr_closed,
    short_path,
    write_json,
    write_line,
)
from xsearch.core.errors import SourceError, UsageError
from xsearch.core.paths import absolute, displayable

if TYPE_CHECKING:
    from xsearch.core.explained import MatchExplanation, WordRelevance

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_ITEM = "id:"
_BAR = 12  # signs of the longest bar


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("explain")(explain)


def explain(
    image: Annotated[
        str,
        typer.Argument(metavar="IMAGE", help="A picture: a path or URL, or id:N of the library."),
    ],
    text: Annotated[
        list[str], typer.Argument(metavar="TEXT...", help="What it may show, taken literally.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write a picture with a panel for each word: .png, .jpg or .webp.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write over the file, if it is there already.")
    ] = False,
    preview: Annotated[
        bool, typer.Option("--preview", "-p", help="Show that picture in the terminal.")
    ] = False,
    reranker: RerankerOption = None,
    encoder: EncoderOption = None,
    library: LibraryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which words of a text fit a picture, and where in it.

    By the built-in encoder, or with --library or id:N by the library's.
    """
    if as_json and preview:
        raise UsageError("--json and --preview exclude each other: give one of them.")
    if output is not None:
        _check_output(output, force)
    with native_stderr_closed():
        found = _explained(image, " ".join(text), reranker, encoder, library)
    if output is not None and output.exists() and found.path and output.samefile(found.path):
        raise UsageError(f"--output {displayable(output)} is the picture itself")
    if as_json:
        write_json(found.to_dict())
    else:
        _write(found)
    if output is not None or preview:
        _show(found, output, force, preview)


def _explained(
    image: str, text: str, reranker: Path | None, encoder: str | None, library: Path | None
) -> MatchExplanation:
    import xsearch

    item = image.removeprefix(_ITEM)
    by_id = image.startswith(_ITEM) and item.isdecimal()
    if by_id or library is not None:
        with xsearch.open(library, encoder=encoder, create=False) as opened:
            return opened.explain(int(item) if by_id else image, text, reranker=reranker)
    return xsearch.explain(image, text, encoder=encoder or "builtin", reranker=reranker)


def _check_output(output: Path, force: bool) -> None:
    """Refuse before anything is done what cannot, or must not, be written."""
    shown = displayable(output)
    if output.suffix.lower() not in _FORMATS:
        raise UsageError(f"--output {shown}: its name must end in .png, .jpg, .jpeg or .webp")
    if not output.parent.is_dir():
        raise SourceError(f"{displayable(output.parent)}: no such folder. Make it first.")
    if output.exists() and not force:
        raise SourceError(f"{shown} is there already: give another name, or --force")


def _show(found: MatchExplanation, output: Path | None, force: bool, preview: bool) -> None:
    import xsearch
    from xsearch.cli.show.files import whole_file
    from xsearch.cli.show.preview import write_picture
    from xsearch.cli.show.showing import can_preview

    drawn = xsearch.draw_explanation(found)
    if output is not None:
        with whole_file(output, lambda _: force) as file:
            drawn.save(file, _FORMATS[output.suffix.lower()], quality=90)
        complain(f"explained in {short_path(absolute(output))}", prefix="")
    if preview and can_preview():
        write_picture(drawn)


def _write(found: MatchExplanation) -> None:
    """The score and the text; then each word, what it contributes, and where it peaks."""
    write_line(f"{found.score:.2f}  {' '.join(found.text.split())}")
    largest = max(abs(word.contribution) for word in found.shown) or 1.0
    broad = max(len(word.text) for word in found.shown)
    for word in found.shown:
        bar = round(_BAR * abs(word.contribution) / largest) * (
            "+" if word.contribution > 0 else "-"
        )
        line = f"  {word.text:<{broad}}  {word.contribution:+.1f}  {bar:<{_BAR}}  {_place(word)}"
        write_line(line)


def _place(word: WordRelevance) -> str:
    """Where a word peaks, in words, by thirds of the picture."""
    x, y = (min(int(3 * share), 2) for share in word.peak)
    down, across = ("top", "", "bottom")[y], ("left", "", "right")[x]
    return f"{down} {across}".strip() or "middle"

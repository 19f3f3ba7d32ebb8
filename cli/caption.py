"""`xsearch caption`: the texts that fit pictures best."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from xsearch.cli.options import EncoderOption, JsonOption, LibraryOption
from xsearch.cli.render import (
    complain,
    counted,
    native_stderr_closed,
    progress_bar,
    write_json,
    write_line,
)
from xsearch.core.errors import ImageError, LibraryNotFoundError, SourceError, UsageError
from xsearch.core.paths import absolute, displayable
from xsearch.core.query import Image

if TYPE_CHECKING:
    from pathlib import Path

    from xsearch.core.values import Caption
    from xsearch.library import Library

BANK = "bank"
LIBRARY = "library"
_URL = ("http://", "https://", "file://")


class _Captions(Protocol):
    """What captions pictures: a library, or texts without one."""

    def caption(self, image: Image, k: int) -> list[Caption]: ...


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("caption")(caption)


def caption(
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE...", help="Pictures: paths or URLs."),
    ],
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="library|bank|FILE",
            help="Where texts come from: the library, the bank that ships with xsearch, or a "
            ".txt, .csv or .jsonl file. Default: the library if it has texts, else the bank.",
            show_default=False,
        ),
    ] = None,
    top: Annotated[
        int, typer.Option("--top", "-k", min=1, help="How many captions of each picture.")
    ] = 5,
    language: Annotated[
        list[str] | None,
        typer.Option(
            "--language",
            metavar="CODE",
            help="Texts of the bank in this language: en, de, fr, cs, ar or zh; may be repeated. "
            "Default: en.",
            show_default=False,
        ),
    ] = None,
    library: LibraryOption = None,
    encoder: EncoderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the texts that fit a picture best, near-identical ones merged."""
    pictures = [(_name(given), Image(given)) for given in images]
    failed = 0
    with ExitStack() as stack:
        captions, named = _captions(stack, source, language, library, encoder)
        stack.enter_context(native_stderr_closed())
        for at, (name, picture) in enumerate(pictures):
            try:
                found = captions.caption(picture, top)
            except (SourceError, ImageError) as error:
                if len(pictures) == 1:
                    raise
                failed += 1
                if as_json:
                    write_json({"path": name, "reason": str(error)})
                else:
                    complain(str(error), prefix="failed: ")
                continue
            if as_json:
                rows = [one.to_dict() for one in found]
                write_json({"path": name, "from": named, "captions": rows})
            else:
                if len(pictures) > 1:
                    write_line(name if at == 0 else f"\n{name}")
                _write(found)
    if failed:
        complain(f"{counted(failed, 'picture')} could not be read", prefix="note: ")


def _name(given: str) -> str:
    """A picture as it is shown: a URL, or the path, absolute.

    Raises SourceError where there is no such file: before anything is embedded.
    """
    if given.startswith(_URL):
        return given
    path = absolute(given)
    if not path.is_file():
        what = "is a folder, not a picture" if path.is_dir() else "no such picture"
        raise SourceError(f"{displayable(path)}: {what}")
    return displayable(path)


def _captions(
    stack: ExitStack,
    source: str | None,
    languages: list[str] | None,
    library: Path | None,
    encoder: str | None,
) -> tuple[_Captions, str]:
    """Where captions come from, ready, and how that is called."""
    if languages and source not in (None, BANK):
        raise UsageError("--language chooses texts of the bank: it goes with --from bank")
    if library is not None and source not in (None, LIBRARY):
        raise UsageError(f"--library goes with the library's texts, not with --from {source}")
    if source == LIBRARY or (source is None and not languages):
        opened = _library(stack, library, encoder, needed=source == LIBRARY or library is not None)
        if opened is not None:
            there = opened.status().items["text"]
            if not there:
                instead = "index some with: xsearch index FILE" if source else "the bank's are used"
                complain(f"{opened.path} holds no texts; {instead}", prefix="note: ")
            if there or source == LIBRARY:
                return opened, LIBRARY
    import xsearch

    file = None if source in (None, BANK) else absolute(str(source))
    with progress_bar() as bar:
        ready = xsearch.Captioner(
            file, languages=languages or "en", encoder=encoder or "builtin", progress=bar
        )
    return ready, BANK if file is None else displayable(file)


def _library(
    stack: ExitStack, place: Path | None, encoder: str | None, needed: bool
) -> Library | None:
    import xsearch

    try:
        return stack.enter_context(xsearch.open(place, encoder=encoder, create=False))
    except LibraryNotFoundError:
        if needed:
            raise
        return None


def _write(captions: list[Caption]) -> None:
    """Rank, score, text, and how many near-identical ones it stands for."""
    for one in captions:
        text = " ".join(one.text.split())
        more = f"  (+{len(one.others)} alike)" if one.others else ""
        write_line(f"{one.rank:>3}  {one.score:.2f}  {text}{more}")

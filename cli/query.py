"""`xsearch query` and `similar`: words, pictures or both in, hits out."""

from __future__ import annotations

import json
import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from xsearch.cli.filters import (
    AfterOption,
    BeforeOption,
    CameraOption,
    HasTextOption,
    LensOption,
    MinSizeOption,
    NearOption,
    OrientationOption,
    PathOption,
    RootOption,
    TagOption,
    TypeOption,
    filters,
)
from xsearch.cli.options import (
    ContactSheetOption,
    CopyToOption,
    EncoderOption,
    FilepathOnlyOption,
    HtmlOption,
    JsonOption,
    LibraryOption,
    LinkToOption,
    NullOption,
    OpenOption,
    PreviewOption,
    RerankerOption,
)
from xsearch.cli.render import complain
from xsearch.cli.show import Output, show
from xsearch.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xsearch
    from xsearch.core.filters import Filters
    from xsearch.core.query import Query
    from xsearch.core.values import Hit

DIVERSITY = 0.5
"""What `--diverse` means."""
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")


class Target(StrEnum):
    """What a query finds."""

    image = "image"
    text = "text"


class Mode(StrEnum):
    """What a query is compared with."""

    hybrid = "hybrid"
    meaning = "meaning"
    words = "words"


TopOption = Annotated[int, typer.Option("--top", "-k", min=0, help="How many hits.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("query", cls=_Command)(query)
    app.command("similar")(similar)


class _Command(typer.core.TyperCommand):
    """Lets `--rerank` stand without a number, also before words that are the query."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words = list(args)
        end = words.index("--") if "--" in words else len(words)
        for at in reversed(range(end)):
            if words[at] != "--rerank":
                continue
            following = words[at + 1] if at + 1 < end else ""
            if _NUMBER.fullmatch(following):
                words[at : at + 2] = [f"--rerank={following}"]
            else:
                from xsearch.core.query import RERANKED

                words[at] = f"--rerank={RERANKED}"
        return list(super().parse_args(ctx, words))


def query(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT|IMAGE",
            help="What to look for: words, a picture's path or URL, id:17; several with + and - "
            "between them, weighed as in 2:cat. Words that begin with - go after --.",
            show_default=False,
        ),
    ] = None,
    target: Annotated[Target, typer.Option("--for", "--kind", help="What to find.")] = Target.image,
    top: TopOption = 10,
    mode: Annotated[
        Mode, typer.Option("--mode", help="By meaning, by words in names and captions, or both.")
    ] = Mode.hybrid,
    min_score: Annotated[
        float, typer.Option("--min-score", min=0, max=1, help="The least score of a hit.")
    ] = 0.0,
    auto_cut: Annotated[
        bool, typer.Option("--auto-cut", help="Only good matches, possibly none.")
    ] = False,
    add: Annotated[
        list[str] | None,
        typer.Option(
            "--add",
            metavar="TEXT|IMAGE",
            help="Something to look for, too; may be repeated.",
            show_default=False,
        ),
    ] = None,
    subtract: Annotated[
        list[str] | None,
        typer.Option(
            "--subtract",
            metavar="TEXT|IMAGE",
            help="Something that hits should not be like; may be repeated.",
            show_default=False,
        ),
    ] = None,
    like: Annotated[
        list[int] | None,
        typer.Option(
            "--like",
            metavar="ID",
            help="More like this hit (--json shows ids); may be repeated.",
            show_default=False,
        ),
    ] = None,
    unlike: Annotated[
        list[int] | None,
        typer.Option(
            "--unlike",
            metavar="ID",
            help="Less like this one; may be repeated.",
            show_default=False,
        ),
    ] = None,
    diverse: Annotated[
        bool, typer.Option("--diverse", help="Hits that differ: not ten shots of one scene.")
    ] = False,
    rerank: Annotated[
        int | None,
        typer.Option(
            "--rerank",
            metavar="[N]",
            min=0,
            help="Compare the best N pictures with the words once more, region by region, or texts "
            "with the picture; 50 without a number.",
            show_default=False,
        ),
    ] = None,
    reranker: RerankerOption = None,
    literal: Annotated[
        bool, typer.Option("--literal", help="Take the words as they stand, as one text.")
    ] = False,
    negation: Annotated[
        bool,
        typer.Option(
            "--negation/--no-negation", help="Whether words like `without` subtract what follows."
        ),
    ] = True,
    fusion: Annotated[
        bool,
        typer.Option(
            "--fusion/--no-fusion",
            help="Whether a picture and words are joined by what was learnt, or added.",
        ),
    ] = True,
    explain_query: Annotated[
        bool, typer.Option("--explain-query", help="Say how the query was read.")
    ] = False,
    after: AfterOption = None,
    before: BeforeOption = None,
    camera: CameraOption = None,
    lens: LensOption = None,
    near: NearOption = None,
    path: PathOption = None,
    type_: TypeOption = None,
    min_size: MinSizeOption = None,
    orientation: OrientationOption = None,
    root: RootOption = None,
    has_text: HasTextOption = None,
    tag: TagOption = None,
    filepath_only: FilepathOnlyOption = False,
    null: NullOption = False,
    preview: PreviewOption = False,
    open_them: OpenOption = False,
    copy_to: CopyToOption = None,
    link_to: LinkToOption = None,
    contact_sheet: ContactSheetOption = None,
    html: HtmlOption = None,
    library: LibraryOption = None,
    encoder: EncoderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find pictures by words, texts by a picture, look-alikes of a picture."""
    import xsearch

    output = Output(
        json=as_json,
        filepath_only=filepath_only,
        null=null,
        preview=preview,
        open=open_them,
        copy_to=copy_to,
        link_to=link_to,
        contact_sheet=contact_sheet,
        html=html,
    )
    asked = _composed(words or [], add or [], subtract or [], literal, negation)
    if explain_query:
        explained = xsearch.explain_query(asked, fusion=fusion)
        for line in [json.dumps(explained.to_dict())] if as_json else explained.lines():
            complain(line, prefix="")
    narrowed = filters(
        after=after,
        before=before,
        camera=camera,
        lens=lens,
        near=near,
        path=path,
        type_=type_,
        min_size=min_size,
        orientation=orientation,
        root=root,
        has_text=has_text,
        tag=tag,
    )
    with xsearch.open(library, encoder=encoder, reranker=reranker, create=False) as opened:
        hits = opened.search(
            asked,
            top,
            target.value,
            filters=narrowed,
            mode=mode.value,
            min_score=min_score,
            auto_cut=auto_cut,
            like=like or (),
            unlike=unlike or (),
            diversity=DIVERSITY if diverse else 0.0,
            rerank=rerank,
            fusion=fusion,
        )
        if not hits and top:
            _explain_nothing(opened, target, narrowed, auto_cut, min_score, mode)
        roots = _roots(opened, output)
    show(hits, output, " ".join([*(words or []), *(add or [])]), roots)


def similar(
    picture: Annotated[
        str, typer.Argument(metavar="PATH|ID", help="A picture of the library, or any other.")
    ],
    top: TopOption = 10,
    filepath_only: FilepathOnlyOption = False,
    null: NullOption = False,
    preview: PreviewOption = False,
    open_them: OpenOption = False,
    copy_to: CopyToOption = None,
    link_to: LinkToOption = None,
    contact_sheet: ContactSheetOption = None,
    html: HtmlOption = None,
    library: LibraryOption = None,
    encoder: EncoderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find pictures that look like one, which is not shown itself."""
    import xsearch

    output = Output(
        json=as_json,
        filepath_only=filepath_only,
        null=null,
        preview=preview,
        open=open_them,
        copy_to=copy_to,
        link_to=link_to,
        contact_sheet=contact_sheet,
        html=html,
    )
    by_id = picture.isascii() and picture.isdigit() and not Path(picture).exists()
    with xsearch.open(library, encoder=encoder, create=False) as opened:
        hits: Sequence[Hit] = opened.similar(int(picture) if by_id else picture, top)
        roots = _roots(opened, output)
    show(hits, output, picture, roots)


def _composed(
    words: list[str], add: list[str], subtract: list[str], literal: bool, negation: bool
) -> Query:
    """The query of a command line: what was written, and what `--add` and `--subtract` name."""
    import xsearch

    def read(text: list[str], negation: bool = negation) -> Query:
        return xsearch.parse(text, literal=literal, negation=negation)

    parts = [read(words)] if words else []
    parts += [read([text]) for text in add]
    if not parts:
        raise UsageError('say what to look for, as in: xsearch query "cat on grass"')
    parts += [-read([text], negation=False) for text in subtract]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole + part
    return whole


def _roots(opened: xsearch.Library, output: Output) -> list[Path]:
    return [root.path for root in opened.status().roots] if output.places else []


def _explain_nothing(
    opened: xsearch.Library,
    target: Target,
    narrowed: Filters | None,
    auto_cut: bool,
    min_score: float,
    mode: Mode,
) -> None:
    """Why there are no hits, and what to do."""
    what = "texts" if target is Target.text else "pictures"
    unknown = _unknown_tags(opened, narrowed)
    if not opened.status().items[target.value]:
        text = f"{opened.path} holds no {what}. Index some with: xsearch index PATH"
    elif unknown:
        text = f"no picture has the tag {unknown[0]!r}; `xsearch tag --list` shows all tags"
    elif auto_cut:
        text = f"nothing in this library matches: no {what} with a score that is good enough"
    elif min_score:
        text = f"no {what} with a score of {min_score:g} or more"
    elif mode is Mode.words:
        text = f"no {what} have these words; --mode meaning finds what they mean"
    elif narrowed:
        text = f"no {what} meet the filters"
        if narrowed.path:
            text += (
                "; --path is matched with file names, or with a slash from the indexed folder on"
            )
    else:
        text = f"{opened.path} holds no {what} that can be shown; their files are gone"
    complain(text, prefix="note: ")


def _unknown_tags(opened: xsearch.Library, narrowed: Filters | None) -> list[str]:
    """The tags of a filter that no picture has."""
    if narrowed is None or not narrowed.tag:
        return []
    known = {tag.name for tag in opened.tags()}
    return [name for name in narrowed.tag if name not in known]

"""`xsearch models`: which encoders there are, and bringing, taking along and removing them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xsearch.cli.options import JsonOption, LibraryOption
from xsearch.cli.render import (
    bytes_text,
    complain,
    duration,
    progress_bar,
    short_path,
    write_json,
    write_line,
    write_table,
)
from xsearch.core.errors import Error
from xsearch.core.paths import displayable

if TYPE_CHECKING:
    from xsearch.models import Model
    from xsearch.training import Dataset, PulledModel

_NAME_WIDTH = 46
_LICENCE_WIDTH = 10
_RECALLS = ("coco_text_to_image", "flickr30k_text_to_image")
_LABELS = {
    "flickr30k_text_to_image": "Flickr30k, text to image",
    "flickr30k_image_to_text": "Flickr30k, image to text",
    "coco_text_to_image": "COCO, text to image",
    "coco_image_to_text": "COCO, image to text",
}


class Stored(StrEnum):
    """How weights are stored."""

    fp32 = "fp32"
    fp16 = "fp16"
    int16 = "int16"
    int8 = "int8"


NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="An alias, ARCH/PRETRAINED, hf-hub:OWNER/NAME or local-dir:FOLDER.",
    ),
]
PrecisionOption = Annotated[
    Stored | None,
    typer.Option(
        "--precision",
        help="How weights are stored; all calculate in fp32. Default: fp16.",
        show_default=False,
    ),
]
TextPrecisionOption = Annotated[
    Stored | None,
    typer.Option("--text-precision", help="The same for the text tower alone.", show_default=False),
]
PairsOption = Annotated[
    Path | None,
    typer.Option(
        "--pairs",
        metavar="DATASET",
        help="Pictures with captions to fit the scores on. Default: the model's own scale.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    models = typer.Typer(
        help="List encoders, and bring, export and remove them.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    models.command("list")(list_)
    models.command("show")(show)
    models.command("pull")(pull)
    models.command("export")(export)
    models.command("remove")(remove)
    app.add_typer(models, name="models")


def list_(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[WORD]...",
            help="Only those with each word in their name, repository or licence.",
            show_default=False,
        ),
    ] = None,
    pulled: Annotated[
        bool, typer.Option("--pulled", help="Only those that need no torch any more.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List encoders: the built-in one, those on this machine, and what open_clip offers."""
    from xsearch import models

    found = models.list_models(words or [], pulled=pulled)
    if as_json:
        for model in found:
            write_json(model.to_dict())
        return
    header = ("name", "M", "dim", "px", "COCO", "F30k", "licence", "here")
    if found:
        write_table(header, [_row(model) for model in found])
    complain(
        "M: million parameters; COCO, F30k: zero-shot recall at 1, text to image, as published;\n"
        "`xsearch models show NAME` says where, and all else",
        prefix="",
    )


def _row(model: Model) -> Sequence[str]:
    recalls = model.recalls or {}
    figures = [f"{recalls[key]:.1f}" if key in recalls else "" for key in _RECALLS]
    here = "pulled" if model.pulled else "cached" if model.cached else ""
    name = f"{displayable(model.name)} ({model.alias})" if model.alias else displayable(model.name)
    if len(name) > _NAME_WIDTH:
        name = f"{name[: _NAME_WIDTH // 2 - 1]}…{name[-_NAME_WIDTH // 2 :]}"
    licence = model.licence
    if len(licence) > _LICENCE_WIDTH:
        licence = f"{licence[: _LICENCE_WIDTH - 1]}…"
    return (
        name,
        _number(model.parameters),
        _number(model.dim),
        _number(model.resolution),
        *figures,
        licence,
        "built in" if model.kind == "builtin" else here,
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def show(name: NameArgument, as_json: JsonOption = False) -> None:
    """Say everything that is known of an encoder, and how to use it."""
    from xsearch import models

    model = models.show_model(name)
    if as_json:
        write_json(model.to_dict())
        return
    for label, value in _facts(model):
        write_line(f"{label:<24} {value}")


def _facts(model: Model) -> list[tuple[str, str]]:
    """What is known, line by line; what is not is left out."""
    here = "not pulled"
    if model.pulled:
        here = f"{short_path(model.folder or Path())} ({bytes_text(model.bytes)})"
    if model.kind == "builtin":
        here = f"comes with xsearch ({bytes_text(model.bytes)})"
    sizes = [
        f"{model.dim} dimensions" if model.dim else "",
        f"{model.resolution} x {model.resolution} pixels" if model.resolution else "",
        f"{model.context_length} tokens" if model.context_length else "",
    ]
    parity = model.parity or {}
    rows = [
        ("name", displayable(model.name) + (f" ({model.alias})" if model.alias else "")),
        ("parameters", f"{model.parameters:,.1f} million" if model.parameters else ""),
        ("reads", ", ".join(size for size in sizes if size)),
        ("licence", _licence(model)),
        ("repository", model.repository),
        *((_LABELS[key], f"{value:.1f}") for key, value in (model.recalls or {}).items()),
        ("source", model.source),
        ("here", here),
        ("precision", model.precision),
        ("fingerprint", model.fingerprint),
        ("parity", ", ".join(f"{key} {value:.6f}" for key, value in parity.items())),
        ("checkpoint", ", ".join((model.checkpoint or {}).values())),
        ("hub's cache", bytes_text(model.cached) if model.cached else ""),
        *_use(model),
    ]
    return [(label, value) for label, value in rows if value]


def _licence(model: Model) -> str:
    if not model.licence:
        return "not known here: see the model card" if model.repository else ""
    source = f" ({model.licence_source})" if model.licence_source else ""
    return model.licence + source


def _use(model: Model) -> list[tuple[str, str]]:
    short = displayable(model.alias or model.name)
    rows = [("use", f"xsearch index --encoder {short} PATH")]
    if not model.pulled:
        rows.insert(0, ("bring", f"xsearch models pull {short}"))
    return rows


def pull(
    name: NameArgument,
    precision: PrecisionOption = None,
    text_precision: TextPrecisionOption = None,
    pairs: PairsOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Make it again even where it was pulled.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch a model once and keep its towers as ONNX: torch is not needed after that."""
    from xsearch import training

    with progress_bar() as bar:
        made = training.pull_model(
            name,
            precision=precision,
            text_precision=text_precision,
            pairs=_dataset(pairs),
            force=force,
            progress=bar,
        )
    if as_json:
        write_json(made.to_dict())
        return
    if not made.fresh:
        write_line(f"{displayable(made.name)} is there already, {made.precision} (--force: again)")
        return
    _write_made(made, "pulled")
    write_line(f"use it: xsearch index --encoder {displayable(name)} PATH")


def export(
    name: NameArgument,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the folder goes.")],
    precision: PrecisionOption = None,
    text_precision: TextPrecisionOption = None,
    pairs: PairsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a model as an encoder folder, to take to another machine."""
    from xsearch import training

    with progress_bar() as bar:
        made = training.export_model(
            name,
            out,
            precision=precision,
            text_precision=text_precision,
            pairs=_dataset(pairs),
            progress=bar,
        )
    if as_json:
        write_json(made.to_dict())
        return
    _write_made(made, "exported")
    write_line(f"use it: xsearch index --encoder {short_path(made.folder)} PATH")


def _write_made(made: PulledModel, what: str) -> None:
    write_line(f"{what}: {displayable(made.name)}, {made.precision}, in {duration(made.seconds)}")
    if made.parity:
        lowest = min(made.parity["image"], made.parity["text"])
        write_line(f"vectors agree with torch: cosine at least {lowest:.6f}")
    write_line(f"licence: {made.licence}")
    write_line(f"folder: {short_path(made.folder)} ({bytes_text(made.bytes)})")


def _dataset(place: Path | None) -> Dataset | None:
    if place is None:
        return None
    from xsearch import training

    return training.read_dataset(place)


def remove(name: NameArgument, library: LibraryOption = None, as_json: JsonOption = False) -> None:
    """Delete what `pull` made; the checkpoint in the hub's cache stays."""
    from xsearch import models

    removed = models.remove_model(name)
    if _used_by(library, removed.fingerprint):
        complain(
            f"this library is searched with {displayable(removed.name)}: it now needs torch, "
            "or the model pulled again",
            prefix="warning: ",
        )
    if as_json:
        write_json({"name": removed.name, "bytes": removed.bytes})
        return
    write_line(f"removed: {displayable(removed.name)} ({bytes_text(removed.bytes)})")
    if removed.cached:
        write_line(
            f"the hub's cache keeps its checkpoint ({bytes_text(removed.cached)}); to free that: "
            f"hf cache rm model/{removed.repository}"
        )


def _used_by(library: Path | None, fingerprint: str) -> bool:
    """Whether the library that commands use here is searched with an encoder."""
    import xsearch

    try:
        with xsearch.open(library, create=False) as opened:
            return opened.status().fingerprint == fingerprint
    except Error:
        return False

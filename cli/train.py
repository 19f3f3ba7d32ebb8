"""`xsearch train`: an encoder, or a reranker for one, from pictures with captions."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xsearch.cli.options import JsonOption
from xsearch.cli.render import (
    complain,
    complain_first,
    progress_bar,
    short_path,
    write_json,
    write_line,
)
from xsearch.cli.train_rerank import (
    refuse,
    rerank_settings,
    run_rerank,
    write_kept,
    write_learnt,
    write_rerank_report,
)
from xsearch.core.errors import UsageError
from xsearch.core.paths import absolute

if TYPE_CHECKING:
    from xsearch.core.reports import Progress, ProgressCallback
    from xsearch.training.config import TrainConfig
    from xsearch.training.report import TrainReport

_INTERRUPTED = 130


class _Command(typer.core.TyperCommand):
    """Lets `--library` stand without a folder: the library that every command would use."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words: list[str] = []
        for at, word in enumerate(args):
            words.append(word)
            following = args[at + 1] if at + 1 < len(args) else "-"
            if word in ("--library", "-l") and following.startswith("-"):
                words.append("")
        return list(super().parse_args(ctx, words))


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("train", cls=_Command)(train)


def train(
    out: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", help="Where the result, its log and all else go."),
    ],
    task: Annotated[
        str, typer.Option("--task", metavar="encoder|rerank", help="What is to be trained.")
    ] = "encoder",
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            metavar="DIR|FILE",
            help="Pictures with captions; may be repeated. See docs/training.md for the forms.",
            show_default=False,
        ),
    ] = None,
    library: Annotated[
        str | None,
        typer.Option(
            "--library",
            "-l",
            metavar="[DIR]",
            help="Learn from the captions of a library, which is only read; without DIR, of the "
            "one that other commands use.",
            show_default=False,
        ),
    ] = None,
    val: Annotated[
        Path | None,
        typer.Option(
            "--val",
            metavar="DIR|FILE",
            help="Measure on these. Default: the split `val`, or a tenth of the pictures.",
            show_default=False,
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            metavar="NAME|DIR",
            help="What to start from: `builtin` (default), builtin:multilingual, "
            "open_clip:ARCH/PRETRAINED, or a folder that training made. With --task rerank: whose "
            "regions and tokens are read.",
            show_default=False,
        ),
    ] = None,
    image_tower: Annotated[
        str | None,
        typer.Option(
            "--image-tower",
            metavar="NAME",
            help="Instead, with --text-tower: efficientnet-lite0, efficientnet-lite2, timm:NAME.",
            show_default=False,
        ),
    ] = None,
    text_tower: Annotated[
        str | None,
        typer.Option(
            "--text-tower",
            metavar="NAME",
            help="minilm, e5-small, hf:FOLDER or hf:OWNER/NAME.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="FILE", help="Settings as TOML; options win.", show_default=False
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", help="Default: 10; reranker: 16.", show_default=False),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", help="Pairs a step; 128, reranker: 64.", show_default=False),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option("--lr", help="Learning rate; 1e-4, reranker: 6e-4.", show_default=False),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option("--loss", help="infonce (default), sigmoid or triplet.", show_default=False),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="0.", show_default=False)] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", help="auto (default), cpu, cuda, mps.", show_default=False),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            help="auto (default: bf16 on GPUs that have it), fp32, bf16, fp16.",
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any other setting, such as ema.decay=0.999; may be repeated.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, from its checkpoint.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train an encoder, or a reranker for one, on pictures with captions."""
    from xsearch.core.extras import require

    require("torch", "train", "xsearch train")
    given = {
        "data.train": [str(_place(path)) for path in data] if data else None,
        "data.library": _library(library),
        "data.validation": str(_place(val)) if val is not None else None,
        "encoder.name": _encoder(encoder),
        "encoder.image": image_tower,
        "encoder.text": text_tower,
        "schedule.epochs": epochs,
        "batch.size": batch_size,
        "optimiser.rate": lr,
        "loss.name": loss,
        "seed": seed,
        "run.device": device,
        "run.precision": precision,
    }
    if task not in ("encoder", "rerank"):
        raise UsageError(f"--task {task}: give encoder or rerank")
    if task == "rerank":
        own = {"--image-tower": image_tower, "--text-tower": text_tower}
        refuse(own | {"--loss": loss, "--precision": precision})
        reranking = rerank_settings(out, config, resume, given, settings or [])
        with progress_bar() as bar, _told():
            made = run_rerank(reranking, out, resume, _follow(bar))
        if as_json:
            write_json(made.to_dict())
        else:
            write_rerank_report(made, reranking.encoder)
        return
    if encoder is not None and (image_tower or text_tower):
        raise UsageError("give --encoder, or --image-tower and --text-tower, not both")
    chosen = _settings(out, config, resume, given, settings or [])
    with progress_bar() as bar, _told():
        report = _run(chosen, out, resume, _follow(bar))
    if int(os.environ.get("RANK", "0")):
        return
    if as_json:
        write_json(report.to_dict())
    else:
        _write_report(report)


def _settings(
    out: Path, config: Path | None, resume: bool, given: dict[str, Any], words: list[str]
) -> TrainConfig:
    """The stored, read or default settings, with those of the command line in place."""
    from xsearch.training.config import TrainConfig, read_config
    from xsearch.training.folder import stored_config
    from xsearch.training.settings import with_words

    if config is not None:
        base = read_config(config)
    else:
        base = stored_config(absolute(out)) if resume else TrainConfig()
    return with_words(base, given, words)


def _run(config: TrainConfig, out: Path, resume: bool, progress: ProgressCallback) -> TrainReport:
    from xsearch.training.trainer import train as run

    return run(config, out, resume=resume, progress=progress)


@contextmanager
def _told() -> Iterator[None]:
    """Say how to go on where Ctrl-C ended a run that had something to save."""
    from xsearch.training.stopping import Interrupted

    try:
        yield
    except Interrupted as stop:
        complain(str(stop))
        sys.stdout.flush()
        raise SystemExit(_INTERRUPTED) from stop


def _follow(bar: ProgressCallback | None) -> ProgressCallback:
    """A line an epoch, above the bar where there is one."""
    silent = bool(int(os.environ.get("RANK", "0")))

    def show(progress: Progress) -> None:
        if silent:
            return
        if progress.stage == "epoch":
            complain(f"epoch {progress.done} of {progress.total}: {progress.detail}", prefix="")
        elif bar is not None:
            bar(progress)

    return show


def _write_report(report: TrainReport) -> None:
    complain_first(report.problems, "note: ", "more of such lines")
    complain_first(report.broken, "not readable: ")
    write_learnt(report)
    for direction in ("text_to_image", "image_to_text"):
        if report.figures:
            cuts = " / ".join(f"{report.figures[f'{direction}@{cut}']:.1f}" for cut in (1, 5, 10))
            write_line(f"{direction.replace('_', ' ')}, recall at 1 / 5 / 10: {cuts}")
    write_kept(report)
    write_line(f"encoder: {short_path(report.out)}")


def _place(path: Path) -> Path:
    """So that a run goes on from any folder."""
    return absolute(path)


def _library(given: str | None) -> str | None:
    if given is None:
        return None
    from xsearch.locate import locate

    return str(locate(given or None))


def _encoder(given: str | None) -> str | None:
    if given is None or given == "builtin" or not Path(given).is_dir():
        return given
    return str(absolute(given))

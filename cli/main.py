"""The command `xsearch`: its verbs, and how errors end it."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import warnings
from typing import Annotated, Any

import typer

from xsearch.cli.render import complain
from xsearch.core.errors import Error, UsageError

_VERBS = {
    "index": ("index", "init", "demo"),
    "query": ("query", "similar"),
    "maintain": ("status", "remove", "compact", "check"),
    "classify": ("classify", "tag"),
    "duplicates": ("duplicates",),
    "caption": ("caption",),
    "explain": ("explain",),
    "reindex": ("reindex",),
    "transfer": ("import", "export"),
    "evaluate": ("evaluate",),
    "train": ("train",),
    "models": ("models",),
}
"""The modules of the commands, and the verbs that each adds."""

_READING = frozenset(
    {"query", "similar", "status", "caption", "explain", "duplicates", "evaluate", "export"}
)
"""Verbs that commit nothing to a library."""
_INTERRUPTED = 130  # what Typer returns, too, after Ctrl-C
_Usage: Any = typer.BadParameter.__mro__[1]


def _version(wanted: bool) -> None:
    if wanted:
        from xsearch import __version__

        print(f"xsearch {__version__}")
        raise typer.Exit


def make_app(verb: str | None = None) -> typer.Typer:
    """The command with all its verbs, or only those of the module that has one.

    Reading what all the others take would be a tenth of a query's time.
    """
    app = typer.Typer(
        name="xsearch",
        help="Search your own pictures and texts by meaning: offline, nothing to download.",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        epilog="Start with: xsearch index ./photos, then: xsearch query 'cat on grass'",
    )
    app.callback()(_main)
    chosen = [name for name, verbs in _VERBS.items() if verb in verbs]
    for name in chosen or _VERBS:
        importlib.import_module(f"xsearch.cli.{name}").register(app)
    return app


def _main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Say which version."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback when something fails.")
    ] = False,
) -> None:
    del version, debug


def run() -> None:
    """Entry point: 0 done (also with no hits), 1 failed, 2 usage, 130 interrupted."""
    debug = "--debug" in sys.argv[1:]
    interrupted: list[int] = []

    def interrupt(number: int, _: Any) -> None:
        interrupted.append(number)
        raise KeyboardInterrupt

    with contextlib.suppress(ValueError):  # Only the main thread is told.
        signal.signal(signal.SIGINT, interrupt)
    # `xsearch query cat --debug` works too, wherever it stands before `--`.
    words = [word for at, word in enumerate(sys.argv[1:]) if word != "--debug" or _after(at)]
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            status = make_app(_verb(words))(args=words, standalone_mode=False)
            sys.stdout.flush()
        except _Usage as error:
            status = _usage(error, words)
        except (typer.Abort, KeyboardInterrupt):
            status = _INTERRUPTED
        except (BrokenPipeError, SystemExit) as end:
            # The reader of a pipe, such as `head`, has enough; Typer makes it an exit.
            if isinstance(end, SystemExit) and not isinstance(end.__context__, BrokenPipeError):
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = 0
        except Error as error:
            if debug:
                raise
            complain(str(error))
            status = 2 if isinstance(error, UsageError) else 1
        except Exception as error:
            if debug:
                raise
            # Some libraries make another error of a Ctrl-C that comes while they are loaded.
            status = _INTERRUPTED if interrupted else 1
            if not interrupted:
                complain(
                    f"{type(error).__name__}: {error}. This should not happen: run it again with "
                    "--debug and report what it prints."
                )
    if status == _INTERRUPTED:
        told = "interrupted"
        if _verb(words) not in _READING:
            told += "; what was committed stays. Run the command again to go on."
        complain(told)
    sys.exit(status if isinstance(status, int) else 0)


def _verb(words: list[str]) -> str | None:
    """The verb of a command line; None where the shell asks for completions."""
    if any(name.endswith("_COMPLETE") for name in os.environ if name.startswith("_")):
        return None
    return next((word for word in words if not word.startswith("-")), None)


def _after(at: int) -> bool:
    """Whether the word at this place comes after `--`."""
    return "--" in sys.argv[1 : at + 1]


def _usage(error: Any, words: list[str]) -> int:
    complain(error.format_message())
    if type(error).__name__ == "NoSuchOption" and "query" in words:
        complain(
            "To subtract, put spaces around the minus: xsearch query dog - grass. What begins with "
            "- goes after --, and options before it: xsearch query -- -5°C",
            prefix="",
        )
    context = getattr(error, "ctx", None)
    name = context.command_path if context else "xsearch"
    complain(f"`{name} -h` lists what there is.", prefix="")
    return 2


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    complain(str(message), prefix="note: ")

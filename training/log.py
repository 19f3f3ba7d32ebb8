"""What a run writes down as it goes: `log.jsonl`, curves as a picture, TensorBoard if asked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xsearch.core.errors import MissingExtraError, StorageError
from xsearch.core.extras import require

from .checkpoint import replacing, write_text

FILE = "log.jsonl"
CURVES = "curves.png"

Row = dict[str, Any]


class Log:
    """Lines of `log.jsonl`, each with its `kind` (`run`, `step` or `validation`) and `step`.

    A run that goes on from a checkpoint first drops the lines of steps after it: they will come
    again, with the same numbers. Raises StorageError where the disk refuses.
    """

    def __init__(self, out: Path, *, tensorboard: bool = False, step: int = 0) -> None:
        self._path = out / FILE
        self.rows = [row for row in read_log(out) if row["step"] <= step and step]
        write_text(self._path, "".join(map(_line, self.rows)))
        self._file = self._path.open("a", encoding="utf-8")
        self._board = _board(out, step) if tensorboard else None

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Add a line."""
        row = {"kind": kind, "step": step, **values}
        self.rows.append(row)
        try:
            self._file.write(_line(row))
            self._file.flush()
        except OSError as error:
            reason = error.strerror or error
            raise StorageError(f"{self._path} cannot be written: {reason}") from error
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Close the files."""
        try:
            self._file.close()
        except OSError as error:
            reason = error.strerror or error
            raise StorageError(f"{self._path} cannot be written: {reason}") from error
        if self._board is not None:
            self._board.close()


def read_log(out: Path) -> list[Row]:
    """The lines of a run's log; a last one that a kill cut short is left out."""
    path = out / FILE
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int) and "kind" in row:
            rows.append(row)
    return rows


def draw_curves(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw loss and learning rate by step, and validation recall, to a PNG.

    Raises MissingExtraError without matplotlib, StorageError where the disk refuses.
    """
    require("matplotlib", "train", "drawing curves")
    # The figure itself, without pyplot: no window system, no global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = [row for row in rows if row["kind"] == "step"]
    checks = [row for row in rows if row["kind"] == "validation"]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([row["step"] for row in steps], [row["loss"] for row in steps], linewidth=1)
    left.set(title="Training loss", xlabel="step", ylabel="loss")
    rates = left.twinx()
    rates.plot(
        [row["step"] for row in steps],
        [row["rate"] for row in steps],
        color="0.7",
        linestyle="--",
        linewidth=1,
    )
    rates.set_ylabel("learning rate (dashed)")
    for name in ("text_to_image@1", "text_to_image@10", "image_to_text@1", "image_to_text@10"):
        found = [(row["step"], row[name]) for row in checks if name in row]
        if found:
            right.plot(*zip(*found, strict=True), marker=".", label=name.replace("_", " "))
    right.set(title="Validation recall", xlabel="step", ylabel="%", ylim=(0, 100))
    if right.lines:
        right.legend(fontsize="small")
    with replacing(path) as file:
        FigureCanvasAgg(figure).print_png(file)  # type: ignore[no-untyped-call]


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _board(out: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtraError(
            "log.tensorboard needs tensorboard: pip install tensorboard"
        ) from None
    return SummaryWriter(str(out / "tensorboard"), purge_step=step or None)

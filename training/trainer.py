"""The training loop: epochs, checkpoints, interrupts, and the encoder folder at the end."""

from __future__ import annotations

import hashlib
import math
import shlex
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xsearch.core.errors import SourceError, StorageError, TrainingError
from xsearch.core.extras import require
from xsearch.core.images import quiet_pillow
from xsearch.core.paths import absolute, displayable
from xsearch.core.reports import Progress, ProgressCallback

from . import checkpoint, finish, material
from .batches import Batch, Loader, Plan, Shape
from .config import TrainConfig
from .distributed import Processes, any_of, barrier, joined, processes
from .folder import open_folder, write_config
from .log import CURVES, Log, draw_curves
from .measure import Validation
from .report import TrainReport
from .sources import sources_of
from .stopping import Interrupted, Stop
from .towers import build_encoder

require("torch", "train", "training")

import torch  # noqa: E402

from .learner import DivergedError, Learner, Taken, device_of  # noqa: E402

__all__ = ["Interrupted", "train"]


def train(
    config: TrainConfig,
    out: str | Path,
    *,
    resume: bool = False,
    progress: ProgressCallback | None = None,
) -> TrainReport:
    """Train a dual encoder and write it, as an encoder folder, to `out`.

    `out` also holds the settings (`config.toml`), `log.jsonl`, `curves.png`, a model card and
    checkpoints. With `resume` a run goes on from its last checkpoint exactly where it was: the
    same batches, the same random numbers. `progress` is called from this thread.

    Under `torchrun`, every process calls this; the batch is shared among them, and the first one
    writes.

    Raises:
        UsageError: a setting cannot be, or cannot change in a run that goes on.
        SourceError: the data cannot be read, or there is too little of it.
        TrainingError: loss or gradient is not finite, a checkpoint is damaged, the data changed;
            the message says which checkpoint is good and how to go on from it.
        StorageError: the disk refuses; the last good checkpoint stays.
        EncoderError, MissingExtraError: the model cannot be built.
        Interrupted: Ctrl-C; a KeyboardInterrupt, after a checkpoint was saved.
    """
    found = processes()
    device = device_of(config.run.device, found)
    folder = absolute(out)
    with joined(device), quiet_pillow(), Stop() as stop:
        opened = open_folder(config, folder, resume=resume)
        run = _prepare(opened.config, folder, device, found, progress)
        try:
            run.go(opened.checkpoint, stop)
            return run.finish()
        except StorageError as error:
            raise StorageError(f"{error}. {run.advice()}") from error


def _prepare(
    config: TrainConfig,
    out: Path,
    device: torch.device,
    found: Processes,
    progress: ProgressCallback | None,
) -> _Run:
    """Read the data, build the model, set all up for the first step."""
    data = material.gather(config.data, progress if found.is_main else None)
    plan = Plan(len(data.train), config.batch.size, config.batch.accumulate, config.seed)
    if min(len(data.train), config.batch.size) < 2 * found.count:
        raise SourceError(
            f"{len(data.train)} pictures in batches of {config.batch.size} are too few for "
            f"{found.count} processes: each needs two of a batch"
        )
    torch.manual_seed(config.seed)
    model = build_encoder(config.encoder.spec)
    sources = sources_of(config, data)
    learner = Learner(config, model, sources, device, found, plan.steps * config.schedule.epochs)
    validation = Validation(
        data.validation, batch=config.evaluation.batch, workers=config.data.workers
    )
    return _Run(config, out, data, plan, learner, validation, found, progress or _nothing)


@dataclass(slots=True)
class _Best:
    """The best validation so far: its step (a count of steps taken) and its figures."""

    step: int = 0
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Run:
    """One run in one process."""

    config: TrainConfig
    out: Path
    data: material.Material
    plan: Plan
    learner: Learner
    validation: Validation
    processes: Processes
    progress: ProgressCallback
    step: int = 0  # steps taken
    saved: int | None = None  # the step of the last checkpoint
    best: _Best = field(default_factory=_Best)
    broken: dict[str, str] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)  # of this epoch
    loss: float = math.nan  # mean of the last whole epoch
    seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)
    checkpointed: float = field(default_factory=time.monotonic)
    log: Log | None = None

    def go(self, state: dict[str, Any] | None, stop: Stop) -> None:
        """All epochs that are left."""
        if state is not None:
            self._restore(state)
        barrier()
        if self.processes.is_main:
            write_config(self.out, self.config)
            self.log = Log(self.out, tensorboard=self.config.log.tensorboard, step=self.step)
            self._write_log("run", **self._setup())
        try:
            with self._loader() as loader, stop.between_steps():
                while self.step < self.learner.steps:
                    self._epoch(loader, stop)
        finally:
            if self.log is not None:
                self.log.close()

    def _epoch(self, loader: Loader, stop: Stop) -> None:
        """The rest of the epoch that the next step is in."""
        epoch, first = divmod(self.step, self.plan.steps)
        for batches in loader.steps(epoch, first):
            self._take(batches)
            last = self.step % self.plan.steps == 0
            if not last and any_of(stop.asked, self.learner.device):
                self._stop()
            if not last and any_of(self._is_due(), self.learner.device):
                self.save()
        self._end_epoch(epoch + 1)
        self.save()
        if any_of(stop.asked, self.learner.device) and self.step < self.learner.steps:
            self._stop()

    def _take(self, batches: list[Batch]) -> None:
        """One step, in the log and on the screen."""
        began = time.monotonic()
        try:
            taken = self.learner.step(self.step, batches)
        except DivergedError as error:
            raise TrainingError(self._diverged(str(error))) from error
        self.step += 1
        self.losses.append(taken.loss)
        for broken in (each for batch in batches for each in batch.broken):
            self.broken[broken.key] = broken.reason
        if self.step % self.config.log.every == 0:
            self._log_step(taken, time.monotonic() - began)
        done = self.step * self.plan.size * self.plan.accumulate
        whole = self.learner.steps * self.plan.size * self.plan.accumulate
        self.progress(Progress("train", done, whole, detail=f"loss {taken.loss:.3f}"))

    def _end_epoch(self, epoch: int) -> None:
        """Measure on validation where it is time, and keep the weights if they are the best."""
        config = self.config
        self.loss = sum(self.losses) / max(len(self.losses), 1)
        self.losses = []
        is_last = self.step >= self.learner.steps
        figures: dict[str, float] = {}
        with self.learner.kept_weights() as model:
            due = epoch % config.evaluation.every == 0 or is_last
            if self.processes.is_main and self.validation and due:
                figures = self.validation.measure(model, self.learner.device)
                if not figures and self.validation:
                    raise TrainingError(self._diverged("the vectors of the validation are"))
                self._write_log("validation", epoch=epoch, loss=self.loss, **figures)
            if self.log is not None:
                draw_curves(self.log.rows, self.out / CURVES)
            # Without validation the newest weights are the ones that are kept.
            better = not self.validation or figures.get("mean", -1.0) > self.best.figures.get(
                "mean", -1.0
            )
            if self.processes.is_main and better and (figures or not self.validation):
                self.best = _Best(self.step, figures)
                content = {"model": model.state_dict(), "step": self.step, "figures": figures}
                checkpoint.write(checkpoint.best_of(self.out), content)
        barrier()
        self.progress(
            Progress("epoch", epoch, config.schedule.epochs, detail=_epoch_line(self.loss, figures))
        )

    def finish(self) -> TrainReport:
        """Export the best weights and say what was done."""
        barrier()
        exported = ""
        if self.processes.is_main:
            self.progress(Progress("export", 0, 1))
            best = checkpoint.best_of(self.out)
            # None yet, where a run was told to end before an epoch that is measured.
            if best.exists():
                self.learner.model.load_state_dict(checkpoint.read(best)["model"])
            exported = finish.write_encoder(
                self.learner.model, self.out, self.config, self.data, self.validation, self.report()
            )
        barrier()
        return self.report(exported)

    def report(self, fingerprint: str = "") -> TrainReport:
        """What was done so far."""
        broken = [f"{displayable(key)}: {reason}" for key, reason in self.broken.items()]
        return TrainReport(
            out=self.out,
            fingerprint=fingerprint,
            epochs=self.step // self.plan.steps,
            steps=self.step,
            images=len(self.data.train),
            captions=sum(len(record.texts()) for record in self.data.train),
            validation=len(self.validation.records),
            loss=self.loss,
            best_epoch=self.best.step // self.plan.steps,
            figures=self.best.figures,
            seconds=self.seconds + time.monotonic() - self.started,
            leaks=self.data.leaks,
            broken=(*broken, *map(displayable, self.validation.broken)),
            problems=self.data.problems,
        )

    # Saving and going on

    def save(self) -> None:
        """Write the last checkpoint, a good one. Raises StorageError; the one before stays."""
        if not self.learner.is_finite():
            raise TrainingError(self._diverged("weights are"))
        if self.processes.is_main:
            checkpoint.write(checkpoint.last_of(self.out), self._state())
            self.saved = self.step
        self.checkpointed = time.monotonic()
        barrier()

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "data": _digest(self.data),
            "learner": self.learner.state_dict(),
            "best": {"step": self.best.step, "figures": self.best.figures},
            "broken": self.broken,
            "losses": self.losses,
            "loss": self.loss,
            "seconds": self.seconds + time.monotonic() - self.started,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        if state["data"] != _digest(self.data):
            raise TrainingError(
                f"{self.out}: the pictures or captions to be learnt from have changed since this "
                "run began; begin a new one in another folder with --out"
            )
        self.learner.load_state_dict(state["learner"])
        self.step = self.saved = state["step"]
        self.best = _Best(state["best"]["step"], state["best"]["figures"])
        self.broken, self.losses = dict(state["broken"]), list(state["losses"])
        self.loss, self.seconds = state["loss"], state["seconds"]

    def _is_due(self) -> bool:
        settings = self.config.checkpoints
        if settings.steps and self.step % settings.steps == 0:
            return True
        return bool(settings.minutes) and (
            time.monotonic() - self.checkpointed > settings.minutes * 60
        )

    def _stop(self) -> None:
        self.save()
        raise Interrupted(
            f"interrupted after step {self.step} of {self.learner.steps}. {_go(self)}"
        )

    def advice(self) -> str:
        """Which checkpoint is there, and the command that goes on from it."""
        if self.saved is None:
            return "No checkpoint was written yet: begin again"
        last = checkpoint.last_of(self.out)
        return f"The checkpoint {last} of step {self.saved} is good. {_go(self)}"

    def _diverged(self, what: str) -> str:
        rate = self.config.optimiser.rate / 2
        lower = f" --lr {rate:g}" if self.saved is not None else ""
        tail = "with half the learning rate" if lower else f"with a lower rate, --lr {rate:g}"
        place = f"step {self.step + 1}, epoch {self.step // self.plan.steps + 1}"
        return f"{what}, not a finite number, at {place}. {self.advice()}{lower} ({tail})"

    # Writing down

    def _loader(self) -> Loader:
        model = self.learner.model
        side, size = model.preparation.side, model.image_size
        return Loader(
            self.data.train,
            self.plan,
            Shape(model.preprocess, side, size, model.resize),
            self.config.augmentation,
            processes=self.processes,
            workers=self.config.data.workers,
            ahead=self.config.data.prefetch,
        )

    def _setup(self) -> dict[str, Any]:
        from xsearch import __version__

        return {
            "version": __version__,
            "torch": torch.__version__,
            "device": str(self.learner.device),
            "processes": self.processes.count,
            "images": len(self.data.train),
            "validation": len(self.data.validation),
            "leaks": self.data.leaks,
            "steps": self.learner.steps,
            "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }

    def _log_step(self, taken: Taken, seconds: float) -> None:
        scale = self.learner.objective.scale()
        self._write_log(
            "step",
            epoch=(self.step - 1) // self.plan.steps + 1,
            loss=taken.loss,
            rate=taken.rate,
            # JSON has no word for what is not finite: with fp16 a gradient may overflow.
            norm=taken.norm if math.isfinite(taken.norm) else None,
            seconds=round(seconds, 4),
            **({} if scale is None else {"scale": scale}),
        )

    def _write_log(self, kind: str, **values: Any) -> None:
        if self.log is not None:
            self.log.write(kind, self.step, **values)


def _go(run: _Run) -> str:
    return f"Go on with: xsearch train --out {shlex.quote(str(run.out))} --resume"


def _epoch_line(loss: float, figures: dict[str, float]) -> str:
    line = f"loss {loss:.3f}"
    if not figures:
        return line
    forward, back = (
        " / ".join(f"{figures[f'{direction}@{cut}']:.1f}" for cut in (1, 5, 10))
        for direction in ("text_to_image", "image_to_text")
    )
    return f"{line}, recall at 1 / 5 / 10: text to image {forward}, image to text {back}"


def _digest(data: material.Material) -> str:
    """Names what is learnt from, and in which order."""
    state = hashlib.sha256()
    for record in data.train:
        state.update(repr((record.key, sorted(record.captions.items()))).encode())
    return state.hexdigest()


def _nothing(progress: Progress) -> None:
    del progress

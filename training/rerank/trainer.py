"""The loop of a reranker's training: epochs, checkpoints, interrupts, and its folder at the end."""

from __future__ import annotations

import math
import shlex
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from xsearch.core.encoder import RegionEncoder
from xsearch.core.errors import EncoderError, TrainingError
from xsearch.core.extras import require
from xsearch.core.images import quiet_pillow
from xsearch.core.paths import absolute
from xsearch.core.reports import Progress, ProgressCallback
from xsearch.retrieval.encoders import load_encoder
from xsearch.training import checkpoint
from xsearch.training.folder import CONFIG
from xsearch.training.log import Log
from xsearch.training.stopping import Interrupted, Stop

from .card import write_card
from .config import RerankConfig
from .features import Encoder
from .folder import open_folder
from .material import RerankMaterial, gather
from .plan import Epoch, Plan
from .report import RerankReport

require("torch", "train", "training")

import torch  # noqa: E402

from .agreement import Background  # noqa: E402
from .blend import Fitted, fit  # noqa: E402
from .check import WHOLE, compare, figures  # noqa: E402
from .export import export  # noqa: E402
from .learner import Learner  # noqa: E402
from .network import Reranker, RerankerShape  # noqa: E402

APART = 0.1
"""Log-odds of the gate: pictures and scenes that differ less are not told apart by it."""


def train_reranker(
    config: RerankConfig,
    out: str | Path,
    *,
    resume: bool = False,
    progress: ProgressCallback | None = None,
) -> RerankReport:
    """Train a reranker for an encoder and write it, as a reranker folder, to `out`.

    `out` also holds the settings (`config.toml`), `log.jsonl`, a model card, checkpoints, and what
    the encoder saw and read of the data (`features/`, which may be deleted afterwards). With
    `resume` a run goes on from its last checkpoint, with the same batches.

    Raises:
        UsageError: a setting cannot be, or cannot change in a run that goes on.
        SourceError: the data cannot be read, or there is too little of it.
        EncoderError: the encoder shows no regions and tokens, or cannot be loaded.
        TrainingError: the loss is not finite, a checkpoint is damaged, the data changed.
        StorageError: the disk refuses; the last good checkpoint stays.
        Interrupted: Ctrl-C; a KeyboardInterrupt, after a checkpoint was saved.
    """
    folder = absolute(out)
    with quiet_pillow():
        state = open_folder(config, folder, resume=resume)
        encoder = load_encoder(config.encoder)
        if not isinstance(encoder, RegionEncoder):
            raise EncoderError(
                f"the encoder {encoder.name} shows no regions and tokens, which a reranker reads"
            )
        report = progress or _nothing
        expected = None if state is None else state["digest"]
        material = gather(config, cast(Encoder, encoder), folder, report, expected=expected)
        checkpoint.write_text(folder / CONFIG, config.to_toml())
        return run(config, cast(Encoder, encoder), material, folder, state, report)


def run(
    config: RerankConfig,
    encoder: Encoder,
    material: RerankMaterial,
    out: Path,
    state: dict[str, Any] | None,
    progress: ProgressCallback,
) -> RerankReport:
    """Learn from what was gathered, from the beginning or a checkpoint's state on."""
    if config.threads:
        torch.set_num_threads(config.threads)
    device = _device(config.device)
    torch.manual_seed(config.seed)
    network = _network(config, material)
    plan = Plan(config, material.near, material.claims, scenes=material.scenes is not None)
    learner = Learner(config, network, material, device)
    going = _Run(config, out, encoder, material, plan, learner, progress)
    if state is not None:
        going.restore(state)
    with Stop() as stop:
        going.go(stop)
        return going.finish()


@dataclass(slots=True)
class _Run:
    """One run."""

    config: RerankConfig
    out: Path
    encoder: Encoder
    material: RerankMaterial
    plan: Plan
    learner: Learner
    progress: ProgressCallback
    step: int = 0
    saved: int | None = None
    best: dict[str, float] = field(default_factory=dict)
    best_epoch: int = 0
    loss: float = math.nan
    seconds: float = 0.0
    started: float = field(default_factory=time.monotonic)
    written: float = field(default_factory=time.monotonic)

    def go(self, stop: Stop) -> None:
        """All epochs that are left."""
        log = Log(self.out, step=self.step)
        try:
            with stop.between_steps():
                while self.step < self.plan.total:
                    self._epoch(self.plan.at(self.step), log, stop)
        finally:
            log.close()

    def _epoch(self, epoch: Epoch, log: Log, stop: Stop) -> None:
        for chosen in self.plan.groups(epoch)[self.step - epoch.first :]:
            rate = self.plan.rate(self.step)
            loss = self.learner.step(self.step, epoch, rate, chosen)
            if not math.isfinite(loss):
                raise TrainingError(
                    f"loss or gradient are not finite numbers at step {self.step + 1}. "
                    f"{self._advice()} --lr {self.config.optimiser.rate / 2:g} (with half the rate)"
                )
            self.step += 1
            log.write("step", self.step, loss=loss, rate=rate)
            self.progress(Progress("train", self.step, self.plan.total, detail=f"loss {loss:.3f}"))
            if self.step == epoch.end:
                break  # measured and saved below
            if stop.asked:
                self._stop()
            if time.monotonic() - self.written > 60 * self.config.check.minutes:
                self._save()
        # From the log, which has the steps before an interrupt, too.
        steps = [row for row in log.rows if row["kind"] == "step" and row["step"] > epoch.first]
        self.loss = sum(row["loss"] for row in steps) / max(len(steps), 1)
        self._measure(epoch, log)
        self._save()
        if stop.asked and self.step < self.plan.total:
            self._stop()

    def _measure(self, finished: Epoch, log: Log) -> None:
        """Measure where it is time, and keep the averaged weights if they are the best."""
        last = self.step == self.plan.total
        epoch, stage = finished.number + 1, finished.stage
        found: dict[str, float] = {}
        check = self.config.check
        due = stage != "compose" and epoch % check.every == 0
        if self.material.validation is not None and (due or last):
            found = figures(
                compare(
                    self._averaged(),
                    self.material.validation,
                    candidates=check.candidates,
                    queries=check.queries,
                    from_text=True,
                    device=self.learner.device,
                    deep=finished.deep,
                ),
                "text_to_image",
            )
            log.write("validation", self.step, epoch=epoch, loss=self.loss, **found)
        # Of earlier stages nothing is kept: cross layers have seen no picture yet.
        better = found.get("text_to_image@1", -1.0) >= self.best.get("text_to_image@1", -1.0)
        if (stage == "match" or last) and better and (found or self.material.validation is None):
            self.best, self.best_epoch = found, epoch
            content = {"average": self.learner.average, "epoch": epoch}
            checkpoint.write(checkpoint.best_of(self.out), content)
        detail = f"loss {self.loss:.3f}" + "".join(
            f", {label} {found[key]:.1f}"
            for key, label in (
                ("text_to_image@1", "recall@1"),
                ("text_to_image_without@1", "without"),
                ("text_to_image_alone@1", "alone"),
            )
            if key in found
        )
        self.progress(Progress("epoch", epoch, len(self.plan.epochs), detail=detail))

    def finish(self) -> RerankReport:
        """Fit the blend, export the best weights, say what was done."""
        self.progress(Progress("export", 0, 1))
        best = checkpoint.best_of(self.out)
        if best.exists():
            self.learner.average = checkpoint.read(best)["average"]
        network = self._averaged()
        network.background = self._background(network)
        network.guidance = self._guidance(network)
        measured = self.material.validation or self.material.train
        fitted: Fitted = fit(network, measured, self.encoder, self.learner.device)
        fingerprint = export(
            network,
            self.out,
            name=f"{self.encoder.name} reranker",
            encoder=self.encoder.fingerprint,
            blend=fitted.blend,
        )
        report = RerankReport(
            out=self.out,
            encoder=self.encoder.name,
            fingerprint=fingerprint,
            epochs=len(self.plan.epochs),
            steps=self.step,
            images=len(self.material.train),
            captions=len(self.material.train.owners),
            validation=len(measured) if self.material.validation is not None else 0,
            loss=self.loss,
            best_epoch=self.best_epoch,
            figures=fitted.figures if self.material.validation is not None else {},
            seconds=self.seconds + time.monotonic() - self.started,
            leaks=self.material.leaks,
            problems=self.material.problems,
            broken=self.material.broken,
        )
        write_card(self.out, self.config, self.material, report)
        return report

    @torch.inference_mode()
    def _background(self, network: Reranker) -> Background | None:
        """Captions of pictures spread over all that was learnt from, one of each."""
        settings, train = self.config.background, self.material.train
        count = min(settings.captions, len(train))
        if not count:
            return None
        captions = train.captions_of()
        chosen = [captions[row] for row in np.linspace(0, len(train) - 1, count).astype(int)]
        rows = np.array([[own[np.argmax(train.main[own])] for own in chosen]])
        read = train.tokens.batch(rows, WHOLE)
        tokens, mask = (torch.from_numpy(part).to(self.learner.device) for part in read)
        words = network.understand(tokens, mask, deep=False).words
        return Background(words.heaviest(settings.tokens), settings.share)

    @torch.inference_mode()
    def _guidance(self, network: Reranker) -> tuple[float, float] | None:
        """What the gate says between pictures and scenes; None where it tells nothing."""
        scenes = self.material.scenes
        if scenes is None:
            return None
        said = []
        for regions in (self.material.train.regions, scenes.regions):
            count = len(regions.views[0])
            rows = np.linspace(0, count - 1, min(count, 200)).astype(int)
            some = torch.from_numpy(regions.batch(rows)).to(self.learner.device)
            said.append(float(network.trust(network.remember(some)).mean()))
        half = (said[1] - said[0]) / 2
        return (said[0] + half, 4 / half) if half > APART else None

    def _averaged(self) -> Reranker:
        found = Reranker(self.learner.network.shape).to(self.learner.device)
        found.load_state_dict(self.learner.average)
        return found.eval()

    def _save(self) -> None:
        content = {
            "step": self.step,
            "digest": self.material.digest,
            "learner": self.learner.state_dict(),
            "best": self.best,
            "best_epoch": self.best_epoch,
            "loss": self.loss,
            "seconds": self.seconds + time.monotonic() - self.started,
        }
        checkpoint.write(checkpoint.last_of(self.out), content)
        self.saved, self.written = self.step, time.monotonic()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.learner.load_state_dict(state["learner"])
        self.step = self.saved = state["step"]
        self.best, self.best_epoch = dict(state["best"]), state["best_epoch"]
        self.loss, self.seconds = state["loss"], state["seconds"]

    def _stop(self) -> None:
        self._save()
        total = self.plan.total
        raise Interrupted(f"interrupted after step {self.step} of {total}. {self._advice()}")

    def _advice(self) -> str:
        if self.saved is None:
            return "No checkpoint was written yet: begin again, with"
        return (
            f"The checkpoint of step {self.saved} is good. Go on with: "
            f"xsearch train --task rerank --out {shlex.quote(str(self.out))} --resume"
        )


def _network(config: RerankConfig, material: RerankMaterial) -> Reranker:
    regions = material.train.regions
    count, channels = regions.views[0].shape[1:]
    side = math.isqrt(count)
    if side * side != count:
        raise EncoderError(
            f"{config.encoder} shows {count} regions, which are no square grid: a reranker needs "
            "patches of a square picture"
        )
    settings = config.network
    shape = RerankerShape(
        grid=(side, side),
        channels=channels,
        token_channels=material.train.tokens.flat.shape[1],
        width=settings.width,
        nearby=settings.nearby,
        deep=settings.deep,
        heads=settings.heads,
        text_layers=settings.text_layers,
        cross_layers=settings.cross_layers,
        hidden=settings.hidden,
    )
    network = Reranker(shape, settings.dropout)
    some = regions.views[0][:: max(1, len(regions.views[0]) // 600)]
    sample = torch.from_numpy(some.astype("float32")).flatten(0, 1)
    network.mean.copy_(sample.mean(0))
    network.deviation.copy_(sample.std(0).clamp_min(1e-3))
    return network


def _device(name: str) -> torch.device:
    from xsearch.retrieval.encoders.clip.device import choose

    return choose(name)


def _nothing(_: Progress) -> None:
    """Nobody follows."""

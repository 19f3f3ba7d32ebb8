"""`TrainConfig`: every setting of a training run with its default, kept as TOML with the result."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from xsearch.core.errors import UsageError
from xsearch.data.augment import ImageAugmentation
from xsearch.data.leaks import DISTANCE
from xsearch.data.texts import TextAugmentation

from .settings import flat, read_toml, to_toml
from .towers import EncoderSpec

__all__ = ["TrainConfig", "changed", "read_config"]

FIXED = (
    "data",
    "encoder",
    "batch",
    "seed",
    "loss.name",
    "loss.concepts",
    "optimiser.name",
    "freezing.image",
    "freezing.text",
    "freezing.lock",
    "ema",
)
"""Settings that a resumed run cannot change: what it has learnt so far rests on them."""
FREE = ("data.workers", "data.prefetch")
"""Those below them that it can."""


@dataclass(frozen=True, slots=True)
class DataConfig:
    """What is learnt from, and what is held out.

    train: data sets, folders or files as `xsearch.data.readers.read_dataset` takes them.
    library: a library's folder, whose captioned pictures are learnt from as well.
    format, images: how `train` is to be read, and where its pictures are; empty: found out.
    language: of captions whose source does not say. languages: those learnt from; none: all.
    train_splits, validation_split, test_split: names of splits. What has no split is learnt from.
    validation: a data set to measure on, in place of the validation split.
    validation_share: of the pictures, where there is neither; at most `validation_limit`.
    held_out: more data sets that must not be learnt from. leaks: what is done with pictures that
        are in validation, test or these as well: `drop` them, `refuse` to train, or `keep`.
    leak_distance: bits of two perceptual hashes that may differ where two look the same.
    class_prompt: the caption of a picture that has only class names.
    workers: threads that decode pictures. prefetch: batches prepared ahead.
    """

    train: tuple[str, ...] = ()
    library: str | None = None
    format: str | None = None
    images: str | None = None
    language: str = "en"
    languages: tuple[str, ...] = ()
    train_splits: tuple[str, ...] = ("train", "restval")
    validation_split: str = "val"
    test_split: str = "test"
    validation: str | None = None
    validation_share: float = 0.1
    validation_limit: int = 1000
    held_out: tuple[str, ...] = ()
    leaks: Literal["drop", "refuse", "keep"] = "drop"
    leak_distance: int = DISTANCE
    class_prompt: str = "a photo of {}"
    workers: int = 4
    prefetch: int = 3


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """What is trained: a whole encoder, or an image and a text tower (see `EncoderSpec`)."""

    name: str | None = "builtin"
    image: str | None = None
    text: str | None = None
    dim: int = 384
    head: Literal["linear", "mlp", "none"] = "linear"
    pretrained: bool = True
    image_size: int | None = None
    resize: str | None = None
    context_length: int | None = None
    image_weights: str | None = None

    @property
    def spec(self) -> EncoderSpec:
        """What the towers are built from. Raises UsageError where it names nothing whole."""
        towers = bool(self.image or self.text)
        return EncoderSpec(
            encoder=None if towers else self.name,
            image=self.image,
            text=self.text,
            dim=self.dim,
            head=self.head,
            pretrained=self.pretrained,
            image_size=self.image_size,
            resize=self.resize,
            context_length=self.context_length,
            image_weights=Path(self.image_weights) if self.image_weights else None,
        )


@dataclass(frozen=True, slots=True)
class AugmentationConfig:
    """How pictures and captions are varied; `enabled = false` takes them as they are."""

    enabled: bool = True
    image: ImageAugmentation = field(default_factory=ImageAugmentation)
    text: TextAugmentation = field(default_factory=TextAugmentation)


@dataclass(frozen=True, slots=True)
class DistillationConfig:
    """Keeps the batch's similarities near a teacher's (`SimilarityDistillation`), times `weight`.

    teacher: `builtin` or an encoder's folder.
    """

    weight: float = 0.0
    teacher: str = "builtin"
    compared: tuple[str, ...] = ("image-text", "text-image")
    scale: float = 20.0
    teacher_scale: float = 20.0


@dataclass(frozen=True, slots=True)
class LossConfig:
    """The loss (see `xsearch.training.losses`): a contrastive one, and terms added to it.

    scale: what cosines are multiplied with at the start; None: the model's own, or the loss's.
    max_scale, smoothing: of `infonce`. bias: of `sigmoid`. margin, negatives: of `triplet`.
    anchor: weight of the distance to where the model, as it was at the start, put each item.
    concepts: weight of naming the words of its captions from an image.
    """

    name: Literal["infonce", "sigmoid", "triplet"] = "infonce"
    scale: float | None = None
    learn_scale: bool = True
    max_scale: float = 100.0
    smoothing: float = 0.0
    bias: float | None = None
    margin: float = 0.2
    negatives: Literal["hardest", "semi-hard"] = "hardest"
    anchor: float = 0.0
    concepts: float = 0.0
    distillation: DistillationConfig = field(default_factory=DistillationConfig)


@dataclass(frozen=True, slots=True)
class OptimiserConfig:
    """Rates are of the layers nearest to the output; `layer_decay` multiplies them a layer below.

    rate: of the image tower. text_rate, head_rate: None: as `rate`. loss_rate: of what the loss
    learns, such as its temperature. betas: of `adamw` and `adam`. momentum: of `sgd`. clip: largest
    norm of the gradient; 0: not limited.
    """

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    rate: float = 1e-4
    text_rate: float | None = None
    head_rate: float | None = None
    loss_rate: float = 1e-3
    layer_decay: float = 1.0
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    momentum: float = 0.9
    clip: float = 1.0


@dataclass(frozen=True, slots=True)
class ScheduleConfig:
    """Linear warm-up over a share of all steps, then half a cosine down to `floor` x the rate."""

    epochs: int = 10
    warmup: float = 0.1
    floor: float = 0.0


@dataclass(frozen=True, slots=True)
class FreezingConfig:
    """What is not trained. image, text: so many layers of a tower, counted from the input.

    lock: a whole tower, its map into the joint space excepted (Zhai et al. 2022, "LiT").
    unfreeze: so many layers of each tower, from the output on, join with every epoch those that
    learn, at first the heads alone; 0: all learn from the start.
    statistics: keep the running statistics of batch norms as they were pretrained.
    """

    image: int = 0
    text: int = 0
    lock: Literal["none", "image", "text", "both"] = "none"
    unfreeze: float = 0.0
    statistics: bool = True


@dataclass(frozen=True, slots=True)
class BatchConfig:
    """size: pairs a batch, over all processes; each is compared with all others of its batch.

    chunk: pairs encoded at once; a batch of several chunks goes through GradCache (Gao et al.
    2021), which gives the gradient of the whole batch. 0: all at once.
    accumulate: batches a step, whose gradients are averaged.
    """

    size: int = 128
    chunk: int = 0
    accumulate: int = 1


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Where it runs: `device` auto, cpu, cuda, cuda:1 or mps. precision: `auto` is bf16 on GPUs
    that have it and fp32 elsewhere. channels_last: the layout that convolutions like on a CPU.
    """

    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    channels_last: bool = True


@dataclass(frozen=True, slots=True)
class EmaConfig:
    """An exponential moving average of the weights, which is what is measured and kept."""

    decay: float = 0.0


@dataclass(frozen=True, slots=True)
class EvaluationConfig:
    """Validation recall every so many epochs. batch: pictures or texts encoded at once."""

    every: int = 1
    batch: int = 64


@dataclass(frozen=True, slots=True)
class CheckpointConfig:
    """minutes: between checkpoints inside an epoch; steps: the same, counted (0: never)."""

    minutes: float = 10.0
    steps: int = 0


@dataclass(frozen=True, slots=True)
class LogConfig:
    """every: steps between lines of `log.jsonl`. tensorboard: write its files, too."""

    every: int = 1
    tensorboard: bool = False


@dataclass(frozen=True, slots=True)
class ExportConfig:
    """The encoder folder that is the result: how weights are stored, and what the card says.

    text_precision: None: as `precision`. licence: terms of the data, for the model card.
    """

    precision: Literal["fp32", "fp16", "int16", "int8"] = "fp32"
    text_precision: Literal["fp32", "fp16", "int16", "int8"] | None = None
    licence: str = "not stated"


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Every setting of a run. Raises UsageError where one is out of its range."""

    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    freezing: FreezingConfig = field(default_factory=FreezingConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    run: RunConfig = field(default_factory=RunConfig)
    ema: EmaConfig = field(default_factory=EmaConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    log: LogConfig = field(default_factory=LogConfig)
    export: ExportConfig = field(default_factory=ExportConfig)

    def __post_init__(self) -> None:
        for problem in _out_of_range(self):
            raise UsageError(problem)

    def to_toml(self) -> str:
        """Every setting as TOML, as `read_config` reads it."""
        return to_toml(self)


def read_config(path: Path) -> TrainConfig:
    """Read a TOML file of settings. Raises SourceError and UsageError, naming the place."""
    return read_toml(TrainConfig, path)


def changed(before: TrainConfig, after: TrainConfig) -> tuple[list[str], list[str]]:
    """Names of the settings that differ: those that a resumed run may change, those it may not."""
    old, new = flat(before), flat(after)
    differing = [name for name in old if old[name] != new[name]]
    fixed = [name for name in differing if _under(name, FIXED) and not _under(name, FREE)]
    return [name for name in differing if name not in fixed], fixed


def _under(name: str, sections: tuple[str, ...]) -> bool:
    return any(name == section or name.startswith(f"{section}.") for section in sections)


_AT_LEAST_1 = (
    "data.workers",
    "data.prefetch",
    "data.validation_limit",
    "encoder.dim",
    "schedule.epochs",
    "batch.accumulate",
    "evaluation.every",
    "evaluation.batch",
    "log.every",
)
_AT_LEAST_0 = (
    "seed",
    "optimiser.loss_rate",
    "optimiser.weight_decay",
    "optimiser.clip",
    "freezing.image",
    "freezing.text",
    "freezing.unfreeze",
    "loss.anchor",
    "loss.concepts",
    "loss.distillation.weight",
    "batch.chunk",
    "checkpoints.minutes",
    "checkpoints.steps",
)
_BELOW_1 = (
    "data.validation_share",
    "loss.smoothing",
    "optimiser.momentum",
    "schedule.warmup",
    "schedule.floor",
    "ema.decay",
)
_ABOVE_0 = (
    "optimiser.rate",
    "optimiser.text_rate",
    "optimiser.head_rate",
    "optimiser.layer_decay",
    "loss.margin",
    "loss.scale",
)


def _out_of_range(config: TrainConfig) -> Iterator[str]:
    values = flat(config)
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            yield f"{name} is {value}; it must be a finite number"
    rules: tuple[tuple[tuple[str, ...], Callable[[float], bool], str], ...] = (
        (_AT_LEAST_1, lambda value: value >= 1, "1 or more"),
        (_AT_LEAST_0, lambda value: value >= 0, "0 or more"),
        (_BELOW_1, lambda value: 0 <= value < 1, "from 0 to below 1"),
        (_ABOVE_0, lambda value: value > 0, "more than 0"),
        (("batch.size",), lambda value: value >= 2, "2 or more: pairs are told from one another"),
    )
    for names, holds, wanted in rules:
        for name in names:
            if values[name] is not None and not holds(values[name]):
                yield f"{name} is {values[name]}; it must be {wanted}"
    if config.optimiser.layer_decay > 1:
        yield f"optimiser.layer_decay is {config.optimiser.layer_decay}; it must be at most 1"
    if not all(0 <= beta < 1 for beta in config.optimiser.betas):
        yield f"optimiser.betas are {config.optimiser.betas}; they must be from 0 to below 1"
    if "{}" not in config.data.class_prompt:
        yield "data.class_prompt has no {} where the class name goes"

"""`RerankConfig`: every setting of a reranker's training, kept as TOML with the result."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from xsearch.core.errors import UsageError
from xsearch.training.config import DataConfig, ScheduleConfig
from xsearch.training.settings import read_toml, to_toml


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """See `network.RerankerShape`; dropout is of region channels, tokens and layers."""

    width: int = 256
    nearby: int = 512
    deep: int = 128
    heads: int = 8
    text_layers: int = 1
    cross_layers: int = 2
    hidden: int = 256
    dropout: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout = {self.dropout} must be at least 0 and less than 1")
        sizes = self.width, self.nearby, self.deep, self.heads, self.hidden, self.cross_layers
        if min(sizes) < 1:
            raise UsageError(
                "width, nearby, deep, heads, hidden and cross_layers must be 1 or more"
            )
        if self.deep % self.heads:
            raise UsageError(
                f"deep = {self.deep} cannot be shared by {self.heads} heads: take a multiple"
            )


@dataclass(frozen=True, slots=True)
class MaterialConfig:
    """What is learnt from beside the captions themselves.

    views: how often each picture is looked at, the first time as it is, then augmented.
    wrong: wrong captions made of a picture's own, English ones (`xsearch.data.corruptions`).
    scenes: made-up pictures (`xsearch.data.scenes`), for composition and for where words look.
    longest: tokens of a text that are learnt from at once; others are left out by chance.
    foreign: captions of a picture in each language that is not `data.language`; there, all are.
    foreign_share: how often one of them is drawn in place of one in the main language.
    """

    views: int = 3
    wrong: bool = True
    scenes: int = 24000
    longest: int = 20
    foreign: int = 1
    foreign_share: float = 0.15

    def __post_init__(self) -> None:
        if self.views < 1 or self.longest < 1 or self.scenes < 0 or self.foreign < 0:
            raise UsageError("views and longest must be 1 or more, scenes and foreign 0 or more")


@dataclass(frozen=True, slots=True)
class RerankBatchConfig:
    """pictures: of a step, in groups of `group` that are alike: each is compared with the texts
    of its whole group. scenes: made-up pictures of a step.
    """

    pictures: int = 64
    group: int = 8
    scenes: int = 48

    def __post_init__(self) -> None:
        if self.group < 2 or self.pictures < self.group or self.pictures % self.group:
            raise UsageError(
                f"pictures = {self.pictures} must be a multiple of group = {self.group}, "
                "which is 2 or more"
            )
        if self.scenes < 0:
            raise UsageError(f"scenes = {self.scenes} must be 0 or more")


@dataclass(frozen=True, slots=True)
class AlignConfig:
    """The first stage, in which the agreement of words and regions is learnt, in groups as large
    as a step: so cheap a comparison can be made with many.

    epochs: of the stage. rate: of it. scenes: weight of made-up pictures in it. kept: the share of
    the second stage's rate that its weights have from then on; 0: they stay as they are.
    """

    epochs: int = 12
    rate: float = 1e-3
    scenes: float = 0.2
    kept: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.kept < 0 or self.rate <= 0:
            raise UsageError("epochs and kept must be 0 or more, rate more than 0")


@dataclass(frozen=True, slots=True)
class ComposeConfig:
    """The second stage, in which cross layers learn from made-up scenes alone which word belongs
    to which: that takes many steps, and pictures would make them dear.

    epochs: of it, of so many `steps` each. scenes: of a step. rate: of it. dropout: in place of
    `network.dropout`, there being no lack of scenes.
    """

    epochs: int = 24
    steps: int = 500
    scenes: int = 24
    rate: float = 1e-3
    dropout: float = 0.05

    def __post_init__(self) -> None:
        if self.epochs < 0 or min(self.steps, self.scenes) < 1 or self.rate <= 0:
            raise UsageError(
                "epochs must be 0 or more, steps and scenes 1 or more, rate more than 0"
            )
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout = {self.dropout} must be at least 0 and less than 1")


@dataclass(frozen=True, slots=True)
class RerankLossConfig:
    """Weights of the terms beside the contrast within a group, see `losses.matching`.

    wrong: of a picture's caption against a wrong one. match: of each pair by itself. scenes: of
    made-up pictures. grounding: of where words look in them. smoothing: of the contrast's targets.
    """

    wrong: float = 0.3
    match: float = 0.1
    scenes: float = 1.0
    grounding: float = 0.3
    smoothing: float = 0.0


@dataclass(frozen=True, slots=True)
class RerankOptimiserConfig:
    """AdamW; `average` is the decay of the weights' moving average, which is what is kept."""

    rate: float = 6e-4
    weight_decay: float = 0.05
    clip: float = 1.0
    average: float = 0.998

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise UsageError(f"rate is {self.rate}, it must be more than 0")
        if not 0 <= self.average < 1:
            raise UsageError(f"average is {self.average}, it must be at least 0 and less than 1")


@dataclass(frozen=True, slots=True)
class RerankCheckConfig:
    """every: epochs between two measurements. queries, candidates: of one.

    minutes: between checkpoints; one is written with every epoch as well.
    """

    every: int = 2
    queries: int = 1000
    candidates: int = 50
    minutes: float = 5.0

    def __post_init__(self) -> None:
        if self.every < 1 or self.queries < 1 or self.candidates < 1:
            raise UsageError("every, queries and candidates must be 1 or more")


@dataclass(frozen=True, slots=True)
class BackgroundConfig:
    """What texts in general say of a picture, which is taken off its match, see
    `agreement.Background`.

    captions: of pictures that were learnt from; 0: nothing is taken off. tokens: those of each
    that count most. share: of what they say.
    """

    captions: int = 256
    tokens: int = 8
    share: float = 0.75

    def __post_init__(self) -> None:
        if self.captions < 0 or self.tokens < 1:
            raise UsageError("captions must be 0 or more, tokens 1 or more")


@dataclass(frozen=True, slots=True)
class RerankConfig:
    """All settings. `encoder` is what `xsearch.load_encoder` takes; threads: 0 is all cores."""

    encoder: str = "builtin"
    seed: int = 0
    device: str = "auto"
    threads: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    material: MaterialConfig = field(default_factory=MaterialConfig)
    batch: RerankBatchConfig = field(default_factory=RerankBatchConfig)
    loss: RerankLossConfig = field(default_factory=RerankLossConfig)
    align: AlignConfig = field(default_factory=AlignConfig)
    compose: ComposeConfig = field(default_factory=ComposeConfig)
    optimiser: RerankOptimiserConfig = field(default_factory=RerankOptimiserConfig)
    schedule: ScheduleConfig = field(default_factory=lambda: ScheduleConfig(epochs=4))
    background: BackgroundConfig = field(default_factory=BackgroundConfig)
    check: RerankCheckConfig = field(default_factory=RerankCheckConfig)
    licence: str = "that of the data it was trained on"

    def __post_init__(self) -> None:
        if self.schedule.epochs < 1:
            raise UsageError(f"schedule.epochs is {self.schedule.epochs}, it must be 1 or more")
        if not 0 <= self.schedule.warmup < 1:
            raise UsageError(f"schedule.warmup is {self.schedule.warmup}, it must be in [0, 1)")

    def to_toml(self) -> str:
        """Every setting as TOML."""
        return to_toml(self)


def read_rerank_config(path: Path) -> RerankConfig:
    """Read settings from a TOML file; what it leaves out has its default.

    Raises SourceError, UsageError naming file, line and setting.
    """
    return read_toml(RerankConfig, path)

"""What the terms of a run's loss know of its records: owners, a teacher, concepts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xsearch.core.extras import require

from .concepts import mine_concepts
from .teacher import Teacher

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .config import TrainConfig
    from .material import Material

require("torch", "train", "training")

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from .learner import Sources  # noqa: E402


def sources_of(config: TrainConfig, data: Material) -> Sources:
    """What the chosen terms need, and nothing else.

    Raises EncoderError where there is no such teacher, UsageError where captions have no concepts.
    """
    teacher = None
    if config.loss.distillation.weight:
        name = config.loss.distillation.teacher
        teacher = Teacher(name, data.train, workers=config.data.workers)
    if not config.loss.concepts:
        return Sources(data.owners, teacher)
    from xsearch.data.keywords import keywords

    captions = [record.texts() for record in data.train]
    found = mine_concepts(captions, keywords)

    def targets(records: NDArray[np.int64]) -> Tensor:
        chosen = [captions[int(number)] for number in records]
        return torch.from_numpy(found.targets(chosen, keywords))

    return Sources(data.owners, teacher, targets, found.frequencies)

"""Making and measuring encoders, and what others may use of it.

    from xsearch import training

    dataset = training.read_dataset("flickr8k")
    found = training.evaluate(training.load_encoder(), dataset, split="test")
    training.write_report(found, Path("report"))

Measuring needs no extra, but for plots and BLEU (`evaluate`); all else needs the extra `train`.
Nothing is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xsearch.data.readers import read_dataset
    from xsearch.data.records import Dataset
    from xsearch.retrieval.encoders import load_encoder
    from xsearch.retrieval.phrases import TEMPLATES
    from xsearch.retrieval.zero_shot import class_vectors
    from xsearch.training.config import TrainConfig, read_config
    from xsearch.training.evaluation.captions import Bleu, bleu
    from xsearch.training.evaluation.metrics import Recalls, recall, retrieval
    from xsearch.training.evaluation.report import prepare_report, write_report
    from xsearch.training.evaluation.results import Evaluation, LanguageEvaluation
    from xsearch.training.evaluation.run import evaluate
    from xsearch.training.evaluation.tables import headline, notes, tables
    from xsearch.training.evaluation.zero_shot import Classification, classify
    from xsearch.training.pull import PulledModel, export_model, pull_model
    from xsearch.training.report import TrainReport
    from xsearch.training.rerank.config import RerankConfig
    from xsearch.training.rerank.report import RerankReport
    from xsearch.training.rerank.trainer import train_reranker
    from xsearch.training.stopping import Interrupted
    from xsearch.training.trainer import train

_LAZY = {
    "TEMPLATES": "xsearch.retrieval.phrases",
    "Bleu": "xsearch.training.evaluation.captions",
    "Classification": "xsearch.training.evaluation.zero_shot",
    "Dataset": "xsearch.data.records",
    "Evaluation": "xsearch.training.evaluation.results",
    "Interrupted": "xsearch.training.stopping",
    "LanguageEvaluation": "xsearch.training.evaluation.results",
    "PulledModel": "xsearch.training.pull",
    "Recalls": "xsearch.training.evaluation.metrics",
    "RerankConfig": "xsearch.training.rerank.config",
    "RerankReport": "xsearch.training.rerank.report",
    "TrainConfig": "xsearch.training.config",
    "TrainReport": "xsearch.training.report",
    "bleu": "xsearch.training.evaluation.captions",
    "class_vectors": "xsearch.retrieval.zero_shot",
    "classify": "xsearch.training.evaluation.zero_shot",
    "evaluate": "xsearch.training.evaluation.run",
    "export_model": "xsearch.training.pull",
    "headline": "xsearch.training.evaluation.tables",
    "load_encoder": "xsearch.retrieval.encoders",
    "notes": "xsearch.training.evaluation.tables",
    "prepare_report": "xsearch.training.evaluation.report",
    "pull_model": "xsearch.training.pull",
    "read_config": "xsearch.training.config",
    "read_dataset": "xsearch.data.readers",
    "recall": "xsearch.training.evaluation.metrics",
    "retrieval": "xsearch.training.evaluation.metrics",
    "tables": "xsearch.training.evaluation.tables",
    "train": "xsearch.training.trainer",
    "train_reranker": "xsearch.training.rerank.trainer",
    "write_report": "xsearch.training.evaluation.report",
}

__all__ = [
    "TEMPLATES",
    "Bleu",
    "Classification",
    "Dataset",
    "Evaluation",
    "Interrupted",
    "LanguageEvaluation",
    "PulledModel",
    "Recalls",
    "RerankConfig",
    "RerankReport",
    "TrainConfig",
    "TrainReport",
    "bleu",
    "class_vectors",
    "classify",
    "evaluate",
    "export_model",
    "headline",
    "load_encoder",
    "notes",
    "prepare_report",
    "pull_model",
    "read_config",
    "read_dataset",
    "recall",
    "retrieval",
    "tables",
    "train",
    "train_reranker",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(importlib.import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'xsearch.training' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

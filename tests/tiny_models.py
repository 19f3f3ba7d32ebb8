"""Randomly initialised models small enough for tests, made on the spot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 220)}
SENTENCES = [f"a {size} {colour} square" for colour in COLOURS for size in ("small", "large", "")]


def bert_folder(folder: Path, sentences: Sequence[str] = SENTENCES, **settings: int) -> Path:
    """A BERT of two layers with a tokenizer trained on a few sentences."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertModel

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=special)
    tokenizer.train_from_iterator(sentences, trainer)
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    sizes = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 40,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(BertConfig(**{**sizes, **settings})).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def clip_folder(folder: Path, vision: dict[str, object] | None = None, **text: object) -> Path:
    """An open_clip folder: a small vision transformer, or `vision`, and a small text tower."""
    sizes = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    patches = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
    model_config = {"embed_dim": 24, "vision_cfg": vision or patches, "text_cfg": sizes | text}
    if "embed_cls" in text:
        model_config["custom_text"] = True
    return save_clip(folder, model_config, {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]})


def siglip_folder(folder: Path, vision: dict[str, object] | None = None, dim: int = 24) -> Path:
    """The same as SigLIP is built: a bias, squashed pictures, a text tower that looks both ways.

    Its tokenizer lies beside it, as on the hub. `dim` counts the dimensions of the joint space.
    """
    unigram_files(folder)
    patches = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
    text = {
        "context_length": 16,
        "vocab_size": 120,
        "hf_tokenizer_name": "tokenizer",
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "width": 32,
        "heads": 2,
        "layers": 2,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
        "act_kwargs": {"approximate": "tanh"},
    }
    model_config = {
        "embed_dim": dim,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": vision or patches,
        "text_cfg": text,
    }
    preparation = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}
    return save_clip(folder, model_config, preparation)


def coca_folder(folder: Path) -> Path:
    """A small CoCa: attention pools the patches, and a third tower writes captions."""
    small = {"width": 32, "heads": 2, "layers": 2}
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
    model_config = {
        "embed_dim": 24,
        "custom_text": True,
        "vision_cfg": vision
        | {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        "text_cfg": small
        | {"context_length": 15, "vocab_size": 49408, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": small | {"context_length": 15, "vocab_size": 49408},
    }
    return save_clip(folder, model_config, {})


def save_clip(
    folder: Path, model_config: dict[str, object], preparation: dict[str, object]
) -> Path:
    """Random weights for a config of open_clip, in a folder as `local-dir:` reads it."""
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": model_config, "preprocess_cfg": preparation}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, str(folder / "open_clip_model.safetensors"))
    return folder


def unigram_files(folder: Path, sentences: Sequence[str] = SENTENCES) -> None:
    """A tokenizer of word pieces that ends a text with `</s>`, in the hub's file layout."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from tokenizers.processors import TemplateProcessing

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=100, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator([*sentences, "abcdefghijklmnopqrstuvwxyz 0123456789"], trainer)
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"pad_token": "</s>", "eos_token": "</s>", "unk_token": "<unk>"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def photograph(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture with structure at several scales, which a resize has something to do with."""
    random = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3))
    for size in (3, 11, 60):
        noise = random.integers(0, 256, (size, size, 3), dtype=np.uint8)
        layer = Image.fromarray(noise).resize((width, height), Image.Resampling.BILINEAR)
        picture += np.asarray(layer) / 3
    return Image.fromarray(picture.astype(np.uint8))

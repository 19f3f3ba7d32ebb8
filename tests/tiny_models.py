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
    BertModel(BertConfig(**{**sizes, **settings})).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def clip_folder(folder: Path, vision: dict[str, object] | None = None, **text: object) -> Path:
    """An open_clip folder: a small vision transformer, or `vision`, and a small text tower."""
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    sizes = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    patches = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
    model_config = {"embed_dim": 24, "vision_cfg": vision or patches, "text_cfg": sizes | text}
    if "embed_cls" in text:
        model_config["custom_text"] = True
    config = {
        "model_cfg": model_config,
        "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, str(folder / "open_clip_model.safetensors"))
    return folder


def photograph(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture with structure at several scales, which a resize has something to do with."""
    random = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3))
    for size in (3, 11, 60):
        noise = random.integers(0, 256, (size, size, 3), dtype=np.uint8)
        layer = Image.fromarray(noise).resize((width, height), Image.Resampling.BILINEAR)
        picture += np.asarray(layer) / 3
    return Image.fromarray(picture.astype(np.uint8))

"""Turns open_clip's tokenizers into one that the `tokenizers` library runs from a file."""

from __future__ import annotations

import string
from typing import Any, cast

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from xsearch.core.errors import EncoderError

_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
_QUOTES = (("[\u2018\u2019\u201a\u201b]", "'"), ("[\u201c\u201d\u201e\u201f]", '"'))
_ENTITIES = (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&#39;", "'"), ("&amp;", "&"))


def convert(found: Any) -> tuple[Tokenizer, int]:
    """The tokenizer that open_clip made for a model, and the id that it pads with.

    Raises EncoderError for the few that do more to their ids than a tokenizer file can say.
    """
    kind = type(found).__name__
    if kind == "SimpleTokenizer":
        return _byte_pairs(found), 0
    if getattr(found, "tokenizer_mode", "") or getattr(found, "strip_sep_token", False):
        raise EncoderError(
            f"{kind} in its mode {found.tokenizer_mode or 'without [SEP]'!r} is not "
            "supported; take another model"
        )
    made = Tokenizer.from_str(found.tokenizer.backend_tokenizer.to_str())
    clean = "canonicalize" if kind == "SigLipTokenizer" else _clean(found)
    own = [made.normalizer] if made.normalizer else []
    made.normalizer = normalizers.Sequence([*_cleaning(clean), *own])
    return made, int(found.tokenizer.pad_token_id or 0)


def _clean(found: Any) -> str:
    """The name of a tokenizer's cleaning function."""
    return cast(str, found.clean_fn.__name__.removeprefix("_clean_"))


def _cleaning(kind: str) -> list[Any]:
    """What open_clip does to a text first, as far as rules can: of ftfy's repairs only quotes.

    ftfy also undoes wrong decodings ("Ã©" for "é"); such texts give other ids here.
    """
    steps: list[Any] = [normalizers.NFC()]
    steps += [normalizers.Replace(Regex(pattern), plain) for pattern, plain in _QUOTES]
    steps += [normalizers.Replace(entity, plain) for entity, plain in _ENTITIES]
    if kind == "canonicalize":
        marks = "".join("\\" + mark for mark in string.punctuation if mark != "_")
        steps += [normalizers.Replace("_", " "), normalizers.Replace(Regex(f"[{marks}]"), "")]
    steps += [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    return steps if kind == "whitespace" else [*steps, normalizers.Lowercase()]


def _byte_pairs(found: Any) -> Tokenizer:
    """CLIP's own: byte pairs within words (Sennrich et al. 2016), `</w>` at their ends."""
    merges = sorted(found.bpe_ranks, key=found.bpe_ranks.__getitem__)
    made = Tokenizer(models.BPE(vocab=found.encoder, merges=merges, end_of_word_suffix="</w>"))
    made.normalizer = normalizers.Sequence(_cleaning(_clean(found)))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    ends = [("<start_of_text>", found.sot_token_id), ("<end_of_text>", found.eot_token_id)]
    made.post_processor = TemplateProcessing(
        single=f"{ends[0][0]} $A {ends[1][0]}", special_tokens=ends
    )
    return made

"""Turns open_clip's tokenizers into one that the `tokenizers` library runs from a file."""

from __future__ import annotations

import json
import string
import unicodedata
from typing import Any, cast

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from xsearch.core.errors import EncoderError

_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
_ENTITIES = (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&#39;", "'"))
_LIGATURES = (*range(0xFB00, 0xFB05), 0xFB06, 0x132, 0x133, 0x149, *range(0x1C4, 0x1CD))
_WIDTHS = (0x3000, *range(0xFF01, 0xFFF0))
"""Letters of half and full width, as Chinese and Japanese keyboards make them."""
_QUOTES = (("[\u02bc\u2018-\u201b]", "'"), ("[\u201c-\u201f]", '"'))
_CONTROLS = r"[\x00-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]"


def convert(found: Any) -> tuple[Tokenizer, int]:
    """The tokenizer that open_clip made for a model, and the id that it pads with.

    Raises EncoderError for the few that do more to their ids than a tokenizer file can say.
    """
    kind = type(found).__name__
    if kind == "SimpleTokenizer":
        return _byte_pairs(found), 0
    mode = getattr(found, "tokenizer_mode", "")
    if mode or found.tokenizer.padding_side != "right":
        what = f"in its mode {mode!r}" if mode else "that pads on the left"
        raise EncoderError(f"a {kind} {what} is not supported; take another model")
    made = Tokenizer.from_str(found.tokenizer.backend_tokenizer.to_str())
    if getattr(found, "strip_sep_token", False):
        made = _renumbered(made, str(found.tokenizer.sep_token))
    clean = "canonicalize" if kind == "SigLipTokenizer" else _clean(found)
    own = [made.normalizer] if made.normalizer else []
    made.normalizer = normalizers.Sequence([*_cleaning(clean), *own])
    return made, int(found.tokenizer.pad_token_id or 0)


def _clean(found: Any) -> str:
    """The name of a tokenizer's cleaning function."""
    return cast(str, found.clean_fn.__name__.removeprefix("_clean_"))


def _cleaning(kind: str) -> list[Any]:
    """What open_clip does to a text first, as far as rules can.

    Of the repairs of ftfy: ligatures, letters of half and full width, curly quotes, control
    characters. ftfy also undoes wrong decodings ("Ã©" for "é"), and open_clip all of HTML's named
    characters: such texts give other ids here.
    """
    plain = {code: unicodedata.normalize("NFKC", chr(code)) for code in (*_LIGATURES, *_WIDTHS)}
    # Repeated: what a program has escaped twice is unescaped twice.
    steps: list[Any] = [normalizers.Replace(Regex("&(?:amp;)+"), "&")]
    steps += [normalizers.Replace(entity, mark) for entity, mark in _ENTITIES]
    steps += [normalizers.Replace(chr(c), text) for c, text in plain.items() if text != chr(c)]
    steps += [normalizers.Replace(Regex(pattern), mark) for pattern, mark in _QUOTES]
    steps += [normalizers.Replace(Regex(_CONTROLS), ""), normalizers.NFC()]
    if kind == "canonicalize":
        marks = "".join("\\" + mark for mark in string.punctuation if mark != "_")
        steps += [normalizers.Replace("_", " "), normalizers.Replace(Regex(f"[{marks}]"), "")]
    steps += [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    return steps if kind == "whitespace" else [*steps, normalizers.Lowercase()]


def _renumbered(made: Tokenizer, mark: str) -> Tokenizer:
    """A tokenizer whose closing mark has the id 0, as CLIPA's texts end (Li et al. 2023)."""
    content = json.loads(made.to_str())
    special = content["post_processor"]
    if special["type"] in ("BertProcessing", "RobertaProcessing"):
        special["sep"] = [mark, 0]
    else:
        special["special_tokens"][mark]["ids"] = [0]
    return Tokenizer.from_str(json.dumps(content))


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

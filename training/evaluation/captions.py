"""BLEU of captions for pictures (Papineni et al. 2002), counted by sacrebleu (Post 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any

from xsearch.core.errors import UsageError
from xsearch.core.extras import require

ORDERS = (1, 2, 3, 4)
_TOKENIZERS = {"zh": "zh", "ja": "char", "ko": "char", "th": "char"}
"""By language; words of all others are found by the rules of mteval-v13a."""


@dataclass(frozen=True, slots=True)
class Bleu:
    """BLEU-1 to BLEU-4 of a corpus, in percent, and all that decides them.

    hypothesis_length, reference_length: tokens in all; of the references, the length nearest to
        the hypothesis's counts (the brevity penalty comes from these).
    signature: sacrebleu's, which names tokenisation, case, smoothing and version.
    """

    scores: tuple[float, ...]
    brevity_penalty: float
    hypothesis_length: int
    reference_length: int
    captions: int
    signature: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        row = asdict(self)
        return {**{f"BLEU-{n}": score for n, score in enumerate(row.pop("scores"), 1)}, **row}


def bleu(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], *, language: str = "en"
) -> Bleu:
    """BLEU-n of one hypothesis a picture against its references, for n from 1 to 4.

    The corpus's n-gram counts are summed before they are divided, case is ignored, nothing is
    smoothed; BLEU-n is the geometric mean of the precisions up to n, with the brevity penalty.
    Tokens follow the language: words by mteval-v13a, Chinese by sacrebleu's `zh` (a character
    a token), Japanese, Korean and Thai by characters.

    Raises MissingExtraError without sacrebleu, UsageError where counts do not fit or a picture
    has no reference.
    """
    metrics = require("sacrebleu.metrics", "evaluate", "BLEU")
    if len(hypotheses) != len(references):
        raise UsageError(f"{len(hypotheses)} hypotheses for {len(references)} pictures")
    if not hypotheses or not all(references):
        raise UsageError("BLEU needs at least one picture, and a reference for each")
    tokenizer = _TOKENIZERS.get(language.replace("-", "_").split("_")[0], "13a")
    # sacrebleu wants the first reference of all, the second of all, and so on.
    streams = [list(stream) for stream in zip_longest(*references)]
    scores = []
    for order in ORDERS:
        metric = metrics.BLEU(
            max_ngram_order=order,
            tokenize=tokenizer,
            lowercase=True,
            smooth_method="none",
            force=True,  # no advice on stderr about full stops set apart, as Flickr8k has them
        )
        result = metric.corpus_score(list(hypotheses), streams)
        scores.append(float(result.score))
    return Bleu(
        tuple(scores),
        float(result.bp),
        int(result.sys_len),
        int(result.ref_len),
        len(hypotheses),
        str(metric.get_signature()),
    )

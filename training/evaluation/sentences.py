"""Which sentences may become captions: those of another split, of the reference bank, of a file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from xsearch.core.errors import UsageError
from xsearch.core.paths import absolute
from xsearch.data.bank import LANGUAGES, bank
from xsearch.data.records import Dataset
from xsearch.retrieval.captioning import read_captions

BANK = "bank"
_FILE = re.compile(r"\.(txt|csv|jsonl)", re.IGNORECASE)


def sentences(
    dataset: Dataset, source: str | Path, tested: str | None, languages: Sequence[str]
) -> Mapping[str, tuple[str, ...]]:
    """Different sentences by language; a language that the source does not have is not there.

    Args:
        dataset: the data set that is evaluated.
        source: one of its splits, before anything else; `bank`; or a caption file.
        tested: the split that is evaluated, None where that is the whole data set.
        languages: those that are evaluated.

    Raises:
        UsageError: no such split or file, the split that is evaluated itself, a file for
            several languages, a bank that has none of them.
        SourceError: the file cannot be read.
    """
    if source in dataset.splits:
        if tested in (None, source):
            raise UsageError("captions must come from another split than the one that is evaluated")
        return _of_split(dataset.only(str(source)), languages)
    if source == BANK:
        return _of_bank(languages)
    if _FILE.fullmatch(Path(source).suffix):
        return _of_file(Path(source), languages)
    there = f"has {', '.join(dataset.splits)}" if dataset.splits else "has none"
    raise UsageError(
        f"captions from {str(source)!r}: {dataset.name} has no such split (it {there}); otherwise "
        "give `bank`, or a .txt, .csv or .jsonl file"
    )


def _of_split(part: Dataset, languages: Sequence[str]) -> dict[str, tuple[str, ...]]:
    return {
        language: tuple(
            dict.fromkeys(t for r in part.records for t in r.captions.get(language, ()))
        )
        for language in languages
    }


def _of_bank(languages: Sequence[str]) -> dict[str, tuple[str, ...]]:
    # A language of a data set may be `zh_human_translation`, say.
    codes = {language: re.split("[_-]", language)[0].lower() for language in languages}
    found = {language: bank([code]) for language, code in codes.items() if code in LANGUAGES}
    if not found:
        raise UsageError(
            f"the reference bank has no texts in {', '.join(languages) or 'no language'}: it has "
            f"{', '.join(LANGUAGES)}"
        )
    return found


def _of_file(path: Path, languages: Sequence[str]) -> dict[str, tuple[str, ...]]:
    if len(languages) != 1:
        raise UsageError(
            f"captions from {path}: a file has one language; choose the data set's texts in it, "
            f"one of {', '.join(languages)} (--language)"
        )
    return {languages[0]: tuple(dict.fromkeys(read_captions(absolute(path))))}

"""The reference bank: what it holds, and that nothing in it is of a data set."""

from __future__ import annotations

import unicodedata

import pytest

from xsearch.core.errors import UsageError
from xsearch.data import bank as module
from xsearch.data.bank import LANGUAGES, bank, bank_digest


def test_every_language_of_the_built_in_encoder_has_its_share() -> None:
    assert set(LANGUAGES) == {"en", "de", "fr", "cs", "ar", "zh"}
    assert 1_000 <= len(bank(["en"])) <= 1_400
    for language in set(LANGUAGES) - {"en"}:
        assert 200 <= len(bank([language])) <= 260
    assert 2_000 <= len(bank()) <= 2_600


def test_no_text_comes_twice_whatever_its_case() -> None:
    texts = [unicodedata.normalize("NFKC", text).casefold() for text in bank()]
    assert len(set(texts)) == len(texts)


def test_texts_are_lines_without_white_space_around_them() -> None:
    for text in bank():
        assert text
        assert text == text.strip()
        assert text == unicodedata.normalize("NFC", text)
        assert text.isprintable()


def test_words_phrases_and_sentences_are_all_there() -> None:
    lengths = [len(text.split()) for text in bank(["en"])]
    assert sum(length == 1 for length in lengths) >= 350
    assert sum(2 <= length <= 4 for length in lengths) >= 250
    assert sum(length > 5 for length in lengths) >= 350


def test_languages_come_in_the_banks_order_whatever_order_is_asked_for() -> None:
    assert bank(["fr", "de"]) == bank(["de"]) + bank(["fr"])
    assert bank() == bank(reversed(LANGUAGES))


def test_the_scripts_are_those_of_the_languages() -> None:
    for language, name in (("ar", "ARABIC"), ("zh", "CJK")):
        for text in bank([language]):
            assert any(name in unicodedata.name(sign, "") for sign in text), text
    for text in bank(["en", "de", "fr", "cs"]):
        assert any("LATIN" in unicodedata.name(sign, "") for sign in text), text


def test_a_language_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="no texts in 'xx': choose from en, de"):
        bank(["en", "xx"])


def test_the_digest_changes_with_any_text(monkeypatch: pytest.MonkeyPatch) -> None:
    before = bank_digest()
    assert before == bank_digest()
    whole = bank()
    bank_digest.cache_clear()
    monkeypatch.setattr(module, "bank", lambda: (*whole[:-1], whole[-1] + "!"))
    try:
        assert bank_digest() != before
    finally:
        bank_digest.cache_clear()

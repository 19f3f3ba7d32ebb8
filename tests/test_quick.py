"""A part of a tokenizer gives the ids of the whole, whatever the text."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing

from xsearch.retrieval.encoders.quick import LONGEST, QuickTokenizer, quick_files, write_quick
from xsearch.retrieval.encoders.texts import cutting

CORPUS = [
    "a cat sleeps on the green grass beside two small dogs",
    "the dogs of the house sleep, and the cats catch mice in the grass",
    "Katze auf dem Gras, un chien noir court dans la neige, muž na skále",
    "两个孩子在沙滩上玩球 两只猫在沙滩上",
]
CUT = 24
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def words_with_ends() -> Tokenizer:
    """As CLIP's: bytes as letters, lower case, a mark at the end of each word."""
    made = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    made.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        initial_alphabet=letters,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    made.train_from_iterator(CORPUS, trainer)
    content = json.loads(made.to_str())
    vocab = content["model"]["vocab"]
    for word in [*(letter + "</w>" for letter in letters), "<start>", "<end>"]:
        vocab.setdefault(word, len(vocab))
    made = Tokenizer.from_str(json.dumps(content))
    ends = [("<start>", vocab["<start>"]), ("<end>", vocab["<end>"])]
    made.post_processor = TemplateProcessing(single="<start> $A <end>", special_tokens=ends)
    return made


def pieces_with_bytes() -> Tokenizer:
    """As Gemma's: spaces as letters, what is no word as bytes, special words."""
    made = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    made.normalizer = normalizers.Replace(" ", "▁")
    special = ["<pad>", "<eos>", "<unk>", "▁▁", *BYTES]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=special, show_progress=False)
    made.train_from_iterator(CORPUS, trainer)
    content = json.loads(made.to_str())
    model = content["model"]
    model["vocab"]["▁▁▁"] = len(model["vocab"])
    # Special words take part in merges there, too.
    model["merges"] += [["▁", "▁"], ["▁▁", "▁"]]
    made = Tokenizer.from_str(json.dumps(content))
    made.post_processor = TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    return made


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "words with ends": words_with_ends,
    "pieces with bytes": pieces_with_bytes,
}


@pytest.fixture(scope="module", params=list(KINDS))
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Tokenizer, QuickTokenizer]:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(KINDS[request.param]().to_str(), encoding="utf-8")
    assert write_quick(path)

    def whole() -> Tokenizer:
        return cutting(Tokenizer.from_file(str(path)), CUT)

    return whole(), opened(path)


def opened(path: Path) -> QuickTokenizer:
    return QuickTokenizer(
        path,
        lambda: cutting(Tokenizer.from_file(str(path)), CUT),
        lambda tokenizer: cutting(tokenizer, CUT),
    )


def agree(whole: Tokenizer, quick: QuickTokenizer, texts: Sequence[str]) -> None:
    expected, found = whole.encode_batch(list(texts)), quick.encode_batch(list(texts))
    assert [each.ids for each in found] == [each.ids for each in expected]
    cut = [bool(each.overflowing) for each in expected]
    assert [bool(each.overflowing) for each in found] == cut


PARTS = st.sampled_from([*" ".join(CORPUS).split(), "<eos>", "▁▁", "ﬁ", "é", "\u0301", "🎂", "\n"])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(PARTS, st.text(max_size=6)), max_size=8), st.sampled_from(["", " "]))
def test_a_part_of_a_tokenizer_gives_the_ids_of_the_whole(
    both: tuple[Tokenizer, QuickTokenizer], parts: list[str], between: str
) -> None:
    whole, quick = both
    text = between.join(parts).encode("utf-8", "ignore").decode()
    quick._read = 0  # so that no example is left to the whole tokenizer
    agree(whole, quick, [text, "a cat"])


def test_what_is_read_for_a_short_text_is_not_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(words_with_ends().to_str(), encoding="utf-8")
    write_quick(path)
    quick = opened(path)
    path.rename(tmp_path / "elsewhere.json")
    assert quick.encode_batch(["a cat on grass"])[0].ids
    (tmp_path / "elsewhere.json").rename(path)
    whole = cutting(Tokenizer.from_file(str(path)), CUT)
    agree(whole, quick, ["the dogs " * LONGEST])


def test_a_tokenizer_of_another_kind_is_left_as_it_is(tmp_path: Path) -> None:
    for number, model in enumerate((models.WordPiece({"a": 0}, unk_token="a"), models.BPE({}, []))):
        path = tmp_path / f"{number}.json"
        path.write_text(Tokenizer(model).to_str(), encoding="utf-8")
        assert not write_quick(path)
        assert not any(table.exists() for table in quick_files(path))

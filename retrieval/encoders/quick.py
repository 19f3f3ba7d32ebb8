"""Tokenises a short text with the part of a large tokenizer that it needs: queries start sooner.

Reading a tokenizer of 256,000 words takes longer than all else that a query does. Byte pair
encoding (Sennrich et al. 2016) of a text only ever looks at words that are substrings of it, and
at merges between those. Both are looked up in sorted tables, which are mapped into memory, and a
tokenizer of these few is made, whose ids are those of the whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .lazy import Lazy

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tokenizers import Encoding, Tokenizer

FRAME, WORDS, MERGES = ENDINGS = (".frame.json", ".words.npy", ".merges.npy")
"""What the files beside `tokenizer.json` end in instead of `.json`."""
LONGEST = 1_000
"""Characters of all texts so far up to which parts are made: after that the whole one pays."""


class QuickTokenizer:
    """Encodes as a whole tokenizer does, which it loads only for long texts.

    `finish` is applied to every tokenizer that is made, see `texts.cutting`.
    """

    def __init__(
        self, path: Path, whole: Callable[[], Tokenizer], finish: Callable[[Tokenizer], Tokenizer]
    ) -> None:
        places = quick_files(path)
        self._frame: dict[str, Any] = json.loads(places[0].read_text(encoding="utf-8"))
        self._words = np.load(places[1], mmap_mode="r", allow_pickle=False)
        self._merges = np.load(places[2], mmap_mode="r", allow_pickle=False)
        self._whole = Lazy(whole)
        self._finish = finish
        self._read = 0
        self._bare = Lazy(lambda: self._made({}, []))

    def encode_batch(self, texts: list[str]) -> list[Encoding]:
        """As `Tokenizer.encode_batch`."""
        return self._fitting(texts).encode_batch(texts)

    def _fitting(self, texts: Sequence[str]) -> Tokenizer:
        """The whole tokenizer, or as much of it as these texts need."""
        self._read += sum(map(len, texts))
        if self._whole.made or self._read > LONGEST:
            return self._whole.get()
        pieces = {piece for text in texts for piece in self._pieces(text)}
        # Special words are cut out of a text before all else, or once it is normalised.
        if any(word in part for word in self._frame["special"] for part in (*texts, *pieces)):
            return self._whole.get()
        words = self._known(self._candidates(pieces))
        return self._made(words, self._merged(words))

    def _candidates(self, pieces: Iterable[str]) -> set[str]:
        """Every string that merges could make of some pieces of text."""
        longest, ending = self._frame["longest"], self._frame["ending"]
        found = set()
        for piece in pieces:
            for start in range(len(piece)):
                for end in range(start + 1, min(start + longest, len(piece)) + 1):
                    found.add(piece[start:end])
                    if ending and end == len(piece):
                        found.add(piece[start:end] + ending)
        return found

    def _pieces(self, text: str) -> list[str]:
        bare = self._bare.get()
        normal = bare.normalizer.normalize_str(text) if bare.normalizer else text
        if bare.pre_tokenizer is None:
            return [normal]
        return [piece for piece, _ in bare.pre_tokenizer.pre_tokenize_str(normal)]

    def _known(self, candidates: Iterable[str]) -> dict[str, int]:
        """Those of some strings that are words, with their ids."""
        listed = list(candidates)
        ids = _look_up(self._words, [_hash(word) for word in listed])
        return {word: found for word, found in zip(listed, ids, strict=True) if found >= 0}

    def _merged(self, words: dict[str, int]) -> list[tuple[str, str]]:
        """The merges between words, the earliest first."""
        pairs = [
            (word[:cut], word[cut:])
            for word in words
            for cut in range(1, len(word))
            if word[:cut] in words and word[cut:] in words
        ]
        ranks = _look_up(self._merges, [_pair(words, *pair) for pair in pairs])
        found = [(rank, pair) for rank, pair in zip(ranks, pairs, strict=True) if rank >= 0]
        return [pair for _, pair in sorted(found)]

    def _made(self, words: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
        from tokenizers import Tokenizer

        content = self._frame["tokenizer"]
        model = content["model"]
        part = {**model, "vocab": {**model["vocab"], **words}, "merges": merges}
        return self._finish(Tokenizer.from_str(json.dumps({**content, "model": part})))


def quick_files(path: Path) -> list[Path]:
    """The files beside a tokenizer's file, in the order of `ENDINGS`."""
    return [path.with_name(path.stem + ending) for ending in ENDINGS]


def write_quick(path: Path) -> bool:
    """Write the tables beside a tokenizer's file; returns whether its kind allows it."""
    content = json.loads(path.read_text(encoding="utf-8"))
    model = content["model"]
    if model["type"] != "BPE" or model.get("continuing_subword_prefix") or model.get("dropout"):
        return False
    words: dict[str, int] = model["vocab"]
    if not _covers(content, words):
        return False
    merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    special = [added["content"] for added in content["added_tokens"]]
    kept = {word: n for word, n in words.items() if word in special or _stands(word, model)}
    by_hash = {_hash(word): number for word, number in words.items()}
    by_pair = {_pair(words, *pair): rank for rank, pair in enumerate(merges)}
    # Two words of one hash would be taken for one another; merges of what stands for other
    # characters would not be found.
    stands = {word for word in kept if _stands(word, model)}
    if len(by_hash) < len(words) or any(part in stands for pair in merges for part in pair):
        return False
    frame = {
        "special": special,
        "longest": max(map(len, words), default=0),
        "ending": model.get("end_of_word_suffix") or "",
        "tokenizer": {**content, "model": {**model, "vocab": kept, "merges": []}},
    }
    places = quick_files(path)
    places[0].write_text(json.dumps(frame, ensure_ascii=False), encoding="utf-8")
    for place, table in zip(places[1:], (by_hash, by_pair), strict=True):
        np.save(place, np.array(sorted(table.items()), np.uint64).reshape(-1, 2).T.copy())
    return True


def _covers(content: dict[str, Any], words: dict[str, int]) -> bool:
    """Whether every character has a word: one that is dropped lets its neighbours merge."""
    from tokenizers.pre_tokenizers import ByteLevel

    model = content["model"]
    if model.get("byte_fallback") and all(f"<0x{byte:02X}>" in words for byte in range(256)):
        return True
    ending = model.get("end_of_word_suffix") or ""
    of_bytes = '"ByteLevel"' in json.dumps(content["pre_tokenizer"])
    letters = ByteLevel.alphabet()
    whole = all(letter in words and letter + ending in words for letter in letters)
    return model.get("unk_token") in words or (of_bytes and whole)


def _stands(word: str, model: dict[str, Any]) -> bool:
    """Whether a word stands for a byte, or for anything unknown, rather than for itself."""
    of_byte = len(word) == 6 and word.startswith("<0x") and word.endswith(">")
    return of_byte or word == model.get("unk_token")


def _hash(word: str) -> int:
    digest = blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _pair(words: dict[str, int], left: str, right: str) -> int:
    return words[left] << 32 | words[right]


def _look_up(table: NDArray[np.uint64], keys: list[int]) -> list[int]:
    """Values of keys in a table (2, n) of sorted keys and their values; -1 where it has none."""
    if not table.shape[1]:
        return [-1] * len(keys)
    wanted = np.array(keys, np.uint64)
    rows = np.minimum(np.searchsorted(table[0], wanted), table.shape[1] - 1)
    found = np.where(table[0][rows] == wanted, table[1][rows].astype(np.int64), -1)
    return [int(value) for value in found]

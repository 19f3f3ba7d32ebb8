"""Minimally wrong captions, as a benchmark: how many, of which kinds, and whether they give
themselves away.

Run `python benchmarks/corruptions.py` (needs the test data; set XSEARCH_TEST_DATA). Captions of
Flickr8k are made wrong by `xsearch.data.corruptions`, the same for the same seed. Blind models,
which see no picture, say which of the two is the true one: bigrams and single words counted in the
train captions (add-k smoothed; the higher mean log-probability wins). What they tell from chance a
model of pictures need not know anything of pictures for (Hsieh et al. 2023, SugarCrepe).

`--refined` leaves out pairs until the blind models' gaps are symmetric around zero, as the
adversarial refinement of SugarCrepe does: the plane of both gaps is cut into cells, and of two
cells opposite one another the fuller is thinned out at random. `--out` writes the pairs.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from common import describe, shared_data
from numpy.typing import NDArray
from recall import read_split

from xsearch.data.corruptions import KINDS, Kind, corruptions

_WORD = re.compile(r"[a-z0-9]+(?:[-'][a-z0-9]+)*")
_CELL = 0.2


@dataclass(frozen=True, slots=True)
class Pair:
    """A true caption of a picture, and one made wrong."""

    file: str
    kind: Kind
    true: str
    wrong: str


class Blind:
    """Add-k smoothed counts of words and bigrams."""

    def __init__(self, captions: list[str], k: float) -> None:
        self._k = k
        self._words: Counter[str] = Counter()
        self._pairs: Counter[tuple[str, str]] = Counter()
        for caption in captions:
            words = self._split(caption)
            self._words.update(words)
            self._pairs.update(pairwise(words))
        self._total = sum(self._words.values())

    @staticmethod
    def _split(caption: str) -> list[str]:
        return ["<", *_WORD.findall(caption.lower()), ">"]

    def bigrams(self, caption: str) -> float:
        """Mean log-probability of each word after the one before it."""
        words, k = self._split(caption), self._k
        kinds = len(self._words) + 1
        logs = [
            math.log((self._pairs[first, second] + k) / (self._words[first] + k * kinds))
            for first, second in pairwise(words)
        ]
        return sum(logs) / len(logs)

    def words(self, caption: str) -> float:
        """Mean log-probability of each word alone."""
        words, k = self._split(caption)[1:], self._k
        total = self._total + k * (len(self._words) + 1)
        return sum(math.log((self._words[word] + k) / total) for word in words) / len(words)

    def gaps(self, pairs: list[Pair]) -> NDArray[np.float64]:
        """By how much the true caption leads, by bigrams and by words: (pairs, 2)."""
        rows = [
            [score(pair.true) - score(pair.wrong) for score in (self.bigrams, self.words)]
            for pair in pairs
        ]
        # Rounded: the same words in another order add up to something else in the last digits.
        return np.round(np.array(rows).reshape(-1, 2), 9)


def made(captions: dict[str, list[str]], seed: int) -> list[Pair]:
    """At most one wrong caption of each kind for each caption."""
    random = np.random.default_rng(seed)
    return [
        Pair(file, each.kind, text, each.text)
        for file, texts in captions.items()
        for at, text in enumerate(texts)
        for each in corruptions(text, texts[:at] + texts[at + 1 :], random=random)
    ]


def refined(pairs: list[Pair], gaps: NDArray[np.float64], seed: int) -> list[Pair]:
    """As many pairs in each cell of the gaps' plane as in the one opposite, for each kind."""
    random = np.random.default_rng(seed)
    # A gap of nothing, such as words have where they are only swapped, is opposite itself.
    places = (np.sign(gaps) * np.ceil(np.abs(gaps) / _CELL)).astype(int).tolist()
    cells: dict[tuple[Kind, int, int], list[int]] = {}
    for at in random.permutation(len(pairs)).tolist():
        across, up = places[at]
        cells.setdefault((pairs[at].kind, across, up), []).append(at)
    kept: list[int] = []
    for (kind, across, up), members in cells.items():
        kept += members[: len(cells.get((kind, -across, -up), []))]
    return [pairs[at] for at in sorted(kept)]


def told(gaps: NDArray[np.float64]) -> list[float]:
    """Share of pairs whose true caption leads; equal ones count half."""
    return [round(float(value), 3) for value in ((gaps > 0) + 0.5 * (gaps == 0)).mean(axis=0)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=("train", "val", "test"), default="val")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--k", type=float, default=0.1, help="what is added to each count")
    parser.add_argument("--refined", action="store_true", help="make the blind models' gaps even")
    parser.add_argument("--examples", type=int, default=10, help="of each kind")
    parser.add_argument("--out", type=Path, help="write the pairs to a JSONL file")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args()
    folder = shared_data() / "flickr8k"
    train = read_split(folder, "train")
    blind = Blind([text for texts in train.values() for text in texts], options.k)
    captions = read_split(folder, options.split)
    pairs = made(captions, options.seed)
    if options.refined:
        pairs = refined(pairs, blind.gaps(pairs), options.seed)
    if options.out:
        lines = [json.dumps(asdict(pair), ensure_ascii=False) + "\n" for pair in pairs]
        options.out.write_text("".join(lines), encoding="utf-8")
    total = sum(map(len, captions.values()))
    random, rows = np.random.default_rng(options.seed), {}
    for kind in KINDS:
        members = [pair for pair in pairs if pair.kind == kind]
        shown = random.permutation(len(members))[: options.examples]
        bigrams, words = told(blind.gaps(members)) if members else (None, None)
        rows[kind] = {
            "pairs": len(members),
            "share": round(len(members) / total, 3),
            "bigrams": bigrams,
            "words": words,
            "examples": [[members[at].true, members[at].wrong] for at in shown],
        }
    report = describe("corruptions", data=f"flickr8k {options.split}", captions=total, kinds=rows)
    if options.json:
        print(json.dumps(report, ensure_ascii=False))
        return
    print(f"{report['machine']}; {report['date']}; {report['data']}, {total} captions")
    for kind, row in rows.items():
        print(f"\n{kind}: {row['pairs']} pairs, of {row['share']:.1%} of the captions; ", end="")
        print(f"told blindly by bigrams {row['bigrams']}, by words {row['words']}")
        for true, wrong in row["examples"]:
            print(f"  {true}\n    {wrong}")


if __name__ == "__main__":
    main()

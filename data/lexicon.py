"""The English word lists that captions are corrupted with: what may stand for what, and where."""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent / "words"
_WORD = re.compile(r"[a-z0-9]+(?:[-'’][a-z0-9]+)*")
_IRREGULAR = {
    "men": "man",
    "women": "woman",
    "children": "child",
    "geese": "goose",
    "feet": "foot",
    "scarves": "scarf",
    "people": "person",
}
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Choice:
    """A word that may be put in, and the stems that make it true, or may do so.

    `rare`: it is so seldom true that it may be said of what nobody says anything about.
    """

    text: str
    blocked: frozenset[str]
    rare: bool


@dataclass(frozen=True, slots=True)
class Where:
    """A group's name, and its conditions: words, or names of groups of things (in capitals)."""

    group: str
    after: frozenset[str]
    before: frozenset[str]
    never: frozenset[str]
    without: frozenset[str]
    added: frozenset[str]
    names: frozenset[str]
    unsaid: frozenset[str]
    usual: frozenset[str]


@dataclass(frozen=True, slots=True)
class Sense:
    """A word in a group: which of its forms it is (singular, plural; or base, -s, -ing) and of how
    many, and what may replace it.
    """

    form: int
    forms: int
    choices: tuple[Choice, ...]
    where: Where


@dataclass(frozen=True, slots=True)
class Table:
    """The senses of the words of one list, and all that is in each group by form."""

    senses: Mapping[tuple[str, ...], tuple[Sense, ...]]
    members: Mapping[tuple[Where, int], tuple[Choice, ...]]
    longest: int

    def at(self, words: tuple[str, ...], place: int) -> tuple[int, tuple[Sense, ...]]:
        """The longest entry that begins at a place: its number of words, its senses; 0 if none."""
        for length in range(min(self.longest, len(words) - place), 0, -1):
            found = self.senses.get(words[place : place + length])
            if found:
                return length, found
        return 0, ()


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line: its words by form, those never put in, the rare ones, stems that block it, and stems
    that it never replaces.
    """

    words: tuple[tuple[str, ...], ...]
    idle: frozenset[str]
    rare: frozenset[str]
    blocked: frozenset[str]
    spared: frozenset[str]

    def choices(self, form: int, forms: int) -> Iterator[Choice]:
        """What may be put in, in one form of so many."""
        for words in self.words:
            if len(words) == forms and words[form] != "-" and words[form] not in self.idle:
                yield Choice(words[form], self.blocked, words[form] in self.rare)


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """The Snowball stem of an English word (Porter 2001), also of an irregular plural."""
    # A stemmer keeps state while it works, and threads share it.
    with _lock:
        return str(_stemmer().stemWord(_IRREGULAR.get(word, word)))


@cache
def _stemmer() -> Any:
    import snowballstemmer

    return snowballstemmer.stemmer("english")


@lru_cache(maxsize=1 << 16)
def stems(text: str) -> frozenset[str]:
    """The stems of all words of a text, and of the parts of those with hyphens."""
    words = _WORD.findall(text.lower())
    return frozenset(stem(part) for word in words for part in (word, *word.split("-")))


@cache
def grammar() -> Mapping[str, frozenset[str]]:
    """Words by what they do in a sentence: `Verbs` are in all forms, `Bases` those of verbs."""
    found = {
        head: frozenset(" ".join(body).split())
        for head, body in _sections("corrupt_grammar_en.txt")
    }
    found["Bases"] = found["Verbs"]
    for name in ("Verbs", "Moving", "Directed", "Symmetric"):
        found[name] |= {form for verb in found[name] for form in _forms(verb)}
    return found


@cache
def table(name: str) -> Table:
    """One list: `objects`, `attributes` or `relations`."""
    senses = defaultdict[tuple[str, ...], list[Sense]](list)
    members: dict[tuple[Where, int], tuple[Choice, ...]] = {}
    for head, body in _sections(f"corrupt_{name}_en.txt"):
        entries = [_entry(line) for line in body]
        where = _where(head)
        for entry in entries:
            for words in entry.words:
                for form, text in enumerate(words):
                    if text != "-":
                        choices = _choices(entry, words[0], form, len(words), entries)
                        sense = Sense(form, len(words), choices, where)
                        senses[tuple(text.split())].append(sense)
        forms = max(len(words) for entry in entries for words in entry.words)
        for form in range(forms):
            found = (choice for entry in entries for choice in entry.choices(form, forms))
            members[where, form] = tuple(found)
    frozen = {key: tuple(found) for key, found in senses.items()}
    return Table(frozen, members, max(map(len, frozen)))


def _choices(
    replaced: _Entry, word: str, form: int, forms: int, entries: list[_Entry]
) -> tuple[Choice, ...]:
    return tuple(
        choice
        for entry in entries
        if entry is not replaced and stem(word) not in entry.spared
        for choice in entry.choices(form, forms)
    )


def _sections(name: str) -> Iterator[tuple[str, list[str]]]:
    head, body = "", list[str]()
    for line in (_FOLDER / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            if body:
                yield head, body
            head, body = line.strip("[]"), []
        elif line and not line.startswith("#"):
            body.append(line)
    yield head, body


def _where(head: str) -> Where:
    """The conditions of a section's head: `Name key: words; key: words`."""
    name, _, rest = head.partition(" ")
    parts = {
        key.strip(): words for key, _, words in (part.partition(":") for part in rest.split(";"))
    }

    def words(key: str) -> frozenset[str]:
        found = frozenset(parts.get(key, "").split())
        lists = [grammar()[word] for word in found if word in grammar()]
        return found.union(*lists)

    return Where(
        name, *map(words, ("after", "before", "not", "without", "added", "as", "unsaid", "usual"))
    )


def _entry(line: str) -> _Entry:
    left, _, right = line.partition(":")
    blocking, _, spared = right.partition("!")
    words, marked = [], {"*": set[str](), "+": set[str]()}
    for item in left.split(","):
        forms = [form.strip() for form in item.split("/")]
        for sign, those in marked.items():
            those |= {form.strip("*+") for form in forms if form.endswith(sign)}
        words.append(tuple(form.strip("*+") for form in forms))
    own = {form.split()[-1] for forms in words for form in forms}
    return _Entry(
        tuple(words),
        frozenset(marked["*"]),
        frozenset(marked["+"]),
        frozenset(stem(word) for word in own | set(blocking.split()) if word != "-"),
        frozenset(map(stem, spared.split())),
    )


def _forms(verb: str) -> Iterator[str]:
    """The base, -s and -ing, spelled in every way that some verb of its ending is."""
    stemmed = verb[:-1] if verb.endswith("e") else verb
    yield from (verb, verb + "s", verb + "es")
    yield from (stemmed + "ing", verb + "ing", verb + verb[-1] + "ing")
    if verb.endswith("y"):
        yield verb[:-1] + "ies"
    if verb.endswith("ie"):
        yield verb[:-2] + "ying"

"""Captions: the texts that fit a picture best, from a library, a file or the shipped bank."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ColourEncoder, picture, write_picture, write_text
from test_cli import Shell, rows
from test_evaluate import TellingEncoder, write_captioned

import xsearch
from xsearch import training
from xsearch.core.encoder import TextEmbeddings
from xsearch.core.errors import ImageError, SourceError, UsageError
from xsearch.data.bank import bank
from xsearch.demo import write_demo_photos
from xsearch.retrieval.captioning import SAME, keys_of, merge


class SayingEncoder(ColourEncoder):
    """A text's vector is that of the picture whose seed it names, off by what it says with ~."""

    def embed_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        noise = super().embed_texts(texts)
        seeds = [int(found[0]) if (found := re.findall(r"\d+", text)) else 0 for text in texts]
        batch = np.stack([self.preprocess(picture(seed)) for seed in seeds])
        off = np.array([[0.15 * text.count("~")] for text in texts])
        mixed = self.embed_images(batch) + off * noise.vectors
        unit = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
        return TextEmbeddings(unit.astype(np.float32), noise.cut)


def caption(seed: int, texts: Any, k: int = 5) -> list[xsearch.Caption]:
    return xsearch.caption(xsearch.Image(picture(seed)), texts, k=k, encoder=SayingEncoder())


@pytest.fixture
def saying(tmp_path: Path) -> Iterator[xsearch.Library]:
    """A library whose encoder understands texts about pictures' seeds."""
    with xsearch.open(tmp_path / "saying", encoder=SayingEncoder()) as opened:
        yield opened


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample photographs; not to be changed."""
    folder = tmp_path_factory.mktemp("demo")
    write_demo_photos(folder)
    return folder


def test_the_texts_that_fit_best_come_first() -> None:
    found = caption(3, ["nothing of it, 8", "rather 3 ~~~~~~", "exactly 3", "about 3 ~~~~"], k=3)
    assert [one.text for one in found] == ["exactly 3", "about 3 ~~~~", "rather 3 ~~~~~~"]
    assert [one.rank for one in found] == [1, 2, 3]
    assert found[0].similarity == pytest.approx(1, abs=1e-5)
    logistic = SayingEncoder().calibration("image", "text")
    for one in found:
        expected = 1 / (1 + np.exp(-(logistic.slope * one.similarity + logistic.intercept)))
        assert one.score == pytest.approx(expected)


def test_near_identical_texts_are_merged_into_the_best_of_them() -> None:
    found = caption(3, ["another 5", "seen 3 ~~", "seen 3", "seen 3 ~", "else 3 ~~~~~~~"])
    assert found[0].text == "seen 3"
    assert found[0].others == ("seen 3 ~", "seen 3 ~~")
    assert [one.text for one in found[1:]] == ["else 3 ~~~~~~~", "another 5"]
    assert found[0].to_dict()["others"] == ["seen 3 ~", "seen 3 ~~"]
    assert "others" not in found[1].to_dict()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("A dog runs .", "a dog  runs"),
        ("Über Straßen!", "über strassen"),
        ("小狗。", "小狗"),
        ("ﬁsh", "fish"),
    ],
)
def test_case_punctuation_and_white_space_make_no_other_text(first: str, second: str) -> None:
    image = xsearch.Image(picture(0))
    found = xsearch.caption(image, [first, second, "a cat"], encoder=ColourEncoder())
    assert len(found) == 2
    assert {first, second} in [{one.text, *one.others} for one in found]


def test_texts_of_signs_alone_stay_apart() -> None:
    assert len(set(keys_of(["!", "?", "🐈", ""]).tolist())) == 4


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 45))
def test_merging_keeps_order_loses_nothing_and_leaves_no_two_alike(
    seed: int, count: int, k: int
) -> None:
    random = np.random.default_rng(seed)
    # In two dimensions many are near each other, and few are near all.
    angles = random.uniform(0, 2 * np.pi, count)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    keys = random.integers(0, 30, count)
    order = random.permutation(count)
    found = merge(keys, vectors, order, k)

    def alike(one: int, other: int) -> bool:
        return bool(keys[one] == keys[other] or vectors[one] @ vectors[other] >= SAME)

    place = {at: rank for rank, at in enumerate(order.tolist())}
    firsts = [group[0] for group in found]
    assert firsts == sorted(firsts, key=place.__getitem__)
    assert not [(a, b) for a in firsts for b in firsts if a != b and alike(a, b)]
    for at, (first, *others) in enumerate(found):
        assert others == sorted(others, key=place.__getitem__)
        assert all(alike(first, other) for other in others)
        assert not [1 for other in others for before in firsts[:at] if alike(before, other)]
    named = [one for group in found for one in group]
    assert len(set(named)) == len(named)
    if len(found) < k:
        assert len(named) == count


def test_a_file_of_any_form_gives_its_texts(tmp_path: Path) -> None:
    for path in (
        write_text(tmp_path / "a.txt", "exactly 3\n\n  other 5 \n"),
        write_text(tmp_path / "b.csv", "text,image\nexactly 3,\nother 5,x.jpg\n"),
        write_text(tmp_path / "c.jsonl", '{"text": "exactly 3"}\n{"text": "other 5"}\n'),
        write_text(tmp_path / "D.TXT", "exactly 3\nother 5\n".encode("utf-16")),
    ):
        assert [one.text for one in caption(3, path)] == ["exactly 3", "other 5"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("gone.txt", None, "cannot be read: No such file"),
        ("empty.txt", "\n \n", "has no text in it"),
        ("page.html", "<p>", "come from a .txt, .csv or .jsonl file"),
        ("table.csv", "name\nx\n", "has no column `text`"),
        ("latin.txt", b"caf\xe9\n", "not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, name: str, content: str | bytes | None, reason: str
) -> None:
    if content is not None:
        write_text(tmp_path / name, content)
    with pytest.raises(SourceError, match=re.escape(reason)) as refused:
        caption(0, tmp_path / name)
    assert name in str(refused.value)


def test_equal_and_empty_texts_count_once_and_not_at_all() -> None:
    ready = xsearch.Captioner(["a 1", " a 1 ", "", "b 2"], encoder=SayingEncoder())
    assert len(ready) == 2
    assert ready.caption(xsearch.Image(picture(1)))[0].others == ()
    with pytest.raises(UsageError, match="no text"):
        xsearch.Captioner(["", "  "], encoder=SayingEncoder())


def test_texts_that_the_encoder_cuts_are_counted_in_one_warning() -> None:
    with pytest.warns(xsearch.TruncationWarning, match="2 of 3 texts are longer") as told:
        caption(0, ["x" * 2_000, "y" * 2_000, "z"])
    assert len(told) == 1


def test_embedding_many_texts_tells_how_far_it_is() -> None:
    told: list[tuple[int, int | None]] = []
    xsearch.Captioner(
        (f"text {at}" for at in range(600)),
        encoder=ColourEncoder(),
        progress=lambda moment: told.append((moment.done, moment.total)),
    )
    assert told == [(256, 600), (512, 600), (600, 600)]


def test_without_texts_the_bank_is_used_in_the_languages_asked_for() -> None:
    encoder = ColourEncoder()
    assert len(xsearch.Captioner(encoder=encoder)) == len(bank(["en"]))
    assert len(xsearch.Captioner(encoder=encoder, languages=["de", "zh"])) == len(
        bank(["de", "zh"])
    )
    assert len(xsearch.Captioner(encoder=encoder, languages=None)) == len(bank())
    found = xsearch.caption(xsearch.Image(picture(0)), languages="fr", encoder=encoder)
    assert {one.text for one in found} <= set(bank(["fr"]))
    with pytest.raises(UsageError, match="no texts in 'xx'"):
        xsearch.Captioner(encoder=encoder, languages="xx")


def test_what_cannot_be_meant_is_refused(tmp_path: Path, library: xsearch.Library) -> None:
    with pytest.raises(UsageError, match="k must be 0 or more"):
        caption(0, ["a"], k=-1)
    with pytest.raises(UsageError, match="k must be 0 or more"):
        library.caption(xsearch.Image(picture(0)), k=-1)
    assert caption(0, ["a"], k=0) == []
    with pytest.raises(SourceError, match="no such picture"):
        xsearch.caption(tmp_path / "gone.jpg", ["a"], encoder=ColourEncoder())
    broken = write_text(tmp_path / "broken.jpg", "no picture")
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        xsearch.caption(broken, ["a"], encoder=ColourEncoder())


def test_a_librarys_texts_are_captions_and_say_which_item_they_are(
    saying: xsearch.Library, tmp_path: Path
) -> None:
    write_picture(tmp_path / "photos" / "3.png", 3)
    write_text(tmp_path / "photos" / "3.txt", "seen 3\nseen 3 ~\n")
    saying.index([tmp_path / "photos", write_text(tmp_path / "more.txt", "other 5\nbeside 7\n")])
    found = saying.caption(tmp_path / "photos" / "3.png")
    assert (found[0].text, found[0].others) == ("seen 3", ("seen 3 ~",))
    assert {one.text for one in found[1:]} == {"other 5", "beside 7"}
    hits = saying.search(xsearch.Image(picture(3)), target="text")
    assert (found[0].id, found[0].similarity) == (hits[0].id, hits[0].similarity)
    assert [one.rank for one in found] == [1, 2, 3]
    assert found[0].to_dict()["id"] == hits[0].id


def test_merging_does_not_make_captions_of_a_library_fewer(
    saying: xsearch.Library, tmp_path: Path
) -> None:
    alike = [f"seen 3 {'~' * (at % 2)} {chr(97 + at)}" for at in range(26)]
    saying.index(write_text(tmp_path / "texts.txt", "\n".join([*alike, "other 5", "beside 7"])))
    found = saying.caption(xsearch.Image(picture(3)), k=2)
    assert len(found) == 2
    assert len(found[0].others) == 25
    assert len(saying.caption(xsearch.Image(picture(3)), k=9)) == 3


def test_a_library_without_texts_has_no_captions(library: xsearch.Library, photos: Path) -> None:
    library.index(write_picture(photos / "0.png", 0))
    assert library.caption(photos / "0.png") == []


def test_the_bank_names_what_is_in_photographs(demo: Path) -> None:
    english = xsearch.Captioner()
    for name, wanted in {
        "chelsea.png": r"cat|kitten",
        "coffee.png": r"coffee|tea|cup",
        "motorcycle_left.png": r"motor",
    }.items():
        best = english.caption(demo / name)
        assert any(re.search(wanted, one.text) for one in best), (name, best)
    chinese = xsearch.caption(demo / "chelsea.png", languages="zh")
    assert any("猫" in one.text for one in chinese)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "home", tmp_path / "work")


def test_the_command_uses_the_bank_where_no_library_has_texts(shell: Shell, demo: Path) -> None:
    chelsea = demo / "chelsea.png"
    done = shell.run("caption", chelsea, "--language", "de", "-k", "3")
    assert not done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert "atze" in done.stdout
    shell.run("index", chelsea)
    done = shell.run("caption", chelsea, "-k", "1", "--json")
    assert "holds no texts; the bank's are used" in done.stderr
    (row,) = rows(done)
    assert (row["path"], row["from"]) == (str(chelsea), "bank")
    assert row["captions"][0]["text"] in bank(["en"])
    done = shell.run("caption", chelsea, "--from", "library")
    assert not done.stdout
    assert "index some with: xsearch index FILE" in done.stderr


def test_the_command_prefers_the_library_and_merges(shell: Shell, demo: Path) -> None:
    words = "A cat looks at you.\na cat looks at you\nA rocket\n"
    shell.run("index", write_text(shell.here / "words.txt", words))
    done = shell.run("caption", demo / "chelsea.png")
    best = done.stdout.splitlines()[0]
    assert "at looks at you" in best
    assert best.endswith("(+1 alike)")
    assert not done.stderr
    (row,) = rows(shell.run("caption", demo / "chelsea.png", "--json"))
    assert row["from"] == "library"
    assert isinstance(row["captions"][0]["id"], int)


def test_several_pictures_are_captioned_from_a_file_and_a_bad_one_costs_itself(
    shell: Shell, demo: Path
) -> None:
    file = write_text(shell.here / "c.csv", "text\na cat\na cup of coffee\n")
    bad = write_text(shell.here / "bad.jpg", "no picture")
    names = (demo / "chelsea.png", bad, demo / "coffee.png")
    done = shell.run("caption", *names, "--from", file, "-k", "1")
    assert [line.split("  ")[-1] for line in done.stdout.splitlines() if "  1  " in line] == [
        "a cat",
        "a cup of coffee",
    ]
    assert str(demo / "coffee.png") in done.stdout
    assert "failed: " in done.stderr
    assert "1 picture could not be read" in done.stderr
    found = rows(shell.run("caption", *names, "--from", file, "--json"))
    assert [("reason" in row, row.get("from")) for row in found] == [
        (False, str(file)),
        (True, None),
        (False, str(file)),
    ]
    assert "bad.jpg" in shell.run("caption", bad, "--from", file, code=1).stderr


def test_the_command_refuses_what_does_not_go_together(shell: Shell, demo: Path) -> None:
    cat = demo / "chelsea.png"
    for words, code, reason in (
        ((cat, "--from", "library", "--language", "de"), 2, "goes with --from bank"),
        ((cat, "--from", "bank", "-l", "x"), 2, "not with --from bank"),
        ((cat, "--language", "xx"), 2, "no texts in 'xx'"),
        ((cat, "--from", "gone.txt"), 1, "gone.txt cannot be read"),
        ((cat, "-l", "nowhere"), 1, "nowhere"),
        (("gone.jpg",), 1, "gone.jpg: no such picture"),
        ((demo,), 1, "is a folder, not a picture"),
    ):
        done = shell.run("caption", *words, code=code)
        assert reason in done.stderr.splitlines()[0]
        assert not done.stdout


@pytest.fixture(scope="module")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> training.Dataset:
    return training.read_dataset(write_captioned(tmp_path_factory.mktemp("captioned")))


def test_bleu_judges_captions_of_a_file_in_the_language_chosen(
    captioned: training.Dataset, tmp_path: Path
) -> None:
    texts = [text for one in captioned.only("train").records for text in one.captions["en"]]
    file = write_text(tmp_path / "texts.txt", "\n".join([*texts, *texts]))
    encoder = TellingEncoder()
    found = training.evaluate(encoder, captioned, languages=["en"], captions_from=file)
    split = training.evaluate(encoder, captioned, languages=["en"], captions_from="train")
    assert found.languages["en"].bleu == split.languages["en"].bleu
    assert found.to_dict()["captions_from"] == str(file)
    assert any(f"nearest sentence from {file}, en" in note for note in training.notes(found))
    json.dumps(found.to_dict())
    with pytest.raises(UsageError, match=r"a file has one language; .* one of en, de"):
        training.evaluate(encoder, captioned, captions_from=str(file))


def test_bleu_judges_captions_of_the_bank_language_by_language(
    captioned: training.Dataset,
) -> None:
    encoder = TellingEncoder()
    found = training.evaluate(encoder, captioned, captions_from="bank")
    assert found.captions_from == "bank"
    for language in ("en", "de"):
        tested = [r for r in captioned.only("test").records if r.captions.get(language)]
        batch = np.stack([encoder.preprocess(record.image.open()) for record in tested])
        sources = bank([language])
        nearest = (encoder.embed_images(batch) @ encoder.embed_texts(sources).vectors.T).argmax(1)
        expected = training.bleu(
            [sources[at] for at in nearest], [r.captions[language] for r in tested]
        )
        assert found.languages[language].bleu == expected


def test_a_source_of_captions_that_is_not_there_is_refused(captioned: training.Dataset) -> None:
    for source, error, reason in (
        ("dev", UsageError, r"'dev': .* no such split \(it has test, train\); otherwise give"),
        ("gone.txt", SourceError, r"gone\.txt cannot be read"),
        ("test", UsageError, "another split"),
    ):
        with pytest.raises(error, match=reason):
            training.evaluate(TellingEncoder(), captioned, languages=["en"], captions_from=source)

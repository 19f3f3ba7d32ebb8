"""Labels: which fit a picture, with what probability, for loose files and on the command line."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support import ColourEncoder, picture, write_picture, write_pictures, write_text
from test_cli import Shell, rows

import xsearch
from xsearch.core.encoder import LabelScale
from xsearch.core.errors import EncoderError
from xsearch.core.images import decode
from xsearch.demo import write_demo_photos
from xsearch.retrieval.encoders import load_encoder
from xsearch.retrieval.encoders.manifest import read_manifest
from xsearch.retrieval.phrases import SUBJECTS, TEMPLATES, templates_for
from xsearch.retrieval.zero_shot import Labels, clean, label_scale
from xsearch.training.labels import WORDS, choices, fit_labels, shown, surprise

BUILTIN = Path(__file__).parent.parent / "data" / "builtin"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample photographs; not to be changed."""
    folder = tmp_path_factory.mktemp("demo")
    write_demo_photos(folder)
    return folder


def said(paths: Any, labels: Any, **options: Any) -> dict[str, str | None]:
    """The best label by the file's name."""
    found = xsearch.classify(paths, labels, **options)
    return {one.path.stem: one.best for one in found if one.path}


def unit(vectors: NDArray[Any]) -> NDArray[np.float32]:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def random_labels(count: int, scale: float = 20.0, margin: float = 1.0) -> Labels:
    random = np.random.default_rng(count)
    names = tuple(f"label {at}" for at in range(count))
    vectors, subjects = unit(random.normal(size=(count, 8))), unit(random.normal(size=(5, 8)))
    return Labels(names, vectors, subjects, LabelScale(scale, margin))


def random_pictures(count: int, seed: int = 0) -> NDArray[np.float32]:
    return unit(np.random.default_rng(seed).normal(size=(count, 8)))


# What probabilities are


@settings(deadline=None)
@given(st.integers(1, 30), st.floats(0.1, 5_000), st.floats(-20, 20))
def test_probabilities_of_one_label_or_none_add_up(count: int, scale: float, margin: float) -> None:
    found = random_labels(count, scale, margin).among(random_pictures(20))
    assert np.isfinite(found).all() and found.min() >= 0
    assert found.sum(axis=1).max() <= 1 + 1e-5
    each = random_labels(count, scale, margin).each(random_pictures(20))
    assert np.isfinite(each).all() and each.min() >= 0 and each.max() <= 1


def test_the_formula_is_the_documented_one() -> None:
    labels, images = random_labels(3), random_pictures(4)
    for image, evidence, among, each in zip(
        images.astype(float),
        labels.evidence(images),
        labels.among(images),
        labels.each(images),
        strict=True,
    ):
        background = 2 / 20 * np.log(np.mean([np.exp(10 * image @ b) for b in labels.subjects]))
        expected = np.array([20 * (image @ c - background) - 1 for c in labels.vectors])
        np.testing.assert_allclose(evidence, expected, atol=1e-4)
        weights = 0.5 / 3 * np.exp(expected)
        np.testing.assert_allclose(among, weights / (weights.sum() + 0.5), atol=1e-5)
        np.testing.assert_allclose(each, 1 / (1 + 9 * np.exp(-expected)), atol=1e-5)


def test_the_order_of_labels_and_other_pictures_change_nothing() -> None:
    labels, images = random_labels(6), random_pictures(9)
    back = replace(labels, names=labels.names[::-1], vectors=labels.vectors[::-1])
    np.testing.assert_allclose(labels.among(images), back.among(images)[:, ::-1], atol=1e-6)
    alone = np.concatenate([labels.among(image[None]) for image in images])
    np.testing.assert_allclose(labels.among(images), alone, atol=1e-6)


def test_a_label_of_several_keeps_its_probability_whatever_the_others_are(demo: Path) -> None:
    cat = demo / "chelsea.png"
    (alone,) = xsearch.classify(cat, "cat", multi=True)
    (beside,) = xsearch.classify(cat, ["dog", "cat", "kitten"], multi=True)
    of_cat = {label.name: label.probability for label in beside.labels}["cat"]
    assert of_cat == pytest.approx(alone.labels[0].probability, abs=1e-5)
    assert alone.none is beside.none is None


def test_the_same_picture_fits_one_of_many_labels_as_well_as_one_of_few(demo: Path) -> None:
    few = ["cat", "rocket", "coffee"]
    many = [*few, *(name for name in WORDS if name != "cat")]
    for labels in (few, many):
        assert said(demo / "chelsea.png", labels) == {"chelsea": "cat"}


# The built-in encoder


def test_sample_photographs_get_their_labels_and_others_none(demo: Path) -> None:
    found = said(demo, ["cat", "cup of coffee", "motorcycle", "Chinese temple"])
    expected = {
        "chelsea": "cat",
        "coffee": "cup of coffee",
        "motorcycle_left": "motorcycle",
        "china": "Chinese temple",
    }
    assert {name: found[name] for name in expected} == expected
    others = [best for name, best in found.items() if name not in expected]
    assert len(others) == 11 and others.count(None) >= 10


def test_with_one_label_a_picture_of_something_else_has_none(demo: Path) -> None:
    assert said([demo / "chelsea.png", demo / "gravel.png"], "cat") == {
        "chelsea": "cat",
        "gravel": None,
    }


@pytest.mark.parametrize(
    ("labels", "language"),
    [
        (["Katze", "Rakete", "Kaffee"], None),
        (["Katze", "Rakete", "Kaffee"], "de"),
        (["chat", "fusée", "tasse de café"], "fr"),
        (["猫", "火箭", "咖啡"], None),
    ],
)
def test_labels_may_be_in_other_languages(
    demo: Path, labels: list[str], language: str | None
) -> None:
    found = said([demo / "chelsea.png", demo / "coffee.png"], labels, language=language)
    assert found == {"chelsea": labels[0], "coffee": labels[2]}


def test_english_labels_get_sentences_and_others_stand_alone() -> None:
    assert templates_for(None, ["toilet", "bed", "kitchen"]) == TEMPLATES
    assert templates_for(None, ["Küche", "Bett", "Schlafzimmer"]) == ("{}",)
    assert all("{}" in sentence for sentence in templates_for("zh", []))
    with pytest.raises(xsearch.UsageError, match="'xx', only in en, de"):
        templates_for("xx", ["a"])


def test_templates_are_used_as_given(demo: Path) -> None:
    cat, plain = demo / "chelsea.png", {"templates": ["{}"]}
    (one,) = xsearch.classify(cat, ["a photo of a cat"], **plain)
    (other,) = xsearch.classify(cat, ["cat"], templates=["a photo of a {}"])
    (third,) = xsearch.classify(cat, ["cat"], **plain)
    assert one.none == pytest.approx(other.none, abs=1e-6)
    assert one.none != pytest.approx(third.none, abs=1e-3)
    for wrong, why in (([], "no templates"), (["a cat"], "has no {}")):
        with pytest.raises(xsearch.UsageError, match=why):
            xsearch.classify(cat, ["cat"], templates=wrong)


def test_a_label_that_is_too_long_is_cut_with_a_warning(demo: Path) -> None:
    with pytest.warns(xsearch.TruncationWarning, match="cat cat"):
        list(xsearch.classify(demo / "chelsea.png", ["cat " * 400]))


def test_probabilities_are_right_as_often_as_they_say(shared_data: Path) -> None:
    """On photographs that nothing was fitted on, of another collection than those it was."""
    encoder = load_encoder()
    folder = shared_data / "other_val"
    listing = (folder / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    read = [json.loads(line) for line in listing]
    pixels = [encoder.preprocess(decode(folder / row["file"]).image) for row in read]
    images, labels = encoder.embed_images(np.stack(pixels)), Labels.of(encoder, WORDS)
    sure, right, weights, accepted = [], [], [], []
    for choice in choices(shown([row["captions"]["en"] for row in read])):
        names = tuple(labels.names[at] for at in choice.labels)
        part = replace(labels, names=names, vectors=labels.vectors[choice.labels])
        found = part.among(images[choice.pictures])
        none = 1 - found.sum(axis=1)
        best = np.where(none > 0.5, len(names), found.argmax(axis=1))
        sure.append(np.where(none > 0.5, none, found.max(axis=1)))
        right.append(best == choice.answers)
        weights.append(choice.weights)
        accepted.append((best < len(names))[choice.answers == len(names)].mean())
    gap = np.concatenate(sure) - np.concatenate(right)
    assert abs(np.average(gap, weights=np.concatenate(weights))) < 0.03
    assert np.mean(accepted) < 0.2


# Labels


def test_a_label_given_twice_counts_once(demo: Path) -> None:
    assert clean([" cat", "Dog  food", "CAT", "dog food"]) == ("cat", "Dog food")
    cat = demo / "chelsea.png"
    (once,), (twice,) = (xsearch.classify(cat, names) for names in (["cat"], ["cat", "cat"]))
    assert once.labels == twice.labels


@pytest.mark.parametrize(("labels", "why"), [([], "no labels"), (["cat", " "], "empty")])
def test_no_label_and_an_empty_one_are_refused(demo: Path, labels: list[str], why: str) -> None:
    with pytest.raises(xsearch.UsageError, match=why):
        xsearch.classify(demo, labels)


def test_braces_and_commas_in_a_label_are_part_of_it(demo: Path) -> None:
    names = ["{}", "a {cat}", "red, white and blue", "{0}"]
    (found,) = xsearch.classify(demo / "chelsea.png", names)
    assert {label.name for label in found.labels} == set(names)


# How sharp


def test_an_encoder_without_a_scale_of_its_own_uses_that_of_its_scores() -> None:
    assert label_scale(ColourEncoder()).scale == 10.0
    assert label_scale(load_encoder()) == read_manifest(BUILTIN, "builtin").labels


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({}, None),
        ({"scale": 100.0}, LabelScale(100.0)),
        ({"scale": 100.0, "labels": {"scale": 30, "margin": -1}}, LabelScale(30.0, -1.0)),
    ],
)
def test_a_description_may_say_how_sharp_labels_are(
    tmp_path: Path, extra: dict[str, Any], expected: LabelScale | None
) -> None:
    content = json.loads((BUILTIN / "encoder.json").read_text(encoding="utf-8"))
    del content["labels"]
    (tmp_path / "encoder.json").write_text(json.dumps(content | extra), encoding="utf-8")
    assert read_manifest(tmp_path, "x").labels == expected


@pytest.mark.parametrize("scale", [0, -1, "20", None])
def test_a_scale_that_is_none_is_refused(tmp_path: Path, scale: object) -> None:
    content = json.loads((BUILTIN / "encoder.json").read_text(encoding="utf-8"))
    content["labels"]["scale"] = scale
    (tmp_path / "encoder.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(EncoderError, match=r"labels\.scale"):
        read_manifest(tmp_path, "x")


def test_captions_say_what_pictures_show() -> None:
    truth = shown([["Two dogs run", "a puppy", "on grass"], ["a cat"] * 5, ["a cow", *"abcd"], []])
    names = list(WORDS)
    assert [truth[row, names.index("dog")] for row in range(4)] == [1, 0, 0, 0]
    assert [truth[row, names.index("cat")] for row in range(4)] == [0, 1, 0, 0]
    assert truth[2, names.index("cow")] == -1


def test_the_scale_that_made_the_data_is_found_again() -> None:
    random = np.random.default_rng(0)
    labels = Labels(
        tuple(WORDS),
        unit(random.normal(size=(len(WORDS), 64))),
        unit(random.normal(size=(20, 64))),
        LabelScale(14.0, 2.0),
    )
    near = labels.vectors[random.integers(len(WORDS), size=1_000)]
    images = unit(random.normal(size=near.shape) / 8 + near * random.uniform(0, 1, (1_000, 1)))
    pieces = np.c_[labels.among(images), 1 - labels.among(images).sum(axis=1)].cumsum(axis=1)
    drawn = (random.random((1_000, 1)) > pieces).sum(axis=1)
    mentions = [*(min(words) for words in WORDS.values()), "nothing", "nothing"]
    captions = [[mentions[at]] for at in drawn]
    found = fit_labels(replace(labels, scale=LabelScale(30.0)), images, captions)
    assert found is not None
    assert found.scale == pytest.approx(14.0, rel=0.2)
    there = list(choices(shown(captions)))
    best = surprise(replace(labels, scale=found), images, there)
    for other in (LabelScale(found.scale * 1.3, found.margin), LabelScale(found.scale, 0.0)):
        assert surprise(replace(labels, scale=other), images, there) > best


def test_captions_without_any_of_the_words_fit_nothing() -> None:
    labels = replace(random_labels(len(WORDS)), names=tuple(WORDS))
    assert fit_labels(labels, random_pictures(3), [["nothing"]] * 3) is None


def test_the_subjects_are_each_named_once() -> None:
    assert len(set(SUBJECTS)) == len(SUBJECTS) and all(SUBJECTS)


# Files


def test_one_bad_file_costs_one_row(tmp_path: Path) -> None:
    good = write_pictures(tmp_path, 5)
    good[1].write_bytes(b"no picture")
    good[3].write_bytes(good[2].read_bytes()[:400])
    found = list(xsearch.classify(good, "cat", encoder=ColourEncoder()))
    assert [one.path for one in found] == good
    assert [one.reason is None for one in found] == [True, False, True, False, True]
    assert found[1].best is None and not found[1].labels
    assert set(found[1].to_dict()) == {"path", "reason"}


def test_nothing_but_bad_files_is_no_failure(tmp_path: Path) -> None:
    bad = [write_text(tmp_path / f"{at}.jpg", "no picture") for at in range(3)]
    found = list(xsearch.classify(bad, "cat", encoder=ColourEncoder(), batch_size=2))
    assert all(one.reason for one in found) and len(found) == 3


def test_a_path_that_is_not_there_is_an_error_before_anything_is_read(tmp_path: Path) -> None:
    there = write_picture(tmp_path / "a.jpg", 1)
    with pytest.raises(xsearch.SourceError, match="nowhere"):
        xsearch.classify([there, tmp_path / "nowhere"], "cat", encoder=ColourEncoder())


def test_folders_are_searched_as_indexing_does(tmp_path: Path) -> None:
    for name in ("b.jpg", "a/c.jpg", ".hidden/d.jpg", "skipped/e.jpg", ".f.jpg"):
        write_picture(tmp_path / name, len(name))
    write_text(tmp_path / ".xsearchignore", "skipped/\n")
    write_text(tmp_path / "note.txt", "no picture")
    found = xsearch.classify(tmp_path, "cat", encoder=ColourEncoder())
    assert {one.path.name for one in found if one.path} == {"b.jpg", "c.jpg"}


def test_an_empty_folder_gives_nothing(tmp_path: Path) -> None:
    assert list(xsearch.classify(tmp_path, "cat", encoder=ColourEncoder())) == []


def test_pictures_are_read_no_further_than_a_window_ahead(tmp_path: Path) -> None:
    class Counting(ColourEncoder):
        seen = 0

        def preprocess(self, image: Any) -> Any:
            type(self).seen += 1
            return super().preprocess(image)

    write_pictures(tmp_path, 60)
    before = threading.active_count()
    found = xsearch.classify(tmp_path, "cat", encoder=Counting(), batch_size=4, workers=2)
    assert isinstance(found, Iterator)
    next(found)
    assert Counting.seen <= 4 + 2 * 4
    found.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_order_does_not_depend_on_workers_or_batches(tmp_path: Path) -> None:
    write_pictures(tmp_path, 23)
    runs = [
        list(
            xsearch.classify(
                tmp_path, ["a", "b"], encoder=ColourEncoder(), workers=workers, batch_size=size
            )
        )
        for workers, size in ((1, 1), (4, 5), (2, 100))
    ]
    assert [one.path for one in runs[0]] == sorted(tmp_path.iterdir())
    for other in runs[1:]:
        assert [one.path for one in other] == [one.path for one in runs[0]]
        for one, same in zip(runs[0], other, strict=True):
            assert one.none == pytest.approx(same.none, abs=1e-5)


@pytest.mark.parametrize("option", ["workers", "batch_size", "top"])
def test_less_than_one_is_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(xsearch.UsageError):
        xsearch.classify(tmp_path, "cat", encoder=ColourEncoder(), **{option: 0})


def test_only_the_top_labels_are_kept(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.png", 1)
    (every,) = xsearch.classify(path, list("abcdef"), encoder=ColourEncoder())
    (two,) = xsearch.classify(path, list("abcdef"), encoder=ColourEncoder(), top=2)
    assert two.labels == every.labels[:2] and two.none == every.none
    probabilities = [label.probability for label in every.labels]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) + (every.none or 0) == pytest.approx(1)


def test_progress_names_each_picture(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path, 3)
    told: list[xsearch.Progress] = []
    list(xsearch.classify(tmp_path, "cat", encoder=ColourEncoder(), progress=told.append))
    assert [(one.done, one.path) for one in told] == [
        (at, str(path)) for at, path in enumerate(paths, 1)
    ]


def test_warnings_of_the_caller_are_left_as_they_were(tmp_path: Path) -> None:
    write_pictures(tmp_path, 3)
    before = list(warnings.filters)
    list(xsearch.classify(tmp_path, "cat", encoder=ColourEncoder()))
    assert warnings.filters == before


def test_the_name_alone_loads_nothing_heavy() -> None:
    code = "import sys, xsearch; xsearch.classify; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "PIL", "onnxruntime", "sqlalchemy"} & set(done.stdout.split())


# The command


@pytest.fixture
def shell(tmp_path: Path, demo: Path) -> Shell:
    """A shell in a folder with `photos`."""
    made = Shell(tmp_path / "home", tmp_path / "here")
    (made.here / "photos").symlink_to(demo, target_is_directory=True)
    return made


def test_the_command_says_label_and_probability(shell: Shell) -> None:
    chosen = [f"photos/{name}.png" for name in ("chelsea", "gravel")]
    done = shell.run("classify", "--labels", "cat,rocket", *chosen)
    first, second = (line.split() for line in done.stdout.splitlines())
    assert first[1:] == ["cat", "photos/chelsea.png"] and 0.9 < float(first[0]) <= 1
    assert second[1:] == ["none", "photos/gravel.png"] and 0.5 < float(second[0]) <= 1
    assert done.stderr == ""


def test_the_command_in_json_has_every_label(shell: Shell) -> None:
    done = shell.run("classify", "--json", "--labels", "cat,rocket", "photos/chelsea.png")
    (row,) = rows(done)
    assert list(row) == ["path", "best", "none", "labels"]
    assert row["best"] == "cat" and row["path"] == str(shell.here / "photos" / "chelsea.png")
    assert list(row["labels"]) == ["cat", "rocket"]  # type: ignore[call-overload]
    (several,) = rows(
        shell.run("classify", "--json", "--multi", "--labels", "cat", str(row["path"]))
    )
    assert "none" not in several


def test_labels_come_from_commas_quotes_and_a_file(shell: Shell) -> None:
    write_text(shell.here / "labels.txt", "\ufeffa rocket, standing\n\ncat\n")
    options = ["--labels", 'dog, "red, white and blue",,', "--labels", "{}"]
    done = shell.run(
        "classify", "--json", *options, "--labels-file", "labels.txt", "photos/chelsea.png"
    )
    (row,) = rows(done)
    wanted = {"dog", "red, white and blue", "{}", "a rocket, standing", "cat"}
    assert set(row["labels"]) == wanted  # type: ignore[call-overload]


def test_several_labels_are_shown_on_request(shell: Shell) -> None:
    words = ["--template", "a photo of a {}.", "--language", "en", "--workers", "1"]
    done = shell.run("classify", "-k", "2", *words, "--labels", "cat,dog", "photos/chelsea.png")
    probability, label, _, second, path = done.stdout.split()
    assert (label, second, path) == ("cat", "dog", "photos/chelsea.png")
    assert float(probability) > 0.5


def test_a_picture_that_cannot_be_read_is_named_and_the_others_go_on(shell: Shell) -> None:
    write_text(shell.here / "bad.jpg", "no picture")
    done = shell.run("classify", "--labels", "cat", "bad.jpg", "photos/chelsea.png")
    assert len(done.stdout.splitlines()) == 1
    failed, note = done.stderr.splitlines()
    assert failed.startswith("failed: bad.jpg: ") and note.startswith("note: 1 picture ")


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("photos",), 2, "no labels"),
        (("--labels", ",", "photos"), 2, "no labels"),
        (("--labels", '"cat', "photos"), 2, "quotes"),
        (("--labels-file", "nowhere.txt", "photos"), 1, "nowhere.txt"),
        (("--labels", "cat", "--language", "xx", "photos"), 2, "xx"),
        (("--labels", "cat", "nowhere.jpg"), 1, "nowhere.jpg"),
        (("--labels", "cat", "--encoder", "nothing such", "photos"), 1, "nothing such"),
    ],
)
def test_wrong_use_is_one_line(shell: Shell, words: tuple[str, ...], code: int, why: str) -> None:
    done = shell.run("classify", *words, code=code)
    (line,) = done.stderr.splitlines()
    assert why in line


def test_a_picture_in_memory_is_decoded_like_any_other(tmp_path: Path) -> None:
    """The vector behind the answer is that of a search with the same picture."""
    encoder = ColourEncoder()
    path = write_picture(tmp_path / "a.png", 7)
    labels = Labels.of(encoder, ["a", "b"])
    vector = encoder.embed_images(encoder.preprocess(picture(7))[None])
    (found,) = xsearch.classify(path, ["a", "b"], encoder=encoder)
    expected = dict(zip(labels.names, labels.among(vector)[0], strict=True))
    for label in found.labels:
        assert label.probability == pytest.approx(float(expected[label.name]), abs=1e-5)

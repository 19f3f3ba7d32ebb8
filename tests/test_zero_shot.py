"""Zero-shot classification agrees with scikit-learn, BLEU with counting by hand."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    precision_recall_fscore_support,
    top_k_accuracy_score,
)
from support import ColourEncoder

from xsearch.core.errors import UsageError
from xsearch.retrieval.encoders import load_encoder
from xsearch.retrieval.zero_shot import class_vectors
from xsearch.training.evaluation.captions import bleu
from xsearch.training.evaluation.metrics import kept
from xsearch.training.evaluation.zero_shot import Classification, classify


def unit(vectors: NDArray[Any]) -> NDArray[Any]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def names_of(count: int) -> list[str]:
    return [f"class {at}" for at in range(count)]


def values(found: Classification) -> dict[str, float]:
    return {name: estimate.value for name, estimate in found.figures.items()}


@st.composite
def problems(draw: st.DrawFn) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    """Images, classes (no ties among them) and the class of each image."""
    images, classes = draw(st.integers(1, 40)), draw(st.integers(6, 9))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    truth = random.integers(classes, size=images)
    directions = unit(random.normal(size=(classes, 12)))
    pictures = unit(directions[truth] + random.normal(size=(images, 12)) * 0.5)
    return pictures, directions, truth


@settings(deadline=None)
@given(problems())
def test_single_label_figures_are_those_of_scikit_learn(problem: Any) -> None:
    images, classes, truth = problem
    found = classify(
        images, classes, np.eye(len(classes), dtype=bool)[truth], names_of(len(classes))
    )
    scores = kept(images).astype(float) @ kept(classes).T.astype(float)
    predicted = scores.argmax(axis=1)
    everyone = np.arange(len(classes))
    per_class = precision_recall_fscore_support(truth, predicted, labels=everyone, zero_division=0)
    for got, *expected in zip(found.classes, *per_class, strict=True):
        assert [got.precision, got.recall, got.f1] == pytest.approx(
            [100 * share for share in expected[:3]]
        )
        assert got.pictures == expected[3]
    macro = precision_recall_fscore_support(
        truth, predicted, labels=np.unique(truth), average="macro", zero_division=0
    )
    assert values(found) == pytest.approx(
        {
            "accuracy@1": 100 * accuracy_score(truth, predicted),
            "accuracy@5": 100 * top_k_accuracy_score(truth, scores, k=5, labels=everyone),
            **dict(zip(("precision", "recall", "f1"), (100 * x for x in macro[:3]), strict=True)),
        }
    )


@settings(deadline=None)
@given(problems(), st.integers(0, 2**32))
def test_multi_label_figures_are_those_of_scikit_learn(problem: Any, seed: int) -> None:
    images, classes, first = problem
    truth = np.random.default_rng(seed).random((len(images), len(classes))) < 0.2
    truth[np.arange(len(images)), first] = True
    found = classify(images, classes, truth, names_of(len(classes)))
    scores = kept(images).astype(float) @ kept(classes).T.astype(float)
    predicted = np.zeros_like(truth)
    for row, order in enumerate(np.argsort(-scores, axis=1)):
        predicted[row, order[: truth[row].sum()]] = True
    per_class = precision_recall_fscore_support(truth, predicted, zero_division=0)
    for got, *expected in zip(found.classes, *per_class, strict=True):
        assert [got.precision, got.recall, got.f1] == pytest.approx(
            [100 * share for share in expected[:3]]
        )
    best = truth[np.arange(len(images)), scores.argmax(axis=1)]
    assert values(found)["accuracy@1"] == pytest.approx(100 * best.mean())


def test_a_tie_between_classes_counts_against() -> None:
    classes = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    for true in (0, 1):
        truth = np.eye(3, dtype=bool)[[true, 2]]
        found = classify(classes[[0, 2]], classes, truth, names_of(3))
        assert values(found)["accuracy@1"] == 50
        assert [row.recall for row in found.classes][true] == 0


def test_intervals_of_accuracy_and_macro_figures_hold_the_figures() -> None:
    random = np.random.default_rng(0)
    classes = unit(random.normal(size=(5, 12)))
    true = random.integers(5, size=300)
    images = unit(classes[true] + random.normal(size=(300, 12)) * 0.5)
    found = classify(images, classes, np.eye(5, dtype=bool)[true], names_of(5), samples=300)
    for name in ("accuracy@1", "precision", "recall", "f1"):
        estimate = found.figures[name]
        assert estimate.low is not None and estimate.high is not None
        assert estimate.low < estimate.value < estimate.high
        assert 3 < estimate.high - estimate.low < 20


def test_a_class_vector_is_the_mean_over_the_templates() -> None:
    encoder = ColourEncoder()
    templates = ("a {}", "{} {}", "{x} of {}")
    found = class_vectors(encoder, ["cat", "{dog}"], templates)
    sentences = [["a cat", "cat cat", "{x} of cat"], ["a {dog}", "{dog} {dog}", "{x} of {dog}"]]
    for row, texts in zip(found, sentences, strict=True):
        mean = encoder.embed_texts(texts).vectors.mean(axis=0)
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-6)


@pytest.mark.parametrize(
    ("templates", "said"), [((), "no templates"), (("{}", "a cat"), "'a cat' has no {}")]
)
def test_templates_without_a_place_for_the_name_are_refused(
    templates: Sequence[str], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        class_vectors(ColourEncoder(), ["cat"], templates)


def test_the_builtin_encoder_tells_cats_from_rockets() -> None:
    from skimage import data

    encoder = load_encoder()
    from PIL import Image

    pictures = [data.chelsea(), data.rocket(), data.coffee()]
    batch = np.stack([encoder.preprocess(Image.fromarray(pixels)) for pixels in pictures])
    names = ["cat", "cup of coffee", "rocket", "bicycle"]
    truth = np.eye(4, dtype=bool)[[0, 2, 1]]
    found = classify(encoder.embed_images(batch), class_vectors(encoder, names), truth, names)
    assert values(found)["accuracy@1"] == 100


def test_bleu_is_what_counting_by_hand_gives() -> None:
    hypotheses = ["The the cat sat on the mat", "a dog runs"]
    references = [["the cat is on the mat", "there is a cat on the mat"], ["a dog runs fast"]]
    found = bleu(hypotheses, references)
    # 1-grams: the (clipped to 2), cat, on, mat; a, dog, runs: 8 of 10. 2-grams: the cat, on the,
    # the mat; a dog, dog runs: 5 of 8. 3-grams: on the mat; a dog runs: 2 of 6. 4-grams: 0 of 4.
    # Lengths: 7 + 3 against 7 (nearest) + 4.
    penalty = math.exp(1 - 11 / 10)
    assert found.brevity_penalty == pytest.approx(penalty)
    assert (found.hypothesis_length, found.reference_length) == (10, 11)
    assert found.scores == pytest.approx(
        (
            100 * penalty * 8 / 10,
            100 * penalty * math.sqrt(8 / 10 * 5 / 8),
            100 * penalty * (8 / 10 * 5 / 8 * 2 / 6) ** (1 / 3),
            0,
        )
    )
    assert "tok:13a" in found.signature and "case:lc" in found.signature


def test_chinese_is_counted_by_characters() -> None:
    found = bleu(["一只狗在跑"], [["一只猫在跑步"]], language="zh_human_translation")
    penalty = math.exp(1 - 6 / 5)
    assert found.scores[:2] == pytest.approx(
        (100 * penalty * 4 / 5, 100 * penalty * math.sqrt(4 / 5 * 2 / 4))
    )
    assert "tok:zh" in found.signature


def test_bleu_needs_a_reference_for_each_hypothesis() -> None:
    for hypotheses, references in ((["a"], []), (["a"], [[]]), ([], [])):
        with pytest.raises(UsageError):
            bleu(hypotheses, references)


def test_without_sacrebleu_the_pip_line_is_named() -> None:
    code = (
        "import sys; sys.modules['sacrebleu'] = None\n"
        "from xsearch.core.errors import MissingExtraError\n"
        "from xsearch.training.evaluation.captions import bleu\n"
        "try: bleu(['a'], [['a']])\n"
        "except MissingExtraError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'xsearch-engine[evaluate]'" in done.stdout

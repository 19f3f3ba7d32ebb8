"""Fusion of an image and a text vector, for queries (numpy) and in training (torch)."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xsearch.core.errors import EncoderError, UsageError
from xsearch.retrieval.fusion import (
    FILE,
    Concatenation,
    Fusion,
    Product,
    WeightedAverage,
    load_fusion,
    save_fusion,
)

Array = np.ndarray


def some(rows: int, dim: int, seed: int = 0) -> tuple[Array, Array]:
    both = np.random.default_rng(seed).normal(size=(2, rows, dim)).astype(np.float32)
    images, texts = both / np.linalg.norm(both, axis=2, keepdims=True)
    return images, texts


def concatenation(dim: int, seed: int = 0) -> Concatenation:
    random = np.random.default_rng(seed)
    weight = random.normal(size=(dim, 2 * dim)).astype(np.float32)
    return Concatenation(weight, random.normal(size=dim).astype(np.float32))


FUSIONS: list[Fusion] = [WeightedAverage(), WeightedAverage(0.8), Product(), concatenation(4)]


def directly(fusion: Fusion, image: Array, text: Array) -> list[float]:
    """One pair fused by its formula, before scaling, with plain numbers."""
    pair = list(zip(image.tolist(), text.tolist(), strict=True))
    if isinstance(fusion, WeightedAverage):
        return [fusion.weight * x + (1 - fusion.weight) * y for x, y in pair]
    if isinstance(fusion, Product):
        return [x * y for x, y in pair]
    assert isinstance(fusion, Concatenation)
    both = [*image.tolist(), *text.tolist()]
    return [
        sum(w * value for w, value in zip(row, both, strict=True)) + bias
        for row, bias in zip(fusion.weight.tolist(), fusion.bias.tolist(), strict=True)
    ]


@pytest.mark.parametrize("fusion", FUSIONS)
@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.integers(0, 1000))
def test_a_fusion_equals_its_formula(fusion: Fusion, rows: int, seed: int) -> None:
    images, texts = some(rows, 4, seed)
    found = fusion(images, texts)
    assert found.dtype == np.float32
    for i in range(rows):
        wanted = np.array(directly(fusion, images[i], texts[i]))
        np.testing.assert_allclose(found[i], wanted / np.linalg.norm(wanted), atol=1e-5)
        # A vector never depends on what else is in its batch.
        alone = fusion(images[i : i + 1], texts[i : i + 1])[0]
        np.testing.assert_allclose(alone, found[i], atol=1e-6)


def test_the_whole_weight_on_one_side_gives_that_side() -> None:
    images, texts = some(3, 5)
    np.testing.assert_allclose(WeightedAverage(1.0)(images, texts), images, atol=1e-6)
    np.testing.assert_allclose(WeightedAverage(0.0)(images, texts), texts, atol=1e-6)


def test_a_pair_that_cancels_out_is_like_nothing() -> None:
    images, _ = some(2, 4)
    assert not WeightedAverage(0.5)(images, -images).any()
    one, other = np.eye(4, dtype=np.float32)[:1], np.eye(4, dtype=np.float32)[1:2]
    assert not Product()(one, other).any()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_shapes_that_do_not_match_are_refused(fusion: Fusion) -> None:
    images, texts = some(3, 4)
    for one, other in ((images, texts[:2]), (images, texts[:, :3]), (images[0], texts[0])):
        with pytest.raises(UsageError, match="as many image as text vectors"):
            fusion(one, other)


def test_no_vectors_fuse_to_no_vectors() -> None:
    for fusion in FUSIONS:
        assert fusion(*some(0, 4)).shape == (0, 4)


def test_a_fusion_of_another_encoder_is_refused() -> None:
    with pytest.raises(UsageError, match="of 4 dimensions was given 6"):
        concatenation(4)(*some(2, 6))


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_a_weight_that_cannot_be_is_refused(weight: float) -> None:
    with pytest.raises(UsageError, match="weight"):
        WeightedAverage(weight)


# Files.


def test_a_fusion_survives_its_file(tmp_path: Path) -> None:
    fusion = concatenation(4)
    save_fusion(fusion, tmp_path / FILE)
    pair = some(3, 4)
    assert np.array_equal(load_fusion(tmp_path / FILE)(*pair), fusion(*pair))
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


class Dangerous:
    """What a pickled map could do when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_loading_a_fusion_runs_nothing_in_it(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    fusion = concatenation(4)
    hidden = np.array([Dangerous(trace)], dtype=object)
    np.savez(tmp_path / "a.npz", format=1, weight=hidden, bias=fusion.bias, allow_pickle=True)
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Dangerous(trace)))
    for name in ("a.npz", "b.npz"):
        with pytest.raises(EncoderError, match="not a fusion that can be read"):
            load_fusion(tmp_path / name)
    assert not trace.exists()


def test_a_damaged_fusion_is_named(tmp_path: Path) -> None:
    path = tmp_path / FILE
    with pytest.raises(EncoderError, match=FILE):
        load_fusion(path)
    save_fusion(concatenation(8), path)
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:size])
        with pytest.raises(EncoderError, match="Train it again"):
            load_fusion(path)
    broken = bytearray(whole)
    broken[len(whole) // 2] ^= 255
    path.write_bytes(broken)
    with pytest.raises(EncoderError, match="Train it again"):
        load_fusion(path)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"format": 2}, "format 2"),
        ({"format": "one"}, "not a fusion"),
        ({"format": np.ones(2)}, "not a fusion"),
        ({"weight": np.ones((4, 4))}, "is \\(dim, 2 dim\\)"),
        ({"weight": np.full((4, 8), np.nan)}, "finite"),
        ({"bias": np.ones(())}, "is \\(dim, 2 dim\\)"),
        ({"bias": None}, "not a fusion"),
        ({"weight": np.full((4, 8), "a")}, "not a fusion"),
    ],
)
def test_a_file_that_holds_no_fusion_is_refused(tmp_path: Path, changed: dict, said: str) -> None:
    arrays = {"format": 1, "weight": np.ones((4, 8)), "bias": np.ones(4), **changed}
    np.savez(tmp_path / FILE, **{name: each for name, each in arrays.items() if each is not None})
    with pytest.raises(EncoderError, match=said):
        load_fusion(tmp_path / FILE)


# Learning.


@pytest.mark.train
def test_a_fusion_starts_as_the_average_and_exports_what_it_computes() -> None:
    torch = pytest.importorskip("torch", reason="needs the extra `train`")
    from xsearch.training.fusion import TrainableFusion

    images, texts = some(5, 6)
    fusion = TrainableFusion(6)
    start = fusion.export()(images, texts)
    np.testing.assert_allclose(start, WeightedAverage()(images, texts), atol=1e-6)
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.add_(torch.randn_like(parameter))
    found = fusion(torch.from_numpy(images), torch.from_numpy(texts)).detach().numpy()
    np.testing.assert_allclose(fusion.export()(images, texts), found, atol=1e-5)


@pytest.mark.train
def test_an_exported_fusion_does_not_change_with_further_training() -> None:
    torch = pytest.importorskip("torch", reason="needs the extra `train`")
    from xsearch.training.fusion import TrainableFusion

    fusion = TrainableFusion(3)
    exported = fusion.export()
    before = exported.weight.copy()
    with torch.no_grad():
        fusion.projection.weight.add_(1)
    assert np.array_equal(exported.weight, before)


@pytest.mark.train
def test_a_learnt_fusion_finds_the_other_caption_better_than_an_average() -> None:
    """Half the image's coordinates are noise, half the caption's: the map learns which."""
    torch = pytest.importorskip("torch", reason="needs the extra `train`")
    from xsearch.training.fusion import FusionLoss, TrainableFusion
    from xsearch.training.losses import InfoNCE

    def batch(seed: int) -> tuple:
        torch.manual_seed(seed)
        meaning, image_noise, text_noise = torch.randn(3, 32, 8)
        image, text = meaning.clone(), meaning.clone()
        image[:, :4], text[:, 4:] = 2 * image_noise[:, :4], 2 * text_noise[:, 4:]
        return tuple(torch.nn.functional.normalize(each) for each in (image, text, meaning))

    def found(fused: Array, meaning: Array) -> float:
        return float(((fused @ meaning.T).argmax(axis=1) == np.arange(len(fused))).mean())

    torch.manual_seed(0)
    fusion = TrainableFusion(8)
    loss = FusionLoss(fusion, InfoNCE())
    optimiser = torch.optim.Adam(loss.parameters(), lr=0.01)
    for step in range(150):
        optimiser.zero_grad()
        loss(*batch(step)).backward()
        optimiser.step()
    image, text, meaning = (each.numpy() for each in batch(1000))
    assert found(WeightedAverage()(image, text), meaning) < 0.8
    assert found(fusion.export()(image, text), meaning) > 0.95


@pytest.mark.train
def test_a_fusion_in_training_refuses_what_does_not_match() -> None:
    torch = pytest.importorskip("torch", reason="needs the extra `train`")
    from xsearch.training.fusion import TrainableFusion

    with pytest.raises(UsageError, match="as many image as text vectors"):
        TrainableFusion(4)(torch.ones(2, 4), torch.ones(3, 4))

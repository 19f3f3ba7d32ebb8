"""Fusion of an image and a text: as numbers, in queries, and in training (torch)."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ColourEncoder, ids, open_colour, picture, write_picture, write_text

import xsearch
import xsearch.data
from xsearch.core.errors import EncoderError, UsageError
from xsearch.retrieval import fusion as fusion_module
from xsearch.retrieval.encoders import load_encoder
from xsearch.retrieval.fusion import (
    FILE,
    Concatenation,
    Fusion,
    Product,
    Residual,
    WeightedAverage,
    fusion_for,
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


def residual(dim: int, hidden: int = 3, seed: int = 0) -> Residual:
    random = np.random.default_rng(seed)
    shapes = [(), (hidden, 2 * dim), (hidden,), (dim, hidden), (dim,)]
    return Residual(*(np.float32(random.normal(size=shape)) for shape in shapes))


FUSIONS: list[Fusion] = [
    WeightedAverage(),
    WeightedAverage(0.8),
    Product(),
    concatenation(4),
    residual(4),
]


def directly(fusion: Fusion, image: Array, text: Array) -> list[float]:
    """One pair fused by its formula, before scaling, with plain numbers."""
    pair = list(zip(image.tolist(), text.tolist(), strict=True))
    if isinstance(fusion, WeightedAverage):
        return [fusion.weight * x + (1 - fusion.weight) * y for x, y in pair]
    if isinstance(fusion, Product):
        return [x * y for x, y in pair]
    both = [*image.tolist(), *text.tolist()]
    if isinstance(fusion, Residual):
        hidden = [
            max(0.0, sum(w * value for w, value in zip(row, both, strict=True)) + bias)
            for row, bias in zip(fusion.inner.tolist(), fusion.inner_bias.tolist(), strict=True)
        ]
        return [
            x + float(fusion.share) * y + bias + sum(map(float.__mul__, row, hidden))
            for (x, y), row, bias in zip(
                pair, fusion.outer.tolist(), fusion.outer_bias.tolist(), strict=True
            )
        ]
    assert isinstance(fusion, Concatenation)
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
    for fusion in (concatenation(4), residual(4)):
        with pytest.raises(UsageError, match="of 4 dimensions was given 6"):
            fusion(*some(2, 6))


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_a_weight_that_cannot_be_is_refused(weight: float) -> None:
    with pytest.raises(UsageError, match="weight"):
        WeightedAverage(weight)


# Files.


@pytest.mark.parametrize("fusion", [concatenation(4), residual(4)])
def test_a_fusion_survives_its_file(fusion: Concatenation | Residual, tmp_path: Path) -> None:
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
        ({"fingerprint": None}, "not a fusion"),
    ],
)
def test_a_file_that_holds_no_fusion_is_refused(tmp_path: Path, changed: dict, said: str) -> None:
    arrays = {"format": 1, "weight": np.ones((4, 8)), "bias": np.ones(4), "fingerprint": ""}
    arrays |= changed
    np.savez(tmp_path / FILE, **{name: each for name, each in arrays.items() if each is not None})
    with pytest.raises(EncoderError, match=said):
        load_fusion(tmp_path / FILE)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"outer": None}, "not a fusion"),
        ({"share": np.ones(1)}, "arrays are"),
        ({"inner": np.ones((3, 9))}, "arrays are"),
        ({"outer_bias": np.ones(())}, "arrays are"),
        ({"inner_bias": np.full(3, np.inf)}, "finite"),
    ],
)
def test_a_file_that_holds_no_residual_is_refused(tmp_path: Path, changed: dict, said: str) -> None:
    whole = residual(4)
    arrays = {"format": 1, "fingerprint": ""}
    arrays |= {one.name: getattr(whole, one.name) for one in fields(whole)} | changed
    np.savez(tmp_path / FILE, **{name: each for name, each in arrays.items() if each is not None})
    with pytest.raises(EncoderError, match=said):
        load_fusion(tmp_path / FILE)


# What ships, and queries.

STALE = (
    "data/builtin/fusion.npz is not of this encoder; make it again with: "
    "python -m xsearch.training.builtin.fusion"
)


def test_what_ships_belongs_to_the_built_in_encoder_alone() -> None:
    encoder = load_encoder("builtin")
    shipped = fusion_for(encoder)
    assert isinstance(shipped, Residual), STALE
    assert shipped.outer_bias.shape == (encoder.dim,)
    assert (Path(xsearch.data.__path__[0]) / "builtin" / FILE).stat().st_size < 1_000_000
    assert fusion_for(ColourEncoder()) is None
    # The space counts, not the name: a copy of the encoder in a folder has the same.
    assert fusion_for(ColourEncoder(encoder.fingerprint)) is shipped


def test_a_package_without_the_file_adds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusion_module, "_shipped", lambda: tmp_path / FILE)
    assert fusion_for(load_encoder("builtin")) is None


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[xsearch.Library]:
    """Twelve pictures and a text, and a fusion learnt for their encoder."""
    encoder = ColourEncoder()
    save_fusion(residual(encoder.dim, seed=1), tmp_path / FILE, encoder.fingerprint)
    monkeypatch.setattr(fusion_module, "_shipped", lambda: tmp_path / FILE)
    for seed in range(12):
        write_picture(tmp_path / "photos" / f"{seed:03}.png", seed)
    text = write_text(tmp_path / "texts.txt", "a cat")
    with open_colour(tmp_path / "library") as opened:
        opened.index([tmp_path / "photos", text])
        yield opened


def similarities(library: xsearch.Library, query: xsearch.Query, **options: object) -> list[float]:
    hits = library.search(query, k=20, mode="meaning", correct=False, **options)
    return [hit.similarity for hit in sorted(hits, key=lambda hit: hit.id)]


def expected(library: xsearch.Library, vector: Array) -> list[float]:
    encoder = ColourEncoder()
    places = sorted(ids(library).items(), key=lambda one: one[1])
    rows = [encoder.preprocess(picture(int(name[:3]))) for name, _ in places]
    return list(encoder.embed_images(np.stack(rows)) @ vector)


def parts(seed: int, text: str) -> tuple[Array, Array]:
    encoder = ColourEncoder()
    pixels = encoder.preprocess(picture(seed))[None]
    return encoder.embed_images(pixels), encoder.embed_texts([text]).vectors


def test_one_picture_and_one_text_are_joined_by_what_was_learnt(library: xsearch.Library) -> None:
    wanted = expected(library, residual(ColourEncoder().dim, seed=1)(*parts(3, "at night"))[0])
    image, item = xsearch.Image(picture(3)), xsearch.Item(ids(library)["003.png"])
    for query in (image + "at night", "at night" + image, item + "at night"):
        assert similarities(library, query) == pytest.approx(wanted, abs=2e-3)


def test_weights_and_no_fusion_add_them(library: xsearch.Library) -> None:
    image = xsearch.Image(picture(3))
    for share, query, options in (
        (1.0, image + "at night", {"fusion": False}),
        (1.0, 2 * image + 2 * xsearch.Query("at night"), {}),
        (3.0, image + 3 * xsearch.Query("at night"), {}),
        (-1.0, image - "at night", {}),
    ):
        one, other = parts(3, "at night")
        vector = (one + share * other)[0]
        wanted = expected(library, vector / np.linalg.norm(vector))
        assert similarities(library, query, **options) == pytest.approx(wanted, abs=2e-3)


def test_anything_but_one_picture_and_one_text_is_added(library: xsearch.Library) -> None:
    image, text = xsearch.Image(picture(3)), library.search("a cat", target="text")[0].id
    for query in (
        image + "at night" + "red",
        image + xsearch.Image(picture(4)) + "red",
        image + xsearch.Image(picture(4)),
        xsearch.Query("red") + "blue",
        xsearch.Item(text) + "red",
    ):
        with_it, without = similarities(library, query), similarities(library, query, fusion=False)
        assert with_it == without
    fused = similarities(library, image + "at night", like=[1])
    assert fused == similarities(library, image + "at night", like=[1], fusion=False)


def test_an_item_that_is_not_there_is_an_error_as_ever(library: xsearch.Library) -> None:
    with pytest.raises(UsageError, match="no item 999"):
        library.search(xsearch.Item(999) + "red")


def test_an_explanation_says_whether_a_picture_and_words_are_joined() -> None:
    query = xsearch.Image("a.jpg") + "at night"
    joined = xsearch.explain_query(query)
    assert joined.to_dict()["joined"] is True
    assert any("--no-fusion" in line for line in joined.lines())
    for explanation in (
        xsearch.explain_query(query, fusion=False),
        xsearch.explain_query(2 * query),
        xsearch.explain_query(query + "red"),
        xsearch.explain_query(xsearch.Query("red") + "blue"),
    ):
        assert explanation.to_dict()["joined"] is False
        assert not any("--no-fusion" in line for line in explanation.lines())


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


@pytest.mark.train
def test_a_residual_starts_as_a_weighted_sum_and_exports_what_it_computes() -> None:
    torch = pytest.importorskip("torch", reason="needs the extra `train`")
    from xsearch.training.fusion import TrainableResidual

    images, texts = some(5, 6)
    fusion = TrainableResidual(6, hidden=4, share=1.5).eval()
    start = fusion.export()(images, texts)
    np.testing.assert_allclose(start, WeightedAverage(0.4)(images, texts), atol=1e-6)
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.add_(torch.randn_like(parameter))
    found = fusion(torch.from_numpy(images), torch.from_numpy(texts)).detach().numpy()
    np.testing.assert_allclose(fusion.export()(images, texts), found, atol=1e-5)
    with pytest.raises(UsageError, match="as many image as text vectors"):
        fusion(torch.ones(2, 6), torch.ones(3, 6))


@pytest.mark.train
def test_the_loss_of_composed_queries_equals_its_formula_and_leaves_the_reference_out() -> None:
    torch = pytest.importorskip("torch", reason="needs the extra `train`")
    from xsearch.training.fusion import Composed, ComposedLoss

    images, texts = some(5, 4)
    relevant = [(1, 3), (4,)]
    data = Composed(
        torch.from_numpy(images),
        torch.from_numpy(texts),
        torch.tensor([0, 2]),
        torch.tensor([3, 1]),
        relevant,
    )
    loss = ComposedLoss(data, 0.5)(lambda one, other: one + 2 * other, torch.tensor([0, 1]))
    wanted = []
    for reference, text, fits in ((0, 3, relevant[0]), (2, 1, relevant[1])):
        logits = images @ (images[reference] + 2 * texts[text]) / 0.5
        others = np.log(sum(np.exp(logits[at]) for at in range(5) if at != reference))
        wanted.append(np.mean([others - logits[at] for at in fits]))
    assert float(loss) == pytest.approx(np.mean(wanted), abs=1e-5)


@pytest.mark.train
def test_a_learnt_residual_finds_what_a_sum_does_not() -> None:
    """A text's first half says what changes, its second nothing: what is learnt ignores that."""
    torch = pytest.importorskip("torch", reason="needs the extra `train`")
    from xsearch.training.fusion import (
        Composed,
        ComposedSettings,
        TrainableResidual,
        train_composed,
    )

    random = np.random.default_rng(0)
    images = random.normal(size=(64, 8)).astype(np.float32)
    images[:, 4:] = images[:, 4:][np.arange(64) % 8]
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    pairs = [(one, other) for one in range(64) for other in range(one % 8, 64, 8) if one != other]
    texts = np.array([images[other] for _, other in pairs])
    texts[:, 4:] = random.normal(size=(len(pairs), 4))
    data = Composed(
        torch.from_numpy(images),
        torch.from_numpy(texts),
        torch.tensor([one for one, _ in pairs]),
        torch.arange(len(pairs)),
        [(other,) for _, other in pairs],
    )

    def found(fused: Array) -> float:
        cosines = fused @ images.T
        cosines[np.arange(len(pairs)), [one for one, _ in pairs]] = -1
        return float((cosines.argmax(axis=1) == [other for _, other in pairs]).mean())

    torch.manual_seed(0)
    fusion = TrainableResidual(8, hidden=32, drop=0.0)
    seen: list[int] = []
    settings = ComposedSettings(epochs=25, batch=64, rate=0.02)
    train_composed(fusion, data, settings, lambda step, steps, loss: seen.append(steps - step))
    pictures = images[[one for one, _ in pairs]]
    assert found(WeightedAverage(0.4)(pictures, texts)) < 0.5
    assert found(fusion.export()(pictures, texts)) > 0.8
    assert seen == sorted(range(len(seen)), reverse=True)


@pytest.mark.train
def test_no_composed_queries_are_an_error() -> None:
    torch = pytest.importorskip("torch", reason="needs the extra `train`")
    from xsearch.training.fusion import Composed, ComposedLoss

    nothing = torch.zeros(0, dtype=torch.int64)
    with pytest.raises(UsageError, match="no queries"):
        ComposedLoss(Composed(torch.zeros(1, 4), torch.zeros(1, 4), nothing, nothing, []), 0.05)

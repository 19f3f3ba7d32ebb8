"""Each loss equals its formula, is least where it should be, and stays finite at extremes."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xsearch.core.errors import MissingExtraError, UsageError

try:
    import gloo
    import torch
    from torch import Tensor, multiprocessing

    from xsearch.training import losses
    from xsearch.training.losses import batch
except (ImportError, MissingExtraError) as error:
    pytest.skip(f"needs the extra `train`: {error}", allow_module_level=True)

pytestmark = pytest.mark.train

Array = np.ndarray
SETTINGS: list[tuple[str, dict]] = [
    ("infonce", {}),
    ("infonce", {"smoothing": 0.2, "scale": 100.0}),
    ("sigmoid", {}),
    ("triplet", {"margin": 0.3}),
    ("triplet", {"negatives": "semi-hard"}),
]
# Semi-hard negatives depend on the pair's own similarity: a worse pair may find none.
MONOTONE = [each for each in SETTINGS if each[1].get("negatives") != "semi-hard"]


def unit(vectors: Array) -> Array:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def some(rows: int, dim: int, seed: int) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    images = random.normal(size=(rows, dim))
    return unit(images), unit(images + random.normal(size=(rows, dim)))


def tensors(*arrays: Array) -> list[Tensor]:
    return [torch.tensor(array, dtype=torch.float32, requires_grad=True) for array in arrays]


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


# Each formula once more, as loops over rows, in float64.


def infonce(x: Array, y: Array, owners: Array, scale: float, smoothing: float) -> float:
    total = 0.0
    for rows, columns in ((x, y), (y, x)):
        for i, row in enumerate(rows):
            p = softmax(scale * columns @ row)
            positives = [j for j in range(len(x)) if owners[j] == owners[i]]
            for j in range(len(x)):
                q = smoothing / len(x)
                if j in positives:
                    q += (1 - smoothing) / len(positives)
                total -= q * math.log(p[j])
    return total / (2 * len(x))


def sigmoid(x: Array, y: Array, owners: Array, scale: float, bias: float) -> float:
    total = 0.0
    for i in range(len(x)):
        for j in range(len(y)):
            sign = 1 if owners[i] == owners[j] else -1
            total += math.log1p(math.exp(-sign * (scale * x[i] @ y[j] + bias)))
    return total / len(x)


def triplet(x: Array, y: Array, owners: Array, margin: float, semi_hard: bool) -> float:
    total = 0.0
    for rows, columns in ((x, y), (y, x)):
        for i, row in enumerate(rows):
            own = row @ columns[i]
            negatives = [row @ columns[j] for j in range(len(x)) if owners[j] != owners[i]]
            if not negatives:
                continue
            chosen = max(negatives)
            if semi_hard:
                chosen = max((s for s in negatives if s < own), default=min(negatives))
            total += max(0.0, margin - own + chosen)
    return total / len(x)


def expected(kind: str, how: dict, x: Array, y: Array, owners: Array) -> float:
    if kind == "infonce":
        return infonce(x, y, owners, how.get("scale", 1 / 0.07), how.get("smoothing", 0))
    if kind == "sigmoid":
        return sigmoid(x, y, owners, 10, -10)
    return triplet(x, y, owners, how.get("margin", 0.2), "negatives" in how)


@pytest.mark.parametrize(("kind", "how"), SETTINGS)
@pytest.mark.parametrize("owners", [None, [0, 1, 1, 2, 3, 0, 1], [4] * 7])
def test_a_contrastive_loss_equals_its_formula(kind: str, how: dict, owners: list | None) -> None:
    for seed in range(5):
        x, y = some(7, 5, seed)
        given_owners = None if owners is None else torch.tensor(owners)
        found = losses.build_loss(kind, how, 5)(*tensors(x, y), given_owners)
        wanted = expected(kind, how, x, y, np.array(owners or range(7)))
        assert found.item() == pytest.approx(wanted, rel=1e-5, abs=1e-6)


def test_where_every_negative_is_nearer_than_the_pair_the_farthest_of_them_counts() -> None:
    x, y = some(7, 5, 0)
    y = np.roll(y, 1, axis=0) - x  # away from their own images
    scores = x @ y.T
    nothing_farther = (scores >= scores.diagonal()[:, None]).all(axis=1)
    assert nothing_farther.any()
    found = losses.Triplet(negatives="semi-hard")(*tensors(x, y))
    wanted = triplet(x, y, np.arange(7), 0.2, True)
    assert found.item() == pytest.approx(wanted, rel=1e-5)
    hardest = triplet(x, y, np.arange(7), 0.2, False)
    assert wanted < hardest


def test_semi_hard_negatives_are_not_simply_the_hardest() -> None:
    x, y = some(7, 5, 0)
    owners = np.arange(7)
    assert triplet(x, y, owners, 0.2, True) < triplet(x, y, owners, 0.2, False)


@pytest.mark.parametrize(("kind", "how"), MONOTONE)
@settings(max_examples=25, deadline=None)
@given(st.integers(2, 6), st.integers(0, 1000), st.randoms())
def test_no_other_assignment_of_texts_beats_each_image_with_itself(
    kind: str, how: dict, rows: int, seed: int, random: object
) -> None:
    x, _ = some(rows, 4, seed)
    order = list(range(rows))
    random.shuffle(order)  # type: ignore[attr-defined]
    loss = losses.build_loss(kind, how, 4)
    aligned, shuffled = (loss(*tensors(x, y)).item() for y in (x, x[order]))
    assert aligned <= shuffled + 1e-5


@pytest.mark.parametrize(("kind", "how"), SETTINGS)
@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(0, 1000), st.randoms())
def test_the_order_of_pairs_does_not_matter(
    kind: str, how: dict, rows: int, seed: int, random: object
) -> None:
    x, y = some(rows, 4, seed)
    owners = np.random.default_rng(seed).integers(0, rows, rows)
    order = list(range(rows))
    random.shuffle(order)  # type: ignore[attr-defined]
    loss = losses.build_loss(kind, how, 4)
    one = loss(*tensors(x, y), torch.tensor(owners))
    other = loss(*tensors(x[order], y[order]), torch.tensor(owners[order]))
    assert one.item() == pytest.approx(other.item(), rel=1e-4, abs=1e-5)


def test_well_separated_pairs_cost_a_triplet_loss_nothing() -> None:
    for negatives in ("hardest", "semi-hard"):
        x, y = tensors(np.eye(4), np.eye(4))
        loss = losses.Triplet(negatives=negatives)(x, y)
        loss.backward()
        assert loss.item() == 0
        assert not x.grad.any()


def test_following_the_gradient_aligns_pairs() -> None:
    """The sign of each loss is right: descent brings every image's own text first."""
    for kind in losses.CONTRASTIVE:
        torch.manual_seed(0)
        images, texts = torch.randn(6, 8, requires_grad=True), torch.randn(6, 8, requires_grad=True)
        loss = losses.build_loss(kind, {}, 8)
        optimiser = torch.optim.Adam([images, texts, *loss.parameters()], lr=0.05)
        for _ in range(60):
            optimiser.zero_grad()
            loss(
                *(torch.nn.functional.normalize(each, dim=1) for each in (images, texts))
            ).backward()
            optimiser.step()
        scores = (
            torch.nn.functional.normalize(images, dim=1) @ torch.nn.functional.normalize(texts).T
        )
        assert scores.argmax(dim=1).tolist() == list(range(6)), kind


def extreme(name: str) -> tuple[Array, Array]:
    x, y = some(4, 3, 0)
    return {
        "zero vectors": (np.zeros((4, 3)), np.zeros((4, 3))),
        "identical rows": (np.tile(x[:1], (4, 1)), np.tile(x[:1], (4, 1))),
        "a batch of one": (x[:1], y[:1]),
        "opposite": (x, -x),
    }[name]


Call = Callable[[Tensor, Tensor], Tensor]


def calls() -> dict[str, Call]:
    """Every loss as a function of two batches of vectors."""
    compared = ["image-text", "text-image", "image-image", "text-text"]
    made: dict[str, Call] = {
        f"{kind} {how}": losses.build_loss(kind, how, 3) for kind, how in SETTINGS
    }
    similar = losses.build_loss("similarities", {"compared": compared}, 3)
    made["similarities"] = lambda x, y: similar(x, y, y.detach(), x.detach())
    made["anchor"] = losses.build_loss("anchor", {}, 3)
    concepts = losses.build_loss("concepts", {}, 3, frequencies=[0.1, 0.5])
    made["concepts"] = lambda x, y: concepts(x, (y[:, :2] > 0).float())
    return made


@pytest.mark.parametrize("name", ["zero vectors", "identical rows", "a batch of one", "opposite"])
def test_extreme_batches_give_finite_losses_and_gradients(name: str) -> None:
    for kind, call in calls().items():
        x, y = tensors(*extreme(name))
        loss = call(x, y)
        loss.backward()
        assert loss.isfinite(), kind
        for each in (x, y):
            assert each.grad is None or each.grad.isfinite().all(), kind


def test_a_single_pair_has_nothing_to_be_told_from() -> None:
    x, y = some(1, 3, 0)
    for kind in ("infonce", "triplet"):
        assert losses.build_loss(kind, {}, 3)(*tensors(x, y)).item() == 0


def test_nan_in_a_batch_is_not_hidden() -> None:
    for kind, call in calls().items():
        x, y = some(4, 3, 0)
        x[1, 1] = np.nan
        assert not call(*tensors(x, y)).isfinite(), kind


def test_half_precision_vectors_are_compared_in_full_precision() -> None:
    x, y = (torch.tensor(each, dtype=torch.bfloat16) for each in some(6, 8, 0))
    for kind in losses.CONTRASTIVE:
        loss = losses.build_loss(kind, {}, 8)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = loss(x, y)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, loss(x.float(), y.float()), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("x", "y", "owners"),
    [
        ((0, 3), (0, 3), None),
        ((2, 3), (3, 3), None),
        ((2, 3), (2, 4), None),
        ((3,), (3,), None),
        ((2, 3), (2, 3), torch.zeros(3, dtype=torch.int64)),
        ((2, 3), (2, 3), torch.zeros(2)),
    ],
)
def test_batches_that_cannot_be_are_refused(x: tuple, y: tuple, owners: Tensor | None) -> None:
    for kind in losses.CONTRASTIVE:
        with pytest.raises(UsageError):
            losses.build_loss(kind, {}, 3)(torch.ones(x), torch.ones(y), owners)


# The learnt scale.


def test_the_scale_never_passes_its_bound_and_comes_back_from_it() -> None:
    loss = losses.InfoNCE(scale=99)
    # Aligned pairs ask for a larger scale without end.
    optimiser = torch.optim.SGD(loss.parameters(), lr=1e4)
    x, y = (torch.tensor(each, dtype=torch.float32) for each in some(4, 3, 1))
    for _ in range(3):
        optimiser.zero_grad()
        loss(x, x).backward()
        optimiser.step()
    assert loss.temperature().item() == pytest.approx(100)
    optimiser.zero_grad()
    loss(x, -y).backward()
    optimiser.step()
    assert 1 <= loss.temperature().item() < 100


def test_a_scale_may_stay_as_it_is() -> None:
    loss = losses.build_loss("sigmoid", {"learn_scale": False, "scale": 50, "bias": -3}, 3)
    loss(*tensors(*some(4, 3, 0))).backward()
    assert all(each.grad is None for each in loss.parameters())
    assert loss.temperature().item() == pytest.approx(50)


# Distillation.


def rows_apart(student: Array, teacher: Array, scale: float, wanted_scale: float) -> float:
    total = 0.0
    for found, wanted in zip(student, teacher, strict=True):
        p, q = softmax(wanted_scale * wanted), softmax(scale * found)
        total += float((p * np.log(p / q)).sum())
    return total / len(student)


def without_diagonal(square: Array) -> Array:
    return square[~np.eye(len(square), dtype=bool)].reshape(len(square), -1)


def test_distillation_equals_its_formula() -> None:
    x, y = some(6, 4, 0)
    u, v = some(6, 9, 1)
    found = losses.SimilarityDistillation(
        compared=["image-text", "text-image", "text-text"], scale=7, teacher_scale=11
    )(*tensors(x, y, u, v))
    wanted = (
        rows_apart(x @ y.T, u @ v.T, 7, 11)
        + rows_apart(y @ x.T, v @ u.T, 7, 11)
        + rows_apart(without_diagonal(y @ y.T), without_diagonal(v @ v.T), 7, 11)
    ) / 3
    assert found.item() == pytest.approx(wanted, rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 6), st.integers(0, 1000))
def test_the_teacher_itself_is_the_least_loss(rows: int, seed: int) -> None:
    loss = losses.SimilarityDistillation(compared=["image-text", "text-text"])
    teacher = some(rows, 4, seed)
    students = tensors(*some(rows, 4, seed + 1))
    assert loss(*tensors(*teacher, *teacher)).item() == pytest.approx(0, abs=1e-5)
    assert loss(*students, *tensors(*teacher)).item() >= -1e-6


def test_only_the_student_learns_from_distillation() -> None:
    x, y, u, v = tensors(*some(4, 3, 0), *some(4, 3, 1))
    losses.SimilarityDistillation()(x, y, u, v).backward()
    losses.AnchorDistillation()(x, u).backward()
    assert x.grad.any() and y.grad.any()
    assert u.grad is None and v.grad is None


def test_a_teacher_of_texts_alone_will_do_for_texts() -> None:
    x, y, _, v = tensors(*some(4, 3, 0), *some(4, 3, 1))
    assert losses.SimilarityDistillation(compared=["text-text"])(x, y, None, v).item() > 0
    with pytest.raises(UsageError, match="teacher's image vectors"):
        losses.SimilarityDistillation()(x, y, None, v)
    with pytest.raises(UsageError, match="4 text vectors"):
        losses.SimilarityDistillation(compared=["text-text"])(x, y, None, v[:3])


def test_an_anchor_counts_one_minus_the_cosine() -> None:
    x, y = some(5, 3, 0)
    found = losses.AnchorDistillation()(*tensors(x, 3 * y))
    assert found.item() == pytest.approx(np.mean(1 - (x * y).sum(axis=1)), rel=1e-5)
    assert losses.AnchorDistillation()(*tensors(x, x)).item() == pytest.approx(0, abs=1e-6)


# Concepts.


def test_concepts_equal_their_formula() -> None:
    x, _ = some(5, 4, 0)
    targets = np.random.default_rng(0).integers(0, 2, (5, 3))
    loss = losses.ConceptClassification(4, [0.5, 0.1, 0.01])
    weight, bias = (each.detach().double().numpy() for each in loss.head.parameters())
    total = 0.0
    for i in range(5):
        for c in range(3):
            logit = math.sqrt(4) * float(weight[c] @ x[i]) + bias[c]
            p = 1 / (1 + math.exp(-logit))
            total -= math.log(p if targets[i, c] else 1 - p)
    found = loss(*tensors(x), torch.tensor(targets))
    assert found.item() == pytest.approx(total / targets.sum(), rel=1e-5)


def test_concepts_start_at_their_frequencies() -> None:
    loss = losses.ConceptClassification(4, [0.5, 0.1, 0.01])
    start = loss.head(torch.zeros(1, 4)).sigmoid()[0]
    torch.testing.assert_close(start, torch.tensor([0.5, 0.1, 0.01]))


@pytest.mark.parametrize("frequencies", [[], [0.0], [1.0, 0.5], [math.nan]])
def test_concepts_without_possible_frequencies_are_refused(frequencies: list[float]) -> None:
    with pytest.raises(UsageError, match="frequencies"):
        losses.build_loss("concepts", {}, 4, frequencies=frequencies)


@pytest.mark.parametrize(("x", "targets"), [((0, 4), (0, 2)), ((3, 4), (3, 3)), ((3, 5), (3, 2))])
def test_targets_that_do_not_fit_are_refused(x: tuple, targets: tuple) -> None:
    loss = losses.ConceptClassification(4, [0.5, 0.1])
    with pytest.raises(UsageError, match="concepts of"):
        loss(torch.ones(x), torch.ones(targets))


# The registry.


@pytest.mark.parametrize(
    ("kind", "how", "said"),
    [
        ("contrast", {}, "infonce, sigmoid, triplet"),
        ("infonce", {"smothing": 0.1}, "'smothing': it has scale, learn_scale, max_scale, smooth"),
        ("anchor", {"scale": 1}, "it has none"),
        ("concepts", {"dim": 1}, "it has none"),
        ("infonce", {"smoothing": 1.0}, "smoothing = 1.0"),
        ("infonce", {"scale": 101}, "scale = 101"),
        ("infonce", {"scale": math.nan}, "scale = nan"),
        ("sigmoid", {"scale": 0.5}, "scale = 0.5"),
        ("triplet", {"margin": 0}, "margin = 0"),
        ("triplet", {"negatives": "easy"}, "hardest, semi-hard"),
        ("similarities", {"compared": []}, "image-text"),
        ("similarities", {"compared": ["text-video"]}, "image-text"),
        ("similarities", {"scale": 0}, "above 0"),
    ],
)
def test_a_setting_that_cannot_be_is_named(kind: str, how: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        losses.build_loss(kind, how, 4)


# Several processes.


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    """What each of two real processes has found for its own rows."""
    folder = tmp_path_factory.mktemp("gloo")
    multiprocessing.spawn(gloo.work, (str(folder),), nprocs=len(gloo.ROWS))
    return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(len(gloo.ROWS))]


@pytest.mark.parametrize("case", [*gloo.CASES, "cached"])
def test_two_processes_learn_what_one_would(processes: list, case: str) -> None:
    wanted = gloo.result("infonce" if case == "cached" else case, slice(None))
    found = [process[case] for process in processes]
    torch.testing.assert_close((found[0]["loss"] + found[1]["loss"]) / 2, wanted["loss"])
    for name in wanted.keys() - {"loss"}:
        for process in found:
            torch.testing.assert_close(
                process[name], wanted[name], msg=lambda m, n=name: f"{n}: {m}"
            )


def test_one_process_gathers_only_its_own() -> None:
    rows = torch.ones(3, 2)
    assert batch.gather(rows) == (rows, 0, 3)
    assert losses.processes() == 1

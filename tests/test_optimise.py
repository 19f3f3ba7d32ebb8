"""What learns when and how fast; averages of weights; large batches in chunks."""

from __future__ import annotations

import io
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xsearch.core.errors import MissingExtraError, UsageError

try:
    import torch
    from torch import Tensor, nn

    from xsearch.training import losses
    from xsearch.training.average import MovingAverage
    from xsearch.training.gradcache import cached_backward
    from xsearch.training.optimise import (
        OPTIMISERS,
        Rates,
        build_optimiser,
        freeze,
        parameter_groups,
        rate_factor,
        set_rates,
        settle_frozen,
        unfrozen,
    )
except (ImportError, MissingExtraError) as error:
    pytest.skip(f"needs the extra `train`: {error}", allow_module_level=True)

pytestmark = pytest.mark.train


class Towers(nn.Module):
    """A small dual encoder: 4 image layers, 3 text layers, with norms, dropout and heads."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image = nn.ModuleList(
            nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5), nn.Tanh()) for _ in range(4)
        )
        self.text = nn.ModuleList(
            nn.Sequential(nn.Linear(5, 5), nn.LayerNorm(5), nn.Dropout(0.3)) for _ in range(3)
        )
        self.image_head, self.text_head = nn.Linear(5, 6), nn.Linear(5, 6)

    def layers(self) -> dict[str, list[list[nn.Parameter]]]:
        return {
            "image": [list(layer.parameters()) for layer in self.image],
            "text": [list(layer.parameters()) for layer in self.text],
            "head": [[*self.image_head.parameters(), *self.text_head.parameters()]],
        }

    def forward(self, pictures: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        for layer in self.image:
            pictures = layer(pictures)
        for layer in self.text:
            words = layer(words)
        normalise = nn.functional.normalize
        return normalise(self.image_head(pictures)), normalise(self.text_head(words))


def rates(**changed: Rates) -> dict[str, Rates]:
    return {"image": Rates(1e-3), "text": Rates(1e-4), "head": Rates(1e-2), **changed}


def learning(model: Towers) -> dict[str, list[bool]]:
    """Per part, which layers learn; a layer that learns in part fails."""
    found: dict[str, list[bool]] = {}
    for part, stack in model.layers().items():
        found[part] = []
        for layer in stack:
            states = {parameter.requires_grad for parameter in layer}
            assert len(states) == 1
            found[part] += states
    return found


# Parameter groups.


def test_every_parameter_is_in_one_group() -> None:
    model = Towers()
    loss = losses.InfoNCE()
    groups = parameter_groups(model.layers(), rates(), others=loss.parameters(), others_rate=0.5)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(map(id, [*model.parameters(), *loss.parameters()]))
    assert next(group["lr"] for group in groups if group["name"] == "others") == 0.5


def test_layers_further_from_the_output_learn_more_slowly() -> None:
    groups = parameter_groups(Towers().layers(), rates(image=Rates(1.0, decay=0.5)))
    found = {group["name"]: group["rate"] for group in groups}
    image = [found[f"image.{i}"] for i in range(4)]
    assert image == pytest.approx([0.125, 0.25, 0.5, 1.0])
    assert {found[f"text.{i}"] for i in range(3)} == {1e-4}
    assert found["head.0"] == 1e-2


def test_only_matrices_get_weight_decay() -> None:
    loss = losses.Sigmoid()
    groups = parameter_groups(
        Towers().layers(), rates(), weight_decay=0.1, others=loss.parameters()
    )
    for group in groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.1 if parameter.ndim > 1 else 0), group["name"]


def test_frozen_and_locked_layers_are_in_no_group() -> None:
    how = rates(image=Rates(1e-3, frozen=3), text=Rates(1e-3, locked=True))
    names = {group["name"] for group in parameter_groups(Towers().layers(), how)}
    assert names == {"image.3", "head.0"}


def test_a_layer_shared_by_two_towers_learns_once() -> None:
    model = Towers()
    model.text[1] = model.image[3]
    groups = parameter_groups(model.layers(), rates())
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(grouped) == len(set(grouped)) == len(list(model.parameters()))


def test_a_model_without_anything_to_learn_is_refused() -> None:
    locked = Rates(1e-3, locked=True)
    how = {"image": Rates(1e-3, frozen=99), "text": locked, "head": locked}
    with pytest.raises(UsageError, match="every layer is frozen"):
        parameter_groups(Towers().layers(), how)


@pytest.mark.parametrize(
    "how", [{"rate": -1}, {"rate": math.nan}, {"decay": 0}, {"decay": 1.1}, {"frozen": -1}]
)
def test_rates_that_cannot_be_are_refused(how: dict) -> None:
    with pytest.raises(UsageError):
        Rates(**{"rate": 1e-3, **how})


# Freezing.


def test_frozen_layers_are_those_next_to_the_input() -> None:
    model = Towers()
    freeze(model.layers(), rates(image=Rates(1e-3, frozen=3)))
    assert learning(model) == {"image": [False] * 3 + [True], "text": [True] * 3, "head": [True]}


def test_locked_image_training_leaves_the_image_tower_as_it_was() -> None:
    model = Towers().train()
    how = rates(image=Rates(1e-3, locked=True))
    freeze(model.layers(), how)
    settle_frozen(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    groups = parameter_groups(model.layers(), how, weight_decay=0.1)
    optimiser = build_optimiser("adamw", groups)
    for _ in range(2):
        losses.InfoNCE()(*model(torch.randn(8, 5), torch.randn(8, 5))).backward()
        optimiser.step()
    for name, value in model.state_dict().items():
        # Running statistics of batch norms are in the state, too.
        assert torch.equal(value, before[name]) == name.startswith("image."), name


def test_frozen_modules_leave_training_mode_and_others_stay_in_it() -> None:
    model = Towers().train()
    freeze(model.layers(), rates(text=Rates(1e-3, frozen=2)))
    settle_frozen(model)
    assert [layer.training for layer in model.text] == [False, False, True]
    assert not model.text[0][1].training
    assert model.training and model.image[0][1].training and model.text[2][2].training


def test_layers_thaw_from_the_output_one_an_epoch() -> None:
    model = Towers()
    how = rates(image=Rates(1e-3, frozen=1))
    thawed = []
    for epoch in range(5):
        freeze(model.layers(), how, epoch=epoch, per_epoch=1)
        now = learning(model)
        thawed.append((sum(now["image"]), sum(now["text"])))
        assert now["head"] == [True]
        assert now["image"] == sorted(now["image"])
    assert thawed == [(0, 0), (1, 1), (2, 2), (3, 3), (3, 3)]


def test_freezing_again_drops_gradients() -> None:
    model = Towers()
    freeze(model.layers(), rates())
    losses.InfoNCE()(*model(torch.randn(4, 5), torch.randn(4, 5))).backward()
    freeze(model.layers(), rates(), epoch=0, per_epoch=1)
    assert all(parameter.grad is None for parameter in model.image.parameters())
    assert all(parameter.grad is not None for parameter in model.image_head.parameters())


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0, 5), st.integers(0, 30))
def test_no_layer_freezes_again(one: float, other: float, per_epoch: float, layers: int) -> None:
    earlier, later = sorted((one, other))
    assert 0 <= unfrozen(earlier, per_epoch, layers) <= unfrozen(later, per_epoch, layers) <= layers


# Schedule and optimisers.


def test_the_schedule_rises_linearly_and_falls_as_a_cosine() -> None:
    factors = [rate_factor(step, 14, warmup=4, floor=0.1) for step in range(15)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[9] == pytest.approx(0.55)
    assert factors[14] == pytest.approx(0.1)


@given(st.integers(0, 300), st.integers(1, 200), st.integers(0, 300), st.floats(0, 1))
def test_a_rate_is_never_above_the_full_one_nor_negative(
    step: int, steps: int, warmup: int, floor: float
) -> None:
    assert 0 <= rate_factor(step, steps, warmup=warmup, floor=floor) <= 1 + 1e-9


def test_each_group_follows_the_schedule_from_its_own_rate() -> None:
    groups = parameter_groups(Towers().layers(), rates())
    optimiser = build_optimiser("sgd", groups)
    set_rates(optimiser, 0.5)
    set_rates(optimiser, 0.25)
    for group in optimiser.param_groups:
        assert group["lr"] == group["rate"] / 4


@pytest.mark.parametrize("kind", OPTIMISERS)
def test_an_optimiser_resumes_exactly(kind: str) -> None:
    def train(model: Towers, optimiser: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            torch.manual_seed(step)
            set_rates(optimiser, rate_factor(step, 6, warmup=2))
            optimiser.zero_grad()
            losses.InfoNCE()(*model(torch.randn(8, 5), torch.randn(8, 5))).backward()
            optimiser.step()

    def start() -> tuple[Towers, torch.optim.Optimizer]:
        model = Towers()
        return model, build_optimiser(kind, parameter_groups(model.layers(), rates()))

    whole, optimiser = start()
    train(whole, optimiser, range(6))
    first, optimiser = start()
    train(first, optimiser, range(3))
    saved = io.BytesIO()
    torch.save({"model": first.state_dict(), "optimiser": optimiser.state_dict()}, saved)
    state = torch.load(io.BytesIO(saved.getvalue()))
    second, optimiser = start()
    second.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    train(second, optimiser, range(3, 6))
    for one, other in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("kind", "how", "said"),
    [
        ("adagrad", {}, "adam, adamw, sgd"),
        ("adam", {"betas": (0.9, 1.0)}, "beta = 1.0"),
        ("sgd", {"momentum": -0.1}, "momentum = -0.1"),
    ],
)
def test_an_optimiser_that_cannot_be_is_named(kind: str, how: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        build_optimiser(kind, parameter_groups(Towers().layers(), rates()), **how)


# Moving average.


def test_the_average_follows_its_formula() -> None:
    model = nn.Linear(1, 1, bias=False)
    values = [0.0, 1.0, 4.0, -2.0]
    with torch.no_grad():
        model.weight.fill_(values[0])
    average = MovingAverage(model, 0.2)
    wanted = values[0]
    for update, value in enumerate(values[1:], start=1):
        with torch.no_grad():
            model.weight.fill_(value)
        average.update(model)
        decay = min(0.2, (1 + update) / (10 + update))
        wanted = decay * wanted + (1 - decay) * value
    with average.swapped(model):
        assert model.weight.item() == pytest.approx(wanted)
    assert model.weight.item() == values[-1]


def test_the_own_weights_come_back_even_after_an_error() -> None:
    model = Towers()
    average = MovingAverage(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    with pytest.raises(KeyboardInterrupt), average.swapped(model):
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        raise KeyboardInterrupt
    for parameter, name in zip(model.parameters(), dict(model.named_parameters()), strict=True):
        torch.testing.assert_close(parameter.detach(), before[name] + 1)


def test_an_average_resumes_exactly() -> None:
    def moved(model: nn.Module, seed: int) -> None:
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))

    model = Towers()
    whole, half = MovingAverage(model), MovingAverage(model)
    moved(model, 1)
    whole.update(model)
    half.update(model)
    saved = io.BytesIO()
    torch.save(half.state_dict(), saved)
    resumed = MovingAverage(model)
    resumed.load_state_dict(torch.load(io.BytesIO(saved.getvalue())))
    moved(model, 2)
    whole.update(model)
    resumed.update(model)
    one, other = whole.state_dict(), resumed.state_dict()
    assert one["updates"] == other["updates"] == 2
    for name, value in one["average"].items():
        assert torch.equal(value, other["average"][name])


def test_an_average_of_another_model_is_refused() -> None:
    with pytest.raises(UsageError, match="another model"):
        MovingAverage(nn.Linear(2, 3)).load_state_dict(MovingAverage(nn.Linear(3, 2)).state_dict())


@pytest.mark.parametrize("decay", [-0.1, 1.0, math.nan])
def test_a_decay_that_cannot_be_is_refused(decay: float) -> None:
    with pytest.raises(UsageError, match="decay"):
        MovingAverage(nn.Linear(2, 2), decay)


# GradCache.


class Dropping(nn.Module):
    """Towers with dropout and without anything that spans the rows of a batch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image, self.text = (
            nn.Sequential(nn.Linear(5, 9), nn.Tanh(), nn.Dropout(0.5), nn.Linear(9, 6))
            for _ in range(2)
        )

    def forward(self, chunk: Tensor) -> tuple[Tensor, Tensor]:
        normalise = nn.functional.normalize
        return normalise(self.image(chunk[:, :5])), normalise(self.text(chunk[:, 5:]))


def gradients(*modules: nn.Module) -> list[Tensor | None]:
    return [parameter.grad for module in modules for parameter in module.parameters()]


@pytest.mark.parametrize("kind", ["infonce", "sigmoid", "triplet"])
@pytest.mark.parametrize("size", [1, 3, 10])
def test_chunks_give_the_gradients_of_the_whole_batch(kind: str, size: int) -> None:
    torch.manual_seed(1)
    pairs, owners = torch.randn(10, 10), torch.arange(10) // 2
    whole, loss = Dropping().eval(), losses.build_loss(kind, {}, 6)
    wanted = loss(*whole(pairs), owners)
    wanted.backward()
    chunked, cached = Dropping().eval(), losses.build_loss(kind, {}, 6)
    found = cached_backward(chunked, pairs.split(size), lambda *vectors: cached(*vectors, owners))
    torch.testing.assert_close(found, wanted.detach())
    assert not found.requires_grad
    torch.testing.assert_close(gradients(chunked, cached), gradients(whole, loss))


def test_dropout_is_the_same_in_both_encodings_of_a_chunk() -> None:
    torch.manual_seed(1)
    chunks = torch.randn(10, 10).split(4)
    whole, contrast = Dropping().train(), losses.InfoNCE()

    def noisy(images: Tensor, texts: Tensor) -> Tensor:
        return contrast(images + 0.1 * torch.randn(10, 6), texts)

    torch.manual_seed(2)
    # One graph over the same chunks draws the same numbers.
    vectors = [torch.cat(kind) for kind in zip(*map(whole, chunks), strict=True)]
    noisy(*vectors).backward()
    after = torch.rand(3)
    chunked = Dropping().train()
    torch.manual_seed(2)
    cached_backward(chunked, chunks, noisy)
    # What is drawn next does not repeat what was drawn here, the loss's noise included.
    assert torch.equal(torch.rand(3), after)
    torch.testing.assert_close(gradients(chunked), gradients(whole))


def test_gradients_of_several_batches_add_up() -> None:
    torch.manual_seed(1)
    batches = torch.randn(3, 6, 10)
    whole, chunked = Dropping().eval(), Dropping().eval()
    for pairs in batches:
        losses.Triplet()(*whole(pairs)).backward()
        cached_backward(chunked, pairs.split(2), losses.Triplet())
    torch.testing.assert_close(gradients(chunked), gradients(whole))


def test_a_locked_tower_gets_no_gradient_in_chunks() -> None:
    torch.manual_seed(1)
    model = Dropping()
    model.image.requires_grad_(False)
    cached_backward(model, torch.randn(6, 10).split(2), losses.InfoNCE())
    assert all(parameter.grad is None for parameter in model.image.parameters())
    assert all(parameter.grad.any() for parameter in model.text.parameters())


def test_a_loss_may_leave_vectors_unused() -> None:
    model = Dropping()
    cached_backward(model, torch.randn(6, 10).split(4), lambda images, texts: texts.sum())
    assert all(parameter.grad is None for parameter in model.image.parameters())
    assert any(parameter.grad.any() for parameter in model.text.parameters())

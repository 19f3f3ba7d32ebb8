"""GradCache: the exact gradients of a large contrastive batch, a chunk of it at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from xsearch.core.extras import require

require("torch", "train", "training")

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

Chunk = TypeVar("Chunk")


def cached_backward(
    encode: Callable[[Chunk], tuple[Tensor, ...]],
    chunks: Sequence[Chunk],
    loss: Callable[..., Tensor],
) -> Tensor:
    """Add the gradients of `loss` over all chunks together to the parameters; return the loss.

    `encode` turns a chunk into vectors, as (images (n, d), texts (n, d)), with any autocast inside
    it; `loss` is called with these of all chunks, concatenated. Memory holds the activations of
    one chunk, and all vectors; each chunk is encoded twice. Gao et al. 2021, "Scaling Deep
    Contrastive Learning Batch Size under Memory Limited Setup", section 3: first all vectors,
    without their graphs; then the loss and its gradient with respect to them; then each chunk's
    own backward pass from there. The second encoding draws the same random numbers of torch (CPU
    and CUDA), so that dropout is the same.

    What spans the rows of a batch inside `encode`, as batch norm in training mode does, sees
    chunks, and sees each twice. With several processes the loss gathers the vectors of all; call
    `losses.average_gradients` afterwards.
    """
    states = []
    vectors: list[tuple[Tensor, ...]] = []
    with torch.no_grad():
        for chunk in chunks:
            states.append(_random_state())
            vectors.append(encode(chunk))
    whole = [torch.cat(kind).requires_grad_() for kind in zip(*vectors, strict=True)]
    value = loss(*whole)
    torch.autograd.backward(value)
    sizes = [len(kinds[0]) for kinds in vectors]
    gradients = zip(*(_split(kind, sizes) for kind in whole), strict=True)
    for chunk, state, wanted in zip(chunks, states, gradients, strict=True):
        with _replayed(state):
            outputs = encode(chunk)
        # A locked tower's vectors have no gradient, nor has what the loss did not use.
        held = {
            output: gradient
            for output, gradient in zip(outputs, wanted, strict=True)
            if output.requires_grad and gradient is not None
        }
        if held:
            torch.autograd.backward(list(held), list(held.values()))
    return value.detach()


def _split(kind: Tensor, sizes: list[int]) -> Sequence[Tensor | None]:
    if kind.grad is None:
        return [None] * len(sizes)
    return torch.split(kind.grad, sizes)


State = tuple[Tensor, Tensor | None]


def _random_state() -> State:
    on_gpu = torch.cuda.is_available()
    return torch.get_rng_state(), torch.cuda.get_rng_state() if on_gpu else None


@contextmanager
def _replayed(state: State) -> Iterator[None]:
    """Within the context, the random numbers that followed a state; after it, those of before."""
    before = _random_state()
    _set_random_state(state)
    try:
        yield
    finally:
        _set_random_state(before)


def _set_random_state(state: State) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1])

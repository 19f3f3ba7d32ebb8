"""The fingerprint of an encoder in torch: a name for its joint space."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor
    from torch.nn import Parameter

    from ..pictures import Preparation


class Fingerprinted(Protocol):
    """What counts of an encoder: a network, its preparation of pictures and its tokenizer."""

    preparation: Preparation
    tokenizer: Tokenizer
    context_length: int

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """As `torch.nn.Module` has it."""

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """As `torch.nn.Module` has it."""


def fingerprint(encoder: Fingerprinted) -> str:
    """16 hex digits that name the joint space: fp32 numbers, preparation and tokenizer.

    Names of people's choice, folders and versions of libraries do not count.
    """
    state = hashlib.sha256()
    policy = f"upright RGB; {encoder.preparation}; first {encoder.context_length} tokens"
    state.update(policy.encode())
    state.update(encoder.tokenizer.to_str().encode())
    # Buffers as well: running statistics, and the mean and deviation of pixels.
    tensors = {**dict(encoder.named_parameters()), **dict(encoder.named_buffers())}
    for name, tensor in sorted(tensors.items()):
        if tensor.is_floating_point():
            value = tensor.detach().cpu().float().contiguous().numpy()
            state.update(f"{name} {value.shape}".encode())
            state.update(value.reshape(-1).data)
    return state.hexdigest()[:16]

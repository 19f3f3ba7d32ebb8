"""The device that a network runs on in torch, and how much it takes at once."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch

from xsearch.core.errors import UsageError

from ..devices import check_device

CPU_BATCH = 8
"""Pictures at once on the CPU: more were no faster, and take more memory."""
MPS_BATCH = 32
LARGEST_BATCH = 256
"""More keep no GPU busier, and delay the first result."""
PROBE = 8
"""Pictures that are embedded to see what one takes."""
SHARE = 0.5
"""Of the free memory; the rest is for other programs, and for pieces too small to be used."""
COMPILED_FROM = 20_000
"""Pictures after which compiling begins. It takes a minute or so, which only a long run earns
back: a GPU embeds about as many pictures in that time without it."""


def choose(device: str) -> torch.device:
    """The device of a name; `auto` is the fastest that torch can use here.

    Raises UsageError, which says what there is, for one that torch cannot use.
    """
    check_device(device)
    there = [name for name, usable in _DEVICES.items() if usable()]
    if device == "auto":
        return torch.device(there[0])
    if device not in there:
        raise UsageError(
            f"torch {torch.__version__} can use no {device!r} here, only {', '.join(there)}: "
            "install a build of torch for that device, or give another"
        )
    return torch.device(device)


def first_batch(device: torch.device, embed: Callable[[int], object]) -> int:
    """How many pictures to begin with; `embed` is given a number and embeds so many.

    On a GPU as many as fit into half of the free memory, judged by a small batch: a power of two.
    """
    if device.type != "cuda":
        return MPS_BATCH if device.type == "mps" else CPU_BATCH
    embed(1)  # what the libraries take for themselves is taken now
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    embed(PROBE)
    taken = max(1, torch.cuda.max_memory_allocated(device) - before) / PROBE
    free, _ = torch.cuda.mem_get_info(device)
    fitting = max(1, int(SHARE * free / taken))
    return min(LARGEST_BATCH, 1 << (fitting.bit_length() - 1))


def compiled_from(device: torch.device) -> int | None:
    """After how many pictures compiling pays; None where it does not.

    Only with Triton on a GPU: on the CPU onnxruntime is the faster way, and what torch compiles
    for Apple's GPUs is young.
    """
    if device.type == "cuda" and importlib.util.find_spec("triton"):
        return COMPILED_FROM
    return None


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or the machine, has too little memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    said = ("out of memory", "can't allocate memory")  # a Mac's GPU, and the CPU
    return isinstance(error, RuntimeError) and any(text in str(error) for text in said)


def free(device: torch.device) -> None:
    """Give memory back that is held for later use."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


_DEVICES: dict[str, Callable[[], bool]] = {
    "cuda": torch.cuda.is_available,
    "mps": torch.backends.mps.is_available,
    "cpu": lambda: True,
}
"""Whether torch can use each device, the fastest first."""

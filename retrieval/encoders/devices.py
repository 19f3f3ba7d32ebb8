"""Which devices there are, told without importing what would run on them."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import sys
from pathlib import Path

from xsearch.core.errors import UsageError

DEVICES = ("auto", "cuda", "mps", "cpu")


def check_device(device: str | None) -> None:
    """Raise UsageError for a device of no known name."""
    if device is not None and device not in DEVICES:
        raise UsageError(f"no device {device!r}: give {', '.join(DEVICES)}")


def gpu() -> str | None:
    """`cuda` or `mps` where a driver says that there is such a GPU; None without one.

    Takes well under a millisecond: torch takes a second to import, mostly to find nothing. An AMD
    card counts as `cuda`, as it does in torch.
    """
    if sys.platform == "darwin":
        return "mps" if platform.machine() == "arm64" else None
    drivers = ("/proc/driver/nvidia/version", "/dev/kfd")
    if any(Path(place).exists() for place in drivers) or shutil.which("nvidia-smi"):
        return "cuda"
    return None


def torch_installed() -> bool:
    """Whether the extra `clip` is there, for all that can be seen without importing it."""
    try:
        return all(importlib.util.find_spec(name) for name in ("torch", "open_clip"))
    except (ImportError, ValueError):  # somebody keeps it from being imported
        return False

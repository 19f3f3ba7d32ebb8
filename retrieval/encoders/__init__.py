"""Encoders that turn pictures and texts into vectors of one space, found by name."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from xsearch.core.errors import EncoderError, MissingExtraError, UsageError

if TYPE_CHECKING:
    from xsearch.core.encoder import DualEncoder

__all__ = ["load_encoder"]


def load_encoder(name_or_path: str | Path = "builtin", *, device: str | None = None) -> DualEncoder:
    """Open an encoder by the name that people use for it, or from a folder.

    Args:
        name_or_path: `builtin`, which ships with xsearch; a folder with an `encoder.json`; an
            alias such as `small`; or a model of open_clip: `ARCH/PRETRAINED`,
            `hf-hub:OWNER/NAME`, `local-dir:FOLDER`. A name wins over a folder of the same name:
            `./builtin` is the folder.
        device: where it should run: `cpu`, `cuda` or `mps`, or `auto` for the fastest that is
            there; by default on the CPU, through onnxruntime where that is possible, which
            starts quickly.

    Reads only a small description where the encoder is a folder or was pulled; the towers load
    when they are first used. A model of open_clip that was not pulled runs in torch, is read
    whole, and is fetched if it has to be. So does one that was pulled, on a GPU that onnxruntime
    cannot use: the vectors are the same. `auto` never fails for want of a GPU. Raises
    EncoderError, UsageError for a device that is not there, MissingExtraError.
    """
    from .names import BUILTIN, canonical, is_open_clip

    if device is not None:
        from .devices import check_device

        check_device(device)
    if name_or_path == BUILTIN:
        import xsearch.data

        # Not through importlib.resources: importing that alone takes 10 ms of every query.
        return _from_folder(Path(xsearch.data.__path__[0]) / BUILTIN, BUILTIN, device)
    folder = Path(name_or_path)
    if isinstance(name_or_path, Path) or (folder / "encoder.json").is_file():
        if not (folder / "encoder.json").is_file():
            raise EncoderError(
                f"{folder} is not an encoder's folder: give `builtin`, or a folder that "
                "holds an encoder.json"
            )
        _check_name(folder)
        return _from_folder(folder, None, device)
    full = canonical(name_or_path)
    if not is_open_clip(full):
        raise EncoderError(
            f"no encoder called {name_or_path!r}: give `builtin`, an alias or a model that "
            "`xsearch models list` names, or a folder that holds an encoder.json"
        )
    from .store import pulled

    place = pulled(full)
    return _in_torch(name_or_path, device) if place is None else _pulled(place, full, device)


def _check_name(folder: Path) -> None:
    """Refuse a folder whose name is no Unicode: onnxruntime cannot open files there."""
    try:
        str(folder.absolute()).encode()
    except UnicodeEncodeError:
        from xsearch.core.paths import displayable

        raise EncoderError(
            f"{displayable(folder)}: an encoder's folder needs a plain name, in UTF-8; rename it"
        ) from None


def _from_folder(folder: Path, source: str | None, device: str | None) -> DualEncoder:
    """An encoder that only onnxruntime runs."""
    from .onnx import OnnxEncoder

    if device is None:
        return OnnxEncoder(folder, source=source)
    found = _on_provider(folder, source, device)
    if found is None and device not in ("auto", "cpu"):
        from .runtime import describe_runtime

        raise UsageError(
            f"{source or folder} cannot run on {device} with {describe_runtime()}: install the "
            "onnxruntime for that device in place of this one, or leave the device"
        )
    return found or OnnxEncoder(folder, source=source)


def _pulled(folder: Path, source: str, device: str | None) -> DualEncoder:
    """A model of open_clip that was exported: torch can run it where onnxruntime cannot."""
    if device in (None, "cpu") or _on_provider(folder, source, device) is not None:
        return _from_folder(folder, source, device)
    from .devices import gpu, torch_installed

    found = None
    if torch_installed() and device != "auto":
        found = _in_torch(source, device)
    elif torch_installed() and gpu():
        found = _on_gpu(source)
    return found or _from_folder(folder, source, device)


def _on_gpu(source: str) -> DualEncoder | None:
    """A model in torch on the GPU; None, with a warning, where there is something against it."""
    from .clip.device import choose
    from .runtime import ProviderWarning

    if choose("auto").type == "cpu":
        return None
    try:
        return _in_torch(source, "auto")
    except EncoderError as error:
        warnings.warn(
            f"{source} cannot run on the GPU ({error}); the CPU is used instead",
            ProviderWarning,
            stacklevel=4,
        )
    return None


def _on_provider(folder: Path, source: str | None, device: str) -> DualEncoder | None:
    """The encoder on what onnxruntime has for a device; None where that is the plain CPU."""
    from .devices import gpu
    from .onnx import OnnxEncoder
    from .runtime import GPU_BATCH, PREFERRED, OnnxProvider, provider_for

    # A build for a GPU names its provider on machines without one, too.
    provider = provider_for((gpu() or "cpu") if device == "auto" else device)
    if provider is None:
        return None
    batch = None if PREFERRED[provider] == "cpu" else GPU_BATCH
    return OnnxEncoder(folder, source=source, runtime=OnnxProvider(provider), batch=batch)


def _in_torch(name: str, device: str | None) -> DualEncoder:
    from .devices import torch_installed

    if not torch_installed():
        raise MissingExtraError(
            f"{name} was not pulled, and without that it needs torch: pip install "
            f"'xsearch-engine[clip]', or bring it with `xsearch models pull {name}`, which needs "
            "torch only once"
        )
    from .clip.encoder import TorchEncoder

    return TorchEncoder(name, device=device or "cpu")

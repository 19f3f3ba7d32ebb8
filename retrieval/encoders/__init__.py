"""Encoders that turn pictures and texts into vectors of one space, found by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from xsearch.core.errors import EncoderError

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
    when they are first used. A model of open_clip that was not pulled runs in torch, and is
    fetched if it has to be. Raises EncoderError, MissingExtraError.
    """
    from .names import BUILTIN, canonical, is_open_clip

    if name_or_path == BUILTIN:
        import xsearch.data

        # Not through importlib.resources: importing that alone takes 10 ms of every query.
        return _onnx(Path(xsearch.data.__path__[0]) / BUILTIN, BUILTIN, device)
    folder = Path(name_or_path)
    if isinstance(name_or_path, Path) or (folder / "encoder.json").is_file():
        if not (folder / "encoder.json").is_file():
            raise EncoderError(
                f"{folder} is not an encoder's folder: give `builtin`, or a folder that "
                "holds an encoder.json"
            )
        return _onnx(folder, None, device)
    full = canonical(name_or_path)
    if not is_open_clip(full):
        raise EncoderError(
            f"no encoder called {name_or_path!r}: give `builtin`, an alias or a model that "
            "`xsearch models list` names, or a folder that holds an encoder.json"
        )
    from .store import pulled

    place = pulled(full)
    if place is not None:
        return _onnx(place, full, device)
    raise EncoderError(
        f"{name_or_path} was not pulled yet: run `xsearch models pull {name_or_path}` first"
    )


def _onnx(folder: Path, source: str | None, device: str | None) -> DualEncoder:
    from .onnx import OnnxEncoder

    del device
    return OnnxEncoder(folder, source=source)

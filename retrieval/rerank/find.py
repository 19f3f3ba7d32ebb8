"""Finds the reranker of an encoder: where it lies, and whether it is one for that encoder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from xsearch.core.encoder import RegionEncoder
from xsearch.core.errors import EncoderError
from xsearch.core.paths import displayable
from xsearch.indexer.reader import word

from .manifest import FILE as DESCRIPTION
from .model import OnnxReranker

if TYPE_CHECKING:
    from xsearch.core.encoder import DualEncoder, EncoderInfo

FOLDER = "reranker"
"""Where a reranker lies in the folder of its encoder."""


def find_reranker(encoder: DualEncoder, folder: Path | None = None) -> OnnxReranker:
    """The reranker in a folder, or that of the encoder's own folder.

    Raises:
        EncoderError: there is none, its files are missing or damaged, it is for another encoder,
            or the encoder gives no regions and tokens.
    """
    if not isinstance(encoder, RegionEncoder):
        raise EncoderError(
            f"the encoder {encoder.name} gives no regions and tokens, which a reranker reads: "
            "search without one, or with another encoder"
        )
    if folder is None:
        own = encoder_folder(encoder.info)
        folder = own and own / FOLDER
        if folder is None or not (folder / DESCRIPTION).is_file():
            raise EncoderError(
                f"the encoder {encoder.name} has no reranker: train one with `xsearch train --task "
                f"rerank --encoder {word(encoder.info.source)} --data DATA --out DIR`, then give "
                "--reranker DIR"
            )
    found = OnnxReranker(folder)
    if found.info.encoder != encoder.fingerprint:
        raise EncoderError(
            f"{displayable(folder)}: this reranker is for the encoder {found.info.encoder}, not "
            f"for {encoder.name} ({encoder.fingerprint}): search with that encoder, or train a "
            "reranker for this one"
        )
    return found


def encoder_folder(info: EncoderInfo) -> Path | None:
    """The folder of an encoder's files; None for one that has none."""
    from ..encoders.names import BUILTIN, canonical, is_open_clip

    if info.source == BUILTIN:
        from ..encoders.catalogue import builtin_folder

        return builtin_folder()
    folder = Path(info.source)
    if folder.is_absolute() and (folder / "encoder.json").is_file():
        return folder
    full = canonical(info.source)
    if not is_open_clip(full):
        return None
    from ..encoders.store import pulled

    return pulled(full)

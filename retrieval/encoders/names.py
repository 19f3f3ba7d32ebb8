"""What people call encoders, and what each name stands for; the aliases are here to be changed."""

from __future__ import annotations

import re
from pathlib import Path

BUILTIN = "builtin"
HF_HUB, LOCAL_DIR = "hf-hub:", "local-dir:"
SCHEMES = (HF_HUB, LOCAL_DIR)
"""How open_clip marks a model on a hub, `hf-hub:OWNER/NAME`, and one in a folder."""

ALIASES = {
    "tiny": "ViT-B-32-256/datacomp_s34b_b86k",
    "small": "ViT-B-32-SigLIP2-256/webli",
    "base": "ViT-B-16-SigLIP2-256/webli",
    "large": "PE-Core-L-14-336/meta",
    "multilingual": "ViT-SO400M-16-SigLIP2-384/webli",
}
"""Short names of recommended models of open_clip, as ARCH/PRETRAINED."""

_PRETRAINED = re.compile(r"\w[\w.+-]*/[\w.+-]+", re.ASCII)


def canonical(name: str) -> str:
    """The full name of an encoder: an alias as the model it stands for, all else unchanged.

    A folder behind `local-dir:` becomes absolute, so that the name means the same from anywhere.
    """
    if name.startswith(LOCAL_DIR):
        place = Path(name.removeprefix(LOCAL_DIR)).expanduser()
        return f"{LOCAL_DIR}{place.absolute()}"
    return ALIASES.get(name, name)


def is_open_clip(name: str) -> bool:
    """Whether a full name is written like a model of open_clip: ARCH/PRETRAINED or a scheme."""
    return name.startswith(SCHEMES) or _PRETRAINED.fullmatch(name) is not None


def alias_of(name: str) -> str | None:
    """The alias that stands for a full name, if one does."""
    return next((alias for alias, full in ALIASES.items() if full == name), None)

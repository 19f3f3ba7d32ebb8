"""The models that the installed open_clip offers, for when it is newer than the table."""

from __future__ import annotations

from xsearch.core.extras import require


def offered() -> dict[str, str]:
    """ARCH/PRETRAINED and its repository on the hub, which may be empty, of each model."""
    open_clip = require("open_clip", "clip", "listing the models of open_clip")
    found = {}
    for architecture, tag in open_clip.list_pretrained():
        config = open_clip.get_pretrained_cfg(architecture, tag)
        found[f"{architecture}/{tag}"] = repository_of(config.get("hf_hub", ""))
    return found


def repository_of(place: str) -> str:
    """OWNER/NAME of what open_clip writes as `OWNER/NAME/` or `OWNER/NAME/FILE`."""
    return "/".join(place.split("/")[:2])

"""Builds models of open_clip by name, each with the preprocessing and tokenizer of its own."""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xsearch.core.errors import EncoderError, MissingExtraError, UsageError
from xsearch.core.extras import require

from ..cache import TOKENIZER, cached_folder
from ..names import LOCAL_DIR
from ..pictures import INTERPOLATIONS, RESIZES, Preparation
from ..runtime import first_line
from .network import Parts, Pixels
from .tokenizer import convert

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_OWN_NAMES = {"shortest": "crop"}
"""What xsearch calls a resize mode, where not as open_clip does."""


def build(
    name: str,
    *,
    pretrained: bool = True,
    image_size: int | None = None,
    context_length: int | None = None,
    resize: str | None = None,
) -> Parts:
    """Build `ARCH/PRETRAINED`, `ARCH`, `hf-hub:OWNER/NAME` or `local-dir:FOLDER`, in fp32.

    Weights that are not on this machine are fetched, unless `pretrained` is False, which makes
    them random, as `ARCH` alone does; `image_size` (pixels), `resize` and `context_length` (tokens)
    replace the model's own. Raises UsageError for an architecture that open_clip does not have,
    EncoderError where a model cannot be built or prepares its input in a way that xsearch does
    not do, and MissingExtraError.
    """
    open_clip = require("open_clip", "clip", f"the encoder {name}")
    model, _, tag = name.partition("/") if ":" not in name else (name, "", "")
    try:
        settings = deepcopy(open_clip.get_model_config(model))
        if settings is None:
            raise UsageError(f"open_clip has no model {model!r}")
        # The activation belongs to the checkpoint: with the other one its vectors are useless.
        quick = bool(tag and open_clip.get_pretrained_cfg(model, tag).get("quick_gelu"))
        if quick:
            settings["quick_gelu"] = True
        with quiet():
            net = open_clip.create_model(
                model,
                pretrained=(tag or None) if pretrained else None,
                load_weights=pretrained,
                # Else a folder or repository without weights would be a model of random ones.
                require_pretrained=pretrained and bool(tag or ":" in name),
                pretrained_text=False,
                force_custom_text=True,
                force_image_size=image_size,
                force_context_length=context_length,
                force_quick_gelu=quick,
            )
            own = _tokenizer(open_clip, model, settings["text_cfg"], context_length)
        tokenizer, padding = convert(own)
    except (EncoderError, UsageError):
        raise
    except ImportError as error:  # what open_clip imports for some models only
        raise MissingExtraError(
            f"the encoder {name} needs {error.name}: pip install 'xsearch-engine[clip]'"
        ) from error
    except Exception as error:  # anything, from the network to a wrong shape
        raise EncoderError(f"the encoder {name} cannot be made: {first_line(error)}") from error
    if image_size:
        settings["vision_cfg"]["image_size"] = image_size
    if context_length:
        settings["text_cfg"]["context_length"] = context_length
    pixels = own_pixels(name, net.visual.preprocess_cfg, resize)
    return Parts(name, net, settings, pixels, tokenizer, padding)


def rebuild(
    name: str,
    settings: dict[str, Any],
    text_model: dict[str, Any] | None,
    pixels: Pixels,
    tokenizer: Tokenizer,
    padding: int,
) -> Parts:
    """The same network from its settings, with random weights and without the internet.

    `text_model` is the config of a text tower that comes from transformers.
    """
    open_clip = require("open_clip", "clip", f"the encoder {name}")
    changed = deepcopy(settings)
    with tempfile.TemporaryDirectory() as folder:
        if text_model is not None:
            inner = Path(folder) / "text"
            inner.mkdir()
            (inner / "config.json").write_text(json.dumps(text_model))
            changed["text_cfg"]["hf_model_name"] = str(inner)
        content = {"model_cfg": changed, "preprocess_cfg": {}}
        (Path(folder) / "open_clip_config.json").write_text(json.dumps(content))
        with quiet():
            net = open_clip.create_model(
                f"local-dir:{folder}",
                load_weights=False,
                pretrained_text=False,
                force_custom_text=True,
            )
    return Parts(name, net, settings, pixels, tokenizer, padding)


def _tokenizer(
    open_clip: Any, model: str, config: dict[str, Any], context_length: int | None
) -> Any:
    """The tokenizer that open_clip would make, from the hub's cache where it lies there.

    Such repositories mostly lack a config.json. transformers asks for it, and without a network
    takes its absence for a failure; in a folder it does without.
    """
    source = config.get("hf_tokenizer_name")
    folder = cached_folder(source, TOKENIZER) if source and LOCAL_DIR not in model else None
    if folder is None:
        return open_clip.get_tokenizer(model, context_length=context_length)
    return open_clip.tokenizer.HFTokenizer(
        str(folder),
        context_length=context_length or config.get("context_length", 77),
        tokenizer_mode=config.get("tokenizer_mode"),
        **config.get("tokenizer_kwargs", {}),
    )


def own_pixels(name: str, found: dict[str, Any], resize: str | None = None) -> Pixels:
    """The model's own preprocessing, as `open_clip.image_transform` would do it.

    `found` is a `preprocess_cfg`. Raises EncoderError for what xsearch does not do.
    """
    mode = found["resize_mode"]
    resize = resize or _OWN_NAMES.get(mode, mode)
    if resize not in RESIZES or found["interpolation"] not in INTERPOLATIONS:
        raise EncoderError(
            f"{name} wants its pictures {mode}, {found['interpolation']}, "
            "which no encoder of xsearch does; take another model"
        )
    size = found["size"]
    side = size if isinstance(size, int) else size[0]
    if not isinstance(size, int) and len(set(size)) > 1:
        raise EncoderError(f"{name} reads {size} pixels, and only squares are supported")
    fill = found.get("fill_color", 0) if resize == "longest" else 0
    if not isinstance(fill, int):
        raise EncoderError(f"{name} fills its pictures up with {fill}, and only greys are done")
    mean, std = (tuple(255 * value for value in found[key]) for key in ("mean", "std"))
    return Pixels(Preparation(side, resize, found["interpolation"], fill=fill), mean, std)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep open_clip's log lines away: it logs to the root, which then prints all there is."""
    root = logging.getLogger()
    handler = logging.NullHandler()
    before = root.manager.disable
    root.addHandler(handler)
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        root.removeHandler(handler)

"""Makes a public model ready to search without torch: fetched, exported once, checked, stored."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch.core.errors import EncoderError, StorageError, UsageError
from xsearch.core.extras import require
from xsearch.core.paths import absolute, displayable
from xsearch.core.reports import Progress
from xsearch.retrieval.encoders.catalogue import published, suggestion
from xsearch.retrieval.encoders.clip.scores import default_calibration
from xsearch.retrieval.encoders.manifest import FILE
from xsearch.retrieval.encoders.names import (
    BUILTIN,
    HF_HUB,
    LOCAL_DIR,
    alias_of,
    canonical,
    is_open_clip,
)
from xsearch.retrieval.encoders.onnx import OnnxEncoder
from xsearch.retrieval.encoders.quick import quick_files, write_quick
from xsearch.retrieval.encoders.store import (
    Files,
    content_of,
    fresh_files,
    named_files,
    place_of,
    publish,
    pulled,
    staging,
)

if TYPE_CHECKING:
    import os

    from xsearch.core.encoder import Logistic
    from xsearch.core.reports import ProgressCallback
    from xsearch.data.records import Dataset
    from xsearch.retrieval.encoders.clip.hub import Checkpoint

    from .compress import Precision
    from .export import Pairs

DEFAULT = "fp16"
"""How weights are stored unless something else is asked for.

Half the size of fp32, with vectors that agree to five digits: models were trained in 16 bits.
int8 halves that again, and moves vectors by up to a thousandth. All calculate in fp32, and are
equally fast on a CPU once loaded.
"""


@dataclass(frozen=True, slots=True)
class PulledModel:
    """A model that is ready: its full name, where it lies, its space, how its weights are stored.

    `fresh` says whether it was made just now; `parity` has the lowest cosines found by the checks
    of the export, `bytes` is what its files take, `checkpoint` what it was made from.
    """

    name: str
    folder: Path
    fingerprint: str
    precision: str
    fresh: bool
    parity: Mapping[str, float]
    checkpoint: Mapping[str, str]
    licence: str
    bytes: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON-ready values."""
        return {**asdict(self), "folder": displayable(self.folder)}


def pull_model(
    name: str,
    *,
    precision: str | None = None,
    text_precision: str | None = None,
    pairs: Dataset | None = None,
    force: bool = False,
    progress: ProgressCallback | None = None,
) -> PulledModel:
    """Fetch a model of open_clip and keep both its towers as ONNX, so that torch is not needed.

    Args:
        name: an alias, `ARCH/PRETRAINED`, `hf-hub:OWNER/NAME` or `local-dir:FOLDER`.
        precision: how weights are stored: `fp32`, `fp16` (default), `int16` or `int8`.
        text_precision: the same for the text tower alone.
        pairs: pictures with captions to fit the scores on; by default they follow from the
            model's own scale.
        force: make it again even where it was pulled.
        progress: called with `download` (in megabytes) and `export`.

    A model that was pulled stays as it is, unless another precision is wanted; whatever ends the
    call early, what was there before stays. Raises UsageError, EncoderError (also where the written
    towers differ from torch), StorageError, MissingExtraError.
    """
    full = full_name(name)
    there = pulled(full)
    if there is not None and pairs is None and not force:
        content = content_of(there) or {}
        if _fits(content, precision, text_precision):
            return _report(full, there, content, 0.0, fresh=False)
    start = time.monotonic()
    with staging(full) as stage:
        place = place_of(full)
        files = fresh_files(place)
        _make(full, stage, files, _chosen(precision, text_precision), pairs, progress)
        publish(stage, place)
    return _report(full, place, content_of(place) or {}, time.monotonic() - start, fresh=True)


def export_model(
    name: str,
    out: str | os.PathLike[str],
    *,
    precision: str | None = None,
    text_precision: str | None = None,
    pairs: Dataset | None = None,
    progress: ProgressCallback | None = None,
) -> PulledModel:
    """Write a model of open_clip as an encoder folder, to take elsewhere; see `pull_model`.

    One that was pulled with this precision is copied. An older encoder folder at `out` is replaced
    once the new one has passed its checks; raises UsageError where something else lies there.
    """
    full = full_name(name)
    place = absolute(out)
    if place.is_file() or (place.is_dir() and any(place.iterdir()) and not content_of(place)):
        raise UsageError(f"{displayable(place)} holds something else; name a new folder with --out")
    start = time.monotonic()
    there = pulled(full)
    with staging(full) as stage:
        files = fresh_files(place)
        content = {} if there is None else content_of(there) or {}
        copied = there is not None and pairs is None and _fits(content, precision, text_precision)
        if copied and there is not None and files == Files():
            for file in (*sorted(named_files(content)), FILE):
                shutil.copyfile(there / file, stage / file)
        else:
            _make(full, stage, files, _chosen(precision, text_precision), pairs, progress)
        publish(stage, place)
    return _report(full, place, content_of(place) or {}, time.monotonic() - start, fresh=True)


def full_name(name: str) -> str:
    """The full name of a model that can be pulled. Raises UsageError, with names that are near."""
    full = canonical(name)
    if full == BUILTIN:
        raise UsageError("builtin comes with xsearch: there is nothing to pull")
    if full.startswith((LOCAL_DIR, HF_HUB)):
        if full.startswith(HF_HUB) and full.count("/") != 1:
            raise UsageError(f"{name}: write it as hf-hub:OWNER/NAME")
        return full
    if full in published():
        return full
    if is_open_clip(full):
        open_clip = require("open_clip", "clip", f"pulling {name}")
        architecture, _, tag = full.partition("/")
        if (architecture, tag) in open_clip.list_pretrained():
            return full
    raise UsageError(f"no model called {name!r}: {suggestion(name)}")


def _chosen(precision: str | None, text_precision: str | None) -> tuple[Precision, Precision]:
    """What is asked for, of the image and of the text tower. Raises UsageError."""
    require("onnx", "train", "pulling a model")
    from .compress import Precision

    image = precision or DEFAULT
    try:
        return Precision(image), Precision(text_precision or image)
    except ValueError as error:
        known = ", ".join(Precision)
        raise UsageError(f"precision is {error.args[0].split()[0]}; there are {known}") from None


def _fits(content: Mapping[str, Any], precision: str | None, text_precision: str | None) -> bool:
    """Whether a model has the precision that is asked for; any will do where none is."""
    if precision is None and text_precision is None:
        return True
    from .encoder_files import precision_text

    return content.get("precision") == precision_text(*_chosen(precision, text_precision))


def _make(
    name: str,
    stage: Path,
    files: Files,
    precisions: tuple[Precision, Precision],
    pairs: Dataset | None,
    progress: ProgressCallback | None,
) -> None:
    """Fill a folder with a model, and check it."""
    require("torch", "train", f"pulling {name}")
    from xsearch.retrieval.encoders.clip.hub import fetch

    checkpoint = fetch(name, progress)
    try:
        _write(name, stage, files, precisions, checkpoint, pairs, progress)
    except OSError as error:
        raise StorageError(
            f"{name} cannot be written to {displayable(stage.parent.parent)}: "
            f"{error.strerror or error}; free some space"
        ) from error


def _write(
    name: str,
    stage: Path,
    files: Files,
    precisions: tuple[Precision, Precision],
    checkpoint: Checkpoint,
    pairs: Dataset | None,
    progress: ProgressCallback | None,
) -> None:
    from .compress import compress
    from .encoder_files import check, describe, description, frozen, save_mapped
    from .probes import TEXTS, pictures
    from .towers import EncoderSpec, build_encoder
    from .tracing import image_graph, text_graph

    def step(number: int, detail: str) -> None:
        if progress is not None:
            progress(Progress("export", number, 5, detail=detail))

    step(0, "reading the checkpoint")
    source = name if name.startswith((HF_HUB, LOCAL_DIR)) else f"open_clip:{name}"
    reference = frozen(build_encoder(EncoderSpec(encoder=source)))
    step(1, "image tower")
    save_mapped(compress(image_graph(reference), precisions[0]), stage / files.image)
    step(2, "text tower")
    save_mapped(compress(text_graph(reference), precisions[1]), stage / files.text)
    reference.save_tokenizer(stage / files.tokenizer)
    content = description(reference, stage, alias_of(name) or name, precisions, files)
    if write_quick(stage / files.tokenizer):
        content["text"]["tables"] = [path.name for path in quick_files(stage / files.tokenizer)]
    describe(stage, content, None)
    step(3, "comparing with torch")
    parity = check(reference, stage, pictures(), TEXTS, files)
    step(4, "scores")
    logistics, fitted = _logistics(stage, reference, pairs)
    known = published().get(name)
    content |= {
        "parity": asdict(parity),
        "scores": fitted,
        "licence": checkpoint.licence or (known.licence if known else "") or "not stated",
        "source": name,
        "checkpoint": checkpoint.to_dict(),
    }
    for key in ("scale", "bias"):
        if getattr(reference, key) is not None:
            content[key] = getattr(reference, key)
    describe(stage, content, logistics)
    step(5, "done")


def _logistics(
    stage: Path, reference: Any, pairs: Dataset | None
) -> tuple[Mapping[str, Logistic], str]:
    """What turns cosines into scores, and where it comes from."""
    if pairs is None:
        return default_calibration(reference.scale, reference.bias), "from the model's own scale"
    from .export import calibrate_on

    fitted = calibrate_on(OnnxEncoder(stage), _pairs(pairs))
    return {pair: found.logistic for pair, found in fitted.items()}, f"fitted on {pairs.name}"


def _pairs(dataset: Dataset) -> Pairs:
    """Pictures with captions of a data set: its split `val` where it has one, never `test`."""
    from .export import CALIBRATED, Pairs

    chosen = dataset.only("val") if "val" in dataset.splits else dataset
    records = [record for record in chosen.records if record.split != "test" and record.texts()]
    records = records[:CALIBRATED]
    if len(records) < 2:
        raise EncoderError(
            f"{dataset.name}: scores need at least two pictures with captions outside of `test`"
        )
    # One language: others would count as texts that the model reads badly.
    language = dataset.languages[0]
    texts = [record.texts([language]) or record.texts() for record in records]
    owners = np.repeat(np.arange(len(records)), [len(each) for each in texts])
    return Pairs([r.image for r in records], [t for each in texts for t in each], owners)


def _report(
    name: str, place: Path, content: Mapping[str, Any], seconds: float, *, fresh: bool
) -> PulledModel:
    made = PulledModel(
        name=name,
        folder=place,
        fingerprint=str(content.get("fingerprint", "")),
        precision=str(content.get("precision", "")),
        fresh=fresh,
        parity=content.get("parity", {}),
        checkpoint=content.get("checkpoint", {}),
        licence=str(content.get("licence", "")),
        bytes=0,
        seconds=round(seconds, 2),
    )
    owned = (place / file for file in (*named_files(dict(content)), FILE))
    return replace(made, bytes=sum(path.stat().st_size for path in owned))

"""Which encoders there are, what is known of each, and which lie on this machine.

    from xsearch import models

    for model in models.list_models(["siglip2"]):
        print(model.name, model.parameters, model.licence)

`xsearch.training.pull_model` brings one, `xsearch.open(path, encoder=NAME)` uses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from xsearch.core.errors import EncoderError, UsageError
from xsearch.core.paths import displayable

if TYPE_CHECKING:
    from xsearch.retrieval.encoders.store import Stored

__all__ = ["Model", "list_models", "remove_model", "show_model"]

Kind = Literal["builtin", "open_clip", "hub", "folder"]


@dataclass(frozen=True, slots=True)
class Model:
    """An encoder that can be had, and how much of it is here already.

    What nobody has stated is None, or an empty text. `parameters` are millions, of the whole
    model; `resolution` is the side of what the image tower reads, in pixels; `context_length`
    counts tokens; `repository` is the one on the Hugging Face hub. `recalls` are zero-shot recall
    at 1, in percent, on Flickr30k and COCO, as `source` states them.

    `folder` is where it lies once it was pulled, with `precision`, `fingerprint` and `parity`
    (lowest cosines to torch) as recorded; `bytes` is its size there. `cached` is what its
    checkpoint takes in the hub's own cache.
    """

    name: str
    kind: Kind
    alias: str = ""
    parameters: float | None = None
    dim: int | None = None
    resolution: int | None = None
    context_length: int | None = None
    repository: str = ""
    licence: str = ""
    licence_source: str = ""
    recalls: Mapping[str, float] | None = None
    source: str = ""
    folder: Path | None = None
    bytes: int = 0
    precision: str = ""
    fingerprint: str = ""
    parity: Mapping[str, float] | None = None
    checkpoint: Mapping[str, str] | None = None
    cached: int = 0

    @property
    def pulled(self) -> bool:
        """Whether it can be used without torch."""
        return self.folder is not None

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON-ready values."""
        folder = None if self.folder is None else displayable(self.folder)
        return {**asdict(self), "folder": folder, "pulled": self.pulled}


def list_models(words: Iterable[str] = (), *, pulled: bool = False) -> list[Model]:
    """All encoders: the built-in one, those with an alias, pulled and cached ones, and open_clip's.

    Args:
        words: only those whose name, alias, repository or licence has each of these in it.
        pulled: only those that can be used without torch.

    An installed open_clip that is newer than the table that ships with xsearch is asked, which
    takes seconds; nothing else is imported, and no network is used.
    """
    found = {model.name: model for model in (*_here(), *_offered())}
    wanted = [word.lower() for word in words]
    chosen = [
        model
        for model in found.values()
        if (model.pulled or not pulled) and all(word in _text(model) for word in wanted)
    ]
    return sorted(chosen, key=_order)


def show_model(name: str) -> Model:
    """What is known of one encoder: a name, an alias, or an encoder's folder.

    Raises UsageError for a name that nothing has, with those that are near; EncoderError for a
    folder that holds no encoder.
    """
    from xsearch.retrieval.encoders.catalogue import suggestion
    from xsearch.retrieval.encoders.names import HF_HUB, LOCAL_DIR, canonical

    full = canonical(name)
    for model in list_models():
        if full == model.name:
            return model
    if full.startswith(HF_HUB):
        return _with_cache(Model(full, "hub", repository=full.removeprefix(HF_HUB)))
    folder = Path(full.removeprefix(LOCAL_DIR))
    if full.startswith(LOCAL_DIR) and folder.is_dir():
        return Model(full, "folder")
    if folder.is_dir():
        return _of_folder(folder)
    raise UsageError(f"no encoder called {name!r}: {suggestion(name)}")


def remove_model(name: str) -> Model:
    """Delete what `pull` made of a model; returns what it was. Raises EncoderError, StorageError.

    The checkpoint that it was made from stays in the hub's cache.
    """
    from xsearch.retrieval.encoders.names import BUILTIN, canonical
    from xsearch.retrieval.encoders.store import remove

    full = canonical(name)
    if full == BUILTIN:
        raise UsageError("builtin comes with xsearch and cannot be removed")
    model = next((each for each in list_models(pulled=True) if each.name == full), None)
    remove(full)
    if model is None:
        raise EncoderError(f"{name} was not pulled")
    return model


def _here() -> list[Model]:
    """The built-in encoder, and what was pulled."""
    from xsearch.retrieval.encoders.catalogue import builtin_folder
    from xsearch.retrieval.encoders.names import BUILTIN
    from xsearch.retrieval.encoders.store import Stored, content_of, stored

    folder = builtin_folder()
    builtin = Stored(BUILTIN, folder, content_of(folder) or {})
    return [_described(builtin, "builtin"), *(_described(each, None) for each in stored())]


def _described(stored: Stored, kind: Kind | None) -> Model:
    """A model from its `encoder.json`, and from the table where it is in it."""
    from xsearch.retrieval.encoders.catalogue import published
    from xsearch.retrieval.encoders.names import HF_HUB, LOCAL_DIR

    content = stored.content
    image, text = (_section(content, key) for key in ("image", "text"))
    schemes: dict[str, Kind] = {HF_HUB: "hub", LOCAL_DIR: "folder"}
    named = next((each for mark, each in schemes.items() if stored.name.startswith(mark)), None)
    known = _offer(stored.name) if stored.name in published() else None
    checkpoint = content.get("checkpoint")
    return Model(
        name=stored.name,
        kind=kind or named or "open_clip",
        alias=known.alias if known else "",
        parameters=known.parameters if known else None,
        dim=content.get("dim"),
        resolution=image.get("size"),
        context_length=text.get("context_length"),
        repository=str(_section(content, "checkpoint").get("repository", "")),
        licence=str(content.get("licence", "")),
        licence_source="" if kind else "model card",
        recalls=known.recalls if known else None,
        source=known.source if known else "",
        folder=stored.folder,
        bytes=stored.bytes,
        precision=str(content.get("precision", "")),
        fingerprint=str(content.get("fingerprint", "")),
        parity=content.get("parity"),
        checkpoint=checkpoint if isinstance(checkpoint, dict) else None,
        cached=known.cached if known else 0,
    )


def _offered() -> list[Model]:
    """What open_clip offers, and models of the hub's cache, but for what was pulled."""
    from xsearch.retrieval.encoders.cache import cached_repositories
    from xsearch.retrieval.encoders.catalogue import published
    from xsearch.retrieval.encoders.names import HF_HUB
    from xsearch.retrieval.encoders.store import pulled

    offered = [_offer(name) for name in published() if pulled(name) is None]
    listed = {model.repository for model in offered}
    listed |= {known.repository for known in published().values()}
    hub = [
        _with_cache(Model(f"{HF_HUB}{repository}", "hub", repository=repository))
        for repository in cached_repositories()
        if repository not in listed and pulled(f"{HF_HUB}{repository}") is None
    ]
    return [*offered, *hub, *_newer()]


def _offer(name: str) -> Model:
    from xsearch.retrieval.encoders.catalogue import published
    from xsearch.retrieval.encoders.names import alias_of

    known = published()[name]
    return _with_cache(
        Model(
            name=name,
            kind="open_clip",
            alias=alias_of(name) or "",
            parameters=known.parameters,
            dim=known.dim,
            resolution=known.resolution,
            context_length=known.context_length,
            repository=known.repository,
            licence=known.licence,
            licence_source=known.licence_source,
            recalls=known.recalls,
            source=known.source,
        )
    )


def _newer() -> list[Model]:
    """Models of an installed open_clip that the table does not have yet."""
    from importlib.metadata import PackageNotFoundError, version

    from xsearch.retrieval.encoders.catalogue import published, table_version
    from xsearch.retrieval.encoders.store import pulled

    try:
        if version("open_clip_torch") == table_version():
            return []
    except PackageNotFoundError:
        return []
    from xsearch.retrieval.encoders.clip.offered import offered

    return [
        _with_cache(Model(name, "open_clip", repository=repository))
        for name, repository in offered().items()
        if name not in published() and pulled(name) is None
    ]


def _with_cache(model: Model) -> Model:
    from dataclasses import replace

    from xsearch.retrieval.encoders.cache import cached_bytes

    return replace(model, cached=cached_bytes(model.repository) if model.repository else 0)


def _of_folder(folder: Path) -> Model:
    from xsearch.retrieval.encoders.store import Stored, content_of

    content = content_of(folder)
    if content is None:
        raise EncoderError(f"{displayable(folder)} is not an encoder's folder: no encoder.json")
    return _described(Stored(str(content.get("name", folder.name)), folder, content), "folder")


def _section(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = content.get(key)
    return found if isinstance(found, dict) else {}


def _text(model: Model) -> str:
    return " ".join((model.name, model.alias, model.repository, model.licence, model.kind)).lower()


def _order(model: Model) -> tuple[bool, bool, bool, float, str]:
    """The built-in one first, then what is here, then recommended ones, small before large."""
    return (
        model.kind != "builtin",
        not model.pulled,
        not model.alias,
        (model.parameters or 0.0) if model.alias else 0.0,
        model.name.lower(),
    )

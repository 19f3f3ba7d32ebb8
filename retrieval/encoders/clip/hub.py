"""Fetches what a model of open_clip needs from the Hugging Face hub: resumed, checked by hash.

Files go where all tools of the hub keep them, and `HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN` and
`HF_HUB_OFFLINE` mean what they mean there. `huggingface_hub` itself begins an interrupted download
anew in the next process, and does not compare plain downloads with their hash; so the transfer is
done here, and only names, addresses and the layout of the cache are left to it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from xsearch.core.errors import EncoderError, StorageError
from xsearch.core.extras import require
from xsearch.core.paths import displayable
from xsearch.core.reports import Progress

from ..cache import CONFIG, TOKENIZER, WEIGHTS, folder_of, hub_cache
from ..names import HF_HUB, LOCAL_DIR
from ..runtime import first_line

if TYPE_CHECKING:
    from xsearch.core.reports import ProgressCallback

MORE = ("tokenizer_config.json", "special_tokens_map.json", "config.json")
"""What may lie beside a `tokenizer.json`."""
CARD = "README.md"
MEGABYTE = 1_000_000
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a model's weights came from: the SHA-256 of their file, and its repository's commit.

    `licence` is what the model card states; empty where it states none.
    """

    file: str
    sha256: str
    repository: str = ""
    revision: str = ""
    licence: str = ""

    def to_dict(self) -> dict[str, str]:
        """What `encoder.json` keeps of it."""
        kept = {"file": self.file, "sha256": self.sha256}
        if self.repository:
            kept |= {"repository": self.repository, "revision": self.revision}
        return kept


@dataclass(frozen=True, slots=True)
class _Need:
    """A file of a repository, under the first of its names that exists there."""

    repository: str
    names: tuple[str, ...]
    optional: bool = False


@dataclass(slots=True)
class _Session:
    """What one fetch has found out so far."""

    progress: ProgressCallback | None
    offline: str = ""
    """Why the hub cannot be asked; empty while it can."""
    missing: list[tuple[str, str]] = field(default_factory=list)
    """Repositories and names of what is needed and cannot be had."""


def fetch(name: str, progress: ProgressCallback | None = None) -> Checkpoint:
    """Bring all files of a model, named in full, onto this machine, and check them.

    Raises EncoderError where something is missing, damaged or not to be had; StorageError where
    the disk refuses; MissingExtraError.
    """
    if name.startswith(LOCAL_DIR):
        return _local(Path(name.removeprefix(LOCAL_DIR)))
    require("huggingface_hub", "clip", f"pulling {name}")
    session = _Session(progress)
    weights, config = _sources(name, session)
    if weights is None:  # an address of its own, which open_clip fetches and checks
        return Checkpoint(name, "")
    found = _file(weights, session)
    for need in _text_needs(config, weights.repository):
        _file(need, session)
    card = _file(_Need(weights.repository, (CARD,), optional=True), session)
    if found is None or session.missing:
        raise EncoderError(_bring(name, session))
    return Checkpoint(
        file=found.name,
        sha256=_sha256(found),
        repository=weights.repository,
        revision=found.parent.name,
        licence=card_licence(card) if card else "",
    )


def card_licence(card: Path) -> str:
    """The licence that a model card states in its head; empty where it states none."""
    try:
        lines = card.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    found = {}
    for line in lines[1 : lines.index("---", 1)] if "---" in lines[1:] else []:
        key, mark, value = line.partition(":")
        if mark and key in ("license", "license_name"):
            found[key] = value.strip().strip("\"'")
    # A licence of its own has a name beside the word `other`.
    if found.get("license") == "other":
        return found.get("license_name", "other")
    return found.get("license", "")


def _local(folder: Path) -> Checkpoint:
    """The checkpoint of a folder, which open_clip would pick."""
    if not (folder / CONFIG).is_file():
        raise EncoderError(
            f"{displayable(folder)} holds no {CONFIG}: local-dir: needs a folder as open_clip "
            f"saves it, with {CONFIG}, {WEIGHTS[0]} and its tokenizer's files"
        )
    weights = [*folder.glob("*.safetensors"), *folder.glob("*.bin"), *folder.glob("*.pth")]
    if not weights:
        raise EncoderError(f"{displayable(folder)} holds no weights: bring {WEIGHTS[0]} into it")
    chosen = min(weights, key=lambda path: (path.name not in WEIGHTS, path.name))
    licence = card_licence(folder / CARD)
    return Checkpoint(chosen.name, _sha256(chosen), licence=licence)


def _sources(name: str, session: _Session) -> tuple[_Need | None, dict[str, Any]]:
    """What holds the weights of a model, and its config as far as it can be known."""
    if name.startswith(HF_HUB):
        repository = name.removeprefix(HF_HUB)
        config = _file(_Need(repository, (CONFIG,)), session)
        content = json.loads(config.read_text(encoding="utf-8")) if config else {}
        return _Need(repository, WEIGHTS), content.get("model_cfg", content)
    open_clip = require("open_clip", "clip", f"pulling {name}")
    architecture, _, tag = name.partition("/")
    place = open_clip.get_pretrained_cfg(architecture, tag).get("hf_hub", "")
    repository, _, file = place.rpartition("/")
    config = open_clip.get_model_config(architecture)
    if not repository:
        return None, config
    safe = file.removesuffix(".bin") + ".safetensors"
    return _Need(repository, (safe, file) if file else WEIGHTS), config


def _text_needs(config: dict[str, Any], repository: str) -> Iterator[_Need]:
    """What a text tower needs of a repository: the tokenizer, and a config of transformers."""
    text = config.get("text_cfg", {})
    source = text.get("hf_tokenizer_name")
    if source:
        yield _Need(source, TOKENIZER[:1])
        yield from (_Need(source, (name,), optional=True) for name in MORE)
    model = text.get("hf_model_name")
    if model and model != repository:
        yield _Need(model, ("config.json",))


def _file(need: _Need, session: _Session) -> Path | None:
    """A needed file in the cache, checked; None where it cannot be had, which the session notes."""
    for name in need.names:
        found = _online(need.repository, name, session)
        if found is None and session.offline:
            found = _from_cache(need.repository, name)
            if found is not None and _damaged(found):
                raise EncoderError(
                    f"{displayable(found)} of {need.repository} is damaged, its hash is wrong: "
                    "delete it and pull again with a network"
                )
        if found is not None:
            return found
    if not need.optional:
        session.missing.append((need.repository, need.names[0]))
    return None


def _online(repository: str, name: str, session: _Session) -> Path | None:
    """The newest version of a file; None where there is none, or the hub cannot be reached."""
    import huggingface_hub
    from huggingface_hub import errors

    if session.offline:
        return None
    try:
        address = huggingface_hub.hf_hub_url(repository, name)
        known = huggingface_hub.get_hf_file_metadata(address)
        _transfer(repository, name, known, session)
        path = Path(huggingface_hub.hf_hub_download(repository, name))
    except errors.GatedRepoError as error:
        raise EncoderError(
            f"{repository} wants its terms accepted: do so at {_page(repository)}, then run "
            "`hf auth login` or set HF_TOKEN"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise EncoderError(
            f"there is no repository {repository} at {_page('')}, or it is private: check its "
            "name, or run `hf auth login` or set HF_TOKEN"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        session.offline = first_line(error)
        return None
    except errors.EntryNotFoundError:
        return None
    except (EncoderError, StorageError):
        raise
    except Exception as error:  # the network's errors differ from version to version
        session.offline = first_line(error)
        return None
    return path


def _transfer(repository: str, name: str, known: Any, session: _Session) -> None:
    """Put a file's content into the cache under its hash, unless it is there unharmed.

    The hub's tools then take it for their own download. A part that is there is gone on with.
    """
    from filelock import FileLock

    blob = folder_of(repository) / "blobs" / str(known.etag)
    part = blob.with_name(f"{blob.name}.part")
    try:
        blob.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{part}.lock"):
            if blob.is_file() and not _damaged(blob):
                return
            for again in (False, True):
                _download(repository, name, known, part, session)
                if not _damaged(part, blob.name):
                    part.replace(blob)
                    return
                part.unlink()
                if again:
                    raise EncoderError(
                        f"{name} of {repository} arrived damaged twice, its hash is wrong: try "
                        "again later, or check the mirror that HF_ENDPOINT names"
                    )
    except OSError as error:
        raise StorageError(
            f"{displayable(blob.parent)} cannot be written: {error.strerror or error}; free some "
            "space, or set HF_HOME to another folder"
        ) from error


def _download(repository: str, name: str, known: Any, part: Path, session: _Session) -> None:
    """Fetch what is missing of a file, from where an earlier try ended.

    Raises OSError where the disk refuses, EncoderError where the connection breaks for good.
    """
    from huggingface_hub import constants, file_download

    headers = _tools().build_hf_headers()
    if urlsplit(known.location).netloc != urlsplit(constants.ENDPOINT).netloc:
        # The address of the content is signed; a token is for the hub alone.
        headers.pop("authorization", None)
    if part.is_file() and known.size is not None and part.stat().st_size > known.size:
        part.unlink()
    with part.open("ab") as file, _quiet():
        try:
            file_download.http_get(
                known.location,
                _Followed(file, name, known.size, session.progress),  # type: ignore[arg-type]
                resume_size=file.tell(),
                headers=headers,
                expected_size=known.size,
                displayed_filename=name,
            )
        except Exception as error:  # the network's errors differ from version to version
            if isinstance(error, OSError) and error.errno in _DISK:
                raise
            raise EncoderError(
                f"{name} of {repository} broke off after {file.tell() / MEGABYTE:.1f} MB "
                f"({first_line(error)}); pull again to go on from there"
            ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep bars and notes of the hub's tools away: progress is reported, failures are raised."""
    tools = _tools()
    shown, level = not tools.are_progress_bars_disabled(), tools.logging.get_verbosity()
    with warnings.catch_warnings():
        # A variable of the user's that decides about bars is not to be changed: it says so.
        warnings.simplefilter("ignore")
        tools.disable_progress_bars()
        tools.logging.set_verbosity_error()
        try:
            yield
        finally:
            tools.logging.set_verbosity(level)
            if shown:
                tools.enable_progress_bars()


def _tools() -> Any:
    """Small things of the hub's own tools, which they do not declare for type checkers."""
    return require("huggingface_hub.utils", "clip", "the hub")


class _Followed:
    """A file whose growth is reported."""

    def __init__(
        self, file: IO[bytes], name: str, size: int | None, progress: ProgressCallback | None
    ) -> None:
        self._file = file
        self._name = name
        self._size = size
        self._progress = progress

    def write(self, data: bytes) -> int:
        count = self._file.write(data)
        if self._progress is not None:
            total = None if self._size is None else -(-self._size // MEGABYTE)
            done = self._file.tell() // MEGABYTE
            self._progress(Progress("download", done, total, detail=self._name))
        return count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _from_cache(repository: str, name: str) -> Path | None:
    """A file that was fetched before, by whatever tool."""
    import huggingface_hub

    found = huggingface_hub.try_to_load_from_cache(repository, name)
    return Path(found) if isinstance(found, str) else None


def _damaged(path: Path, name: str | None = None) -> bool:
    """Whether a file of the cache differs from the hash that is its name there."""
    name = name or path.resolve().name
    try:
        int(name, 16)
    except ValueError:
        return False
    if len(name) == 64:
        return _digest(path, hashlib.sha256()) != name
    if len(name) == 40:  # as git names a file
        head = b"blob %d\0" % path.stat().st_size
        return _digest(path, hashlib.sha1(head)) != name
    return False


def _sha256(path: Path) -> str:
    """The SHA-256 of a file; that of a large one in the cache is its name, and was just checked."""
    name = path.resolve().name
    return name if len(name) == 64 else _digest(path, hashlib.sha256())


def _digest(path: Path, state: Any) -> str:
    with path.open("rb") as file:
        while block := file.read(MEGABYTE):
            state.update(block)
    return str(state.hexdigest())


def _page(repository: str) -> str:
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{repository}".rstrip("/")


def _bring(name: str, session: _Session) -> str:
    """What is missing, and how to bring it."""
    wanted: dict[str, list[str]] = {}
    for repository, file in session.missing:
        wanted.setdefault(repository, []).append(file)
    listed = "; ".join(f"{', '.join(files)} of {repo}" for repo, files in wanted.items())
    folders = _listed([folder_of(repository).name for repository in wanted])
    if not session.offline:
        return f"{name}: there is no {listed} at {_page('')}, so it is no model of open_clip"
    return (
        f"{name} needs {listed}, and the hub cannot be reached ({session.offline}). Run `hf "
        f"download {next(iter(wanted))}` where there is a network and copy {folders} from that "
        f"machine's cache into {displayable(hub_cache())}; or put the files, with {CONFIG}, into a "
        "folder and pull local-dir:FOLDER"
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names)

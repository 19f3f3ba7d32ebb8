"""Where an encoder's graphs run: opens ONNX files on the execution providers of onnxruntime."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from xsearch.core.errors import EncoderError

from .lazy import Lazy
from .manifest import advice

if TYPE_CHECKING:
    from numpy.typing import NDArray

CPU = "CPUExecutionProvider"
PREFERRED = {
    "CUDAExecutionProvider": "cuda",
    "OpenVINOExecutionProvider": "cpu",
    "CoreMLExecutionProvider": "mps",
}
"""The providers worth asking before the plain CPU, the fastest first, and the device of each."""

GPU_BATCH = 32
"""Pictures at once where a provider runs on a GPU."""


class ProviderWarning(UserWarning):
    """An execution provider failed, and the CPU does its work."""


class Session(Protocol):
    """An opened graph; calls may come from several threads at once."""

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Compute the named outputs, in order."""


class Runtime(Protocol):
    """Opens graphs. Another device or library is another class with this method."""

    def open(self, path: Path, *, widen: bool) -> Session:
        """Load a graph; EncoderError when the file is missing or damaged.

        `widen` prepares compressed weights once, at load: more memory and a slower start for
        faster calls. Otherwise they stay as they are stored.
        """


@dataclass(frozen=True, slots=True)
class OnnxCpu:
    """onnxruntime on the CPU, with `threads` threads (None: as many as there are cores)."""

    threads: int | None = None

    def open(self, path: Path, *, widen: bool) -> Session:
        """Load a graph, see `Runtime.open`."""
        return _open(path, [CPU], self.threads, widen=widen)


@dataclass(frozen=True, slots=True)
class OnnxProvider:
    """onnxruntime on a provider such as `CUDAExecutionProvider`.

    A provider that cannot open a graph, or fails in running it, is given up with a
    ProviderWarning, and the CPU goes on from there.
    """

    provider: str
    threads: int | None = None

    def open(self, path: Path, *, widen: bool) -> Session:
        """Load a graph, see `Runtime.open`."""
        plain = Lazy(lambda: OnnxCpu(self.threads).open(path, widen=widen))
        try:
            # What a provider does not know of a graph runs on the CPU.
            session = _open(path, [self.provider, CPU], self.threads, widen=True)
        except EncoderError as error:
            # A damaged file raises here again, without a word on providers.
            plain.get()
            _give_up(self.provider, first_line(error))
            return plain.get()
        if session.session.get_providers()[0] != self.provider:
            _give_up(self.provider, "onnxruntime could not load it")
            return session
        return _Watched(session, self.provider, plain)


def provider_for(device: str) -> str | None:
    """The provider of onnxruntime that runs batches on a device; None where it has none.

    `auto` is for the fastest that is installed. `cpu` is OpenVINO, where it is installed.
    """
    import onnxruntime

    installed = onnxruntime.get_available_providers()
    for provider, runs_on in PREFERRED.items():
        if provider in installed and device in ("auto", runs_on):
            return provider
    return None


def describe_runtime() -> str:
    """onnxruntime's version and what it can run on, such as
    `onnxruntime 1.24.1 (CPUExecutionProvider)`; the first is the one that is preferred.
    """
    import onnxruntime

    installed = onnxruntime.get_available_providers()
    known = [name for name in (*PREFERRED, CPU) if name in installed]
    return f"onnxruntime {onnxruntime.__version__} ({', '.join(known)})"


def _open(path: Path, providers: list[str], threads: int | None, *, widen: bool) -> _OnnxSession:
    import onnxruntime

    if not path.is_file():
        raise EncoderError(f"{path} is missing; {advice(path.parent)}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    if not widen:
        # Optimising folds the conversion of weights into memory, and takes as long as several
        # queries; batches were no slower without it.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        # Weights that are mapped into memory then stay there, instead of being copied in another
        # order: a ViT-B-32's fp32 text tower opens in 30 ms instead of 180.
        options.add_session_config_entry("session.disable_prepacking", "1")
    # Threads that wait for work must not spin: decoding needs the same cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Errors come back as exceptions; warnings would only confuse a terminal.
    options.log_severity_level = 4
    installed = onnxruntime.get_available_providers()
    try:
        session = onnxruntime.InferenceSession(
            str(path),
            options,
            providers=[name for name in providers if name in installed],
        )
    except Exception as error:  # onnxruntime's own classes share no public base
        raise EncoderError(
            f"{path} cannot be loaded, it is probably damaged ({first_line(error)}); "
            f"{advice(path.parent)}"
        ) from error
    return _OnnxSession(session, path)


def _give_up(provider: str, reason: str) -> None:
    warnings.warn(
        f"{provider} cannot be used ({reason}); the CPU is used instead",
        ProviderWarning,
        stacklevel=3,
    )


@dataclass(frozen=True, slots=True)
class _OnnxSession:
    session: Any
    path: Path

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        try:
            results: list[NDArray[Any]] = self.session.run(outputs, inputs)
        except Exception as error:
            raise EncoderError(f"{self.path} failed to run: {first_line(error)}") from error
        return results


@dataclass(slots=True)
class _Watched:
    """A session of a provider that the CPU takes over from when it fails."""

    session: Session
    provider: str
    plain: Lazy[Session]
    failed: bool = False

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        if self.failed:
            return self.plain.get().run(outputs, inputs)
        try:
            return self.session.run(outputs, inputs)
        except EncoderError as error:
            reason = first_line(error)
        # What is wrong with the inputs fails here again, and is no reason to leave the provider.
        results = self.plain.get().run(outputs, inputs)
        if not self.failed:
            self.failed = True
            _give_up(self.provider, reason)
        return results


def first_line(error: Exception) -> str:
    """The first line of another library's message."""
    return str(error).strip().partition("\n")[0] or type(error).__name__

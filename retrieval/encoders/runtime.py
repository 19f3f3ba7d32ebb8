"""Where an encoder's graphs run: opens ONNX files on onnxruntime's CPU provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from xsearch.core.errors import EncoderError

from .manifest import advice

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
        import onnxruntime

        if not path.is_file():
            raise EncoderError(f"{path} is missing; {advice(path.parent)}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads or 0
        if not widen:
            # Optimising folds the conversion of weights into memory, and takes as long as several
            # queries; batches were no slower without it.
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        # Threads that wait for work must not spin: decoding needs the same cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Errors come back as exceptions; warnings would only confuse a terminal.
        options.log_severity_level = 4
        try:
            session = onnxruntime.InferenceSession(
                str(path),
                options,
                providers=["CPUExecutionProvider"],
            )
        except Exception as error:  # onnxruntime's own classes share no public base
            raise EncoderError(
                f"{path} cannot be loaded, it is probably damaged ({_first_line(error)}); "
                f"{advice(path.parent)}"
            ) from error
        return _OnnxSession(session, path)


@dataclass(frozen=True, slots=True)
class _OnnxSession:
    session: Any
    path: Path

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        try:
            results: list[NDArray[Any]] = self.session.run(outputs, inputs)
        except Exception as error:
            raise EncoderError(f"{self.path} failed to run: {_first_line(error)}") from error
        return results


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__

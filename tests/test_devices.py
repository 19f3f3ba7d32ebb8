"""Where encoders run: devices by name, onnxruntime's providers, and the CPU when those fail."""

from __future__ import annotations

import subprocess
import sys
import warnings
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from xsearch.core.errors import EncoderError, UsageError
from xsearch.retrieval.encoders import load_encoder
from xsearch.retrieval.encoders.devices import DEVICES, gpu
from xsearch.retrieval.encoders.lazy import Lazy
from xsearch.retrieval.encoders.onnx import OnnxEncoder
from xsearch.retrieval.encoders.runtime import (
    CPU,
    PREFERRED,
    OnnxCpu,
    OnnxProvider,
    ProviderWarning,
    _Watched,
    describe_runtime,
    provider_for,
)

BUILTIN = Path(str(files("xsearch.data") / "builtin"))
INSTALLED = onnxruntime.get_available_providers()
CUDA = "CUDAExecutionProvider"
TOWERS = ("general.onnx", "image.onnx")


def noise(encoder: OnnxEncoder, count: int = 3) -> np.ndarray:
    random = np.random.default_rng(0)
    side = encoder._manifest.image.preparation.size
    return random.integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def plain() -> OnnxEncoder:
    return OnnxEncoder(BUILTIN)


@pytest.mark.parametrize("device", [None, "cpu", "auto"])
def test_the_builtin_encoder_runs_wherever_it_is_asked_to(
    plain: OnnxEncoder, device: str | None
) -> None:
    encoder = load_encoder(device=device)
    assert encoder.fingerprint == plain.fingerprint
    found, expected = (one.embed_images(noise(plain)) for one in (encoder, plain))
    assert float((found * expected).sum(axis=1).min()) >= 0.999


def test_a_device_without_a_provider_is_named_with_what_is_installed() -> None:
    for provider, device in PREFERRED.items():
        if device != "cpu" and provider not in INSTALLED:
            with pytest.raises(UsageError, match=rf"builtin cannot run on {device} with .*{CPU}"):
                load_encoder(device=device)


def test_an_unknown_device_is_named_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="no device 'gpu': give auto, cuda, mps, cpu"):
        load_encoder(device="gpu")


def test_providers_are_taken_in_the_order_of_their_speed() -> None:
    assert list(PREFERRED.values()) == ["cuda", "cpu", "mps"]
    assert set(PREFERRED.values()) < set(DEVICES)
    best = next((name for name in PREFERRED if name in INSTALLED), None)
    assert provider_for("auto") == best


def test_the_runtime_is_described_with_what_it_has() -> None:
    shown = describe_runtime()
    assert shown.startswith(f"onnxruntime {onnxruntime.__version__} (")
    assert shown.endswith(f"{CPU})")


@pytest.mark.skipif(CUDA in INSTALLED, reason="needs an onnxruntime without CUDA")
def test_a_provider_that_cannot_be_loaded_leaves_the_work_to_the_cpu(plain: OnnxEncoder) -> None:
    encoder = OnnxEncoder(BUILTIN, runtime=OnnxProvider(CUDA), batch=2)
    with pytest.warns(ProviderWarning, match=f"{CUDA} cannot be used .* the CPU is used"):
        found = encoder.embed_images(noise(plain))
    assert encoder.image_batch == 2
    np.testing.assert_allclose(found, plain.embed_images(noise(plain)), atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.embed_images(noise(plain))
        encoder.embed_texts(["cat on grass"])


@pytest.mark.skipif(CUDA in INSTALLED, reason="needs an onnxruntime without CUDA")
def test_texts_stay_on_the_cpu(plain: OnnxEncoder) -> None:
    encoder = OnnxEncoder(BUILTIN, runtime=OnnxProvider(CUDA))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = encoder.embed_texts(["cat on grass"]).vectors
    assert np.array_equal(found, plain.embed_texts(["cat on grass"]).vectors)


def test_a_damaged_graph_is_the_files_fault_not_the_providers(tmp_path: Path) -> None:
    path = tmp_path / "image.onnx"
    path.write_bytes(b"no graph")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(EncoderError, match="probably damaged"):
            OnnxProvider(CUDA).open(path, widen=True)
        with pytest.raises(EncoderError, match="is missing"):
            OnnxProvider(CUDA).open(tmp_path / "absent.onnx", widen=True)


def test_a_run_that_fails_on_a_provider_is_done_again_on_the_cpu(plain: OnnxEncoder) -> None:
    """The provider here holds the wrong graph, and so fails on every picture."""
    wrong, right = (OnnxCpu().open(BUILTIN / name, widen=False) for name in TOWERS)
    session = _Watched(wrong, "SomeProvider", Lazy(lambda: right))
    inputs = {"image": noise(plain)}
    with pytest.warns(ProviderWarning, match="SomeProvider cannot be used .*failed to run"):
        found = session.run(["embedding"], inputs)[0]
    np.testing.assert_allclose(found, plain.embed_images(inputs["image"]), atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(session.run(["embedding"], inputs)[0], found)


def test_a_wrong_input_does_not_cost_the_provider(plain: OnnxEncoder) -> None:
    right, again = (OnnxCpu().open(BUILTIN / TOWERS[1], widen=False) for _ in range(2))
    session = _Watched(right, "SomeProvider", Lazy(lambda: again))
    with pytest.raises(EncoderError, match="failed to run"):
        session.run(["embedding"], {"image": noise(plain)[:, :5]})
    assert not session.failed


def test_looking_for_a_gpu_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom xsearch.retrieval.encoders.devices import gpu\nprint(gpu())\n"
        "assert not {'torch', 'numpy', 'onnxruntime'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(gpu())


def test_a_name_of_open_clip_without_torch_says_what_to_install() -> None:
    code = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "open_clip"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
from xsearch.core.errors import MissingExtraError
from xsearch.retrieval.encoders import load_encoder
try:
    load_encoder("small")
except MissingExtraError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "pip install 'xsearch-engine[clip]'" in done.stdout
    assert "xsearch models pull small" in done.stdout


@pytest.mark.gpu
def test_a_gpu_gives_the_vectors_of_the_cpu(plain: OnnxEncoder) -> None:
    if CUDA not in INSTALLED or gpu() != "cuda":
        pytest.skip("needs a GPU and an onnxruntime with CUDA")
    encoder = load_encoder(device="cuda")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = encoder.embed_images(noise(plain, 40))
    assert float((found * plain.embed_images(noise(plain, 40))).sum(axis=1).min()) >= 0.999

"""The shipped ONNX towers equal the published weights run in torch."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from onnxruntime import InferenceSession

from xsearch.core.errors import MissingExtraError
from xsearch.retrieval.encoders.onnx import OnnxEncoder

if TYPE_CHECKING:
    from xsearch.training.builtin.alignment import Alignment

try:
    import torch

    from xsearch.training.builtin import alignment as aligning
    from xsearch.training.builtin import graph, image_graph, text_graph, towers
except (ImportError, MissingExtraError) as error:
    pytest.skip(f"needs the extra `train`: {error}", allow_module_level=True)

pytestmark = pytest.mark.train

BUILTIN = Path(str(files("xsearch.data") / "builtin"))
CAPTIONS = [
    "cat on grass",
    "Two children are playing with a ball on the beach .",
    "A man in a red shirt climbs a steep rock while another one watches from below .",
    "snow",
]


@pytest.fixture(scope="module")
def encoder() -> OnnxEncoder:
    return OnnxEncoder(BUILTIN)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Noise, and smooth pictures made from it, which are nearer to photographs."""
    from PIL import Image

    random = np.random.default_rng(0)
    made = []
    for size in (2, 5, 12, 40, 260):
        small = Image.fromarray(random.integers(0, 256, (size, size, 3), dtype=np.uint8))
        made.append(np.asarray(small.resize((260, 260), Image.Resampling.BICUBIC)))
    return np.stack(made)


@pytest.fixture(scope="module")
def constants() -> dict[str, np.ndarray]:
    """The arrays of the shipped graphs, by name."""
    import onnx

    return {
        constant.name: onnx.numpy_helper.to_array(constant).astype(np.float32)
        for name in ("image.onnx", "text.onnx")
        for constant in onnx.load(BUILTIN / name).graph.initializer
    }


@pytest.fixture(scope="module")
def alignment(constants: dict[str, np.ndarray]) -> Alignment:
    """The alignment as the shipped graphs hold it; all else here comes from the packages."""
    names = "class_vectors", "conse_mean", "text_mean", "text_weight", "weight", "bias"
    return aligning.Alignment(aligning.Settings(), *(constants[name] for name in names))


def lowest_cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float((aligning.unit(one) * aligning.unit(other)).sum(axis=-1).min())


def test_shipped_image_vectors_equal_the_published_tower(
    encoder: OnnxEncoder, alignment: Alignment, pictures: np.ndarray
) -> None:
    tower = towers.image_tower()
    maps, features = towers.image_features(tower, torch.from_numpy(pictures))
    expected, shipped = alignment.images(features), encoder.embed_images(pictures)
    assert lowest_cosine(shipped, expected) >= 0.999
    regions = maps.flatten(2).transpose(1, 2).numpy().reshape(len(pictures), -1)
    assert lowest_cosine(encoder.regions(pictures).reshape(len(pictures), -1), regions) >= 0.999
    # Different pictures are far apart, so the agreement above is no accident.
    assert lowest_cosine(shipped, np.roll(expected, 1, axis=0)) < 0.9


def test_shipped_text_vectors_equal_the_published_tower(
    encoder: OnnxEncoder, alignment: Alignment
) -> None:
    tower, tokenizer = towers.text_tower(), towers.text_tokenizer()
    expected = alignment.texts(towers.text_features(tower, tokenizer, CAPTIONS).numpy())
    shipped = encoder.embed_texts(CAPTIONS).vectors
    assert lowest_cosine(shipped, expected) >= 0.999
    assert lowest_cosine(shipped, np.roll(expected, 1, axis=0)) < 0.9


def test_the_text_vector_is_the_aligned_mean_of_its_tokens(
    encoder: OnnxEncoder, alignment: Alignment, constants: dict[str, np.ndarray]
) -> None:
    features, mask = encoder.tokens(CAPTIONS)
    pooled = aligning.unit(features.sum(axis=1) / mask.sum(axis=1)[:, None])
    expected = alignment.texts(pooled - constants["rounding"])
    assert lowest_cosine(encoder.embed_texts(CAPTIONS).vectors, expected) >= 0.9999


def test_a_slightly_wrong_reference_would_be_noticed(
    encoder: OnnxEncoder, alignment: Alignment, pictures: np.ndarray
) -> None:
    tower = towers.text_tower()
    layer = tower.layers[3]
    assert isinstance(layer, towers.BertLayer)
    layer.heads = 6  # the same weights, read as another architecture
    wrong = alignment.texts(towers.text_features(tower, towers.text_tokenizer(), CAPTIONS).numpy())
    assert lowest_cosine(encoder.embed_texts(CAPTIONS).vectors, wrong) < 0.999
    shifted = np.roll(pictures, 3, axis=1)
    _, features = towers.image_features(towers.image_tower(), torch.from_numpy(shifted))
    assert lowest_cosine(encoder.embed_images(pictures), alignment.images(features)) < 0.999


@pytest.mark.parametrize(("count", "length"), [(1, 3), (4, 9), (2, 256)])
def test_the_text_graph_in_fp32_equals_torch(alignment: Alignment, count: int, length: int) -> None:
    tower = towers.text_tower()
    model = text_graph.text_graph(tower, alignment, graph.Precision.FP32).model()
    session = InferenceSession(model.SerializeToString())
    random = np.random.default_rng(0)
    ids = random.integers(1000, 30000, (count, length))
    mask = (np.arange(length) < random.integers(1, length + 1, (count, 1))).astype(np.int64)
    with torch.inference_mode():
        expected = tower(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
    found = session.run(["tokens"], {"input_ids": ids, "attention_mask": mask})[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("size", [260, 131, 130, 65, 33, 9])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2), (5, 1), (5, 2)])
def test_padding_covers_the_map_as_tensorflow_does(size: int, kernel: int, stride: int) -> None:
    before, after, result = image_graph.same_padding(size, kernel, stride)
    assert result == -(-size // stride)
    assert (size + before + after - kernel) // stride + 1 == result
    assert 0 <= after - before <= 1


def test_the_description_fits_the_shipped_files() -> None:
    description = json.loads((BUILTIN / "encoder.json").read_text(encoding="utf-8"))
    for tower in ("image", "text"):
        content = (BUILTIN / description[tower]["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == description[tower]["sha256"]
    assert sum(path.stat().st_size for path in BUILTIN.iterdir()) < 45_000_000

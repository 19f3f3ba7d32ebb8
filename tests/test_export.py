"""A trained encoder becomes a folder that searches, or the folder stays what it was."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import xsearch
from xsearch.core.errors import EncoderError, MissingExtraError, StorageError
from xsearch.retrieval.encoders import load_encoder

try:
    import onnx
    import onnxruntime
    import torch
    from onnx import TensorProto, helper, numpy_helper

    from xsearch.training import export, towers
    from xsearch.training.calibrate import calibrate, calibrations, retaken
    from xsearch.training.compress import Precision, compress
    from xsearch.training.model import TextBatch, TrainableEncoder
    from xsearch.training.towers import EncoderSpec
    from xsearch.training.towers.parts import TwoTowers
except (ImportError, MissingExtraError) as error:
    pytest.skip(f"needs the extra `train`: {error}", allow_module_level=True)

from tiny_models import COLOURS, SENTENCES, bert_folder, clip_folder, photograph

pytestmark = pytest.mark.train


@dataclass(frozen=True)
class Painted:
    """A picture that is nowhere on disk."""

    image: Image.Image

    def open(self, side: int | None = None) -> Image.Image:
        return self.image


def square(colour: str, seed: int) -> Image.Image:
    random = np.random.default_rng(seed)
    noise = random.normal(0, 25, (64, 80, 3)) + COLOURS[colour]
    return Image.fromarray(noise.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def pairs() -> export.Pairs:
    """Nine coloured pictures, a sentence each."""
    pictures = [Painted(square(text.split()[-2], seed)) for seed, text in enumerate(SENTENCES)]
    return export.Pairs(pictures, SENTENCES, np.arange(len(SENTENCES)))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert_folder(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def encoder(bert: Path, pairs: export.Pairs) -> TrainableEncoder:
    """Two small towers whose heads have learned three colours."""
    torch.manual_seed(0)
    spec = EncoderSpec(image="timm:resnet10t", text=f"hf:{bert}", dim=16, image_size=64)
    made = towers.build_encoder(spec).eval()
    pixels = torch.from_numpy(np.stack([made.preprocess(p.image) for p in pairs.pictures]))
    batch = made.tokenize(SENTENCES)
    colour = torch.arange(9) // 3
    same = (colour[:, None] == colour).float() / 3
    groups = made.layers()
    parameters = [p for group in [*groups["head"], *groups["text"]] for p in group]
    optimiser = torch.optim.Adam(parameters, 5e-3)
    for _ in range(40):
        logits = 10 * made.encode_images(pixels) @ made.encode_texts(batch).T
        loss = -(same * torch.log_softmax(logits, 1)).sum(1).mean()
        loss = loss - (same * torch.log_softmax(logits, 0)).sum(0).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return made


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, encoder: TrainableEncoder, pairs: export.Pairs
) -> export.Exported:
    card = export.Card("Nine squares.", "Forty steps.", "None.", "Three colours.")
    return export.export_encoder(encoder, tmp_path_factory.mktemp("e") / "made", pairs, card=card)


def test_an_exported_encoder_finds_pictures(tmp_path: Path, exported: export.Exported) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for colour in COLOURS:
        for number in range(2):
            square(colour, 100 + number).save(photos / f"{colour}{number}.png")
    with xsearch.open(tmp_path / "library", encoder=exported.folder) as library:
        library.index([photos])
        for colour in COLOURS:
            hits = library.search(f"a large {colour} square", k=2)
            assert {hit.path.name for hit in hits} == {f"{colour}0.png", f"{colour}1.png"}
            assert all(0 < hit.score < 1 for hit in hits)


def test_the_description_says_what_was_made(exported: export.Exported) -> None:
    content = json.loads((exported.folder / "encoder.json").read_text(encoding="utf-8"))
    assert content["image"]["resize"] == "crop"
    assert content["image"]["crop_pct"] == 0.875
    opened = load_encoder(exported.folder)
    assert (opened.name, opened.dim, opened.image_size) == ("made", 16, 73)
    assert opened.fingerprint == exported.fingerprint
    assert exported.agreement.text_alone >= 0.9999
    assert sorted(exported.sizes) == sorted(path.name for path in exported.folder.iterdir())
    card = (exported.folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    for part in ("# made", "Nine squares.", "Three colours.", exported.fingerprint, "text-image"):
        assert part in card


def test_the_export_prepares_pictures_and_texts_as_training_did(
    exported: export.Exported, encoder: TrainableEncoder
) -> None:
    opened = load_encoder(exported.folder)
    picture = photograph(301, 222)
    assert np.array_equal(opened.preprocess(picture), encoder.preprocess(picture))
    texts = [*SENTENCES, "", "red " * 60]
    with torch.inference_mode():
        expected = encoder.encode_texts(encoder.tokenize(texts)).numpy()
    found = opened.embed_texts(texts)
    np.testing.assert_allclose(found.vectors, expected, atol=1e-4)
    assert found.cut.tolist() == [False] * 10 + [True]
    features, mask = opened.tokens(texts)
    assert features.shape == (11, 40, 32)
    assert mask[:2].sum(axis=1).tolist() == [6, 6]
    assert opened.regions(opened.preprocess(picture)[None]).shape == (1, 4, 512)


def test_an_exported_encoder_can_be_trained_further_and_exported_again(
    tmp_path: Path, exported: export.Exported, pairs: export.Pairs
) -> None:
    again = towers.build_encoder(EncoderSpec(encoder=str(exported.folder)))
    assert export.fingerprint(again) == exported.fingerprint
    with torch.no_grad():
        again.image_head.weight += 0.01
    changed = export.export_encoder(again, tmp_path / "again", pairs)
    assert changed.fingerprint != exported.fingerprint


IMAGES = ["efficientnet-lite0", "timm:vit_tiny_patch16_224", "timm:swin_tiny_patch4_window7_224"]


@pytest.mark.parametrize("precision", list(Precision))
def test_weights_stored_small_keep_the_vectors(
    tmp_path: Path, encoder: TrainableEncoder, pairs: export.Pairs, precision: Precision
) -> None:
    made = export.export_encoder(encoder, tmp_path / "small", pairs, precision=precision)
    share = {"fp32": 1.0, "fp16": 0.55, "int16": 0.55, "int8": 0.35}[precision]
    assert made.sizes["image.onnx"] < share * 20_000_000
    assert min(made.agreement.image, made.agreement.text) >= 0.999
    # The space is that of the fp32 weights, however they are stored.
    assert made.fingerprint == export.fingerprint(encoder)


@pytest.mark.parametrize("image", IMAGES)
def test_other_image_towers_can_be_exported(
    tmp_path: Path, bert: Path, pairs: export.Pairs, image: str
) -> None:
    torch.manual_seed(0)
    spec = EncoderSpec(image=image, text=f"hf:{bert}", dim=16, image_size=64, head="mlp")
    made = export.export_encoder(towers.build_encoder(spec), tmp_path / "other", pairs)
    assert load_encoder(made.folder).embed_images(np.zeros((3, 64, 64, 3), np.uint8)).shape == (
        3,
        16,
    )


PATCHES = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}


@pytest.mark.parametrize(
    ("vision", "text"),
    [
        ({}, {}),
        ({}, {"no_causal_mask": True, "pool_type": "last"}),
        ({"attentional_pool": True, "attn_pooler_heads": 2}, {"embed_cls": True}),
    ],
)
def test_open_clip_models_can_be_exported(
    tmp_path: Path, pairs: export.Pairs, vision: dict[str, object], text: dict[str, object]
) -> None:
    torch.manual_seed(0)
    folder = clip_folder(tmp_path / "clip", PATCHES | vision, **text)
    encoder = towers.build_encoder(EncoderSpec(encoder=f"local-dir:{folder}"))
    made = export.export_encoder(encoder, tmp_path / "made", pairs, precision=Precision.FP16)
    opened = load_encoder(made.folder)
    assert opened.tokens(SENTENCES)[0].shape[2] == 32
    regions = opened.regions(np.zeros((1, 32, 32, 3), np.uint8))
    assert regions.shape[::2] == (1, 24 if vision else 32)
    again = towers.load_trainable(made.folder)
    assert export.fingerprint(again) == made.fingerprint


class Mixing(TwoTowers):
    """Breaks the contract: a text's vector depends on the others in its batch."""

    def text_outputs(self, batch: TextBatch) -> tuple[torch.Tensor, torch.Tensor]:
        vectors, tokens = super().text_outputs(batch)
        return torch.nn.functional.normalize(vectors - 0.5 * vectors.mean(0), dim=-1), tokens


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_failed_export_leaves_the_old_folder(
    tmp_path: Path, encoder: TrainableEncoder, bert: Path, pairs: export.Pairs
) -> None:
    made = export.export_encoder(encoder, tmp_path / "made", pairs)
    before = contents(made.folder)
    spec = EncoderSpec(image="timm:resnet10t", text=f"hf:{bert}", dim=16, image_size=64)
    parts = towers.build_encoder(spec)
    broken = Mixing("broken", parts.image, parts.text, 16, "linear")
    with pytest.raises(EncoderError, match="text vectors"):
        export.export_encoder(broken, made.folder, pairs)
    ruined = towers.load_trainable(made.folder)
    with torch.no_grad():
        ruined.text_head.bias[0] = float("nan")
    with pytest.raises(EncoderError, match="finite"):
        export.export_encoder(ruined, made.folder, pairs)
    with pytest.raises(EncoderError, match="at least two pictures"):
        export.export_encoder(encoder, made.folder, pairs.first(1))
    assert contents(made.folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_what_else_lies_in_the_folder_stays(
    tmp_path: Path, encoder: TrainableEncoder, pairs: export.Pairs
) -> None:
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last").write_text("kept")
    (folder / "log.jsonl").write_text("kept")
    (folder / "image.onnx").write_text("replaced")
    export.export_encoder(encoder, folder, pairs)
    assert (folder / "checkpoints" / "last").read_text() == "kept"
    assert (folder / "log.jsonl").read_text() == "kept"
    assert load_encoder(folder).embed_images(np.zeros((1, 64, 64, 3), np.uint8)).shape == (1, 16)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_place_that_cannot_be_written_is_named(
    tmp_path: Path, encoder: TrainableEncoder, pairs: export.Pairs
) -> None:
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "made"):
        with pytest.raises(StorageError, match="file"):
            export.export_encoder(encoder, place, pairs)
    assert (tmp_path / "file").read_text() == "mine"


def graph(nodes: list[onnx.NodeProto], **weights: np.ndarray) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])]
    inputs.append(helper.make_tensor_value_info("i", TensorProto.INT64, ["n"]))
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 64])]
    stored = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    made = helper.make_graph(nodes, "test", inputs, outputs, stored)
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(made, opset_imports=opset, ir_version=8)


def run(model: onnx.ModelProto) -> np.ndarray:
    random = np.random.default_rng(1)
    feed = {"x": random.normal(size=(5, 64)).astype(np.float32), "i": np.arange(5)}
    return onnxruntime.InferenceSession(model.SerializeToString()).run(["y"], feed)[0]


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.INT16, Precision.INT8])
@pytest.mark.parametrize("kind", ["MatMul", "Gemm", "GemmT", "Gather", "shared", "Add"])
def test_each_kind_of_weight_is_stored_small(kind: str, precision: Precision) -> None:
    random = np.random.default_rng(0)
    # Columns and rows of very different size: one scale for all would lose the small ones.
    size = np.exp(random.normal(size=(64, 1))) * np.exp(random.normal(size=(1, 64)))
    w = (random.normal(size=(64, 64)) * size).astype(np.float32)
    b = np.zeros(64, np.float32)
    nodes = {
        "MatMul": [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "Gemm": [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
        "GemmT": [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)],
        "Gather": [helper.make_node("Gather", ["w", "i"], ["y"])],
        "shared": [
            helper.make_node("MatMul", ["x", "w"], ["z"]),
            helper.make_node("MatMul", ["z", "w"], ["y"]),
        ],
        "Add": [
            helper.make_node("MatMul", ["x", "w"], ["z"]),
            helper.make_node("Reshape", ["w", "s"], ["v"]),
            helper.make_node("Add", ["z", "b"], ["u"]),
            helper.make_node("Gather", ["v", "j"], ["g"]),
            helper.make_node("Add", ["u", "g"], ["y"]),
        ],
    }[kind]
    extra = {"s": np.array([4096]), "j": np.array(7)} if kind == "Add" else {}
    plain = graph(nodes, w=w, b=b, **extra)
    expected = run(plain)
    packed = compress(onnx.ModelProto.FromString(plain.SerializeToString()), precision)
    found = run(packed)
    cosine = (expected * found).sum() / np.linalg.norm(expected) / np.linalg.norm(found)
    assert cosine > (0.9998 if precision is Precision.INT8 else 0.999999)
    smaller = packed.ByteSize() < plain.ByteSize() * 0.6
    # A weight that is also read as it is stays in fp32.
    assert smaller == (kind != "Add")


def test_scores_rise_with_the_cosine_whatever_the_encoder() -> None:
    few = calibrate(np.array([0.9]), np.array([0.1]))
    assert few.logistic.slope > 0
    assert 0.1 < few.cosine < 0.95
    for positives, negatives in ([0.1, 0.2], [0.8, 0.9]), ([0.5, 0.5], [0.5, 0.5]):
        assert calibrate(np.array(positives), np.array(negatives)).logistic.slope > 0
    with pytest.raises(EncoderError, match="two pictures"):
        calibrate(np.array([0.9]), np.zeros(0))


def test_a_score_is_the_share_of_pairs_that_fit() -> None:
    random = np.random.default_rng(0)
    true, other = random.normal(0.4, 0.1, 4000), random.normal(0.1, 0.1, 200_000)
    found = calibrate(true, other).logistic
    # Two normals of equal width: the logistic is exact, with this slope and this middle.
    assert found.slope == pytest.approx(0.3 / 0.1**2, rel=0.03)
    expected = np.log(0.1 / 0.9) - 0.25 * found.slope
    assert found.intercept == pytest.approx(expected, rel=0.03)


def test_texts_of_one_picture_calibrate_texts_and_rewordings_stand_in() -> None:
    random = np.random.default_rng(0)
    images = random.normal(size=(6, 64))
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    owners = np.repeat(np.arange(6), 2)
    several = calibrations(images, images, images[owners], owners)
    single = calibrations(images, images, images, np.arange(6), images)
    for found in (several, single):
        assert set(found) == {"text-image", "image-text", "image-image", "text-text"}
        assert found["text-text"].kept == 1


def test_a_picture_taken_again_is_nearly_the_same_each_time_anew() -> None:
    picture = photograph(120, 80)
    one, other = retaken(picture), retaken(picture)
    assert one.tobytes() == other.tobytes()
    assert one.tobytes() != picture.tobytes()
    assert 0.6 < one.width / picture.width <= 1
    assert retaken(Image.new("RGB", (1, 1))).size == (1, 1)

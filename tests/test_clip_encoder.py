"""Models of open_clip in torch: vectors, pixels and tokens are those of open_clip itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import xsearch
from xsearch.core.encoder import DualEncoder, RegionEncoder
from xsearch.core.errors import EncoderError, MissingExtraError, UsageError
from xsearch.core.images import decode
from xsearch.core.query import Query
from xsearch.retrieval.encoders import load_encoder
from xsearch.retrieval.encoders.clip.scores import default_calibration
from xsearch.retrieval.encoders.onnx import OnnxEncoder
from xsearch.retrieval.encoders.store import place_of
from xsearch.retrieval.query import embed

try:
    import open_clip
    import torch
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained
    from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict

    from xsearch.retrieval.encoders.clip import device as devices
    from xsearch.retrieval.encoders.clip.build import build, own_pixels, quiet
    from xsearch.retrieval.encoders.clip.encoder import TorchEncoder
    from xsearch.retrieval.encoders.clip.network import ClipNetwork, Parts
    from xsearch.retrieval.encoders.clip.tokenizer import convert
    from xsearch.training import export
    from xsearch.training.towers import EncoderSpec, build_encoder
except (ImportError, MissingExtraError) as error:
    pytest.skip(f"needs the extra `train`: {error}", allow_module_level=True)

from tiny_models import (
    SENTENCES,
    bert_folder,
    clip_folder,
    coca_folder,
    photograph,
    save_clip,
    siglip_folder,
    unigram_files,
)

pytestmark = pytest.mark.train

SIZES = [(100, 100), (150, 90), (90, 151), (64, 64), (40, 33), (301, 222), (500, 8)]
TEXTS = [
    *SENTENCES,
    "",
    "Ünïcode, “quotes”  and   SPACES!",
    "it's 12 o'clock &amp;amp; &lt;raining&gt;",
    "ﬁne ＡＢＣ，　ｶﾀｶﾅ！ a\x07b",
    "a snake_case, e\u0301t. cetera...",
    "red " * 60,
]
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8}
TIMM = {"image_size": 64, "timm_model_name": "resnet10t", "timm_pool": "avg"}
MAP = {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none"}


@dataclass(frozen=True)
class Painted:
    """A picture that is nowhere on disk."""

    image: Image.Image

    def open(self, side: int | None = None) -> Image.Image:
        return self.image


def bert_clip(folder: Path) -> Path:
    """A text tower of transformers, with its tokenizer beside the weights."""
    inner = bert_folder(folder / "inner")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}
    text = {"hf_model_name": str(inner), "hf_tokenizer_name": str(inner), "hf_proj_type": "mlp"}
    folder.mkdir(exist_ok=True)
    for path in inner.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return clip_folder(folder, None, **text, hf_pooler_type="mean_pooler")


def clipa(folder: Path) -> Path:
    """As CLIPA has it: BERT's words, the closing mark struck out, attention to both sides."""
    bert_folder(folder)
    (folder / "model.safetensors").unlink()
    names = {"pad_token": "[PAD]", "sep_token": "[SEP]", "cls_token": "[CLS]"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    text = {"hf_tokenizer_name": "bert", "tokenizer_kwargs": {"strip_sep_token": True}}
    return clip_folder(folder, None, **text, no_causal_mask=True, pool_type="last")


def worldwide(folder: Path) -> Path:
    """As MetaCLIP 2 has it: another's tokenizer, and the text's end found by its id."""
    unigram_files(folder)
    return clip_folder(folder, None, hf_tokenizer_name="xlm", pool_type="eos", eos_id=1)


KINDS: dict[str, Callable[[Path], Path]] = {
    "vit": clip_folder,
    "resnet": lambda folder: clip_folder(folder, RESNET),
    "timm": lambda folder: clip_folder(folder, TIMM),
    "siglip": siglip_folder,
    "siglip-timm": lambda folder: siglip_folder(folder, MAP, dim=64),
    "coca": coca_folder,
    "bert": bert_clip,
    "clipa": clipa,
    "worldwide": worldwide,
}


class Kinds:
    """Models of each kind, made when first asked for."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._made: dict[str, TorchEncoder] = {}

    def name(self, kind: str) -> str:
        folder = self._place / kind
        if not folder.exists():
            torch.manual_seed(0)
            KINDS[kind](folder)
        return f"local-dir:{folder}"

    def encoder(self, kind: str) -> TorchEncoder:
        if kind not in self._made:
            self._made[kind] = TorchEncoder(self.name(kind), device="cpu")
        return self._made[kind]


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Kinds:
    return Kinds(tmp_path_factory.mktemp("kinds"))


def pictures(encoder: DualEncoder, count: int = 3) -> np.ndarray:
    made = [photograph(90 + seed, 70, seed) for seed in range(count)]
    return np.stack([encoder.preprocess(picture) for picture in made])


def lowest(one: np.ndarray, other: np.ndarray) -> float:
    assert one.shape == other.shape
    return float((one * other).sum(axis=1).min())


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with quiet():
        yield


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_those_of_open_clip(kinds: Kinds, kind: str) -> None:
    encoder = kinds.encoder(kind)
    model, _, transform = open_clip.create_model_and_transforms(kinds.name(kind))
    shown = [photograph(90 + seed, 70, seed) for seed in range(3)]
    with torch.inference_mode():
        planes = torch.stack([transform(picture) for picture in shown])
        images = model.eval().encode_image(planes, normalize=True).numpy()
        ids = open_clip.get_tokenizer(kinds.name(kind))(TEXTS)
        texts = model.encode_text(ids, normalize=True).numpy()
    np.testing.assert_allclose(encoder.embed_images(pictures(encoder)), images, atol=1e-5)
    np.testing.assert_allclose(encoder.embed_texts(TEXTS).vectors, texts, atol=1e-5)
    assert isinstance(encoder, DualEncoder)
    assert isinstance(encoder, RegionEncoder)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_tokenised_as_open_clip_does(kinds: Kinds, kind: str) -> None:
    own = open_clip.get_tokenizer(kinds.name(kind))
    tokenizer, padding = convert(own)
    tokenizer.enable_truncation(own.context_length)
    for text in TEXTS:
        ids = tokenizer.encode(text).ids
        filled = ids + [padding] * (own.context_length - len(ids))
        assert filled == own([text])[0].tolist(), text


@pytest.mark.parametrize("clean", ["lower", "whitespace", "canonicalize"])
def test_texts_are_cleaned_as_open_clip_does(clean: str) -> None:
    own = open_clip.SimpleTokenizer(context_length=32, clean=clean)
    tokenizer, _ = convert(own)
    tokenizer.enable_truncation(32)
    for text in TEXTS:
        ids = tokenizer.encode(text).ids
        assert ids + [0] * (32 - len(ids)) == own([text])[0].tolist(), text


@pytest.mark.parametrize("resize", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pixels_are_exactly_those_of_open_clip(resize: str, interpolation: str) -> None:
    settings = PreprocessCfg(
        size=64, resize_mode=resize, interpolation=interpolation, fill_color=90
    )
    steps = image_transform_v2(settings, is_train=False).transforms
    assert [type(step).__name__ for step in steps][-2:] == ["MaybeToTensor", "Normalize"]
    pixels = own_pixels("it", asdict(settings))
    for size in SIZES:
        expected = photograph(*size)
        for step in steps[:-2]:
            expected = step(expected)
        found = pixels.preparation.apply(photograph(*size))
        assert np.array_equal(found, np.asarray(expected)), size


def test_a_jpeg_that_was_decoded_small_has_nearly_the_same_vector(
    shared_data: Path, kinds: Kinds
) -> None:
    """The stated cosine is 0.999, and pixels differ by 4 of 255 levels on average at most."""
    photos = sorted(shared_data.rglob("*.jpg"))[:40]
    assert len(photos) == 40
    vision = {"image_size": 96, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16}
    for kind in (clip_folder, siglip_folder):
        folder = Path(kinds.name("vit").removeprefix("local-dir:")).parent / f"{kind.__name__}96"
        torch.manual_seed(0)
        encoder = TorchEncoder(f"local-dir:{kind(folder, vision)}", device="cpu")
        whole, small = (
            np.stack([encoder.preprocess(decode(path, **how).image) for path in photos])
            for how in ({"draft": False}, {"min_side": encoder.image_size})
        )
        assert not np.array_equal(whole, small)
        assert np.abs(whole.astype(int) - small).mean(axis=(1, 2, 3)).max() < 4
        assert lowest(encoder.embed_images(whole), encoder.embed_images(small)) >= 0.999


@pytest.mark.parametrize("kind", KINDS)
def test_a_vector_does_not_depend_on_its_batch_or_padding(kinds: Kinds, kind: str) -> None:
    encoder = kinds.encoder(kind)
    batch = pictures(encoder, 11)
    together = encoder.embed_images(batch)
    alone = np.concatenate([encoder.embed_images(picture[None]) for picture in batch])
    assert lowest(together, alone) >= 0.9999
    together = encoder.embed_texts(TEXTS).vectors
    alone = np.concatenate([encoder.embed_texts([text]).vectors for text in TEXTS])
    assert lowest(together, alone) >= 0.9999
    for vectors in (together, alone):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_is_the_same_space(kinds: Kinds, kind: str, tmp_path: Path) -> None:
    encoder = kinds.encoder(kind)
    trainable = build_encoder(EncoderSpec(encoder=kinds.name(kind)))
    shown = [Painted(photograph(90 + seed, 70, seed)) for seed in range(len(SENTENCES))]
    pairs = export.Pairs(shown, SENTENCES, np.arange(len(SENTENCES)))
    made = export.export_encoder(trainable, tmp_path / "made", pairs)
    opened = OnnxEncoder(made.folder)
    assert opened.fingerprint == encoder.fingerprint
    batch = pictures(encoder)
    assert np.array_equal(pictures(opened), batch)
    assert lowest(opened.embed_images(batch), encoder.embed_images(batch)) >= 0.999
    found, expected = opened.embed_texts(TEXTS), encoder.embed_texts(TEXTS)
    assert lowest(found.vectors, expected.vectors) >= 0.999
    assert found.cut.tolist() == expected.cut.tolist()


def test_the_fingerprint_is_of_weights_and_preparation_alone(kinds: Kinds, tmp_path: Path) -> None:
    torch.manual_seed(0)
    same = TorchEncoder(f"local-dir:{clip_folder(tmp_path / 'same')}", device="cpu", half=True)
    torch.manual_seed(1)
    other = TorchEncoder(f"local-dir:{clip_folder(tmp_path / 'other')}", device="cpu")
    content = json.loads((tmp_path / "same/open_clip_config.json").read_text())
    content["preprocess_cfg"]["resize_mode"] = "squash"
    (tmp_path / "same/open_clip_config.json").write_text(json.dumps(content))
    squashed = TorchEncoder(same.info.source, device="cpu")
    assert same.fingerprint == kinds.encoder("vit").fingerprint
    assert len({same.fingerprint, other.fingerprint, squashed.fingerprint}) == 3


def test_a_text_that_is_cut_is_reported(kinds: Kinds) -> None:
    encoder = kinds.encoder("vit")
    found = encoder.embed_texts(["a cat", "red " * 14, "red " * 15, "x" * 100_000])
    assert found.cut.tolist() == [False, False, True, True]
    with pytest.warns(xsearch.TruncationWarning, match="longer than the encoder"):
        embed(Query("red " * 15), encoder)


def test_tokens_are_masked_and_regions_run_over_the_picture(kinds: Kinds) -> None:
    encoder = kinds.encoder("vit")
    features, mask = encoder.tokens(SENTENCES[:3])
    assert features.shape == (*mask.shape, 32)
    assert not features[~mask].any()
    before = np.zeros((1, 32, 32, 3), np.uint8)
    after = before.copy()
    after[:, :8, -8:] = 255
    moved = np.abs(encoder.regions(before) - encoder.regions(after)).sum(axis=2)[0]
    assert divmod(int(moved.argmax()), 4) == (0, 3)
    assert encoder.tokens([])[0].shape == (0, 0, 0)
    assert encoder.regions(before[:0]).shape == (0, 0, 0)


def test_no_pictures_and_no_texts_give_no_vectors(kinds: Kinds) -> None:
    encoder = kinds.encoder("siglip")
    assert encoder.embed_images(np.zeros((0, 32, 32, 3), np.uint8)).shape == (0, 24)
    assert encoder.embed_texts([]).vectors.shape == (0, 24)
    with pytest.raises(UsageError, match=r"uint8 \(n, 32, 32, 3\)"):
        encoder.embed_images(np.zeros((1, 32, 31, 3), np.uint8))


def test_half_precision_keeps_the_vectors_and_their_length(kinds: Kinds) -> None:
    for kind in KINDS:
        encoder = kinds.encoder(kind)
        half = TorchEncoder(kinds.name(kind), device="cpu", half=True)
        assert half.info.precision == "weights fp32, arithmetic fp16"
        batch = pictures(encoder)
        for found, expected in (
            (half.embed_images(batch), encoder.embed_images(batch)),
            (half.embed_texts(TEXTS).vectors, encoder.embed_texts(TEXTS).vectors),
        ):
            assert lowest(found, expected) >= 0.999
            np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for the CPU needs g++")
def test_compiled_code_gives_the_same_vectors(kinds: Kinds) -> None:
    encoder = kinds.encoder("vit")
    batch = pictures(encoder, 11)
    compiled = TorchEncoder(kinds.name("vit"), device="cpu", batch=4, compiled_from=4)
    assert lowest(compiled.embed_images(batch), encoder.embed_images(batch)) >= 0.9999
    assert compiled._compiled is not None
    assert compiled._compiled_from == 4


def test_what_cannot_be_compiled_goes_on_as_it_was(
    kinds: Kinds, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    monkeypatch.setattr(config, "force_disable_caches", True)
    torch._dynamo.reset()  # what an earlier test compiled
    encoder = kinds.encoder("vit")
    batch = pictures(encoder, 8)
    compiled = TorchEncoder(kinds.name("vit"), device="cpu", batch=4, compiled_from=1)
    with pytest.warns(UserWarning, match="cannot be compiled .*; it goes on as it was"):
        found = compiled.embed_images(batch)
    assert lowest(found, encoder.embed_images(batch)) >= 0.9999


def test_several_threads_may_ask_at_once(kinds: Kinds) -> None:
    encoder = TorchEncoder(kinds.name("siglip"), device="cpu", batch=2)
    batch = pictures(encoder, 5)
    images, texts = encoder.embed_images(batch), encoder.embed_texts(TEXTS).vectors
    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(encoder.embed_images, batch) for _ in range(16)]
        read = [pool.submit(encoder.embed_texts, TEXTS) for _ in range(16)]
        assert all(lowest(future.result(), images) >= 0.9999 for future in found)
        assert all(lowest(future.result().vectors, texts) >= 0.9999 for future in read)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps to a limit of memory")
def test_a_batch_that_does_not_fit_is_halved_for_good(kinds: Kinds) -> None:
    code = f"""
import resource
import numpy as np
from xsearch.retrieval.encoders.clip.encoder import TorchEncoder
encoder = TorchEncoder({kinds.name("vit")!r}, device="cpu", batch=8192)
pictures = np.zeros((8192, 32, 32, 3), np.uint8)
encoder.embed_images(pictures[:8])
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + (250 << 20),) * 2)
vectors = encoder.embed_images(pictures)
assert vectors.shape == (8192, 24) and np.isfinite(vectors).all()
print(encoder.image_batch)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 1 <= int(done.stdout) < 8192


def test_an_activation_belongs_to_the_checkpoint() -> None:
    """`ViT-B-32/openai` was trained with QuickGELU, whatever the architecture's config says."""
    plain = build("ViT-B-32/laion2b_s34b_b79k", pretrained=False)
    quick = build("ViT-B-32/openai", pretrained=False)
    for parts, wanted in ((plain, False), (quick, True)):
        kinds_of = {type(module).__name__ for module in parts.net.modules()}
        assert ("QuickGELU" in kinds_of) is wanted
        assert bool(parts.settings.get("quick_gelu")) is wanted


def test_a_captioning_tower_is_not_kept(kinds: Kinds) -> None:
    coca = kinds.encoder("coca")
    assert not any("text_decoder" in name for name, _ in coca._network.named_parameters())


# What every public model needs, as far as its config says: nothing is downloaded.

READ_FROM_ELSEWHERE = ("roberta-", "xlm-roberta-", "nllb-clip-")
"""Models whose text tower is described by a config on the hub."""


def test_every_public_model_prepares_its_input_in_a_known_way() -> None:
    assert len(list_pretrained()) >= 196
    for model, tag in list_pretrained():
        config = open_clip.get_model_config(model)
        found = get_pretrained_cfg(model, tag)
        size = {"size": config["vision_cfg"]["image_size"]}
        pixels = own_pixels(model, merge_preprocess_dict(PreprocessCfg(), found | size))
        assert pixels.preparation.size == size["size"]
        text = config["text_cfg"]
        assert not text.get("tokenizer_mode")
        assert set(text.get("tokenizer_kwargs", {})) <= {"clean", "strip_sep_token"}


def architectures() -> list[str]:
    """One public model of each make of towers."""
    found: dict[object, str] = {}
    for model, _ in list_pretrained():
        config = open_clip.get_model_config(model)
        vision, text = config["vision_cfg"], config["text_cfg"]
        tower = vision.get("timm_model_name", "resnet" if "heads" in vision else "vit")
        if not isinstance(vision.get("layers", 0), int):
            tower = "resnet"
        make = (
            tower.partition("_")[0],
            vision.get("timm_pool"),
            vision.get("pool_type"),
            vision.get("attentional_pool"),
            text.get("pool_type"),
            text.get("no_causal_mask"),
        )
        if not model.startswith(READ_FROM_ELSEWHERE):
            found.setdefault(make, model)
    return list(found.values())


@pytest.mark.parametrize("model", architectures())
def test_every_make_of_public_towers_runs(model: str) -> None:
    """On torch's meta device, which computes shapes alone."""
    settings = open_clip.get_model_config(model)
    with torch.device("meta"):
        net = open_clip.create_model(
            model, load_weights=False, pretrained_text=False, force_custom_text=True, device="meta"
        )
    for name in ("logit_scale", "logit_bias"):
        if getattr(net, name) is not None:
            setattr(net, name, torch.nn.Parameter(torch.zeros([])))
    pixels = own_pixels(model, net.visual.preprocess_cfg)
    tokenizer, padding = convert(open_clip.SimpleTokenizer())
    network = ClipNetwork(Parts(model, net, settings, pixels, tokenizer, padding)).eval()
    network.scaling.to("meta")
    side = pixels.preparation.size
    with torch.device("meta"), torch.inference_mode():
        vectors, regions = network.images(torch.zeros(2, side, side, 3, dtype=torch.uint8))
        ids = torch.ones(2, 7, dtype=torch.int64)
        read, tokens = network.texts(ids, ids)
    assert vectors.shape == read.shape == (2, network.dim)
    assert (regions.ndim, regions.shape[0]) == (3, 2)
    assert tokens.shape[:2] == (2, 7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"interpolation": "random"}, "shortest, random"),
        ({"resize_mode": "stretch"}, "stretch, bicubic"),
        ({"size": (64, 32)}, "only squares"),
        ({"resize_mode": "longest", "fill_color": [1, 2, 3]}, "only greys"),
    ],
)
def test_a_preparation_that_cannot_be_done_is_named(change: dict, message: str) -> None:
    with pytest.raises(EncoderError, match=message) as caught:
        own_pixels("some/model", asdict(PreprocessCfg(size=64)) | change)
    assert str(caught.value).startswith("some/model")


def test_a_tokenizer_that_pads_on_the_left_is_refused(tmp_path: Path) -> None:
    siglip_folder(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"padding_side": "left"}))
    with pytest.raises(EncoderError, match="pads on the left"):
        load_encoder(f"local-dir:{tmp_path}")


def test_a_model_that_cannot_be_built_is_named_in_one_line(tmp_path: Path) -> None:
    clip_folder(tmp_path)
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"no weights")
    for name, message in (
        (f"local-dir:{tmp_path}", "cannot be made"),
        (f"local-dir:{tmp_path}/absent", "cannot be made"),
        ("ViT-B-32/no_such_tag", "cannot be made"),
    ):
        with pytest.raises(EncoderError, match=message) as caught:
            load_encoder(name)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)
    with pytest.raises(UsageError, match="no model 'ViT-Z-99'"):
        load_encoder("ViT-Z-99/laion")


def test_other_preparations_stay_known(tmp_path: Path) -> None:
    """A model that fills its pictures up, from folder to folder."""
    settings = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
    text = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    config = {"embed_dim": 24, "vision_cfg": settings, "text_cfg": text}
    save_clip(tmp_path / "source", config, {"resize_mode": "longest", "fill_color": 77})
    encoder = load_encoder(f"local-dir:{tmp_path / 'source'}")
    assert encoder.preprocess(photograph(90, 30))[0, 0].tolist() == [77, 77, 77]
    trainable = build_encoder(EncoderSpec(encoder=f"local-dir:{tmp_path / 'source'}"))
    shown = [Painted(photograph(90 + seed, 40, seed)) for seed in range(len(SENTENCES))]
    pairs = export.Pairs(shown, SENTENCES, np.arange(len(SENTENCES)))
    made = export.export_encoder(trainable, tmp_path / "made", pairs)
    opened = load_encoder(made.folder)
    assert np.array_equal(
        opened.preprocess(photograph(90, 30)), encoder.preprocess(photograph(90, 30))
    )
    assert opened.fingerprint == encoder.fingerprint


# Scores.


def test_scores_of_a_model_with_a_bias_are_its_own_probabilities_at_the_prior_of_a_library() -> (
    None
):
    found = default_calibration(117.3, -12.9)["text-image"]
    assert found.slope == 117.3
    # At the cosine where SigLIP says one half, one pair in 32,768 was true; here one in ten is.
    logit = found.slope * (12.9 / 117.3) + found.intercept
    assert logit == pytest.approx(np.log(32767) - np.log(9))


def test_scores_of_a_model_without_a_bias_are_halfway_at_a_documented_cosine() -> None:
    found = default_calibration(100.0, None)
    for pair in ("text-image", "image-text"):
        assert found[pair].slope * 0.22 + found[pair].intercept == pytest.approx(0)
        assert found[pair].slope == 50
    assert set(found) == {"text-image", "image-text", "image-image", "text-text"}


def test_an_encoder_has_the_scores_of_its_own_scale(kinds: Kinds) -> None:
    encoder = kinds.encoder("siglip")
    scale = float(np.exp(np.log(1 / 0.07)))
    assert encoder.calibration("text", "image").slope == pytest.approx(scale, rel=1e-5)
    assert encoder.labels.scale == pytest.approx(scale, rel=1e-5)
    with pytest.raises(UsageError, match="no calibration from 'sound'"):
        encoder.calibration("sound", "image")


# From a name to a search.


def test_a_library_is_indexed_and_searched_with_a_model_in_a_folder(
    kinds: Kinds, photos: Path, tmp_path: Path
) -> None:
    for seed in range(3):
        photograph(90, 70, seed).save(photos / f"{seed}.png")
    with xsearch.open(tmp_path / "library", encoder=kinds.name("siglip")) as library:
        assert library.index([photos]).added == 3
        hits = library.search(xsearch.Image(photos / "1.png"), k=1)
        assert hits[0].path == photos / "1.png"
        assert hits[0].similarity == pytest.approx(1, abs=1e-3)
        assert len(library.search("a red square", k=5)) == 3
    with xsearch.open(tmp_path / "library") as library:
        assert library.encoder.info.source == kinds.name("siglip")


def test_a_model_that_was_not_pulled_runs_in_torch_under_its_full_name(
    kinds: Kinds, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(kinds.name("vit").removeprefix("local-dir:"))
    monkeypatch.chdir(folder.parent)
    for device in (None, "cpu", "auto"):
        info = load_encoder("local-dir:vit", device=device).info
        assert (info.source, info.runtime) == (kinds.name("vit"), "torch")
        assert info.fingerprint == kinds.encoder("vit").fingerprint


def test_a_model_of_the_hub_is_read_from_its_cache(kinds: Kinds, tmp_path: Path) -> None:
    source = Path(kinds.name("siglip").removeprefix("local-dir:"))
    place = tmp_path / "hub/models--someone--small"
    shutil.copytree(source, place / "snapshots/abc")
    config = place / "snapshots/abc/open_clip_config.json"
    content = json.loads(config.read_text())
    content["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "someone/small"
    config.write_text(json.dumps(content))
    (place / "refs").mkdir()
    (place / "refs/main").write_text("abc")
    code = """
from xsearch.core.errors import EncoderError
from xsearch.retrieval.encoders import load_encoder
print(load_encoder("hf-hub:someone/small").fingerprint)
try:
    load_encoder("hf-hub:someone/else")
except EncoderError as error:
    print(error)
"""
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    fingerprint, message = done.stdout.splitlines()
    assert fingerprint == kinds.encoder("siglip").fingerprint
    assert "someone/else" in message


def test_a_model_that_was_pulled_runs_without_torch_and_meets_it(
    kinds: Kinds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XSEARCH_MODELS", str(tmp_path))
    name = kinds.name("vit")
    trainable = build_encoder(EncoderSpec(encoder=name))
    shown = [Painted(photograph(90 + seed, 70, seed)) for seed in range(len(SENTENCES))]
    pairs = export.Pairs(shown, SENTENCES, np.arange(len(SENTENCES)))
    export.export_encoder(trainable, place_of(name), pairs)
    for device in (None, "cpu", "auto"):
        encoder = load_encoder(name, device=device)
        wanted = "torch" if device == "auto" and torch.cuda.is_available() else "onnxruntime"
        assert (encoder.info.runtime, encoder.info.source) == (wanted, name)
        assert encoder.fingerprint == kinds.encoder("vit").fingerprint
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match=r"can use no 'cuda' here, only .*cpu"):
            load_encoder(name, device="cuda")


def test_a_folder_without_weights_is_not_a_model_of_random_ones(tmp_path: Path) -> None:
    (clip_folder(tmp_path) / "open_clip_model.safetensors").unlink()
    with pytest.raises(EncoderError, match="cannot be made"):
        load_encoder(f"local-dir:{tmp_path}")


def test_a_device_that_is_not_there_is_named_with_those_that_are(kinds: Kinds) -> None:
    missing = "mps" if sys.platform != "darwin" else "cuda"
    with pytest.raises(UsageError, match=rf"can use no '{missing}' here, only .*cpu"):
        load_encoder(kinds.name("vit"), device=missing)
    with pytest.raises(UsageError, match="no device 'tpu': give auto, cuda, mps, cpu"):
        load_encoder(kinds.name("vit"), device="tpu")


def test_running_out_of_memory_is_told_from_other_failures() -> None:
    for error in (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ):
        assert devices.out_of_memory(error)
    assert not devices.out_of_memory(RuntimeError("shapes do not match"))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_gives_the_vectors_of_the_cpu(kinds: Kinds, kind: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU that torch can use")
    encoder = kinds.encoder(kind)
    fast = load_encoder(kinds.name(kind), device="cuda")
    assert fast.fingerprint == encoder.fingerprint
    assert fast.info.precision == "weights fp32, arithmetic fp16"
    assert 1 <= fast.image_batch <= devices.LARGEST_BATCH
    batch = pictures(encoder, 40)
    assert lowest(fast.embed_images(batch), encoder.embed_images(batch)) >= 0.999
    found, expected = fast.embed_texts(TEXTS), encoder.embed_texts(TEXTS)
    assert lowest(found.vectors, expected.vectors) >= 0.999


@pytest.mark.gpu
def test_a_model_too_large_for_half_precision_stays_in_fp32_on_a_gpu(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU that torch can use")
    from safetensors.torch import load_file, save_file

    folder = clip_folder(tmp_path)
    path = str(folder / "open_clip_model.safetensors")
    weights = load_file(path)
    weights["visual.transformer.resblocks.0.mlp.c_fc.weight"] *= 1e6
    save_file(weights, path)
    encoder = load_encoder(f"local-dir:{folder}", device="cuda")
    assert encoder.info.precision == "weights fp32, arithmetic fp32"
    assert np.isfinite(encoder.embed_images(pictures(encoder))).all()

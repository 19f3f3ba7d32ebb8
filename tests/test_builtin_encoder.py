"""The built-in encoder keeps the contract of `xsearch.core.encoder`, and fails in one line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from xsearch.core.encoder import DualEncoder, RegionEncoder
from xsearch.core.errors import EncoderError, UsageError
from xsearch.retrieval.encoders import load_encoder
from xsearch.retrieval.encoders.onnx import OnnxEncoder
from xsearch.retrieval.encoders.texts import batches

BUILTIN = Path(str(files("xsearch.data") / "builtin"))
DATA = Path(os.environ.get("XSEARCH_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))

CAPTIONS = [
    "cat on grass",
    "two children",
    "a man in a red shirt climbs a steep rock",
    "very " * 80,
]
OTHERS = ["Katze auf dem Gras", "两个孩子", "un homme en chemise rouge grimpe un rocher", "سيارة"]


@pytest.fixture(scope="session")
def encoder() -> OnnxEncoder:
    return OnnxEncoder(BUILTIN)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "encoder"
    shutil.copytree(BUILTIN, folder)
    return folder


def noise(count: int, seed: int = 0) -> NDArray[np.uint8]:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, 260, 260, 3), dtype=np.uint8)


def photographs(count: int) -> list[Path]:
    folder = DATA / "photos"
    if not folder.is_dir():
        pytest.skip("needs the shared test data: set XSEARCH_TEST_DATA")
    return sorted(folder.glob("*.jpg"))[:count]


def lowest_cosine(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float((one * other).sum(axis=-1).min())


def test_it_is_a_dual_encoder_and_a_region_encoder(encoder: OnnxEncoder) -> None:
    assert isinstance(encoder, DualEncoder)
    assert isinstance(encoder, RegionEncoder)
    assert (encoder.name, encoder.info.source, encoder.dim) == ("builtin", str(BUILTIN), 384)
    assert load_encoder().info.source == "builtin"
    assert load_encoder().fingerprint == load_encoder(BUILTIN).fingerprint
    assert len(encoder.fingerprint) == 16


def test_vectors_are_float32_of_unit_length(encoder: OnnxEncoder) -> None:
    for vectors in (encoder.embed_images(noise(3)), encoder.embed_texts(["a", "b c"]).vectors):
        assert vectors.dtype == np.float32
        assert vectors.shape[1] == encoder.dim
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_nothing_in_gives_nothing_out(encoder: OnnxEncoder) -> None:
    assert encoder.embed_images(noise(0)).shape == (0, 384)
    found = encoder.embed_texts([])
    assert found.vectors.shape == (0, 384)
    assert found.cut.shape == (0,)
    features, mask = encoder.tokens([])
    assert len(features) == len(mask) == len(encoder.regions(noise(0))) == 0


@pytest.mark.parametrize("count", [2, 16, 19])
def test_an_image_vector_does_not_depend_on_its_batch(encoder: OnnxEncoder, count: int) -> None:
    pictures = noise(count)
    together = encoder.embed_images(pictures)
    alone = np.concatenate([encoder.embed_images(picture[None]) for picture in pictures])
    assert lowest_cosine(together, alone) >= 0.9999


def test_a_photograph_s_vector_does_not_depend_on_its_batch(encoder: OnnxEncoder) -> None:
    pictures = np.stack([encoder.preprocess(Image.open(path)) for path in photographs(10)])
    together = encoder.embed_images(pictures)
    alone = np.concatenate([encoder.embed_images(picture[None]) for picture in pictures])
    assert lowest_cosine(together, alone) >= 0.9999


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(max_size=120), min_size=1, max_size=6))
def test_a_text_vector_does_not_depend_on_its_batch(texts: list[str]) -> None:
    encoder = SHARED
    together = encoder.embed_texts([*texts, *CAPTIONS, *OTHERS]).vectors[: len(texts)]
    alone = np.concatenate([encoder.embed_texts([text]).vectors for text in texts])
    assert lowest_cosine(together, alone) >= 0.9999


SHARED = OnnxEncoder(BUILTIN)
"""For hypothesis, whose examples share no fixture; lazy, so that collecting costs nothing."""


@pytest.mark.parametrize("padding", [1, 7, 200])
def test_a_text_vector_does_not_depend_on_padding(encoder: OnnxEncoder, padding: int) -> None:
    session = encoder._texts[0].session.get()
    ids = np.array([[101, 4937, 2006, 5568, 102]])
    bare = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    wide = {name: np.pad(value, ((0, 0), (0, padding))) for name, value in bare.items()}
    one, other = (session.run(["embedding"], inputs)[0] for inputs in (bare, wide))
    assert lowest_cosine(one, other) >= 0.9999
    assert lowest_cosine(one, encoder.embed_texts(["cat on grass"]).vectors) >= 0.9999


def test_texts_come_back_in_their_order(encoder: OnnxEncoder) -> None:
    texts = [f"{'very ' * (i * 7 % 40)}small dog number {i}" for i in range(150)]
    order = np.random.default_rng(0).permutation(len(texts))
    straight = encoder.embed_texts(texts).vectors
    shuffled = encoder.embed_texts([texts[i] for i in order]).vectors
    assert lowest_cosine(straight[order], shuffled) >= 0.9999


@given(st.lists(st.integers(1, 256), max_size=80), st.integers(1, 600))
def test_batches_of_texts_are_bounded_and_lose_none(lengths: list[int], budget: int) -> None:
    found = list(batches(lengths, budget))
    assert sorted(row for batch in found for row in batch) == list(range(len(lengths)))
    for batch in found:
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= budget


def test_only_texts_longer_than_the_context_are_flagged_as_cut(encoder: OnnxEncoder) -> None:
    fits, longer, endless = "dog " * 254, "dog " * 255, " " * 20_000
    found = encoder.embed_texts(["dog", fits, longer, endless, ""])
    assert found.cut.tolist() == [False, False, True, True, False]
    assert lowest_cosine(found.vectors[1:2], found.vectors[2:3]) >= 0.9999


@pytest.mark.parametrize(
    "text",
    ["", " ", "😀👩‍👩‍👧", "كلب يجري على العشب", "\ud800", "a \udcff dog", "\x00", "e\u0301\u200f"],
)
def test_any_text_has_a_vector(encoder: OnnxEncoder, text: str) -> None:
    vector = encoder.embed_texts([text]).vectors[0]
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_regions_cover_the_picture_row_by_row(encoder: OnnxEncoder) -> None:
    picture = np.zeros((1, 260, 260, 3), np.uint8)
    changed = picture.copy()
    changed[:, :40, -40:] = noise(1)[:, :40, -40:]
    before, after = encoder.regions(picture), encoder.regions(changed)
    assert before.shape == (1, 81, 512)
    assert before.dtype == np.float32
    moved = np.abs(after - before).sum(axis=2).reshape(9, 9)
    row, column = np.unravel_index(moved.argmax(), moved.shape)
    assert row <= 2
    assert column >= 6


def test_tokens_are_masked_and_do_not_depend_on_padding(encoder: OnnxEncoder) -> None:
    features, mask = encoder.tokens([*CAPTIONS, *OTHERS])
    assert features.shape == (*mask.shape, 2 * 384)
    assert features.dtype == np.float32
    assert mask.dtype == np.bool_
    assert mask[:4].sum(axis=1).tolist() == [5, 4, 12, 82]
    assert mask[4:].any(axis=1).all()
    assert not features[~mask].any()
    for text, found, used in zip([*CAPTIONS, *OTHERS], features, mask, strict=True):
        alone, everything = encoder.tokens([text])
        assert everything.all()
        np.testing.assert_allclose(found[used], alone[0], atol=1e-3)
        # Each text tower has columns of its own.
        assert bool(alone[0, :, :384].any()) is not bool(alone[0, :, 384:].any())
    assert encoder.tokens(["a man in a red shirt"])[0][0, :, :384].any()
    assert encoder.tokens(["两个孩子"])[0][0, :, 384:].any()


def test_preprocessing_squashes_the_whole_picture_and_takes_any_mode(encoder: OnnxEncoder) -> None:
    wide = Image.new("RGB", (900, 300), "red")
    wide.paste("blue", (0, 0, 450, 300))
    found = encoder.preprocess(wide)
    assert found.shape == (260, 260, 3)
    assert found.dtype == np.uint8
    assert found[130, 20].tolist() == [0, 0, 255]
    assert found[130, 240].tolist() == [255, 0, 0]
    assert encoder.preprocess(Image.new("L", (260, 260), 7)).max() == 7


def test_pictures_of_another_shape_or_type_are_refused(encoder: OnnxEncoder) -> None:
    for wrong in (noise(1)[:, :224], noise(1).astype(np.float32), noise(1)[0]):
        with pytest.raises(UsageError, match="260"):
            encoder.embed_images(wrong)  # type: ignore[arg-type]


def test_a_caption_is_nearer_to_its_photograph_than_to_most_others(encoder: OnnxEncoder) -> None:
    paths = [path for path in photographs(125) if path.with_suffix(".txt").exists()]
    pictures = np.stack([encoder.preprocess(Image.open(path)) for path in paths])
    captions = [path.with_suffix(".txt").read_text(encoding="utf-8") for path in paths]
    scores = encoder.embed_texts(captions).vectors @ encoder.embed_images(pictures).T
    ranks = (scores > scores.diagonal()[:, None]).sum(axis=1)
    assert (ranks < 5).mean() >= 0.8


SAME = [
    ("dog", "Hund", "chien", "pes", "كلب", "狗"),
    (
        "a dog runs through the snow",
        "ein Hund rennt durch den Schnee",
        "un chien court dans la neige",
        "pes běží sněhem",
        "كلب يجري في الثلج",
        "一只狗在雪地里奔跑",
    ),
    (
        "children playing football",
        "Kinder spielen Fußball",
        "des enfants jouent au football",
        "děti hrají fotbal",
        "أطفال يلعبون كرة القدم",
        "孩子们在踢足球",
    ),
    (
        "a man on a bicycle",
        "ein Mann auf einem Fahrrad",
        "un homme sur un vélo",
        "muž na kole",
        "رجل على دراجة",
        "骑自行车的男人",
    ),
    (
        "people at the beach",
        "Menschen am Strand",
        "des gens à la plage",
        "lidé na pláži",
        "ناس على الشاطئ",
        "海滩上的人们",
    ),
]


def test_a_text_lies_near_the_same_text_of_another_language(encoder: OnnxEncoder) -> None:
    """Each translation is nearer to its English than to the English of anything else."""
    english = encoder.embed_texts([row[0] for row in SAME]).vectors
    for language in range(1, 6):
        others = encoder.embed_texts([row[language] for row in SAME]).vectors
        assert (others @ english.T).argmax(axis=1).tolist() == list(range(len(SAME))), language


def test_a_query_may_mix_with_others_of_any_language(encoder: OnnxEncoder) -> None:
    texts = [text for row in SAME for text in row]
    together = encoder.embed_texts(texts).vectors
    alone = np.concatenate([encoder.embed_texts([text]).vectors for text in texts])
    assert lowest_cosine(together, alone) >= 0.9999


@pytest.mark.parametrize("column", range(6))
def test_a_language_is_told_from_english(encoder: OnnxEncoder, column: int) -> None:
    detector = encoder._english.get()
    assert detector is not None
    for row in SAME:
        assert detector.is_english(row[column]) is (column == 0), row[column]


@pytest.mark.parametrize(
    "text", ["", "123", "🐕", "?!", "sunset", "red car", "NYC skyline", "dogs"]
)
def test_what_could_be_english_is_read_as_english(encoder: OnnxEncoder, text: str) -> None:
    detector = encoder._english.get()
    assert detector is not None
    assert detector.is_english(text)


def test_scores_rise_with_similarity_for_every_pair_of_kinds(encoder: OnnxEncoder) -> None:
    for query in ("text", "image"):
        for target in ("text", "image"):
            assert encoder.calibration(query, target).slope > 0
    with pytest.raises(UsageError, match="sound"):
        encoder.calibration("sound", "image")


def test_threads_that_start_together_get_the_same_vectors() -> None:
    fresh = OnnxEncoder(BUILTIN)
    together = Barrier(4)

    def work(number: int) -> NDArray[np.float32]:
        together.wait()
        if number % 2:
            return fresh.embed_images(noise(2))
        return fresh.embed_texts(CAPTIONS).vectors

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(work, range(4)))
    assert lowest_cosine(found[0], found[2]) >= 0.9999
    assert lowest_cosine(found[1], found[3]) >= 0.9999


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.strip()


def test_a_text_query_loads_neither_pillow_nor_the_image_tower() -> None:
    code = """
import sys
from xsearch.retrieval.encoders import load_encoder
heavy = {"onnxruntime", "tokenizers", "PIL", "torch"}
encoder = load_encoder()
print(sorted(heavy & set(sys.modules)))
encoder.embed_texts(["cat on grass"])
print(sorted(heavy & set(sys.modules)), encoder._image.made)
"""
    assert run(code).splitlines() == ["[]", "['onnxruntime', 'tokenizers'] False"]


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "encoder.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        (None, "format", 2),
        (None, "format", True),
        (None, "runtime", "abacus"),
        ("image", "resize", "letterbox"),
        ("image", "interpolation", "nearest"),
    ],
)
def test_what_is_not_known_is_refused_by_name(
    copy: Path, section: str | None, key: str, value: object
) -> None:
    rewrite(copy, lambda content: (content[section] if section else content).update({key: value}))
    with pytest.raises(EncoderError) as caught:
        load_encoder(copy)
    assert key in str(caught.value)
    assert str(copy / "encoder.json") in str(caught.value)


@pytest.mark.parametrize("name", ["../image.onnx", "/etc/passwd", "", "C:image.onnx"])
def test_a_description_cannot_name_files_outside_its_folder(copy: Path, name: str) -> None:
    rewrite(copy, lambda content: content["image"].update(file=name))
    with pytest.raises(EncoderError, match=r"image\.file"):
        load_encoder(copy)


def test_an_incomplete_description_says_what_is_missing(copy: Path) -> None:
    rewrite(copy, lambda content: content["calibration"].pop("image-image"))
    with pytest.raises(EncoderError, match=r"calibration\.image-image"):
        load_encoder(copy)
    (copy / "encoder.json").write_text("{", encoding="utf-8")
    with pytest.raises(EncoderError, match="JSON"):
        load_encoder(copy)


def test_an_unknown_name_says_what_can_be_given(tmp_path: Path) -> None:
    for name in ("ViT-B-32", str(tmp_path), tmp_path / "absent"):
        with pytest.raises(EncoderError, match="builtin"):
            load_encoder(name)


def use(encoder: OnnxEncoder, name: str) -> None:
    """What reads this file of the encoder's folder."""
    if name.startswith("image"):
        encoder.embed_images(noise(1))
    else:
        encoder.embed_texts(["Hund im Schnee" if name.startswith("general") else "a dog"])


@pytest.mark.parametrize(
    "name",
    [
        "image.onnx",
        "english.onnx",
        "english-tokenizer.json",
        "english.npy",
        "general.onnx",
        "general-tokenizer.json",
    ],
)
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "garbage"])
def test_a_damaged_file_is_named(copy: Path, name: str, damage: str) -> None:
    path = copy / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        changed = {"empty": b"", "cut": content[: len(content) // 2], "garbage": b"\xff" * 999}
        path.write_bytes(changed[damage])
    broken = load_encoder(copy)
    for _ in range(2):
        with pytest.raises(EncoderError) as caught:
            use(broken, name)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)

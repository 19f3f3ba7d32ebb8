"""Explanations: which word of a text fits which part of a picture, drawn and told."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support import age, open_colour
from test_rooms import modules_after
from tiny_reranker import SeeingEncoder, write_reranker

import xsearch
from xsearch.cli import explain as command
from xsearch.core.errors import EncoderError, SourceError, UsageError
from xsearch.core.explained import MatchExplanation, WordRelevance
from xsearch.retrieval.encoders import load_encoder
from xsearch.retrieval.encoders.pictures import RESIZES, Preparation
from xsearch.retrieval.explain.colours import diverging, heat
from xsearch.retrieval.explain.drawing import MOST, draw, most_telling, plan
from xsearch.retrieval.explain.places import WHOLE, over_picture
from xsearch.retrieval.explain.words import words_of

PAINT = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "grey": (90, 90, 90)}


def fields(size: tuple[int, int] = (128, 64), **places: tuple[int, int]) -> Image.Image:
    """A grey picture of 4 x 4 fields, some painted: their colours and (column, row)."""
    return painted(PAINT["grey"], size, places)


def painted(
    ground: tuple[int, int, int], size: tuple[int, int], places: dict[str, tuple[int, int]]
) -> Image.Image:
    small = Image.new("RGB", (4, 4), ground)
    for colour, place in places.items():
        small.putpixel(place, PAINT[colour])
    return small.resize(size, Image.Resampling.NEAREST)


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reranker(tmp_path_factory.mktemp("reranker"))


@pytest.fixture
def explained(reranker: Path) -> Callable[..., MatchExplanation]:
    def explain(picture: Any, text: str) -> MatchExplanation:
        image = picture if isinstance(picture, str | Path) else xsearch.Image(picture)
        return xsearch.explain(image, text, encoder=SeeingEncoder(), reranker=reranker)

    return explain


Explain = Callable[..., MatchExplanation]


def by_word(found: MatchExplanation) -> dict[str, WordRelevance]:
    return {word.text: word for word in found.words}


# With a reranker


def test_each_word_peaks_on_what_it_names(explained: Explain) -> None:
    found = by_word(explained(fields(red=(3, 0), blue=(1, 2)), "a red sun over a blue lake"))
    assert found["red"].peak == pytest.approx((7 / 8, 1 / 8))
    assert found["blue"].peak == pytest.approx((3 / 8, 5 / 8))
    assert found["red"].relevance[0, 3] > 0.9
    assert found["sun"].relevance == pytest.approx(np.full((4, 4), 1 / 16))


def test_contributions_and_the_rest_add_up_to_the_log_odds(explained: Explain) -> None:
    found = explained(fields(red=(3, 0)), "a red sun, no blue one")
    words = by_word(found)
    assert words["red"].contribution > 1 > 0 > -1 > words["blue"].contribution
    assert sum(word.contribution for word in found.words) + found.rest == pytest.approx(
        found.log_odds
    )
    # As described: 0.5 x the encoder's log-odds + 1.5 x the reranker's + 0.25.
    match = (words["red"].contribution + words["blue"].contribution) / 1.5 - 1
    assert found.log_odds == pytest.approx(
        0.5 * (10 * found.similarity - 5) + 1.5 * match + 0.25, abs=1e-4
    )
    assert found.score == pytest.approx(1 / (1 + np.exp(-found.log_odds)))
    assert found.method == "cross-attention"


def test_a_picture_is_explained_upright(explained: Explain) -> None:
    lying = fields((64, 128), red=(0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: the top left comes to the top right
    file = io.BytesIO()
    lying.save(file, "PNG", exif=exif)
    found = explained(file.getvalue(), "red")
    assert found.picture.size == (128, 64)
    assert found.words[0].peak == pytest.approx((7 / 8, 1 / 8))


def test_a_text_longer_than_what_is_read_is_told(explained: Explain) -> None:
    with pytest.warns(xsearch.TruncationWarning, match="its end was ignored"):
        explained(fields(red=(0, 0)), "red " * 300)


def test_a_library_explains_its_own_pictures_by_id(tmp_path: Path, reranker: Path) -> None:
    path = tmp_path / "photos" / "sun.png"
    path.parent.mkdir()
    fields(red=(3, 0)).save(path)
    age(path)
    with open_colour(tmp_path / "library") as library:
        library.index(path.parent)
        id_ = library.search(xsearch.Image(path), 1)[0].id
    with xsearch.open(tmp_path / "library", encoder=SeeingEncoder()) as library:
        found = library.explain(id_, "red", reranker=reranker)
        assert found.path == path
        assert found.words[0].peak == pytest.approx((7 / 8, 1 / 8))
        with pytest.raises(UsageError, match="no picture 99"):
            library.explain(99, "red", reranker=reranker)
    with xsearch.open(tmp_path / "library", encoder=SeeingEncoder(), reranker=reranker) as library:
        assert library.explain(id_, "red").log_odds == found.log_odds


@pytest.mark.parametrize("text", ["", " \n"])
def test_without_a_text_there_is_nothing_to_explain(explained: Explain, text: str) -> None:
    with pytest.raises(UsageError, match="there is no text"):
        explained(fields(), text)


def test_an_encoder_without_reranker_and_without_attention_says_how_to_get_one() -> None:
    with pytest.raises(EncoderError, match="has no reranker: train one with"):
        xsearch.explain(xsearch.Image(fields()), "red", encoder=SeeingEncoder())


def test_a_reranker_of_another_encoder_is_refused(tmp_path: Path) -> None:
    other = write_reranker(tmp_path, "b1e5")
    with pytest.raises(EncoderError, match="for the encoder b1e5"):
        xsearch.explain(xsearch.Image(fields()), "red", encoder=SeeingEncoder(), reranker=other)


# Words


TEXTS = {
    "a cat's T-shirt on the grass!": (["cat's", "T-shirt", "grass"], ["a", "on", "the", "!"]),
    "eine Katze auf der Wiese": (["Katze", "Wiese"], ["eine", "auf", "der"]),
    "un chat sur l’herbe": (["chat", "l’herbe"], ["un", "sur"]),
    "قطة على العشب": (["قطة", "العشب"], ["على"]),
    "🐈 50%": (["🐈", "50"], ["%"]),
}


@pytest.mark.parametrize("text", TEXTS)
def test_stop_words_and_signs_are_no_content(text: str) -> None:
    spans = SeeingEncoder().spans([text])[0]
    words = words_of(text, [*spans, (text.find("🐈"), text.find("🐈") + 1)])
    told = {True: [], False: []}
    for word in words:
        told[word.is_content].append(text[word.start : word.end])
    assert (told[True], told[False]) == TEXTS[text]


def test_where_no_word_has_content_all_are_shown(explained: Explain) -> None:
    found = explained(fields(), "it is on the")
    assert [word.text for word in found.shown] == ["it", "is", "on", "the"]


def test_chinese_is_cut_where_the_tokenizer_cuts() -> None:
    text = "一只猫在草地上"
    spans = [(0, 0), (0, 1), (0, 2), (2, 3), (3, 4), (4, 5), (5, 7), (0, 0)]
    words = words_of(text, spans)
    assert [text[word.start : word.end] for word in words] == ["一只", "猫", "在", "草", "地上"]
    assert [word.is_content for word in words] == [True, True, False, True, True]
    assert words[0].tokens == (1, 2)


def test_pieces_of_a_word_are_one_word() -> None:
    text = "grasslandy, yes"
    (first, *_) = words_of(text, [(0, 0), (0, 9), (9, 10), (10, 11), (11, 15), (0, 0)])
    assert (first.start, first.end, first.tokens) == (0, 10, (1, 2))


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=30), st.data())
def test_words_are_in_order_and_share_no_token(text: str, data: st.DataObject) -> None:
    place = st.integers(0, len(text))
    spans = [tuple(sorted(pair)) for pair in data.draw(st.lists(st.tuples(place, place)))]
    words = words_of(text, spans)
    ends = [0, *(word.end for word in words)]
    assert all(end <= word.start < word.end for end, word in zip(ends, words, strict=False))
    tokens = [token for word in words for token in word.tokens]
    assert len(set(tokens)) == len(tokens)
    for word in words:
        said = text[word.start : word.end]
        assert said.strip() and word.tokens
        assert all(spans[at][0] < word.end and spans[at][1] > word.start for at in word.tokens)


@pytest.mark.parametrize(
    "texts",
    [["a cat on grass", "", "running dogs, 2 of them"], ["一只猫在草地上", "eine Tasse Kaffee"]],
)
def test_spans_agree_with_the_tokens_of_the_built_in_encoder(texts: list[str]) -> None:
    encoder = load_encoder("builtin")
    _, mask = encoder.tokens(texts)
    spans = encoder.spans(texts)
    assert [len(found) for found in spans] == mask.sum(axis=1).tolist()
    for text, found in zip(texts, spans, strict=True):
        assert found[0] == found[-1] == (0, 0)
        covered = {at for start, end in found for at in range(start, end)}
        assert {at for at, char in enumerate(text) if not char.isspace()} <= covered


# Places


def test_a_map_of_the_whole_picture_stays_as_it_is() -> None:
    found = np.arange(12, dtype=np.float32).reshape(3, 4)
    relevance, peak = over_picture(found, WHOLE)
    assert relevance == pytest.approx(found / found.sum())
    assert peak == pytest.approx((7 / 8, 5 / 6))


def test_what_is_cut_off_has_no_relevance() -> None:
    frame = Preparation(32, "crop").frame(96, 32)
    assert frame == pytest.approx((1 / 3, 0, 2 / 3, 1))
    relevance, peak = over_picture(np.eye(4, dtype=np.float32), frame)
    assert relevance.shape == (4, 12)
    assert relevance[:, 4:8] == pytest.approx(np.eye(4) / 4)
    assert peak == pytest.approx((1 / 3 + 1 / 24, 1 / 8))


def test_what_was_filled_up_is_no_part_of_the_picture() -> None:
    frame = Preparation(32, "longest").frame(64, 32)
    assert frame == pytest.approx((0, -0.5, 1, 1.5))
    found = np.full((4, 4), 1, np.float32)
    found[0, 0] = 50  # in the grey above the picture
    relevance, peak = over_picture(found, frame)
    assert relevance == pytest.approx(np.full((2, 4), 1 / 8))
    assert 0 <= peak[1] <= 1


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(RESIZES), st.integers(60, 400), st.integers(60, 400), st.sampled_from([1, 0.8])
)
def test_the_frame_is_what_the_square_shows(
    resize: str, width: int, height: int, share: float
) -> None:
    preparation = Preparation(48, resize, "bilinear", share if resize != "longest" else 1.0)
    left, top, right, bottom = preparation.frame(width, height)
    across = np.linspace(0, 255, width)[None].repeat(height, 0)
    down = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    picture = Image.fromarray(np.stack([across, down, down], -1).astype(np.uint8))
    pixels = preparation.apply(picture)[23:25, 23:25].mean((0, 1)) / 255
    assert pixels[0] == pytest.approx((left + right) / 2, abs=0.06)
    assert pixels[1] == pytest.approx((top + bottom) / 2, abs=0.06)
    seen = (right - left) * width * (bottom - top) * height
    whole = max(width, height) ** 2 if resize == "longest" else width * height * share**2
    if resize == "crop":
        whole = (min(width, height) * share) ** 2
    assert seen == pytest.approx(whole, rel=0.1)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.floats(-2, 0.4), st.floats(-2, 0.4), st.floats(0.6, 3), st.floats(0.6, 3)),
)
def test_relevance_adds_up_to_one_wherever_the_square_lies(
    seed: int, frame: tuple[float, float, float, float]
) -> None:
    random = np.random.default_rng(seed)
    found = random.normal(-1, 1, random.integers(1, 12, 2)).astype(np.float32)
    relevance, peak = over_picture(found, frame)
    assert relevance.dtype == np.float32
    assert (relevance >= 0).all()
    assert relevance.sum() == pytest.approx(1, abs=1e-4)
    assert min(peak) >= 0 and max(peak) <= 1


# Drawing


def drawn_words(count: int, picture: Image.Image) -> MatchExplanation:
    random = np.random.default_rng(count)
    words, text = [], ""
    for at in range(count):
        start = len(text)
        text += f"word{at} "
        relevance = random.random((9, 9)).astype(np.float32)
        place = (start, len(text) - 1, True, float(at - count / 2))
        words.append(WordRelevance(f"word{at}", *place, relevance / relevance.sum(), (0.5, 0.5)))
    return MatchExplanation(text, 0.5, 0.0, 0.1, tuple(words), "cross-attention", picture)


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (3000, 60), (9, 700), (1, 1)])
@pytest.mark.parametrize("count", [1, 2, 5, 12, 30])
def test_every_number_of_words_and_every_shape_fits(count: int, size: tuple[int, int]) -> None:
    grid = plan(min(count, MOST), size)
    assert grid.columns * grid.rows >= min(count, MOST) > grid.columns * (grid.rows - 1)
    made = draw(drawn_words(count, Image.new("RGB", size, (10, 120, 200))))
    assert made.mode == "RGB"
    assert made.width >= grid.columns * grid.width
    assert made.height >= grid.rows * grid.height
    assert max(made.size) < 6_000


def test_only_the_words_that_count_most_have_panels() -> None:
    found = drawn_words(30, fields())
    shown = most_telling(found.shown)
    assert len(shown) == MOST
    assert [word.start for word in shown] == sorted(word.start for word in shown)
    least = min(abs(word.contribution) for word in shown)
    assert sum(abs(word.contribution) > least for word in found.words) < MOST


def test_heat_lies_where_the_relevance_is_and_the_rest_is_grey(explained: Explain) -> None:
    found = explained(fields((400, 400), red=(3, 0), blue=(0, 3)), "red")
    made = np.asarray(draw(found)).astype(int)
    grid = plan(1, found.picture.size)
    panel = made[-grid.field[1] :][: grid.height, 18 : 18 + grid.width]
    spread = panel.max(axis=-1) - panel.min(axis=-1)
    cell = grid.width // 4
    assert spread[:cell, -cell:].mean() > 60
    assert spread[2 * cell :].max() < 8  # the blue field, too


@pytest.mark.parametrize("text", ["قطة حمراء", "红色的猫", "naïve rouge", "🐈 red", "r" * 300])
def test_any_script_is_drawn(explained: Explain, text: str) -> None:
    assert xsearch.draw_explanation(explained(fields(), text)).width > 600


def test_colours_tell_for_from_against() -> None:
    assert diverging(0) == (255, 255, 255)
    red, _, blue = diverging(0.5)
    assert blue > red
    red, _, blue = diverging(-0.5)
    assert red > blue
    lightness = heat(np.linspace(0, 1, 50, dtype=np.float32)) @ [0.3, 0.59, 0.11]
    assert (np.diff(lightness) > 0).all()


# Models of open_clip


VIT = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
TIMM = {"timm_model_pretrained": False, "timm_proj": "linear", "image_size": 64}
TOWERS = {
    "class token": (VIT, "Grad-ECLIP"),
    "mean of patches": (VIT | {"pool_type": "avg"}, "gradient x features"),
    "ResNet": (
        {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16},
        "gradient x features",
    ),
    "ConvNeXt of timm": (
        TIMM | {"timm_model_name": "convnext_atto", "timm_pool": "avg"},
        "gradient x features",
    ),
}


@pytest.mark.train
@pytest.mark.parametrize("tower", TOWERS)
def test_every_kind_of_tower_is_explained(tmp_path: Path, tower: str) -> None:
    import torch
    from tiny_models import clip_folder, photograph

    from xsearch.retrieval.encoders.clip.encoder import TorchEncoder

    vision, method = TOWERS[tower]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        folder = clip_folder(tmp_path / "clip", vision)
    encoder = TorchEncoder(f"local-dir:{folder}", device="cpu")
    picture = photograph(90, 60)
    found = xsearch.explain(xsearch.Image(picture), "small red square!", encoder=encoder)
    assert found.method == method
    assert [word.text for word in found.words] == ["small", "red", "square", "!"]
    for word in found.words:
        assert word.relevance.sum() == pytest.approx(1, abs=1e-4)
        # Beyond the middle square, which is all that the model reads.
        assert word.relevance.shape[1] > word.relevance.shape[0]
    pixels = encoder.preprocess(picture)
    slope = encoder.calibration("text", "image").slope
    texts = encoder.embed_texts(["small red square!", "red square!"]).vectors
    lost = (texts[0] - texts[1]) @ encoder.embed_images(pixels[None])[0]
    assert found.words[0].contribution == pytest.approx(slope * lost, abs=1e-3)

    (one, other), _ = encoder.attribute(pixels, np.eye(2, encoder.dim, dtype=np.float32))
    (turned, _), _ = encoder.attribute(
        pixels[::-1].copy(), np.eye(2, encoder.dim, dtype=np.float32)
    )
    least = 1e-3 * np.abs(one).max()
    assert np.abs(one - other).max() > least < np.abs(one - turned).max()


def plant(folder: Path) -> None:
    """Give a vision transformer of one layer weights that see red and blue, and nothing else.

    A patch's mean red and blue, from 0 for black, are its first two features, which the values pass
    on, the class token looks for, and the projection keeps.
    """
    from safetensors.torch import load_file, save_file

    path = folder / "open_clip_model.safetensors"
    weights = load_file(path)
    block = "visual.transformer.resblocks.0."
    for name in weights:
        if name.startswith("visual.") and ".ln_" not in name and "ln_p" not in name:
            weights[name].zero_()
    for feature, (band, black) in enumerate(((0, -0.5 / 0.2), (2, -0.3 / 0.4))):
        weights["visual.positional_embedding"][1:, feature] = -black
        weights["visual.conv1.weight"][feature, band] = 1 / 64
        weights["visual.proj"][feature, feature] = 1.0
        weights[block + "attn.in_proj_bias"][feature] = 1.0  # of the query
    # Features that all patches share keep the norms from blowing small differences up.
    weights["visual.positional_embedding"][:, 8] = 2.0
    weights["visual.positional_embedding"][:, 9] = -2.0
    width = weights["visual.proj"].shape[0]
    for part in (1, 2):  # keys and values
        weights[block + "attn.in_proj_weight"][part * width : (part + 1) * width].fill_diagonal_(1)
    weights[block + "attn.out_proj.weight"].fill_diagonal_(1)
    save_file(weights, path)


@pytest.mark.train
@pytest.mark.parametrize("pool", ["tok", "avg"])
def test_gradients_point_at_what_a_transformer_with_known_weights_sees(
    tmp_path: Path, pool: str
) -> None:
    from tiny_models import clip_folder

    from xsearch.retrieval.encoders.clip.encoder import TorchEncoder

    folder = clip_folder(tmp_path / "clip", VIT | {"layers": 1, "pool_type": pool})
    plant(folder)
    encoder = TorchEncoder(f"local-dir:{folder}", device="cpu")
    wanted = np.eye(2, encoder.dim, dtype=np.float32)  # red, blue
    for red, blue in (((3, 0), (1, 2)), ((0, 3), (3, 3)), ((2, 1), (0, 0))):
        pixels = encoder.preprocess(
            painted((0, 0, 0), (32, 32), {"red": red, "blue": blue, "green": (1, 1)})
        )
        maps, _ = encoder.attribute(pixels, wanted)
        assert maps.shape == (2, 4, 4)
        for map_, place in zip(maps, (red, blue), strict=True):
            assert over_picture(map_, WHOLE)[1] == ((place[0] + 0.5) / 4, (place[1] + 0.5) / 4)


# The command


@pytest.fixture
def run(
    reranker: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """The command, with the encoder of colours in place of the built-in one; what it prints."""
    monkeypatch.setattr("xsearch.retrieval.encoders.load_encoder", lambda *_, **__: SeeingEncoder())

    def explain(image: Path | str, *text: str, **options: Any) -> Any:
        command.explain(str(image), list(text), reranker=reranker, **options)
        return capsys.readouterr()

    return explain


@pytest.fixture
def sun(tmp_path: Path) -> Path:
    path = tmp_path / "sun.png"
    fields(red=(3, 0)).save(path)
    return path


def test_a_table_tells_each_word_its_part_and_its_place(run: Any, sun: Path) -> None:
    score, red, blue = run(sun, "a", "red", "or", "blue").out.splitlines()
    assert score.endswith("  a red or blue")
    assert red.split()[0] == "red" and "++" in red and red.endswith("top right")
    assert blue.split()[0] == "blue" and "--" in blue


def test_json_is_one_object(run: Any, sun: Path) -> None:
    found = json.loads(run(sun, "a red sun", as_json=True).out)
    assert found["path"] == str(sun)
    word = found["words"][1]
    assert (word["text"], word["start"], word["end"], word["content"]) == ("red", 2, 5, True)
    assert word["peak"] == [0.875, 0.125]
    assert np.array(word["relevance"]).shape == (4, 4)


@pytest.mark.parametrize(("suffix", "format_"), [("png", "PNG"), ("JPG", "JPEG"), ("webp", "WEBP")])
def test_the_picture_has_the_format_of_its_suffix(
    run: Any, sun: Path, suffix: str, format_: str
) -> None:
    output = sun.with_name(f"out.{suffix}")
    run(sun, "red", output=output)
    with Image.open(output) as made:
        assert made.format == format_
        assert made.width > 600


def test_what_is_there_is_overwritten_only_by_force(run: Any, sun: Path) -> None:
    output = sun.with_name("out.png")
    output.write_text("mine")
    with pytest.raises(SourceError, match="there already: give another name, or --force"):
        run(sun, "red", output=output)
    assert output.read_text() == "mine"
    run(sun, "red", output=output, force=True)
    assert Image.open(output).width > 600


@pytest.mark.parametrize("named", ["sun.png", "link.png"])
def test_the_picture_itself_is_never_overwritten(run: Any, sun: Path, named: str) -> None:
    before = sun.read_bytes()
    link = sun.with_name("link.png")
    link.symlink_to(sun)
    for image in (sun, sun.as_uri()):
        with pytest.raises(UsageError, match="is the picture itself"):
            run(image, "red", output=sun.with_name(named), force=True)
    assert sun.read_bytes() == before


def test_what_cannot_be_done_is_said_before_anything_is_done(run: Any, sun: Path) -> None:
    with pytest.raises(UsageError, match=r"must end in \.png"):
        run(sun, "red", output=sun.with_name("out.gif"))
    with pytest.raises(SourceError, match="no such folder"):
        run(sun, "red", output=sun.parent / "absent" / "out.png")
    with pytest.raises(SourceError, match="no such picture"):
        run(sun.with_name("moon.png"), "red")
    with pytest.raises(UsageError, match="exclude each other"):
        run(sun, "red", as_json=True, preview=True)


def test_a_preview_is_for_terminals(run: Any, sun: Path) -> None:
    told = run(sun, "red", preview=True)
    assert "red" in told.out
    assert told.err == "note: no pictures are shown, since the output is no terminal\n"


def test_a_preview_draws_the_panels(run: Any, sun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("chafa")
    monkeypatch.setattr("xsearch.cli.show.showing.can_preview", lambda: True)
    assert "\x1b[" in run(sun, "red", preview=True).out


def test_searching_does_not_load_what_explains() -> None:
    code = (
        "import sys, xsearch.library, xsearch.retrieval.search\n"
        "assert not [name for name in sys.modules if 'retrieval.explain.' in name]"
    )
    assert "xsearch" in modules_after(code)

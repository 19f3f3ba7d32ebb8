"""Training a reranker: what it learns from and how, the folder that it makes, and going on."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from numpy.typing import NDArray
from painted import COMBINATIONS, captions, losses, painted, painting
from support import ColourEncoder
from tiny_models import clip_folder, siglip_folder

import xsearch
from xsearch import training
from xsearch.cli.main import run
from xsearch.core.errors import EncoderError, MissingExtraError, TrainingError, UsageError
from xsearch.core.reports import Progress
from xsearch.retrieval.encoders import load_encoder
from xsearch.retrieval.rerank import Blend, OnnxReranker
from xsearch.retrieval.rerank.manifest import read_reranker

try:
    import torch

    from xsearch.training import checkpoint
    from xsearch.training.losses import matching
    from xsearch.training.rerank import blend
    from xsearch.training.rerank.agreement import Background, Words
    from xsearch.training.rerank.check import Compared, recalls
    from xsearch.training.rerank.export import export
    from xsearch.training.rerank.features import same_as_before
    from xsearch.training.rerank.hard import groups, neighbours
    from xsearch.training.rerank.learner import cover
    from xsearch.training.rerank.network import STEP, Reranker, RerankerShape, coordinates
    from xsearch.training.rerank.plan import Plan
except (ImportError, MissingExtraError) as error:
    pytest.skip(f"needs the extra `train`: {error}", allow_module_level=True)

pytestmark = pytest.mark.train

SETTINGS: dict[str, Any] = {
    "data.leaks": "keep",  # validation pictures look like those learnt from
    "device": "cpu",
    "threads": 1,
    "network.width": 32,
    "network.nearby": 32,
    "network.deep": 32,
    "network.heads": 2,
    "network.hidden": 32,
    "network.cross_layers": 1,
    "network.dropout": 0.0,
    "material.views": 1,
    "material.wrong": False,
    "material.scenes": 0,
    "background.captions": 8,
    "batch.pictures": 16,
    "batch.group": 4,
    "align.epochs": 1,
    "compose.epochs": 0,
    "compose.steps": 2,
    "schedule.epochs": 1,
    "optimiser.rate": 3e-3,
    "optimiser.average": 0.9,
    "check.every": 99,
}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a small vision transformer of open_clip, with random weights."""
    return f"local-dir:{clip_folder(tmp_path_factory.mktemp('clip'))}"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painted(tmp_path_factory.mktemp("data") / "painted", train=112, val=24)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painted(tmp_path_factory.mktemp("data") / "few", train=48, val=6)


def settings(encoder: str, data: Path, **changes: Any) -> training.RerankConfig:
    """A short run; `changes` are by dotted names, with `__` for the dot."""
    from xsearch.training.settings import with_settings

    values = SETTINGS | {"encoder": encoder, "data.train": [str(data)]}
    values |= {name.replace("__", "."): value for name, value in changes.items()}
    return with_settings(training.RerankConfig(), values)


@pytest.fixture(scope="module")
def trained(
    encoder: str, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> training.RerankReport:
    """A reranker that learnt for seconds; its folder is not to be changed."""
    config = settings(encoder, data, align__epochs=12, schedule__epochs=12, align__rate=3e-3)
    return training.train_reranker(config, tmp_path_factory.mktemp("trained") / "mine")


# What is learnt


def test_right_captions_are_told_from_wrong_ones(
    trained: training.RerankReport, encoder: str
) -> None:
    loaded, reranker = load_encoder(encoder), OnnxReranker(trained.out)
    pairs = COMBINATIONS[::4]
    texts = [captions(*pair)[0] for pair in pairs]
    pixels = np.stack([loaded.preprocess(painting(*pair, 5_000)) for pair in pairs])
    memories = reranker.memories(loaded.regions(pixels))  # type: ignore[attr-defined]
    tokens, mask = loaded.tokens(texts)  # type: ignore[attr-defined]
    log_odds = np.stack(
        [
            reranker.match(tokens[at : at + 1], mask[at : at + 1], memories)
            for at in range(len(pairs))
        ]
    )
    own = np.diag(log_odds)[:, None]
    beaten = (own > log_odds)[~np.eye(len(pairs), dtype=bool)].mean()
    assert beaten > 0.8
    assert trained.figures["text_to_image@5"] > trained.figures["text_to_image_without@5"]


def test_what_was_trained_is_found_and_used_by_search(
    trained: training.RerankReport, encoder: str, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    for at, (above, below) in enumerate(COMBINATIONS[:12]):
        painting(above, below, 7_000 + at).save(tmp_path / "photos" / f"{above}-{below}.png")
    with xsearch.open(tmp_path / "lib", encoder=encoder, reranker=trained.out) as library:
        library.index(tmp_path / "photos")
        query = captions(*COMBINATIONS[8])[0]
        plain = library.search(query, k=12)
        reranked = library.search(query, k=12, rerank=12)
    assert {hit.id for hit in plain} == {hit.id for hit in reranked}
    assert [hit.id for hit in plain] != [hit.id for hit in reranked]
    # It is of use with no other encoder.
    with (
        xsearch.open(tmp_path / "other", encoder="builtin", reranker=trained.out) as library,
        pytest.raises(EncoderError, match="is for the encoder"),
    ):
        library.index(tmp_path / "photos", region_cache=True)


def test_the_report_the_card_and_the_log_say_what_was_done(
    trained: training.RerankReport,
) -> None:
    assert (trained.images, trained.captions, trained.validation) == (112, 224, 24)
    assert trained.epochs == 24
    assert trained.steps == len(losses(trained.out)) == 24 * 6
    assert trained.to_dict()["figures"]["image_to_text_without@10"] >= 0
    json.dumps(trained.to_dict())
    card = (trained.out / "MODEL_CARD.md").read_text()
    assert trained.fingerprint in card
    assert "| text to image, not reranked |" in card
    assert read_reranker(trained.out).fingerprint == trained.fingerprint


def test_scenes_wrong_captions_and_views_are_learnt_from(encoder: str, tmp_path: Path) -> None:
    data = painted(tmp_path / "data", train=48, val=6)
    table = (data / "captions.jsonl").read_text()
    sentences = re.sub(r"(\w+) (above|below) (\w+)", r"a \1 ball is \2 a \3 box", table)
    (data / "captions.jsonl").write_text(sentences)
    changes = {"material__scenes": 3, "material__wrong": True, "material__views": 2}
    config = settings(encoder, data, batch__scenes=5, compose__epochs=1, **changes)
    report = training.train_reranker(config, tmp_path / "mine")
    assert np.isfinite(report.loss)
    card = (tmp_path / "mine" / "MODEL_CARD.md").read_text()
    assert "wrong captions made of the English ones and 3 made-up scenes" in card


def test_a_siglip_trains_too(few: Path, tmp_path: Path) -> None:
    name = f"local-dir:{siglip_folder(tmp_path / 'siglip')}"
    report = training.train_reranker(settings(name, few), tmp_path / "mine")
    assert read_reranker(report.out).grid == (4, 4)


def test_an_encoder_without_regions_is_refused(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xsearch.training.rerank import trainer

    monkeypatch.setattr(trainer, "load_encoder", lambda *_, **__: ColourEncoder())
    with pytest.raises(EncoderError, match="shows no regions and tokens"):
        training.train_reranker(settings("colour", few), tmp_path / "mine")


# Going on


def interrupting(after: int) -> Callable[[Progress], None]:
    """Follows a run, and presses Ctrl-C in a step."""

    def follow(progress: Progress) -> None:
        if progress.stage == "train" and progress.done == after:
            os.kill(os.getpid(), signal.SIGINT)

    return follow


# In scenes alone, at their end, within an epoch of two steps, and at its end.
@pytest.mark.parametrize("after", [3, 5, 6, 7])
def test_an_interrupted_run_ends_where_one_that_was_not_does(
    encoder: str, few: Path, tmp_path: Path, after: int
) -> None:
    changes = {"material__scenes": 2, "compose__epochs": 1, "compose__steps": 3}
    config = settings(encoder, few, schedule__epochs=3, network__dropout=0.2, **changes)
    whole = training.train_reranker(config, tmp_path / "whole")
    with pytest.raises(training.Interrupted, match=rf"after step {after} of 11.*--resume"):
        training.train_reranker(config, tmp_path / "parts", progress=interrupting(after))
    parts = training.train_reranker(config, tmp_path / "parts", resume=True)
    assert parts.fingerprint == whole.fingerprint
    assert (parts.loss, parts.best_epoch) == (whole.loss, whole.best_epoch)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


@pytest.fixture(scope="module")
def done(encoder: str, few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that ended; not to be changed."""
    out = tmp_path_factory.mktemp("done") / "mine"
    training.train_reranker(settings(encoder, few), out)
    return out


def test_a_changed_setting_is_refused(encoder: str, few: Path, done: Path) -> None:
    for changes in ({"network__width": 64}, {"seed": 1}, {"material__views": 2}):
        with pytest.raises(UsageError, match="cannot change"):
            training.train_reranker(settings(encoder, few, **changes), done, resume=True)


def test_a_checkpoint_of_another_network_is_refused(
    encoder: str, few: Path, done: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mine"
    shutil.copytree(done, out)
    state = checkpoint.read(checkpoint.last_of(out))
    del state["learner"]["network"]["see.wide.weight"]
    checkpoint.write(checkpoint.last_of(out), state)
    with pytest.raises(TrainingError, match=r"of another network .*begin a new run"):
        training.train_reranker(settings(encoder, few), out, resume=True)


def test_changed_captions_are_refused_before_anything_is_looked_at(
    encoder: str, few: Path, tmp_path: Path
) -> None:
    data = painted(tmp_path / "data", train=24, val=4)
    config, out = settings(encoder, data), tmp_path / "mine"
    training.train_reranker(config, out)
    looked = (out / "features" / "train" / "tokens.npz").read_bytes()
    path = data / "captions.jsonl"
    path.write_text(path.read_text().replace("red above green", "a red one"))
    with pytest.raises(TrainingError, match="have changed since this run began"):
        training.train_reranker(config, out, resume=True)
    assert (out / "features" / "train" / "tokens.npz").read_bytes() == looked


def test_pictures_that_cannot_be_read_are_left_out_and_named(encoder: str, tmp_path: Path) -> None:
    data = painted(tmp_path / "data", train=24, val=6)
    for name in ("003.png", "025.png"):
        path = data / "images" / name
        path.write_bytes(path.read_bytes()[:60])
    report = training.train_reranker(settings(encoder, data), tmp_path / "mine")
    assert (report.images, report.captions, report.validation) == (23, 46, 5)
    assert [line.split(":")[0] for line in report.broken] == ["003.png", "025.png"]


def test_a_run_or_a_reranker_is_not_overwritten(encoder: str, few: Path, done: Path) -> None:
    with pytest.raises(UsageError, match="there is a training run already"):
        training.train_reranker(settings(encoder, few), done)


def test_a_finished_reranker_alone_is_not_overwritten(
    encoder: str, few: Path, done: Path, tmp_path: Path
) -> None:
    (tmp_path / "reranker.json").write_bytes((done / "reranker.json").read_bytes())
    with pytest.raises(UsageError, match="there is a reranker already"):
        training.train_reranker(settings(encoder, few), tmp_path)


def test_features_of_other_data_are_not_used(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    same_as_before(tmp_path, {"digest": "a"})
    kept = tmp_path / "train" / "tokens.npz"
    kept.write_bytes(b"")
    same_as_before(tmp_path, {"digest": "a"})
    assert kept.exists()
    same_as_before(tmp_path, {"digest": "b"})
    assert not kept.exists()


# Losses, by hand


def test_a_contrast_of_groups_is_the_cross_entropy_of_rows_and_columns() -> None:
    log_odds = torch.tensor([[[2.0, 0.0], [1.0, 1.0]]])
    rows = (np.log1p(np.exp(-2)) + np.log(2)) / 2
    columns = (np.log1p(np.exp(-1)) + np.log1p(np.exp(-1))) / 2
    assert float(matching.group_contrast(log_odds)) == pytest.approx((rows + columns) / 2)


def test_a_wrong_caption_counts_against_the_pictures_own_alone() -> None:
    log_odds = torch.tensor([[[2.0, 9.0], [9.0, 1.0]]])
    wrong = torch.tensor([[1.0], [float("-inf")]])
    expected = np.log1p(np.exp(-1)) / 2  # the second picture has none
    assert float(matching.own_first(log_odds, wrong)) == pytest.approx(expected)


def test_the_first_of_those_that_are_there() -> None:
    there = torch.tensor([[True, True, False]])
    found = matching.first_of(torch.tensor([[0.0, 1.0, 50.0]]), there)
    assert float(found) == pytest.approx(np.log1p(np.e))


def test_matching_weighs_true_pairs_as_much_as_the_others_together() -> None:
    log_odds = torch.zeros(1, 4, 4)
    # 4 true pairs weighing 3, 12 others weighing 1, of 16.
    assert float(matching.match(log_odds)) == pytest.approx(np.log(2) * (4 * 3 + 12) / 16)
    better = log_odds + 5 * torch.eye(4) - 2
    assert float(matching.match(better)) < float(matching.match(log_odds))


def test_grounding_is_the_share_of_attention_that_is_inside() -> None:
    attention = torch.tensor([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]])
    inside = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    assert float(matching.grounding(attention[:1], inside[:1])) == pytest.approx(-np.log(0.75))
    assert float(matching.grounding(attention, inside)) > 5  # the second looks elsewhere


# Groups and regions


@examples(deadline=None)
@given(st.integers(8, 40), st.integers(4, 8), st.integers(2, 4), st.integers(0, 99))
def test_groups_hold_one_picture_of_a_claim_and_each_picture_once(
    count: int, kinds: int, size: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(count, 5)).astype(np.float32)
    claims = random.integers(kinds, size=count)
    near = neighbours(vectors, vectors, np.arange(count))
    assert not (near == np.arange(count)[:, None]).any()
    made = groups(near, claims, size, random)
    assert len(np.unique(made)) == made.size
    assert all(len(set(claims[group])) == size for group in made)


def test_every_step_is_full_where_many_pictures_share_few_claims() -> None:
    claims = np.array([0] * 30 + [1, 2])
    vectors = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
    near = neighbours(vectors, vectors, np.arange(32))
    config = settings("e", Path("d"), batch__pictures=8, batch__group=2, schedule__epochs=2)
    plan = Plan(config, near, claims, scenes=False)
    assert [epoch.stage for epoch in plan.epochs] == ["align", "match", "match"]
    for epoch in plan.epochs:
        made = [step for step in plan.groups(epoch) if step is not None]
        shape = (2, 3) if epoch.stage == "align" else (4, 2)
        assert [step.shape for step in made] == [shape] * plan.steps
        again = [step for step in plan.groups(epoch) if step is not None]
        assert all((a == b).all() for a, b in zip(made, again, strict=True))


def test_stages_follow_one_another_each_with_a_rate_of_its_own() -> None:
    near = np.tile(np.arange(1, 9), (40, 1))
    config = settings(
        *("e", Path("d")),
        align__epochs=2,
        compose__epochs=2,
        compose__steps=5,
        schedule__epochs=1,
        align__rate=1.0,
        compose__rate=2.0,
        optimiser__rate=3.0,
    )
    plan = Plan(config, near, np.arange(40), scenes=True)
    assert plan.steps == 1
    ends = [(epoch.stage, epoch.first, epoch.end) for epoch in plan.epochs]
    assert ends == [
        *(("align", 0, 1), ("align", 1, 2)),
        *(("compose", 2, 7), ("compose", 7, 12)),
        ("match", 12, 13),
    ]
    assert plan.groups(plan.epochs[2]) == [None] * 5
    assert [plan.at(step).number for step in (0, 1, 2, 6, 7, 12)] == [0, 1, 2, 2, 3, 4]
    rates = [plan.rate(step) for step in range(plan.total)]
    assert (rates[0], rates[2], rates[12]) == (1, 2, 3)  # warm at once: a tenth is one step
    assert rates[2:12] == sorted(rates[2:12], reverse=True)


def test_neighbours_are_the_nearest_first() -> None:
    angles = np.array([0.0, 0.1, 0.3, 1.5])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert neighbours(vectors, vectors, np.arange(4))[0].tolist() == [1, 2, 3]


def test_a_box_covers_shares_of_regions() -> None:
    found = cover((0.25, 0.0, 1.0, 0.5), (2, 2))
    assert found == pytest.approx([0.5, 1.0, 0.0, 0.0])
    assert cover((0, 0, 1, 1), (3, 5)) == pytest.approx(np.ones(15))


# The blend


def compared(seed: int, told: float) -> Compared:
    """Queries of 20 candidates, whose log-odds say so much of what is right."""
    random = np.random.default_rng(seed)
    right = np.zeros((400, 20), np.bool_)
    right[np.arange(400), random.integers(20, size=400)] = True
    cosines = np.sort(random.normal(0.3, 0.1, right.shape) + 0.1 * right, axis=1)[:, ::-1]
    cosines = random.permuted(cosines, axis=1) + 0.1 * right
    log_odds = random.normal(size=right.shape) + told * right
    ids = np.tile(np.arange(20), (400, 1))
    return Compared(ids, cosines.astype(np.float32), log_odds.astype(np.float32), right)


def _fitted(dual: NDArray[np.float64], found: Compared) -> Blend:
    return blend.best_blend(dual, found.log_odds.astype(np.float64), found.right)


def _recalls(made: Blend, dual: NDArray[np.float64], found: Compared) -> dict[int, float]:
    return recalls(made.log_odds(dual, found.log_odds.astype(np.float64)), found.right)


def test_a_reranker_that_knows_counts_for_much_and_one_that_does_not_for_nothing() -> None:
    knows = compared(0, 8.0)
    dual = 10.0 * knows.cosines.astype(np.float64) - 5
    made = _fitted(dual, knows)
    assert made.match / made.score > 0.3
    assert _recalls(made, dual, knows)[1] > 95 > knows.recalls(0.0)[1] + 20
    silent = replace(knows, log_odds=np.zeros_like(knows.log_odds))
    assert _fitted(dual, silent).match == 0


def test_a_blend_is_never_worse_than_no_reranking() -> None:
    noise = compared(0, 0.0)
    dual = 10.0 * noise.cosines.astype(np.float64) - 5
    with_it, without = _recalls(_fitted(dual, noise), dual, noise), noise.recalls(0.0)
    assert sum(with_it.values()) >= sum(without.values()) - 0.5


def test_a_blend_keeps_the_mean_probability() -> None:
    found = compared(1, 3.0)
    dual = 10.0 * found.cosines.astype(np.float64) - 5
    made = _fitted(dual, found)
    blended = 1 / (1 + np.exp(-made.log_odds(dual, found.log_odds)))
    before = float((1 / (1 + np.exp(-dual))).mean())
    # Right candidates are weighted to the share that the encoder gives them.
    after = before * blended[found.right].mean() + (1 - before) * blended[~found.right].mean()
    assert after == pytest.approx(before, abs=1e-3)


def test_a_blend_limits_what_the_reranker_says() -> None:
    made = Blend(0.5, 2.0, 0.25, low=1.0, high=4.0)
    match = np.array([-50.0, 1.0, 3.5, 4.5, 50.0])
    assert made.limited(match) == pytest.approx(
        [1.0, 1 + np.log(2), 1 + np.log1p(np.exp(2.5)), 4, 4]
    )
    assert made.log_odds(3.0, match)[0] == pytest.approx(0.5 * 3 + 2 * 1 + 0.25)
    assert Blend(1.0, 2.0, 0.0).limited(match) == pytest.approx(match)


def test_of_blends_that_are_as_good_the_most_cautious_is_taken() -> None:
    # What the reranker says of the right one decides; of the others it need say nothing.
    knows = compared(0, 8.0)
    dual = 10.0 * knows.cosines.astype(np.float64) - 5
    made = _fitted(dual, knows)
    assert (made.low, made.high) == (2.0, 4.0)
    # Where the order among low ones tells, they count.
    low = replace(knows, log_odds=knows.log_odds - 20)
    assert _fitted(dual, low).low is None


# The folder


@pytest.fixture(scope="module")
def network() -> Iterator[Reranker]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Reranker(RerankerShape((3, 3), 12, 16, width=32, heads=2, hidden=32), 0.3).eval()
        torch.nn.init.normal_(made.head.weight)
    yield made


@pytest.fixture(scope="module")
def written(network: Reranker, tmp_path_factory: pytest.TempPathFactory) -> OnnxReranker:
    return write(network, tmp_path_factory.mktemp("written"))


def write(network: Reranker, out: Path) -> OnnxReranker:
    blends = {pair: Blend(1.0, 0.5, 0.0) for pair in ("text-image", "image-text")}
    export(network, out, name="small", encoder="e", blend=blends, precision="fp32")
    return OnnxReranker(out)


def inputs(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    regions = random.normal(size=(count, 9, 12)).astype(np.float32)
    mask = np.arange(6) < random.integers(1, 7, size=(count, 1))
    return regions, random.normal(size=(count, 6, 16)).astype(np.float32), mask


@pytest.mark.parametrize(("texts", "pictures"), [(1, 5), (5, 1), (5, 5)])
@pytest.mark.parametrize("with_background", [False, True])
def test_the_written_graphs_say_what_the_network_says(
    network: Reranker, tmp_path: Path, texts: int, pictures: int, with_background: bool
) -> None:
    if with_background:
        network = deepcopy(network)
        network.background = background(network)
        network.guidance = (0.0, 2.0)
    written = write(network, tmp_path)
    regions, tokens, mask = inputs(5)
    memories = written.memories(regions)
    assert memories.dtype == np.int8
    assert memories.shape == (5, 10 if with_background else 9, 32)
    with torch.inference_mode():
        exact = network.remember(torch.from_numpy(regions)) * STEP
        assert np.abs(exact.numpy().clip(-127, 127) - memories[:, :9]).max() <= 0.5 + 1e-3
        understood = network.understand(
            torch.from_numpy(tokens[:texts, None]), torch.from_numpy(mask[:texts, None])
        )
        seen = torch.from_numpy(memories[:pictures, :9]).float() / STEP
        expected = network.match(understood, seen).log_odds[:, 0].numpy()
        offsets = network.offset(seen).numpy()
    assert (np.abs(offsets) > 0.01).all() == with_background
    found = written.match(tokens[:texts], mask[:texts], memories[:pictures])
    assert found == pytest.approx(expected - offsets, abs=6e-3)
    assert expected.std() > 0.01


def background(network: Reranker) -> Background:
    _, tokens, mask = inputs(7, seed=5)
    with torch.inference_mode():
        understood = network.understand(
            torch.from_numpy(tokens)[None], torch.from_numpy(mask)[None], deep=False
        )
    return Background(understood.words.heaviest(4), 0.75)


def test_a_background_is_what_its_texts_say_of_a_picture(network: Reranker) -> None:
    regions, tokens, mask = inputs(7, seed=5)
    with torch.inference_mode():
        memories = network.remember(torch.from_numpy(regions))
        texts = network.understand(
            torch.from_numpy(tokens)[None], torch.from_numpy(mask)[None], deep=False
        )
        offset = Background(texts.words, 0.5)(network.agreement, memories).numpy()
        said = (network.match(texts, memories).log_odds - network.bias).numpy()
    assert offset == pytest.approx(np.log(np.exp(said / 2).mean(1)), abs=0.05)  # int8


def test_the_heaviest_tokens_of_a_text_are_kept() -> None:
    weights = torch.tensor([[[0.5, 0.1, 0.4], [0.7, 0.3, 0.0]]])
    mask = torch.tensor([[[True, True, True], [True, True, False]]])
    directions = torch.arange(6.0).reshape(1, 2, 3, 1)
    kept = Words(directions, weights, mask).heaviest(2)
    assert kept.directions[..., 0].tolist() == [[[0, 2], [3, 4]]]
    assert kept.weights.numpy() == pytest.approx(np.array([[[5 / 9, 4 / 9], [0.7, 0.3]]]))
    assert kept.mask.all()


def test_regions_know_where_they_are() -> None:
    places = coordinates((4, 3), 10)
    assert places.shape == (12, 10)
    shown = places.reshape(4, 3, 10)
    assert torch.equal(shown[:, 0, :5], shown[:, 2, :5])  # of one row
    assert torch.equal(shown[0, :, 5:], shown[3, :, 5:])  # of one column
    assert len({tuple(row) for row in places.round(decimals=4).tolist()}) == 12


def test_padding_changes_nothing(written: OnnxReranker) -> None:
    regions, tokens, mask = inputs(4, seed=1)
    memories = written.memories(regions)
    wide = np.full((4, 11, 16), 7.0, np.float32)
    wide[:, :6] = tokens
    padded = written.match(wide, np.pad(mask, ((0, 0), (0, 5))), memories)
    assert padded == pytest.approx(written.match(tokens, mask, memories), abs=1e-4)


def test_contributions_and_attention_add_up(network: Reranker, written: OnnxReranker) -> None:
    regions, tokens, mask = inputs(1, seed=2)
    found = written.explain(tokens, mask, written.memories(regions))
    bias = float(network.bias.detach())
    assert found.contributions.sum() + bias == pytest.approx(found.log_odds, abs=1e-3)
    assert found.attention.shape == (6, 3, 3)
    assert found.attention.sum((1, 2)) == pytest.approx(np.ones(6), abs=1e-4)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("", "is not valid JSON"),
        ("[]", "of format 1"),
        ('{"format": 2}', "update xsearch"),
        ('{"format": 1}', "is missing or not what it should be"),
    ],
)
def test_a_damaged_description_is_said_in_a_line(tmp_path: Path, damage: str, said: str) -> None:
    (tmp_path / "reranker.json").write_text(damage)
    with pytest.raises(EncoderError, match=said) as error:
        read_reranker(tmp_path)
    assert str(tmp_path / "reranker.json") in str(error.value)


@pytest.mark.parametrize(
    "damage", [{"extra": -1}, {"extra": "1"}, {"grid": [3]}, {"match": "../match.onnx"}]
)
def test_a_part_of_the_description_that_cannot_be_is_refused(
    done: Path, tmp_path: Path, damage: dict[str, Any]
) -> None:
    content = json.loads((done / "reranker.json").read_text())
    (tmp_path / "reranker.json").write_text(json.dumps(content | damage))
    with pytest.raises(EncoderError, match="train the reranker again"):
        read_reranker(tmp_path)


@pytest.mark.parametrize("key", ["match", "low", "high"])
def test_a_blend_that_is_no_number_is_refused(done: Path, tmp_path: Path, key: str) -> None:
    content = json.loads((done / "reranker.json").read_text())
    content["blend"]["text-image"][key] = "nan"
    (tmp_path / "reranker.json").write_text(json.dumps(content))
    with pytest.raises(EncoderError, match="train the reranker again"):
        read_reranker(tmp_path)


# Settings and the command line


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch__pictures": 30}, "must be a multiple of group"),
        ({"batch__group": 1}, "which is 2 or more"),
        ({"material__views": 0}, "views and longest must be 1 or more"),
        ({"network__dropout": 1.0}, "dropout = 1.0"),
        ({"optimiser__rate": -1.0}, "must be more than 0"),
        ({"schedule__epochs": 0}, "schedule.epochs is 0"),
        ({"check__every": 0}, "must be 1 or more"),
        ({"background__tokens": 0}, "captions must be 0 or more, tokens 1 or more"),
        ({"network__cross_layers": 0}, "cross_layers must be 1 or more"),
        ({"network__deep": 33}, "cannot be shared by 2 heads"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        settings("builtin", Path("data"), **changes)


def test_settings_survive_their_file(tmp_path: Path) -> None:
    from xsearch.training.rerank.config import read_rerank_config

    config = replace(settings("builtin", Path("dätä")), seed=7)
    (tmp_path / "c.toml").write_text(config.to_toml(), encoding="utf-8")
    assert read_rerank_config(tmp_path / "c.toml") == config


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Call:
    """Runs the command in an empty folder: exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def found(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["xsearch", "train", "--task", *map(str, words)])
        code = 0
        try:
            run()
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return found


def words(encoder: str, data: Path) -> list[str]:
    """Options for the small network."""
    given = ["--encoder", encoder, "--data", str(data), "--device", "cpu", "--lr", "3e-3"]
    given += ["--epochs", "1", "--batch-size", "16"]
    for name, value in SETTINGS.items():
        if name.startswith(("network", "material", "align", "data.leaks")) or name == "batch.group":
            given += ["--set", f"{name}={str(value).lower()}"]
    return given


def test_the_command_trains_a_reranker_and_says_how_to_use_it(
    call: Call, encoder: str, few: Path, tmp_path: Path
) -> None:
    code, out, err = call("rerank", "--out", "mine", *words(encoder, few))
    assert code == 0, err
    assert "epoch 2 of 2: loss " in err
    lines = out.splitlines()
    assert lines[0].startswith("learnt from: 48 pictures, 96 captions; 2 epochs, loss ")
    assert lines[1].startswith("text to image, recall at 1 / 5 / 10: ")
    assert ", not reranked " in lines[1]
    assert lines[-2] == "reranker: mine"
    assert lines[-1].startswith(f"use it: xsearch query --encoder {encoder} --reranker mine")
    code, out, err = call("rerank", "--out", "mine", "--resume", "--epochs", "2", "--json")
    assert code == 0, err
    assert json.loads(out)["epochs"] == 3
    code, _, err = call("rerank", "--out", "mine", *words(encoder, few))
    assert code == 2
    assert "there is a training run already" in err
    code, _, err = call("encoder", "--out", "mine", "--resume")
    assert code == 2
    assert "a reranker was trained here: add --task rerank" in err


def test_going_on_with_an_encoder_is_refused(call: Call, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    stored = tmp_path / "mine" / "config.toml"
    stored.write_text(training.TrainConfig().to_toml(), encoding="utf-8")
    code, _, err = call("rerank", "--out", "mine", "--resume")
    assert code == 2
    assert "an encoder was trained here: leave out --task rerank" in err
    stored.write_text("[network]\nwith = 3\n", encoding="utf-8")
    code, _, err = call("rerank", "--out", "mine", "--resume")
    assert code == 2
    assert "line 2: there is no setting network.with; did you mean network.width?" in err


def test_ctrl_c_says_how_to_go_on(
    call: Call, encoder: str, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xsearch.cli import train

    monkeypatch.setattr(train, "_follow", lambda _: interrupting(3))
    code, out, err = call("rerank", "--out", "my run", *words(encoder, few))
    assert (code, out) == (130, "")
    last = err.splitlines()[-1]
    assert "interrupted after step 3 of 4. The checkpoint of step 3 is good. Go on with: " in last
    assert last.endswith(f"xsearch train --task rerank --out '{tmp_path / 'my run'}' --resume")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["both", "--out", "o"], "--task both: give encoder or rerank"),
        (["rerank", "--out", "o", "--loss", "infonce"], "--loss is for training an encoder"),
        (["rerank", "--out", "o", "--image-tower", "x"], "--image-tower is for training"),
        (["rerank", "--out", "o", "--text-tower", "x"], "--text-tower is for training"),
        (["rerank", "--out", "o", "--precision", "fp32"], "--precision is for training"),
        (["rerank", "--out", "o", "--set", "ema.decay=1"], "there is no setting ema"),
        (["rerank", "--out", "o", "--set", "seed"], "write it as NAME=VALUE"),
        (["rerank", "--out", "o", "--batch-size", "9"], "must be a multiple of group"),
        (["rerank", "--out", "o", "--resume"], "no training run here"),
    ],
)
def test_wrong_usage_is_said_in_a_line(
    call: Call, tmp_path: Path, given: list[str], said: str
) -> None:
    code, out, err = call(*given)
    assert (code, out) == (2, "")
    assert said in err.splitlines()[0]
    assert not (tmp_path / "o").exists()

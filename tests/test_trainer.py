"""Training on a small made-up data set: it learns, and whatever interrupts it costs nothing."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from children import Nursery, Say, await_file, nursery
from hypothesis import given
from hypothesis import strategies as st
from painted import PAINTS, captions, losses, painted, painting, settings, tiny_bert
from tiny_models import photograph

import xsearch
from xsearch.core.errors import (
    MissingExtraError,
    SourceError,
    StorageError,
    TrainingError,
    UsageError,
)

try:
    import torch

    from xsearch.data.readers import read_dataset
    from xsearch.retrieval.encoders import load_encoder
    from xsearch.training import TrainReport, train
    from xsearch.training.batches import Loader, Plan, Shape
    from xsearch.training.checkpoint import last_of, read, write
    from xsearch.training.config import TrainConfig, read_config
    from xsearch.training.distributed import Processes
    from xsearch.training.settings import with_settings
    from xsearch.training.towers import build_encoder, load_trainable
except (ImportError, MissingExtraError) as error:
    pytest.skip(f"needs the extra `train`: {error}", allow_module_level=True)

try:
    import resource
except ImportError:
    resource = None

pytestmark = pytest.mark.train

STEPS = 4  # an epoch of the 112 pictures in batches of 28


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def children() -> Any:
    with nursery() as opened:
        yield opened


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painted(tmp_path_factory.mktemp("data") / "painted")


@pytest.fixture(scope="module")
def whole(data: Path, bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs that nothing interrupted, with an average and augmentation."""
    out = tmp_path_factory.mktemp("whole") / "out"
    train(long_run(data, bert), out)
    return out


def long_run(data: Path | str, bert: Path | str) -> Any:
    return settings(
        Path(data),
        Path(bert),
        schedule__epochs=3,
        augmentation__enabled=True,
        ema__decay=0.9,
        checkpoints__steps=3,
    )


def rows(out: Path, kind: str) -> list[dict[str, Any]]:
    lines = (out / "log.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


# Learning


def test_training_learns_and_its_folder_searches(data: Path, bert: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = train(settings(data, bert, schedule__epochs=10), out)
    found = losses(out)
    assert np.mean(found[-STEPS:]) < np.mean(found[:STEPS]) / 2
    # Among 24 pictures chance finds 4 % first, and 42 % under the first 10.
    assert report.figures["text_to_image@1"] > 40
    assert report.figures["image_to_text@10"] > 80
    assert (report.images, report.captions, report.validation) == (112, 224, 24)
    for number, (above, below) in enumerate([("red", "blue"), ("white", "green")]):
        (tmp_path / "photos").mkdir(exist_ok=True)
        painting(above, below, 900 + number).save(tmp_path / "photos" / f"{above}.png")
    with xsearch.open(tmp_path / "library", encoder=out) as library:
        library.index(tmp_path / "photos")
        assert library.search("red above blue", k=1)[0].path.name == "red.png"
        assert library.search("white above green", k=1)[0].path.name == "white.png"
        assert library.status().fingerprint == report.fingerprint
    assert read_config(out / "config.toml") == settings(data, bert, schedule__epochs=10)
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "112 pictures" in (out / "MODEL_CARD.md").read_text()
    best = max(row["mean"] for row in rows(out, "validation"))
    assert best == report.figures["mean"]


def test_a_trained_folder_is_trained_further(whole: Path, data: Path, tmp_path: Path) -> None:
    config = with_settings(
        settings(data, Path("unused"), schedule__epochs=1, optimiser__rate=1e-6),
        {"encoder.name": str(whole)},
    )
    config = with_settings(config, {"encoder.image_size": None, "encoder.pretrained": True})
    from dataclasses import replace

    config = replace(config, encoder=replace(config.encoder, image=None, text=None))
    report = train(config, tmp_path / "out")
    before = max(row["mean"] for row in rows(whole, "validation"))
    assert report.figures["mean"] == pytest.approx(before, abs=10)


@pytest.mark.parametrize("loss", ["sigmoid", "triplet"])
def test_other_losses_fall_too(loss: str, data: Path, bert: Path, tmp_path: Path) -> None:
    train(settings(data, bert, loss__name=loss, schedule__epochs=4), tmp_path / "out")
    found = losses(tmp_path / "out")
    assert np.mean(found[-STEPS:]) < np.mean(found[:STEPS])


def test_added_terms_are_learnt_from(whole: Path, data: Path, bert: Path, tmp_path: Path) -> None:
    plain = settings(data, bert, schedule__epochs=1)
    terms = {
        "loss.anchor": 1.0,
        "loss.concepts": 0.5,
        "loss.distillation.weight": 1.0,
        "loss.distillation.teacher": str(whole),
    }
    train(plain, tmp_path / "plain")
    train(with_settings(plain, terms), tmp_path / "terms")
    # At the first step the model still is where its anchor is; the other terms are above 0.
    assert losses(tmp_path / "terms")[0] > losses(tmp_path / "plain")[0]
    assert all(map(math.isfinite, losses(tmp_path / "terms")))


def test_a_locked_tower_stays_as_it_was(data: Path, bert: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    config = settings(data, bert, freezing__lock="image", schedule__epochs=1)
    train(config, tmp_path / "out")
    torch.manual_seed(config.seed)
    start = build_encoder(config.encoder.spec).state_dict()
    end = load_file(tmp_path / "out" / "model.safetensors")
    moved = {name for name, value in end.items() if not torch.equal(value, start[name])}
    kept = {name for name in end if name not in moved}
    assert any("blocks" in name for name in kept)
    assert not any("blocks" in name for name in moved)
    assert any("encoder.layer" in name for name in moved)


def test_gradcache_gives_the_steps_of_the_whole_batch(
    data: Path, bert: Path, tmp_path: Path
) -> None:
    config = settings(data, bert, schedule__epochs=1)
    train(config, tmp_path / "whole")
    train(with_settings(config, {"batch.chunk": 10}), tmp_path / "chunks")
    np.testing.assert_allclose(losses(tmp_path / "chunks"), losses(tmp_path / "whole"), rtol=1e-3)


def test_accumulation_takes_a_step_for_several_batches(
    data: Path, bert: Path, tmp_path: Path
) -> None:
    config = settings(data, bert, batch__accumulate=2, schedule__epochs=1)
    report = train(config, tmp_path / "out")
    assert report.steps == STEPS // 2
    # The mean of losses over 28 pairs each, not the loss over 56 pairs.
    assert losses(tmp_path / "out")[0] < math.log(28) * 1.6


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_learns_too(precision: str, data: Path, bert: Path, tmp_path: Path) -> None:
    config = settings(data, bert, run__precision=precision, batch__chunk=14, schedule__epochs=5)
    train(config, tmp_path / "out")
    found = losses(tmp_path / "out")
    # fp16 leaves the first steps out, until its scale fits.
    assert np.mean(found[-STEPS:]) < np.mean(found[:STEPS]) - 0.5


def test_layers_join_from_the_output_with_every_epoch(
    data: Path, bert: Path, tmp_path: Path
) -> None:
    config = settings(data, bert, freezing__unfreeze=1.0)
    torch.manual_seed(config.seed)
    start = build_encoder(config.encoder.spec)
    moved = {}
    for epochs in (1, 2):
        out = tmp_path / str(epochs)
        train(with_settings(config, {"schedule.epochs": epochs}), out)
        layers, end = start.layers(), load_trainable(out).layers()
        moved[epochs] = {
            f"{part}.{at - len(stack)}"
            for part, stack in layers.items()
            for at, layer in enumerate(stack)
            if any(not torch.equal(*both) for both in zip(layer, end[part][at], strict=True))
        }
    heads = {"head.-1", "head.-2"}
    assert moved[1] == heads
    assert moved[2] == heads | {"image.-1", "text.-1"}


def test_running_statistics_stay_unless_the_settings_say_otherwise(
    data: Path, bert: Path, tmp_path: Path
) -> None:
    config = settings(data, bert, encoder__image="timm:test_efficientnet")
    torch.manual_seed(config.seed)
    start = build_encoder(config.encoder.spec).state_dict()
    for keep in (True, False):
        out = tmp_path / str(keep)
        train(with_settings(config, {"freezing.statistics": keep}), out)
        end = load_trainable(out).state_dict()
        names = [name for name in start if name.endswith("running_mean")]
        assert names
        assert all(torch.equal(end[name], start[name]) for name in names) == keep


# Batches


def views(folder: Path, seed: int, epoch: int, augmentation: Any) -> list[Any]:
    """The batches of an epoch's first two steps."""
    records = read_dataset(folder).records
    shape = Shape(lambda image: np.asarray(image.resize((16, 16))), 16, 16, "squash")
    plan = Plan(len(records), 8, 1, seed)
    with Loader(records, plan, shape, augmentation, processes=Processes()) as loader:
        steps = loader.steps(epoch)
        return [next(steps)[0] for _ in range(2)]


def test_batches_follow_from_seed_and_epoch_alone(tmp_path: Path) -> None:
    folder = painted(tmp_path / "painted", train=24, val=0)
    augmentation = TrainConfig().augmentation
    first = views(folder, 1, 5, augmentation)
    for one, other in zip(first, views(folder, 1, 5, augmentation), strict=True):
        assert np.array_equal(one.pixels, other.pixels)
        assert one.texts == other.texts
    for seed, epoch in ((2, 5), (1, 6)):
        other = views(folder, seed, epoch, augmentation)[0]
        assert not np.array_equal(first[0].records, other.records)


def test_pictures_whose_captions_say_left_or_right_are_never_mirrored(tmp_path: Path) -> None:
    lines = []
    for number in range(16):
        photograph(16, 16, number).save(tmp_path / f"{number}.png")
        text = "a dog on the left" if number % 2 else "a dog on the grass"
        lines.append(json.dumps({"file": f"{number}.png", "captions": {"en": [text]}}))
    (tmp_path / "captions.jsonl").write_text("\n".join(lines))
    plain = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "grey": 0, "blur": 0}
    values = {**plain, "scale": [1.0, 1.0], "ratio": [1.0, 1.0], "flip": 1.0}
    named = {f"augmentation.image.{name}": value for name, value in values.items()}
    for name in ("synonyms", "dropout"):
        named[f"augmentation.text.{name}"] = 0.0
    augmentation = with_settings(TrainConfig(), named).augmentation
    for batch in views(tmp_path, 0, 0, augmentation):
        for pixels, number in zip(batch.pixels, batch.records, strict=True):
            whole = np.asarray(photograph(16, 16, int(number)))
            assert np.array_equal(pixels, whole if number % 2 else whole[:, ::-1])


@given(
    st.integers(2, 200), st.integers(2, 40), st.integers(1, 3), st.integers(0, 9), st.integers(0, 9)
)
def test_an_epoch_shows_each_record_at_most_once(
    count: int, size: int, accumulate: int, seed: int, epoch: int
) -> None:
    plan = Plan(count, size, accumulate, seed)
    order = plan.order(epoch)
    batches = [batch for step in range(plan.steps) for batch in plan.batches(order, step)]
    seen = np.concatenate(batches)
    assert len(set(seen.tolist())) == len(seen)
    assert all(1 < len(batch) <= size for batch in batches)
    assert count - len(seen) < max(size * accumulate, 2) or count < size * accumulate
    assert np.array_equal(order, plan.order(epoch))


@given(st.integers(0, 100), st.integers(1, 9))
def test_processes_share_a_batch_without_rest(rows: int, count: int) -> None:
    shares = [Processes(rank, count).share(rows) for rank in range(count)]
    covered = [row for share in shares for row in range(rows)[share]]
    assert covered == list(range(rows))


# Going on


def job_train(say: Say, data: str, bert: str, out: str, at: int, go: str | None = None) -> None:
    """Train, and wait before a step for ever, or until a file appears."""
    torch.set_num_threads(1)

    def tell(progress: Any) -> None:
        if progress.stage == "train" and progress.done == at * 28:
            say("step", at)
            if go is None:
                signal.pause()
            await_file(Path(go))

    train(long_run(data, bert), out, progress=tell)


@pytest.mark.parametrize("at", [2, 5, 8])
def test_a_killed_run_goes_on_as_if_nothing_had_been(
    at: int, children: Nursery, whole: Path, data: Path, bert: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    child = children.start("test_trainer.job_train", data=data, bert=bert, out=out, at=at)
    child.until("step")
    child.kill()
    # Checkpoints are after steps 3, 6 and 9, and after each epoch of 4.
    expected = {2: None, 5: 4, 8: 6}[at]
    assert (read(last_of(out))["step"] if expected else None) == expected
    assert not (out / "encoder.json").exists()
    report = train(long_run(data, bert), out, resume=True)
    np.testing.assert_allclose(losses(out), losses(whole), rtol=1e-6)
    for got, wanted in zip(rows(out, "validation"), rows(whole, "validation"), strict=True):
        assert got["mean"] == pytest.approx(wanted["mean"])
    assert report.steps == 3 * STEPS


def test_ctrl_c_saves_what_was_learnt_and_says_how_to_go_on(
    children: Nursery, whole: Path, data: Path, bert: Path, tmp_path: Path
) -> None:
    out, go = tmp_path / "out", tmp_path / "go"
    child = children.start("test_trainer.job_train", data=data, bert=bert, out=out, at=5, go=go)
    child.until("step")
    os.kill(child.pid, signal.SIGINT)
    go.touch()
    kind, message = child.error()
    assert kind == "Interrupted"
    assert f"after step 5 of 12. Go on with: xsearch train --out {out} --resume" in message
    assert read(last_of(out))["step"] == 5
    train(long_run(data, bert), out, resume=True)
    np.testing.assert_allclose(losses(out), losses(whole), rtol=1e-6)


def test_a_finished_run_that_goes_on_is_finished(whole: Path, data: Path, bert: Path) -> None:
    before = (whole / "encoder.json").read_bytes()
    report = train(long_run(data, bert), whole, resume=True)
    assert report.steps == 3 * STEPS
    assert json.loads((whole / "encoder.json").read_bytes())["fingerprint"] == report.fingerprint
    assert json.loads(before)["fingerprint"] == report.fingerprint


def test_a_run_is_never_begun_where_one_is(whole: Path, data: Path, bert: Path) -> None:
    before = (whole / "log.jsonl").read_bytes()
    with pytest.raises(UsageError, match=r"a training run already\. .*--resume"):
        train(long_run(data, bert), whole)
    assert (whole / "log.jsonl").read_bytes() == before


def test_a_run_that_failed_before_it_learnt_anything_is_begun_anew(
    data: Path, bert: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    config = settings(data, bert, schedule__epochs=1)
    with pytest.raises(SourceError, match="absent: there is no such file"):
        train(with_settings(config, {"data.train": [str(tmp_path / "absent")]}), out)
    if importlib.util.find_spec("tensorboard") is None:
        with pytest.raises(MissingExtraError, match="pip install tensorboard"):
            train(with_settings(config, {"log.tensorboard": True}), out)
    assert train(config, out).steps == STEPS


def test_going_on_refuses_other_data_and_settings(
    whole: Path, data: Path, bert: Path, tmp_path: Path
) -> None:
    config = long_run(data, bert)
    with pytest.raises(UsageError, match=r"cannot change batch\.size from 28 to 14"):
        train(with_settings(config, {"batch.size": 14}), whole, resume=True)
    with pytest.raises(UsageError, match="no training run here"):
        train(config, tmp_path / "nothing", resume=True)
    copied = painted(tmp_path / "painted")
    out = tmp_path / "out"
    train(settings(copied, bert, schedule__epochs=1), out)
    lines = (copied / "captions.jsonl").read_text().replace("red above blue", "a red sky")
    (copied / "captions.jsonl").write_text(lines)
    with pytest.raises(TrainingError, match="have changed since"):
        train(settings(copied, bert, schedule__epochs=2), out, resume=True)


# Several processes


def test_two_processes_take_the_steps_of_one(data: Path, bert: Path, tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    tests = Path(__file__).parent
    script.write_text(
        f"import sys; sys.path.insert(0, {str(tests)!r})\n"
        "from pathlib import Path\n"
        "import torch\n"
        "from painted import settings\n"
        "from xsearch.training import train\n"
        "torch.set_num_threads(1)\n"
        "data, bert, out = map(Path, sys.argv[1:])\n"
        "report = train(settings(data, bert, batch__size=27), out)\n"
        "assert report.steps == 8\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launched = subprocess.run(
        [*command, "--nproc-per-node=2", script, data, bert, tmp_path / "two"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert launched.returncode == 0, launched.stderr
    # 27 pairs: one process has 14 of a batch, the other 13.
    train(settings(data, bert, batch__size=27), tmp_path / "one")
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=1e-3)
    assert rows(tmp_path / "two", "run")[0]["processes"] == 2
    assert (tmp_path / "two" / "encoder.json").exists()


# Bad input


def test_missing_and_broken_pictures_are_replaced_and_counted(bert: Path, tmp_path: Path) -> None:
    folder = painted(tmp_path / "painted")
    (folder / "images" / "003.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    (folder / "images" / "120.png").write_bytes(b"no picture")
    report = train(settings(folder, bert), tmp_path / "out")
    assert report.steps == 2 * STEPS
    assert any("003.png" in line for line in report.broken)
    assert any("120.png" in line for line in report.broken)
    assert report.validation == 23


def test_a_picture_that_goes_missing_is_replaced_and_counted(bert: Path, tmp_path: Path) -> None:
    folder = painted(tmp_path / "painted")

    def take_away(progress: Any) -> None:
        if progress.stage == "epoch":
            (folder / "images" / "007.png").unlink(missing_ok=True)

    report = train(settings(folder, bert), tmp_path / "out", progress=take_away)
    assert any("007.png" in line for line in report.broken)


def test_pictures_that_all_are_gone_end_the_run(bert: Path, tmp_path: Path) -> None:
    folder = painted(tmp_path / "painted")

    def take_away(progress: Any) -> None:
        if progress.stage == "epoch":
            for path in (folder / "images").iterdir():
                path.write_bytes(b"")

    with pytest.raises(SourceError, match=r"one after the other cannot be read, .*empty"):
        train(settings(folder, bert), tmp_path / "out", progress=take_away)
    assert read(last_of(tmp_path / "out"))["step"] == STEPS


def test_broken_rows_of_captions_are_named_and_left_out(bert: Path, tmp_path: Path) -> None:
    folder = painted(tmp_path / "painted")
    lines = (folder / "captions.jsonl").read_text().splitlines()
    lines[2] = '{"file": "002.png", "split": "train", '
    lines[4] = '{"split": "train", "captions": {"en": ["of nothing"]}}'
    (folder / "captions.jsonl").write_text("\n".join(lines))
    report = train(settings(folder, bert, schedule__epochs=1), tmp_path / "out")
    assert report.images == 110
    for line in (3, 5):
        assert any(f"captions.jsonl:{line}" in problem for problem in report.problems)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_pictures_are_a_clear_error(count: int, bert: Path, tmp_path: Path) -> None:
    folder = painted(tmp_path / "painted", train=count, val=3)
    with pytest.raises(SourceError, match=r"painted: .*(at least 2 are needed|no picture of)"):
        train(settings(folder, bert), tmp_path / "out")
    assert not (tmp_path / "out" / "encoder.json").exists()


def test_two_pictures_are_enough(bert: Path, tmp_path: Path) -> None:
    folder = painted(tmp_path / "painted", train=2, val=0)
    report = train(settings(folder, bert), tmp_path / "out")
    assert (report.images, report.steps, report.figures) == (2, 2, {})
    assert (tmp_path / "out" / "encoder.json").exists()


def test_classes_alone_are_learnt_from(bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "classes"
    folder.mkdir()
    names = list(PAINTS)[:4]
    lines = []
    for number in range(48):
        name = names[number % 4]
        painting(name, name, number).save(folder / f"{number}.png")
        lines.append(json.dumps({"file": f"{number}.png", "label": name}))
    (folder / "captions.jsonl").write_text("\n".join(lines))
    config = settings(
        folder, bert, data__class_prompt="{} above", schedule__epochs=6, batch__size=16
    )
    report = train(config, tmp_path / "out")
    assert report.images + report.validation == 48
    # Pictures of one class are no negatives of each other: with 4 classes the loss comes below
    # log(4), the entropy of which of the four it is, plus that of which picture of the class.
    assert losses(tmp_path / "out")[-1] < math.log(16)


def test_pictures_of_the_validation_are_not_learnt_from(bert: Path, tmp_path: Path) -> None:
    folder = painted(tmp_path / "painted", train=12, val=6)
    for number in range(18):
        photograph(80, 60, number).save(folder / "images" / f"{number:03}.png")
    # Number 15 is of the validation: once as it is, once smaller.
    held = photograph(80, 60, 15)
    held.save(folder / "images" / "004.png")
    held.resize((60, 45)).save(folder / "images" / "005.png")
    config = settings(folder, bert, data__leaks="drop", schedule__epochs=1)
    report = train(config, tmp_path / "drop")
    assert (report.leaks, report.images) == (2, 10)
    refusing = with_settings(config, {"data.leaks": "refuse"})
    with pytest.raises(SourceError, match=r"2 pictures to be learnt from .*004\.png.*015\.png"):
        train(refusing, tmp_path / "refuse")
    keeping = with_settings(config, {"data.leaks": "keep"})
    assert train(keeping, tmp_path / "keep").images == 12


def test_leaks_are_looked_for_unless_the_settings_say_otherwise() -> None:
    assert TrainConfig().data.leaks == "drop"


def test_a_loss_that_is_no_number_leaves_the_last_good_checkpoint(
    data: Path, bert: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    train(settings(data, bert), out)
    wild = settings(
        data, bert, schedule__epochs=4, schedule__warmup=0.0, optimiser__rate=1e38,
        optimiser__clip=0.0, checkpoints__steps=1,
    )  # fmt: skip
    good = last_of(out).read_bytes()
    with pytest.raises(TrainingError) as error:
        train(wild, out, resume=True)
    message = str(error.value)
    assert "not a finite number" in message
    assert f"{last_of(out)} of step 8 is good" in message
    assert f"xsearch train --out {out} --resume --lr 5e+37" in message
    assert last_of(out).read_bytes() == good
    tame = settings(data, bert, schedule__epochs=4, optimiser__rate=1e-4)
    assert train(tame, out, resume=True).steps == 4 * STEPS


def job_fill(say: Say, data: str, bert: str, out: str) -> None:
    """Train, and from the sixth step on let no file grow beyond 100 kB: the disk is full."""
    torch.set_num_threads(1)

    def fill(progress: Any) -> None:
        if progress.stage == "train" and progress.done == 5 * 28:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    train(long_run(data, bert), out, progress=fill)


@pytest.mark.skipif(resource is None, reason="needs POSIX resource limits")
def test_a_full_disk_leaves_the_last_good_checkpoint(
    children: Nursery, whole: Path, data: Path, bert: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    child = children.start("test_trainer.job_fill", data=data, bert=bert, out=out)
    kind, message = child.error()
    assert kind == "StorageError"
    assert str(last_of(out)) in message
    assert "free some space" in message
    assert "of step 4 is good. Go on with: xsearch train" in message
    assert sorted(path.name for path in last_of(out).parent.iterdir()) == ["best.pt", "last.pt"]
    assert read(last_of(out))["step"] == 4
    train(long_run(data, bert), out, resume=True)
    np.testing.assert_allclose(losses(out), losses(whole), rtol=1e-6)


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> Any:
            return Path.touch, (marker,)

    path = tmp_path / "last.pt"
    torch.save({"format": 1, "learner": Bomb()}, path)
    with pytest.raises(TrainingError, match="cannot be read"):
        read(path)
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(TrainingError, match="cannot be read"):
        read(path)
    assert not marker.exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
def test_what_is_written_may_be_read_by_those_who_may_read_other_files(tmp_path: Path) -> None:
    write(tmp_path / "last.pt", {"step": 3})
    (tmp_path / "other").touch()
    assert (tmp_path / "last.pt").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    write(path, {"step": 3, "weights": torch.zeros(1000)})
    assert read(path)["step"] == 3
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(TrainingError, match=r"last\.pt cannot be read, it is probably damaged"):
        read(path)


def test_a_place_that_cannot_be_written_is_named(data: Path, bert: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file"):
        train(settings(data, bert), tmp_path / "file" / "out")


def test_a_device_that_is_not_there_is_named(data: Path, bert: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the device 'cuda:99' cannot be used"):
        train(settings(data, bert, run__device="cuda:99"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# The built-in encoder


@pytest.mark.parametrize("name", ["builtin", "builtin:multilingual"])
def test_the_built_in_encoder_is_trained_further(tmp_path: Path, name: str) -> None:
    data = painted(tmp_path / "data", train=8, val=4)
    values: dict[str, Any] = {
        "data.train": [str(data)],
        "data.leaks": "keep",
        "encoder.name": name,
        "schedule.epochs": 1,
        "batch.size": 4,
        "run.device": "cpu",
    }
    report = train(with_settings(TrainConfig(), values), tmp_path / "out")
    assert (report.images, report.validation) == (8, 4)
    shipped, trained = load_encoder("builtin"), load_encoder(tmp_path / "out")
    assert shipped.fingerprint != trained.fingerprint
    texts = ["ein Hund im Schnee"] if "multi" in name else ["a dog in the snow", "red above blue"]
    picture = shipped.preprocess(painting("red", "blue", 0))[None]
    for old, new in (
        (shipped.embed_texts(texts).vectors, trained.embed_texts(texts).vectors),
        (shipped.embed_images(picture), trained.embed_images(picture)),
    ):
        # Two steps away from where it began.
        assert 0.8 < float((old * new).sum(axis=1).min()) < 0.999999
    again = load_trainable(tmp_path / "out")
    with torch.inference_mode():
        vectors = again.eval().encode_texts(again.tokenize(texts)).numpy()
    assert float((vectors * trained.embed_texts(texts).vectors).sum(axis=1).min()) > 0.9999


def test_the_built_in_encoder_keeps_its_own_input(tmp_path: Path) -> None:
    values = {"encoder.name": "builtin", "encoder.image_size": 224, "data.train": [str(tmp_path)]}
    with pytest.raises(UsageError, match="builtin has its own image size"):
        build_encoder(with_settings(TrainConfig(), values).encoder.spec)


# A library


def test_the_captions_of_a_library_are_learnt_from(bert: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    pairs = list(PAINTS)[:6]
    for number, above in enumerate(pairs):
        for below in (name for name in pairs if name != above):
            path = photos / f"{above}-{below}.png"
            painting(above, below, number).save(path)
            path.with_suffix(".txt").write_text("\n".join(captions(above, below)))
    with xsearch.open(tmp_path / "library", encoder="builtin") as library:
        library.index(photos)
        found = library.captions()
        assert {each.path.name for each in found} == {path.name for path in photos.glob("*.png")}
        assert found[0].texts == tuple(captions(*found[0].path.stem.split("-")))
    before = {path: path.read_bytes() for path in (tmp_path / "library").rglob("*.db")}
    config = settings(None, bert, data__library=str(tmp_path / "library"), batch__size=9)
    report: TrainReport = train(config, tmp_path / "out")
    assert report.images + report.validation == 30
    assert {path: path.read_bytes() for path in before} == before


def test_a_library_without_captions_is_a_clear_error(bert: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    painting("red", "blue", 0).save(tmp_path / "photos" / "one.png")
    with xsearch.open(tmp_path / "library") as library:
        library.index(tmp_path / "photos")
    config = settings(None, bert, data__library=str(tmp_path / "library"))
    with pytest.raises(SourceError, match="no picture in this library has a caption"):
        train(config, tmp_path / "out")

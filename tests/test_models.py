"""Public models become encoders that need no torch, and the store holds whole ones at all times."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from children import nursery
from support import write_pictures

import xsearch
from xsearch import models
from xsearch.core.errors import EncoderError, MissingExtraError, StorageError, UsageError
from xsearch.retrieval.encoders import load_encoder, store
from xsearch.retrieval.encoders.catalogue import published, table_version
from xsearch.retrieval.encoders.names import ALIASES

try:
    import open_clip
    import torch

    from xsearch import training
    from xsearch.retrieval.encoders.clip.encoder import TorchEncoder
    from xsearch.training.pull import export_model, pull_model
except (ImportError, MissingExtraError) as error:
    pytest.skip(f"needs the extra `train`: {error}", allow_module_level=True)

from tiny_models import SENTENCES, clip_folder, photograph, siglip_folder

pytestmark = pytest.mark.train

RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8}
KINDS: dict[str, Callable[[Path], Path]] = {
    "vit": clip_folder,
    "siglip": siglip_folder,
    "resnet": lambda folder: clip_folder(folder, dict(RESNET)),
}
TEXTS = [*SENTENCES, "", "a much longer text that has to be cut somewhere " * 4]


@pytest.fixture(autouse=True)
def models_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of this test's own."""
    folder = tmp_path / "models"
    monkeypatch.setenv(store.VARIABLE, str(folder))
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    return f"local-dir:{clip_folder(tmp_path_factory.mktemp('checkpoint') / 'small')}"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but for locks."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def named(folder: Path) -> set[str]:
    """The files that a model's description names, and itself."""
    return store.named_files(store.content_of(folder) or {}) | {"encoder.json"}


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_pulled_model_says_what_torch_says(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    name = f"local-dir:{KINDS[kind](tmp_path / kind)}"
    reference = TorchEncoder(name)
    made = pull_model(name)
    encoder = load_encoder(name)
    assert encoder.info.runtime == "onnxruntime"
    assert encoder.fingerprint == reference.fingerprint == made.fingerprint
    assert min(made.parity.values()) >= 0.999
    batch = np.stack([encoder.preprocess(photograph(90, 70, seed)) for seed in range(5)])
    found, expected = encoder.embed_images(batch), reference.embed_images(batch)
    assert (found * expected).sum(axis=1).min() >= 0.999
    texts, wanted = encoder.embed_texts(TEXTS), reference.embed_texts(TEXTS)
    assert (texts.vectors * wanted.vectors).sum(axis=1).min() >= 0.999
    assert texts.cut.tolist() == wanted.cut.tolist()
    for pair in itertools.product(("image", "text"), repeat=2):
        assert encoder.calibration(*pair) == reference.calibration(*pair)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_weights_are_stored_as_asked_for(checkpoint: str, precision: str) -> None:
    made = pull_model(checkpoint, precision=precision, text_precision="int16")
    assert made.precision == f"image weights {precision}, text weights int16, arithmetic fp32"
    assert min(made.parity["image"], made.parity["text"]) >= 0.999


def test_the_description_says_where_a_model_came_from(checkpoint: str, models_folder: Path) -> None:
    made = pull_model(checkpoint)
    content = json.loads((made.folder / "encoder.json").read_text(encoding="utf-8"))
    assert made.folder.parent == models_folder
    assert content["source"] == checkpoint
    assert len(content["checkpoint"]["sha256"]) == 64
    assert content["scale"] == pytest.approx(1 / 0.07, rel=1e-3)
    assert content["licence"] == "not stated"
    # The trainable weights are in the checkpoint already.
    assert not list(made.folder.glob("*.safetensors"))
    assert made.bytes == sum(path.stat().st_size for path in made.folder.iterdir())


def test_a_pulled_model_is_left_alone_until_something_else_is_wanted(checkpoint: str) -> None:
    first = pull_model(checkpoint)
    before = contents(first.folder)
    assert first.fresh
    assert not pull_model(checkpoint).fresh
    assert not pull_model(checkpoint, precision="fp16").fresh
    assert contents(first.folder) == before
    other = pull_model(checkpoint, precision="int8")
    assert other.fresh
    assert other.fingerprint == first.fingerprint
    again = pull_model(checkpoint, force=True, precision="int8")
    assert again.fresh
    # Of the versions before, nothing is left.
    assert set(contents(again.folder)) == named(again.folder)
    assert load_encoder(checkpoint).embed_texts(["a"]).vectors.shape == (1, 24)


def test_a_model_that_fails_its_checks_leaves_the_old_one(checkpoint: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(checkpoint.removeprefix("local-dir:"), tmp_path / "mine"))
    name = f"local-dir:{folder}"
    made = pull_model(name)
    before = contents(made.folder)
    weights = load_file(folder / "open_clip_model.safetensors")
    weights["text_projection"][0, 0] = float("nan")
    save_file(weights, folder / "open_clip_model.safetensors")
    with pytest.raises(EncoderError, match="finite"):
        pull_model(name, force=True)
    (folder / "open_clip_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(EncoderError, match="cannot be made"):
        pull_model(name, force=True)
    assert contents(made.folder) == before


def test_scores_are_fitted_on_pairs_where_they_are_given(checkpoint: str, tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    names = [path.name for path in write_pictures(folder, 6)]
    rows = [{"file": name, "captions": {"en": [f"picture {name}"]}} for name in names]
    lines = "\n".join(json.dumps(row) for row in rows)
    (folder / "captions.jsonl").write_text(lines, encoding="utf-8")
    plain = pull_model(checkpoint)
    slope = load_encoder(checkpoint).calibration("text", "image").slope
    fitted = pull_model(checkpoint, pairs=training.read_dataset(folder))
    assert fitted.fresh
    assert fitted.fingerprint == plain.fingerprint
    assert load_encoder(checkpoint).calibration("text", "image").slope != slope
    content = json.loads((fitted.folder / "encoder.json").read_text(encoding="utf-8"))
    assert content["scores"] == "fitted on pairs"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("builtin", "comes with xsearch"),
        ("ViT-B-32/opnai", "did you mean ViT-B-32/openai"),
        ("smal", "did you mean small"),
        ("ViT-B-32-256", "ViT-B-32-256/datacomp_s34b_b86k"),
        ("hf-hub:nobody", "hf-hub:OWNER/NAME"),
    ],
)
def test_a_wrong_name_says_which_was_meant(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        pull_model(name)


def test_a_wrong_precision_says_which_there_are(checkpoint: str) -> None:
    with pytest.raises(UsageError, match="fp32, fp16, int16, int8"):
        pull_model(checkpoint, precision="fp8")


def test_an_exported_folder_is_an_encoder_anywhere(checkpoint: str, tmp_path: Path) -> None:
    out = tmp_path / "taken along"
    made = export_model(checkpoint, out)
    assert made.folder == out
    assert load_encoder(out).fingerprint == made.fingerprint
    assert not store.pulled(checkpoint)
    # Of one that was pulled, a copy.
    pulled = pull_model(checkpoint, precision="int8")
    copied = export_model(checkpoint, tmp_path / "copy", precision="int8")
    assert contents(copied.folder) == contents(pulled.folder)
    # An older one is replaced, something else is not.
    replaced = export_model(checkpoint, out, precision="int8")
    assert "int8" in load_encoder(out).info.precision
    assert set(contents(replaced.folder)) == named(replaced.folder)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"mine")
    with pytest.raises(UsageError, match="holds something else"):
        export_model(checkpoint, tmp_path / "photos")


def test_a_store_that_cannot_be_written_is_named(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv(store.VARIABLE, str(tmp_path / "file" / "models"))
    with pytest.raises(StorageError, match=store.VARIABLE):
        pull_model(checkpoint)


def test_a_killed_pull_leaves_the_store_as_it_was(checkpoint: str, models_folder: Path) -> None:
    made = pull_model(checkpoint, precision="int8")
    before = contents(made.folder)
    with nursery() as opened:
        for step in (1, 3):
            child = opened.start("store_jobs.pull", name=checkpoint, models=models_folder)
            while child.until("step") < step:
                pass
            child.kill()
            assert contents(made.folder) == before
            assert (models_folder / store.PARTIAL).is_dir()
    assert pull_model(checkpoint, precision="fp16").fresh
    assert sorted(path.name for path in models_folder.iterdir()) == [
        store.PARTIAL,
        made.folder.name,
    ]
    assert contents(models_folder / store.PARTIAL) == {}


def test_at_every_moment_a_whole_version_is_in_place(models_folder: Path) -> None:
    place = store.place_of("a/model")
    with nursery() as opened:
        for round_ in range(25):
            arguments: dict[str, Any] = {"models": models_folder, "versions": ["old", "new"]}
            child = opened.start("store_jobs.publish", **arguments)
            for _ in range(3 + round_ % 5):
                child.until("publishing")
            child.kill()
            content = store.content_of(place)
            assert content is not None
            said = {(place / name).read_text() for name in store.named_files(content)}
            assert said == {content["version"]}


def test_two_processes_do_not_pull_the_same_model_at_once(checkpoint: str) -> None:
    with store.staging(checkpoint), pytest.raises(EncoderError, match="another process"):
        pull_model(checkpoint)


def modules_after(code: str, *words: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after some code."""
    shown = f"{code}\nimport sys; print('LOADED', *{{m.split('.')[0] for m in sys.modules}})"
    command = [sys.executable, "-c", shown, *words]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(result.stdout.rpartition("LOADED")[2].split())


RUN = (
    "import sys; from xsearch.cli.main import run\n"
    "try: run()\nexcept SystemExit as end: assert not end.code, end.code"
)


def test_a_cold_query_with_a_pulled_model_needs_neither_torch_nor_open_clip(
    checkpoint: str, tmp_path: Path
) -> None:
    pull_model(checkpoint)
    write_pictures(tmp_path / "photos", 3)
    with xsearch.open(tmp_path / "library", encoder=checkpoint) as library:
        library.index([tmp_path / "photos"])
    loaded = modules_after(RUN, "query", "a red square", "--library", str(tmp_path / "library"))
    assert "onnxruntime" in loaded
    assert not loaded & {"torch", "open_clip", "transformers", "huggingface_hub", "onnx"}


def test_listing_showing_and_removing_need_no_torch(checkpoint: str) -> None:
    pull_model(checkpoint)
    heavy = {"torch", "open_clip", "onnxruntime", "huggingface_hub"}
    for words in (["list"], ["show", "small"], ["list", "--pulled"], ["remove", checkpoint]):
        assert not modules_after(RUN, "models", *words) & heavy
    assert store.pulled(checkpoint) is None


def run_command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from xsearch.cli.main import run; run()", *words],
        capture_output=True,
        text=True,
    )


def test_the_list_fits_a_terminal_and_finds_words(checkpoint: str) -> None:
    pull_model(checkpoint)
    lines = run_command("models", "list").stdout.splitlines()
    assert len(lines) > 190
    assert max(map(len, lines)) <= 100
    assert lines[1].startswith("builtin")
    found = run_command("models", "list", "SIGLIP2", "384", "--json").stdout.splitlines()
    names = [json.loads(line)["name"] for line in found]
    assert names[0] == ALIASES["multilingual"]
    assert all("SigLIP2" in name for name in names)


def test_removing_says_what_stays_and_who_used_it(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pull_model(checkpoint)
    write_pictures(tmp_path / "photos", 2)
    monkeypatch.setenv("XSEARCH_LIBRARY", str(tmp_path / "library"))
    with xsearch.open(encoder=checkpoint) as library:
        library.index([tmp_path / "photos"])
    removed = run_command("models", "remove", checkpoint)
    assert removed.returncode == 0
    assert "this library is searched with" in removed.stderr
    again = run_command("models", "remove", checkpoint)
    assert again.returncode == 1
    assert "was not pulled" in again.stderr


def test_showing_a_model_says_where_its_figures_come_from() -> None:
    model = models.show_model("tiny")
    assert model.name == ALIASES["tiny"]
    assert model.recalls is not None
    assert model.recalls["flickr30k_text_to_image"] == 64.9
    assert model.source.startswith("https://github.com/mlfoundations/open_clip")
    assert (model.dim, model.resolution, model.licence) == (512, 256, "mit")
    assert models.show_model("hf-hub:someone/else").repository == "someone/else"
    with pytest.raises(UsageError, match="did you mean base"):
        models.show_model("bas")


@pytest.fixture
def table() -> Iterator[Any]:
    yield published()


def test_the_table_has_every_model_of_its_open_clip(table: Any) -> None:
    if table_version() != open_clip.__version__:
        pytest.skip(f"the table is of open_clip {table_version()}")
    offered = {f"{architecture}/{tag}" for architecture, tag in open_clip.list_pretrained()}
    assert set(table) == offered
    assert set(ALIASES.values()) <= offered
    assert all(model.parameters for model in table.values())
    with torch.device("meta"):
        net = open_clip.create_model("MobileCLIP-S1", load_weights=False, device="meta")
    count = sum(weight.numel() for weight in net.parameters()) / 1e6
    assert table["MobileCLIP-S1/datacompdr"].parameters == pytest.approx(count, abs=0.06)


def test_every_figure_and_licence_in_the_table_has_a_source(table: Any) -> None:
    for model in table.values():
        assert bool(model.recalls) == bool(model.source)
        assert bool(model.licence) == bool(model.licence_source)
        for recall in (model.recalls or {}).values():
            assert 0 < recall < 100
    folder = Path(xsearch.__file__).parent.parent / "data" / "models"
    named = {line.split(",")[0] for line in (folder / "figures.csv").read_text().splitlines()[1:]}
    assert named <= set(table)
    licensed = {line.split(",")[0] for line in (folder / "licences.csv").read_text().splitlines()}
    assert licensed - {"repository"} <= {model.repository for model in table.values()}

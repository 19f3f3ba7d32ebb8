"""`xsearch train`, run as a user runs it."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from pathlib import Path

import pytest
from painted import PAINTS, SIDE, captions, losses, painted, painting, tiny_bert
from test_cli import Shell, rows

from xsearch.core.errors import MissingExtraError

try:
    import xsearch.training.model  # noqa: F401
except (ImportError, MissingExtraError) as error:
    pytest.skip(f"needs the extra `train`: {error}", allow_module_level=True)

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    found = Shell(tmp_path / "home", tmp_path / "here")
    found.environment |= {"OMP_NUM_THREADS": "1"}
    return found


def towers(bert: Path) -> list[str]:
    """Options for the tiny model, and for pictures that look much alike."""
    settings = {
        "encoder.image_size": SIDE,
        "encoder.pretrained": "false",
        "encoder.dim": 32,
        "augmentation.enabled": "false",
        "data.leaks": "keep",
    }
    words = ["--image-tower", "timm:test_vit", "--text-tower", f"hf:{bert}", "--device", "cpu"]
    for name, value in settings.items():
        words += ["--set", f"{name}={value}"]
    return words


def test_a_folder_of_captions_becomes_an_encoder_that_searches(shell: Shell, bert: Path) -> None:
    painted(shell.here / "data")
    options = ["--epochs", "8", "--batch-size", "28", "--lr", "2e-3"]
    done = shell.run("train", "--data", "data", "--out", "mine", *options, *towers(bert))
    assert "learnt from: 112 pictures, 224 captions; 8 epochs" in done.stdout
    assert "text to image, recall at 1 / 5 / 10: " in done.stdout
    assert [line for line in done.stderr.splitlines() if line.startswith("epoch 8 of 8: loss ")]
    (shell.here / "photos").mkdir()
    for above, below in (("red", "blue"), ("white", "green")):
        painting(above, below, 900).save(shell.here / "photos" / f"{above}.png")
    shell.run("index", "photos", "--encoder", "mine")
    first = rows(shell.run("query", "--json", "red above blue"))[0]
    assert Path(str(first["path"])).name == "red.png"
    # Going on, from another folder, with more epochs.
    report = rows(shell.run("train", "--out", "mine", "--resume", "--epochs", "9", "--json"))[0]
    assert (report["epochs"], report["steps"]) == (9, 36)
    assert len(losses(shell.here / "mine")) == 36


def test_the_users_own_library_is_learnt_from(shell: Shell, bert: Path) -> None:
    photos = shell.here / "photos"
    photos.mkdir()
    names = list(PAINTS)[:5]
    for number, above in enumerate(names):
        for below in (name for name in names if name != above):
            painting(above, below, 50 * number).save(photos / f"{above}-{below}.png")
    sidecars = [path for path in photos.iterdir() if path.stem != "red-green"]
    for path in sidecars:
        path.with_suffix(".txt").write_text("\n".join(captions(*path.stem.split("-"))))
    table = "text,image\nred over green,photos/red-green.png\n,photos/absent.png\n"
    (shell.here / "more.csv").write_text(table)
    shell.run("index", "photos", "more.csv")
    options = ["--epochs", "1", "--batch-size", "9", *towers(bert)]
    done = shell.run("train", "--library", "--out", "mine", *options, "--json")
    (report,) = rows(done)
    assert report["images"] + report["validation"] == 20  # type: ignore[operator]
    named = ["--library", rows(shell.run("status", "--json"))[0]["path"], "--json"]
    (again,) = rows(shell.run("train", *named, "--out", "other", *options))  # type: ignore[arg-type]
    assert again["fingerprint"] == report["fingerprint"]


def test_settings_come_from_a_file_and_the_command_line_wins(shell: Shell, bert: Path) -> None:
    painted(shell.here / "data", train=20, val=4)
    (shell.here / "run.toml").write_text("seed = 3\n[schedule]\nepochs = 2\n[batch]\nsize = 10\n")
    words = ["--config", "run.toml", "--data", "data", "--epochs", "1", *towers(bert)]
    (report,) = rows(shell.run("train", *words, "--out", "mine", "--json"))
    assert (report["epochs"], report["steps"]) == (1, 2)
    kept = (shell.here / "mine" / "config.toml").read_text()
    assert "seed = 3" in kept
    assert "epochs = 1" in kept


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data", "data"], "Missing option '--out'"),
        (["--data", "data", "--out", "o", "--set", "ema.dcay=1"], "did you mean ema.decay?"),
        (["--data", "data", "--out", "o", "--set", "ema"], "write it as NAME=VALUE"),
        (["--data", "data", "--out", "o", "--lr", "-1"], "optimiser.rate is -1.0"),
        (["--data", "data", "--out", "o", "--loss", "mse"], "one of infonce, sigmoid, triplet"),
        (["--out", "o", "--resume"], "no training run here"),
        (
            ["--data", "data", "--out", "o", "--encoder", "x", "--image-tower", "y"],
            "not both",
        ),
        (["--config", "bad.toml", "--out", "o"], "bad.toml, line 2: there is no setting data.x"),
    ],
)
def test_wrong_usage_is_said_in_a_line(shell: Shell, words: list[str], said: str) -> None:
    (shell.here / "bad.toml").write_text("[data]\nx = 1\n")
    done = shell.run("train", *words, code=2)
    assert said in done.stderr.splitlines()[0]
    assert not (shell.here / "o").exists()


def test_data_that_is_not_there_is_said_in_a_line(shell: Shell, bert: Path) -> None:
    line = shell.fail("train", "--data", "absent", "--out", "mine", *towers(bert))
    assert "absent: there is no such file or folder" in line
    line = shell.fail("train", "--out", "other", *towers(bert))
    assert "nothing to learn from: name a data set with --data" in line


def test_ctrl_c_says_how_to_go_on_and_that_works(shell: Shell, bert: Path) -> None:
    painted(shell.here / "data")
    out = shell.here / "my run"
    words = ["--data", "data", "--epochs", "999", "--batch-size", "28", *towers(bert)]
    with shell.start("train", *words, "--out", out) as process:
        deadline = time.monotonic() + 60
        while not (out / "log.jsonl").exists() or len(losses(out)) < 6:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            threading.Event().wait(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130
    line = said.splitlines()[-1]
    found = re.search(r"interrupted after step (\d+) of 3996\. Go on with: (xsearch .*)", line)
    assert found, said
    assert found[2] == f"xsearch train --out '{out}' --resume"
    done = int(found[1])
    epochs = done // 4 + 1
    report = json.loads(
        shell.run("train", "--out", out, "--resume", "--epochs", str(epochs), "--json").stdout
    )
    assert report["steps"] == 4 * epochs
    assert len(losses(out)) == 4 * epochs

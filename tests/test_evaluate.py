"""`xsearch evaluate` and `training.evaluate`: any encoder on any data set, reported in full."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import ColourEncoder, picture, write_picture
from test_cli import Shell

from xsearch import training
from xsearch.core.encoder import TextEmbeddings
from xsearch.core.errors import EncoderError, SourceError, UsageError
from xsearch.core.reports import Progress
from xsearch.training.evaluation.results import Evaluation

WORDS = ("red", "green", "blue", "pale", "dark", "round", "square", "far")


class TellingEncoder(ColourEncoder):
    """Reads a picture's seed out of a text, mostly: nearly right for some, wrong for others."""

    def embed_texts(self, texts: Sequence[str]) -> TextEmbeddings:
        noise = super().embed_texts(texts)
        seeds = [int(found[0]) if (found := re.findall(r"\d+", text)) else 0 for text in texts]
        batch = np.stack([self.preprocess(picture(seed)) for seed in seeds])
        mixed = self.embed_images(batch) + noise.vectors * 2.5
        unit = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
        return TextEmbeddings(unit.astype(np.float32), noise.cut)


def write_rows(folder: Path, rows: Iterable[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write_captioned(folder: Path, count: int = 40) -> Path:
    """Pictures with 3 English texts each, half of them one in German; 30 in `test`."""
    rows = []
    for seed in range(count):
        write_picture(folder / "images" / f"{seed:03}.png", seed)
        captions = {"en": [f"{WORDS[seed % 8]} fields, {seed}, text {n}" for n in range(3)]}
        if seed % 2:
            captions["de"] = [f"{seed} bunte Felder"]
        split = "test" if seed < 30 else "train"
        rows.append({"file": f"{seed:03}.png", "split": split, "captions": captions})
    return write_rows(folder, rows)


@pytest.fixture(scope="module")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_captioned(tmp_path_factory.mktemp("captioned"))


@pytest.fixture(scope="module")
def evaluated(captioned: Path) -> Evaluation:
    return training.evaluate(TellingEncoder(), training.read_dataset(captioned), bootstrap=50)


def value(found: Evaluation, language: str, direction: str, name: str) -> float:
    return getattr(found.languages[language], direction)[name].value


def test_figures_are_those_of_a_plain_computation(captioned: Path, evaluated: Evaluation) -> None:
    encoder = TellingEncoder()
    rows = [json.loads(line) for line in (captioned / "captions.jsonl").open(encoding="utf-8")]
    rows = [row for row in rows if row["split"] == "test"]
    for language in ("en", "de"):
        used = [row for row in rows if language in row["captions"]]
        pictures = [Image.open(captioned / "images" / row["file"]) for row in used]
        images = encoder.embed_images(np.stack([encoder.preprocess(one) for one in pictures]))
        texts = [text for row in used for text in row["captions"][language]]
        vectors = encoder.embed_texts(texts).vectors
        owners = [at for at, row in enumerate(used) for _ in row["captions"][language]]
        scores = vectors.astype(np.float16).astype(float) @ images.astype(np.float16).T.astype(
            float
        )
        own = scores[range(len(texts)), owners]
        ranks = (scores >= own[:, None]).sum(axis=1)
        found = evaluated.languages[language]
        assert (found.pictures, found.texts) == (len(used), len(texts))
        for k in (1, 5, 10):
            assert value(evaluated, language, "text_to_image", f"recall@{k}") == pytest.approx(
                100 * np.mean(ranks <= k)
            )
        assert value(evaluated, language, "text_to_image", "mean_rank") == pytest.approx(
            ranks.mean()
        )
        best = [
            min(
                1 + sum(scores[other, at] >= scores[mine, at] for other in range(len(texts))
                        if owners[other] != at)
                for mine in range(len(texts)) if owners[mine] == at
            )
            for at in range(len(used))
        ]  # fmt: skip
        assert value(evaluated, language, "image_to_text", "median_rank") == np.median(best)
        assert 5 < value(evaluated, language, "text_to_image", "recall@1") < 95


def test_the_test_split_is_used_unless_another_is_named(captioned: Path) -> None:
    data = training.read_dataset(captioned)
    assert training.evaluate(TellingEncoder(), data).pictures == 30
    assert training.evaluate(TellingEncoder(), data, split="train").pictures == 10
    with pytest.raises(UsageError, match=r"no split 'val': there is test, train"):
        training.evaluate(TellingEncoder(), data, split="val")


def test_only_the_languages_asked_for_are_evaluated(captioned: Path) -> None:
    data = training.read_dataset(captioned)
    found = training.evaluate(TellingEncoder(), data, languages=["de"])
    assert list(found.languages) == ["de"]
    assert found.pictures == 15
    with pytest.raises(UsageError, match="no texts in 'fr'"):
        training.evaluate(TellingEncoder(), data, languages=["fr"])


def test_a_language_key_with_a_suffix_is_a_language_of_its_own(tmp_path: Path) -> None:
    rows = [
        {
            "file": f"{at}.png",
            "captions": {"zh": [f"{at} 短"], "zh_human_translation": [f"{at} 长"]},
        }
        for at in range(3)
    ]
    for at in range(3):
        write_picture(tmp_path / f"{at}.png", at)
    found = training.evaluate(TellingEncoder(), training.read_dataset(write_rows(tmp_path, rows)))
    assert set(found.languages) == {"zh", "zh_human_translation"}


def test_a_picture_that_cannot_be_read_costs_itself_and_is_named(tmp_path: Path) -> None:
    folder = write_captioned(tmp_path, 8)
    (folder / "images" / "003.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    found = training.evaluate(TellingEncoder(), training.read_dataset(folder), split="test")
    (failure,) = found.failures
    assert "003" in failure.key and failure.reason
    assert found.pictures == 7
    assert found.languages["en"].texts == 21
    assert found.to_dict()["failures"] == [{"key": failure.key, "reason": failure.reason}]


def test_when_no_picture_can_be_read_that_is_an_error(tmp_path: Path) -> None:
    folder = write_captioned(tmp_path, 3)
    data = training.read_dataset(folder)
    for path in (folder / "images").glob("*.png"):
        path.write_bytes(b"nothing")
    with pytest.raises(SourceError, match="none of 3 pictures can be read"):
        training.evaluate(TellingEncoder(), data)


def test_an_encoder_that_gives_nan_is_refused_rather_than_ranked_first(captioned: Path) -> None:
    class BrokenEncoder(TellingEncoder):
        def embed_images(self, batch: np.ndarray) -> np.ndarray:
            return super().embed_images(batch) * np.float32("nan")

    with pytest.raises(EncoderError, match="not finite"):
        training.evaluate(BrokenEncoder(), training.read_dataset(captioned))


def test_a_limit_spreads_over_the_whole_data_set(captioned: Path) -> None:
    moments: list[Progress] = []
    found = training.evaluate(
        TellingEncoder(),
        training.read_dataset(captioned),
        limit=3,
        languages=["en"],
        progress=moments.append,
    )
    examples = found.languages["en"].examples
    keys = {one.picture.key for one in (*examples.best_pictures, *examples.worst_pictures)}
    assert {re.search(r"\d+", key)[0] for key in keys} == {"000", "010", "020"}
    assert [(m.stage, m.done, m.total) for m in moments] == [("pictures", 3, 3), ("texts", 9, 9)]


def test_classes_of_pictures_are_found_by_their_names(tmp_path: Path) -> None:
    for seed in range(12):
        write_picture(tmp_path / "images" / f"{seed}.png", seed % 4)
    rows = [{"file": f"{seed}.png", "label": f"kind {seed % 4}"} for seed in range(12)]
    data = training.read_dataset(write_rows(tmp_path, rows))
    found = training.evaluate(TellingEncoder(), data, labels=True, templates=("{}",))
    assert found.zero_shot is not None
    assert [one.pictures for one in found.zero_shot.classes] == [3, 3, 3, 3]
    assert found.zero_shot.figures["accuracy@1"].value == 100
    assert training.evaluate(TellingEncoder(), data).zero_shot is not None
    with pytest.raises(UsageError, match="neither captions nor labels"):
        training.evaluate(TellingEncoder(), data, labels=False)


def test_labels_can_only_be_demanded_where_there_are_some(captioned: Path) -> None:
    with pytest.raises(UsageError, match="label"):
        training.evaluate(TellingEncoder(), training.read_dataset(captioned), labels=True)


def test_captions_are_the_nearest_sentences_of_another_split(captioned: Path) -> None:
    data = training.read_dataset(captioned)
    encoder = TellingEncoder()
    found = training.evaluate(encoder, data, languages=["en"], captions_from="train")
    sources = [text for record in data.only("train").records for text in record.captions["en"]]
    vectors = encoder.embed_texts(sources).vectors
    tested = data.only("test").records
    batch = np.stack([encoder.preprocess(record.image.open()) for record in tested])
    best = (encoder.embed_images(batch) @ vectors.T).argmax(axis=1)
    expected = training.bleu(
        [sources[at] for at in best], [record.captions["en"] for record in tested]
    )
    assert found.languages["en"].bleu == expected
    assert expected.scores[0] > 30
    with pytest.raises(UsageError, match="another split"):
        training.evaluate(encoder, data, captions_from="test")


def test_examples_are_the_ends_of_the_ranking(evaluated: Evaluation) -> None:
    found = evaluated.languages["en"]
    ranks = found.retrieval.text_to_image.first
    best, worst = found.examples.best_texts, found.examples.worst_texts
    assert {one.rank for one in best} == {1}
    assert worst[0].rank == ranks.max()
    assert all(one.found[0] is one.picture for one in best)
    assert all(one.found[0] is not one.picture for one in worst if one.rank > 1)
    for side in (best, worst):
        assert len({one.picture.key for one in side}) == len(side) == 6


@pytest.mark.parametrize(
    "options", [{"cuts": ()}, {"cuts": (0, 5)}, {"bootstrap": -1}, {"limit": 0}], ids=str
)
def test_senseless_settings_are_refused(captioned: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        training.evaluate(TellingEncoder(), training.read_dataset(captioned), **options)


def test_a_report_is_one_page_that_needs_nothing_else(
    evaluated: Evaluation, tmp_path: Path
) -> None:
    written = training.write_report(evaluated, tmp_path / "deep" / "report")
    assert {path.name for path in written} >= {"report.html", "report.md", "evaluation.json"}
    page = (tmp_path / "deep" / "report" / "report.html").read_text(encoding="utf-8")
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) > 60
    assert all(source.startswith("data:image/") for source in sources)
    assert "30 bunte" not in page and "bunte Felder" in page
    figures = json.loads((tmp_path / "deep" / "report" / "evaluation.json").read_text())
    assert figures == json.loads(json.dumps(evaluated.to_dict()))
    text = (tmp_path / "deep" / "report" / "report.md").read_text(encoding="utf-8")
    plots = re.findall(r"\]\(([^)]+)\)", text)
    assert plots and all((tmp_path / "deep" / "report" / name).is_file() for name in plots)


def test_texts_and_names_of_others_are_never_markup(tmp_path: Path) -> None:
    for at in range(2):
        write_picture(tmp_path / "data" / f"{at}.png", at)
    rows = [
        {"file": f"{at}.png", "captions": {"en": [f"<script>alert({at})</script> a | b *c*"]}}
        for at in range(2)
    ]
    data = training.read_dataset(write_rows(tmp_path / "data", rows))
    data = replace(data, name="<img src=x>")
    training.write_report(training.evaluate(TellingEncoder(), data), tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page and "<img src=x" not in page
    assert "&lt;script&gt;alert(1)" in page
    text = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "<script" not in text.replace("\\<script", "")


def test_a_picture_that_has_gone_meanwhile_is_shown_by_its_name(tmp_path: Path) -> None:
    folder = write_captioned(tmp_path / "data", 4)
    found = training.evaluate(TellingEncoder(), training.read_dataset(folder))
    (folder / "images" / "002.png").unlink()
    training.write_report(found, tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert re.search(r"<div class=lost>[^<]*002", page)


# The command, from outside, with the encoder that ships.


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "home", tmp_path / "here")


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs that scikit-image brings, captioned."""
    from skimage import data

    texts = {
        "chelsea": "a cat looking at the camera",
        "coffee": "a cup of coffee on a table",
        "rocket": "a rocket on its launch pad",
        "astronaut": "a smiling woman in a space suit",
    }
    folder = tmp_path_factory.mktemp("samples")
    for name in texts:
        Image.fromarray(getattr(data, name)()).save(folder / f"{name}.jpg")
    return write_rows(
        folder,
        ({"file": f"{name}.jpg", "captions": {"en": [text]}} for name, text in texts.items()),
    )


def of_the_builtin_encoder(samples: Path, **options: Any) -> Any:
    """The same from Python: what the encoder is worth is not the command's affair."""
    encoder = training.load_encoder("builtin")
    found = training.evaluate(encoder, training.read_dataset(samples), **options)
    return found.languages["en"].text_to_image


def test_the_command_prints_a_table_of_what_the_builtin_encoder_does(
    shell: Shell, samples: Path
) -> None:
    done = shell.run("evaluate", samples, "--k", "1,2", "--bootstrap", "20")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("builtin (") and lines[0].endswith(": 4 pictures")
    table = next(at for at, line in enumerate(lines) if line.startswith("language"))
    assert lines[table].split() == [
        "language", "direction", "queries", "among", "R@1", "R@2", "median", "mean", "mAP",
        "nDCG@2",
    ]  # fmt: skip
    cells = lines[table + 1].split()
    assert cells[:6] == ["en", "text", "to", "image", "4", "4"]
    figures = of_the_builtin_encoder(samples, cuts=(1, 2))
    shown = [figures["recall@1"].value, figures["recall@2"].value]
    assert [float(cell) for cell in cells[6:8]] == pytest.approx(shown, abs=0.05)
    assert lines[table + 2].split()[:2] == ["95%", "from"]
    assert done.stderr == ""


def test_the_command_prints_json_that_python_can_check(shell: Shell, samples: Path) -> None:
    done = shell.run("evaluate", samples, "--json")
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert found["encoder"]["name"] == "builtin"
    figures = found["languages"]["en"]["text_to_image"]
    expected = of_the_builtin_encoder(samples)
    assert {name: figure["value"] for name, figure in figures.items()} == {
        name: pytest.approx(figure.value) for name, figure in expected.items()
    }


def test_the_command_reads_the_folder_it_is_in_and_writes_a_report_where_told(
    shell: Shell, samples: Path, tmp_path: Path
) -> None:
    here = Shell(shell.home, samples)
    done = here.run("evaluate", "--report", tmp_path / "report")
    assert "report.html" in done.stderr
    assert (tmp_path / "report" / "report.html").stat().st_size > 50_000


def test_the_command_names_what_is_wrong_in_one_line(shell: Shell, samples: Path) -> None:
    shell.fail("evaluate", shell.here / "nowhere")
    assert "xx" in shell.fail("evaluate", samples, "--encoder", "xx")
    (shell.here / "file").write_text("")
    assert "file" in shell.fail("evaluate", samples, "--report", shell.here / "file")
    for options in (["--k", "one"], ["--k", "0"], ["--split", "val"], ["--labels"]):
        shell.run("evaluate", samples, *options, code=2)


def run_without(modules: Sequence[str], *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command in a process that cannot import some modules."""
    code = (
        "import sys\n"
        f"for name in {list(modules)!r}: sys.modules[name] = None\n"
        f"sys.argv = {['xsearch', *map(str, words)]!r}\n"
        "from xsearch.cli.main import run\n"
        "run()"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


OPTIONAL = ("torch", "matplotlib", "sacrebleu", "sklearn")


def test_evaluation_needs_no_extra_but_for_plots_and_bleu(samples: Path, tmp_path: Path) -> None:
    done = run_without(OPTIONAL, "evaluate", samples)
    assert done.returncode == 0, done.stderr
    assert "text to image" in done.stdout
    for options in (["--report", tmp_path / "report"], ["--captions-from", "train"]):
        done = run_without(OPTIONAL, "evaluate", samples, *options)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert "pip install 'xsearch-engine[evaluate]'" in line


def test_flickr8k_in_several_languages(shell: Shell, shared_data: Path) -> None:
    flickr8k = shared_data / "flickr8k"
    words = ("evaluate", flickr8k, "--split", "val", "--limit", "60")
    done = shell.run(*words, "--language", "en", "--language", "de", "--json")
    found = json.loads(done.stdout)
    assert found["pictures"] == 60
    assert found["languages"]["en"]["texts"] == 300
    recall = found["languages"]["en"]["text_to_image"]
    assert 60 < recall["recall@5"]["value"] <= recall["recall@10"]["value"] < 100


def test_actions_are_recognised_by_their_names(shell: Shell, shared_data: Path) -> None:
    actions = shared_data / "varied" / "human_actions"
    found = json.loads(shell.run("evaluate", actions, "--labels", "--limit", "45", "--json").stdout)
    assert found["zero_shot"]["pictures"] == 45
    assert len(found["zero_shot"]["classes"]) == 15
    assert found["zero_shot"]["figures"]["accuracy@1"]["value"] > 40

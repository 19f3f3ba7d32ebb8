"""Settings of a training run: read, checked by name and place, written back whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xsearch.core.errors import MissingExtraError, SourceError, UsageError

try:
    import torch  # noqa: F401

    from xsearch.training.config import TrainConfig, changed, read_config
    from xsearch.training.settings import flat, from_mapping, parsed, with_settings
except (ImportError, MissingExtraError) as error:
    pytest.skip(f"needs the extra `train`: {error}", allow_module_level=True)

pytestmark = pytest.mark.train


def written(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_setting_is_written_and_read_back(tmp_path: Path) -> None:
    config = with_settings(
        TrainConfig(),
        {
            "data.train": ["a folder", 'C:\\with "quotes"', "中文\n"],
            "data.languages": ["en", "zh"],
            "optimiser.rate": 3e-5,
            "optimiser.betas": [0.8, 0.95],
            "loss.scale": 20,
            "freezing.lock": "image",
            "augmentation.enabled": False,
        },
    )
    text = config.to_toml()
    assert read_config(written(tmp_path, text)) == config
    for name, value in flat(config).items():
        assert value is None or f"\n{name.rpartition('.')[2]} = " in f"\n{text}", name


@given(st.text(), st.lists(st.text()))
def test_any_text_survives(text: str, texts: list[str]) -> None:
    import tomllib

    config = with_settings(TrainConfig(), {"export.licence": text, "data.train": texts})
    assert from_mapping(TrainConfig, tomllib.loads(config.to_toml())) == config


def test_what_a_file_leaves_out_has_its_default(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, "[optimiser]\nrate = 1\n"))
    assert config == with_settings(TrainConfig(), {"optimiser.rate": 1.0})


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("seed = 1\n[optimiser]\nraet = 1e-4\n", "line 3", "did you mean optimiser.rate"),
        ("[optimizer]\nrate = 1e-4\n", "line 1", "did you mean optimiser"),
        ("[data]\nlibary = 'x'\n", "line 2", "did you mean data.library"),
        ("optimiser.nonsense = 1\n", "line 1", "there are name, rate"),
        ("[schedule]\nepochs = 2.5\n", "line 2", "schedule.epochs must be a whole number, not 2.5"),
        ("[schedule]\nepochs = true\n", "line 2", "must be a whole number, not True"),
        ("[loss]\nname = 'clip'\n", "line 2", "loss.name must be one of infonce, sigmoid, triplet"),
        ("[data]\ntrain = 'photos'\n", "line 2", "data.train must be a list of texts"),
        ("[optimiser]\nbetas = [0.9]\n", "line 2", "must be a list of 2 numbers"),
        ("data = 'photos'\n", "line 1", "data is a section of settings"),
    ],
)
def test_what_does_not_fit_is_refused_by_name_and_place(
    tmp_path: Path, text: str, place: str, said: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UsageError) as error:
        read_config(path)
    message = str(error.value)
    assert message.startswith(f"{path}, {place}: ")
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("optimiser.rate", 0.0),
        ("optimiser.rate", float("nan")),
        ("optimiser.layer_decay", 1.5),
        ("optimiser.betas", [0.9, 1.0]),
        ("schedule.epochs", 0),
        ("schedule.warmup", 1.0),
        ("batch.size", 1),
        ("ema.decay", 1.0),
        ("loss.smoothing", -0.1),
        ("data.class_prompt", "a photo"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=name.replace(".", r"\.")):
        with_settings(TrainConfig(), {name: value})


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        read_config(tmp_path / "absent.toml")
    path = written(tmp_path, "[data\n")
    with pytest.raises(UsageError, match=r"run\.toml is not valid TOML"):
        read_config(path)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("optimiser.rate", "1e-4", 1e-4),
        ("optimiser.text_rate", "1e-5", 1e-5),
        ("data.languages", "en,de", ("en", "de")),
        ("data.languages", "['en']", ("en",)),
        ("data.train", "one", ("one",)),
        ("augmentation.enabled", "false", False),
        ("data.validation", "1984", "1984"),
        ("export.licence", "true", "true"),
        ("optimiser.betas", "0.9, 0.99", (0.9, 0.99)),
        ("loss.name", "sigmoid", "sigmoid"),
    ],
)
def test_words_of_the_command_line_are_read_by_the_settings_type(
    name: str, text: str, value: Any
) -> None:
    config = TrainConfig()
    assert flat(with_settings(config, {name: parsed(config, name, text)}))[name] == value


def test_words_that_name_nothing_are_refused() -> None:
    config = TrainConfig()
    with pytest.raises(UsageError, match=r"did you mean ema\.decay"):
        parsed(config, "ema.dcay", "0.9")
    with pytest.raises(UsageError, match=r"ema is a section: set one of ema\.decay"):
        parsed(config, "ema", "0.9")
    with pytest.raises(UsageError, match=r"no .*seed\.x"):
        parsed(config, "seed.x", "1")


def test_a_run_that_goes_on_may_change_rates_but_not_data() -> None:
    before = TrainConfig()
    after = with_settings(
        before,
        {"optimiser.rate": 1e-5, "data.workers": 9, "data.train": ["x"], "batch.size": 64},
    )
    free, fixed = changed(before, after)
    assert free == ["data.workers", "optimiser.rate"]
    assert fixed == ["data.train", "batch.size"]
    assert changed(before, before) == ([], [])

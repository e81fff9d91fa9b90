"""Settings: presets, files, overrides, and the messages for what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dgam.core.config import PER_STREAM, Config, change_config, load_config, preset_names, preset_text
from dgam.core.errors import InputProblems


def problems_of(
    *overrides: str, file: Path | None = None, text: str | None = None, preset: str | None = None
) -> list[str]:
    """What load_config complains of, line by line."""
    if text is not None:
        assert file is not None
        file.write_text(text, encoding="utf-8")
    with pytest.raises(InputProblems) as caught:
        load_config(preset, file, overrides)
    heading, *lines = str(caught.value).split("\n")
    assert heading == "The settings are not usable:"
    return [line.strip() for line in lines]


def test_defaults_are_the_default_preset_and_unchanged_by_loading() -> None:
    assert load_config() == Config.model_validate(
        {"preset": "default"} | (yaml.safe_load(preset_text("default")) or {})
    )


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_and_its_header_gives_the_command(name: str) -> None:
    assert load_config(name).preset == name
    header = [line for line in preset_text(name).splitlines() if line.startswith("#")]
    assert any("dgam train" in line for line in header)


def test_overrides_win_over_the_file_and_the_file_over_the_preset(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("train:\n  epochs: 7\n  batch: 5\nloss: {alpha: 0.5}\n")
    config = load_config("default", file, ["train.batch=9", "train.batch=11"])
    assert (config.train.epochs, config.train.batch, config.loss.alpha) == (7, 11, 0.5)
    assert config.train.snippets == load_config("default").train.snippets  # what nobody mentions stays


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4),  # YAML 1.1 takes this for a string
        ("1E-3", 1e-3),
        (".5", 0.5),
        ("2", 2.0),
    ],
)
def test_numbers_as_people_write_them(text: str, value: float, tmp_path: Path) -> None:
    assert load_config(overrides=[f"train.lr={text}"]).train.lr == value
    file = tmp_path / "own.yaml"
    file.write_text(f"train: {{lr: {text}}}")
    assert load_config(file=file).train.lr == value


def test_all_errors_come_at_once_each_with_its_origin_and_the_nearest_key(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    found = problems_of(
        "train.epochs=0",
        "modle.r=2",
        "streams.flow.loss.gamma11=1",
        "nonsense",
        file=file,
        text="train: {optimizer: adam}\nloss: {beta: -1, gama2: 1}\n",
        preset="thumos41",
    )
    nearest = "Did you mean 'thumos14'?" if "thumos14" in preset_names() else "Known ones: default."
    assert set(found) == {
        f"--preset: unknown preset 'thumos41'. {nearest}",
        "--set: 'nonsense' is not of the form section.name=value.",
        "--set modle: no such setting. Did you mean 'model'?",
        "--set train.epochs: must be greater than or equal to 1, got 0.",
        "--set streams.flow.loss.gamma11: no such setting. Did you mean 'gamma1'?",
        f"{file}: train.optimizer: no such setting. Did you mean 'optimiser'?",
        f"{file}: loss.beta: must be greater than or equal to 0, got -1.",
        f"{file}: loss.gama2: no such setting. Did you mean 'gamma2'?",
    }


MESSAGES = {
    "lr=1": "--set lr: no such setting. Did you mean 'train.lr'?",
    "loss.lr=1": "--set loss.lr: no such setting. Did you mean 'train.lr'?",
    "train=5": "--set train: is a section, not a setting; got 5.",
    "train.epochs=2.5": "--set train.epochs: must be a valid integer, got a number with a fractional part, "
    "got 2.5.",
    "train.epochs=yes": "--set train.epochs: must not be a yes or no, got True.",
    "train.lr=fast": "--set train.lr: must be a valid number, unable to parse string as a number, "
    "got 'fast'.",
    "train.lr=.inf": "--set train.lr: must be a finite number, got inf.",
    "model.r=.nan": "--set model.r: must be a finite number, got nan.",
    "model.attention_kernel=4": "--set model.attention_kernel: must be an odd number, got 4.",
    "model.attention_kernel=-1": "--set model.attention_kernel: must be greater than or equal to 1, got -1.",
    "streams.flow.model.attention_kernel=2": "--set streams.flow.model.attention_kernel: must be an odd "
    "number, got 2.",
    "train.select=best": "--set train.select: must be 'last', 'held-out' or 'test-map', got 'best'.",
    "train.betas=[0.9]": "--set train.betas.1: has too few values, got [0.9].",
    "train.betas=[0.9, 1]": "--set train.betas.1: must be less than 1, got 1.",
    "localize.thresholds=0.5": "--set localize.thresholds: must be a list such as [0.1, 0.5], got 0.5.",
    "localize.thresholds=[]": "--set localize.thresholds: must hold at least one value, got [].",
    "localize.thresholds=[.1, 7]": "--set localize.thresholds.1: must be less than or equal to 1, got 7.",
    "preset=thumos14": "--set: cannot choose the preset. Use --preset.",
    "train.lr=[1": "--set: the value of 'train.lr=[1' cannot be read as YAML.",
    "train.lr=2001-13-45": "--set: the value of 'train.lr=2001-13-45' cannot be read as YAML.",
    "train..lr=1": "--set: 'train..lr=1' is not of the form section.name=value.",
    "streams.flow.train.lr=1": "--set streams.flow.train: must be 'model', 'loss' or 'localize': only these "
    "can differ between streams.",
    "streams.flow.loss.alpha=-1": "--set streams.flow.loss.alpha: must be greater than or equal to 0, "
    "got -1.",
}


@pytest.mark.parametrize(("override", "message"), MESSAGES.items())
def test_messages(override: str, message: str) -> None:
    assert problems_of(override) == [message]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n", "{file}: must hold sections such as 'train:', got [1]."),
        ("train: {lr: 1, lr: 2}\n", "{file}: train.lr: is given twice; only the last would count."),
        ("train: {lr: 1}\ntrain: {lr: 1}\n", "{file}: train: is given twice; only the last would count."),
        ("1: 2\n", "{file}: 1: no such setting. Known ones: model, loss, train, localize, streams."),
    ],
)
def test_defective_files(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    assert message.format(file=file) in problems_of(file=file, text=text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    missing, binary, malformed = (
        tmp_path / "missing.yaml",
        tmp_path / "binary.yaml",
        tmp_path / "malformed.yaml",
    )
    binary.write_bytes(b"\xff\xfe\x00")
    assert problems_of(file=missing) == [f"{missing}: cannot be read: No such file or directory."]
    assert problems_of(file=tmp_path) == [f"{tmp_path}: cannot be read: Is a directory."]
    assert problems_of(file=binary)[0].startswith(f"{binary}: is not a text file in UTF-8:")
    assert problems_of(file=malformed, text="train: [")[0].startswith(f"{malformed}: is not valid YAML:")


def test_a_file_can_name_its_preset_but_not_against_the_option(tmp_path: Path) -> None:
    other = next((name for name in preset_names() if name != "default"), None)
    if other is None:
        pytest.skip("there is one preset only")
    file = tmp_path / "own.yaml"
    file.write_text(f"preset: {other}\ntrain: {{epochs: 3}}\n")
    config = load_config(file=file)
    assert config.preset == other
    assert config == load_config(other, overrides=["train.epochs=3"])
    assert problems_of(file=file, preset="default") == [
        f"{file}: preset: is {other!r}, but --preset says 'default'. Leave one of them out."
    ]


def test_streams_differ_where_told_and_only_there() -> None:
    config = load_config(overrides=["loss.gamma1=0.5", "loss.beta=0.2", "streams.flow.loss.gamma1=0.3"])
    flow, rgb = config.for_stream("flow"), config.for_stream("rgb")
    assert (flow.loss.gamma1, flow.loss.beta, rgb.loss.gamma1) == (0.3, 0.2, 0.5)
    assert flow.streams == {}
    assert flow.train == config.train


def test_a_config_survives_json() -> None:
    config = load_config(
        overrides=["localize.thresholds=[0.1,0.2]", "streams.rgb+flow.model.r=2", "train.cvae_lr=1e-4"]
    )
    assert Config.model_validate_json(config.model_dump_json()) == config


def test_every_setting_has_a_meaning_and_a_valid_default() -> None:
    for section in ("train", *PER_STREAM):
        default = getattr(Config(), section)
        assert type(default).model_validate(default.model_dump()) == default
        for name, field in type(default).model_fields.items():
            assert field.description, f"{section}.{name} has no docstring"
            assert field.description.rstrip().endswith((".", ")")), f"{section}.{name}: {field.description}"


SETTING = st.sampled_from(
    [
        f"{section}.{name}"
        for section in ("train", *PER_STREAM)
        for name in type(getattr(Config(), section)).model_fields
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner)
)


def outcome(file: Path | None = None, overrides: Sequence[str] = ()) -> Config | InputProblems:
    """The config, or what is wrong with it; any other exception passes through and fails the test."""
    try:
        return load_config(file=file, overrides=overrides)
    except InputProblems as error:
        return error


@given(st.dictionaries(SETTING, VALUES, max_size=4))
def test_any_value_is_either_usable_or_refused_in_words(values: dict[str, Any]) -> None:
    found = outcome(None, [f"{key}={yaml.safe_dump(value)}" for key, value in values.items()])
    if isinstance(found, Config):
        assert Config.model_validate(found.model_dump()) == found
    else:
        assert all(any(key in str(problem) for key in values) for problem in found.problems)
        assert len(str(found)) < 400 * (1 + len(found.problems))


@given(st.text(max_size=40))
def test_any_text_after_set_is_either_usable_or_refused_in_words(text: str) -> None:
    found = outcome(None, [text])
    assert isinstance(found, Config) or found.problems


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_file_is_either_usable_or_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    file.write_bytes(content)
    found = outcome(file)
    assert isinstance(found, Config) or found.problems


def test_a_bomb_of_aliases_is_refused_at_once(tmp_path: Path) -> None:
    lines = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    lines += [f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    found = problems_of(file=tmp_path / "bomb.yaml", text="\n".join(lines))
    assert len(found) == 9
    assert max(map(len, found)) < 500


def test_a_setting_given_later_wins_over_what_the_preset_says_of_one_stream() -> None:
    config = load_config("thumos14", overrides=["loss.gamma1=0"])
    assert [config.for_stream(s).loss.gamma1 for s in ("rgb", "flow")] == [0, 0]
    both = load_config("thumos14", overrides=["loss.gamma1=0", "streams.flow.loss.gamma1=2"])
    assert [both.for_stream(s).loss.gamma1 for s in ("rgb", "flow")] == [0, 2]
    changed = change_config(load_config("release-thumos14"), ["localize.thresholds=[0.5]"])
    assert [changed.for_stream(s).localize.thresholds for s in ("rgb", "flow")] == [(0.5,), (0.5,)]
    assert changed.for_stream("flow").localize.stream_mix == 0.65, "the stream's other settings stay"

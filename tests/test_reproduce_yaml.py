"""Experiments of one's own as YAML files: what they may say, and what is said where they are wrong."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from dgam.core.errors import InputError
from dgam.experiments.spec import Row, experiment_names, read_experiment
from tiny_experiments import SET, read, reproduce, row_of, simulate


def write(folder: Path, text: str) -> str:
    path = folder / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_files_come_with_the_package() -> None:
    folder = resources.files("dgam") / "experiments"
    assert len(experiment_names()) == 8
    for name in experiment_names():
        text = (folder / "tables" / f"{name}.yaml").read_text(encoding="utf-8")
        assert text.startswith("# ")  # says in words what it is
        assert read_experiment(name).text == text
    assert (folder / "templates" / "experiment.html.j2").is_file()


def test_an_experiment_of_one_s_own_is_run(tmp_path: Path) -> None:
    own = write(
        tmp_path,
        """
title: Does EMA help?
preset: default
set: {loss.gamma1: 0}
tiou: "0.2:0.4:0.1"
streams: [rgb]
models:
  plain: {}
  ema: {train.ema: 0.9}
baseline: plain
published:
  plain: {0.3: 12.5, mean: 10}
""",
    )
    data = simulate(tmp_path, (0,)).format(seed=0)
    assert reproduce(own, data, tmp_path / "out", "--seeds", "3,") == 0
    report = read(tmp_path / "out", "own")
    assert (report["title"], report["seeds"], report["columns"]) == (
        "Does EMA help?",
        [3],
        ["0.2", "0.3", "0.4", "mean"],
    )
    assert {model: own["train"]["ema"] for model, own in report["settings"].items()} == {
        "plain": 0.0,
        "ema": 0.9,
    }
    assert {own["loss"]["gamma1"] for own in report["settings"].values()} == {0.0}
    assert report["settings"]["plain"]["preset"] == "default"
    assert row_of(report, "plain")["paper"] == {"0.3": 12.5, "mean": 10.0}
    assert row_of(report, "plain")["columns"]["0.3"]["std"] is None
    assert len(report["tables"]) == 1  # one stream needs no table of its own
    assert "Does EMA help?" in (tmp_path / "out" / "own.html").read_text(encoding="utf-8")


def test_settings_of_the_user_lie_between_the_preset_and_what_varies(tmp_path: Path) -> None:
    data = simulate(tmp_path, (0,)).format(seed=0)
    more = ("--set=loss.beta=5", "--set=loss.alpha=0.5", "--streams", "flow", "--seeds", "1")
    assert reproduce("table7", data, tmp_path / "out", *more) == 0
    report = read(tmp_path / "out", "table7")
    assert {name: own["loss"]["beta"] for name, own in report["settings"].items()}["0.7"] == 0.7
    assert {own["loss"]["alpha"] for own in report["settings"].values()} == {0.5}
    # The flow stream's own γ1 of the preset stays, since nothing later names it.
    assert report["settings"]["0.7"]["streams"] == {"flow": {"loss": {"gamma1": 0.3}}}
    assert "The experiment's own values of loss.beta win over those given with --set." in report["notes"]
    assert [row["streams"] for row in report["tables"][0]["rows"]] == ["flow"] * 6


def test_rows_can_take_some_streams_and_modules_of_two_models(tmp_path: Path) -> None:
    own = write(
        tmp_path,
        """
title: x
models: {a: {}, b: {loss.gamma1: 0}}
rows:
  both: {model: a}
  mixed: {attention: a, classifier: b, streams: [rgb]}
""",
    )
    assert read_experiment(own).rows == (
        Row("both", "a", "a", ("rgb", "flow")),
        Row("mixed", "a", "b", ("rgb",)),
    )


def test_numbers_as_names_stay_themselves(tmp_path: Path) -> None:
    values = "[1, 0.1, 1234567, 0.12345678901, true_name]"
    own = write(tmp_path, f"title: x\nvary: {{setting: loss.multilabel, values: {values}}}\n")
    with pytest.raises(InputError) as caught:
        read_experiment(own)
    assert "must be 'mean' or 'sum', got 1234567" in str(caught.value)
    own = write(tmp_path, "title: x\nvary: {setting: loss.beta, values: [1, 0.1, 1234567, 0.12345678901]}\n")
    assert list(read_experiment(own).models) == ["1", "0.1", "1234567", "0.12345678901"]


BAD = [
    ("", ["models: is missing: which models are trained, as NAME: {loss.gamma1: 0}?"]),
    ("- a\n", [None]),
    ("titel: x\nmodels: {a: {}}\n", ["titel: no such setting. Did you mean 'title'?"]),
    (
        "models: {a: {}}\ntiou: 0:1\n",
        [
            "tiou: cannot use '0:1'; expected numbers in (0, 1], as 0.5 or 0.3,0.5,0.7 or 0.1:0.9:0.1 "
            "(first:last:step)."
        ],
    ),
    ("models: {a: {loss.betta: 1}}\n", ["models.a: loss.betta: no such setting. Did you mean 'beta'?"]),
    (
        "models: {a: {loss.beta: -1}, b: {train.epochs: many}}\n",
        [
            "models.a: loss.beta: must be greater than or equal to 0, got -1.",
            "models.b: train.epochs: must be a valid integer, unable to parse string as an integer, "
            "got 'many'.",
        ],
    ),
    (
        "set: {train.epoch: 3}\nmodels: {a: {}}\n",
        ["set: train.epoch: no such setting. Did you mean 'epochs'?"],
    ),
    ("preset: thumos\nmodels: {a: {}}\n", ["preset: unknown preset 'thumos'. Did you mean 'thumos14'?"]),
    (
        "protocol: thumos\nmodels: {a: {}}\n",
        [
            "protocol: unknown protocol 'thumos' (did you mean 'thumos14-210'?). Known: activitynet, "
            "thumos14-210, thumos14-211-270, thumos14-211-1496, thumos14-wtalc-212."
        ],
    ),
    (
        "models: {new: {}}\nrows: {x: {model: nwe}}\n",
        ["rows.x: there is no model 'nwe'. Did you mean 'new'?"],
    ),
    (
        "models: {a: {}}\nrows: {x: {attention: a}}\n",
        ["rows.x: needs either 'model', or both 'attention' and 'classifier'."],
    ),
    (
        "models: {a: {}}\nrows: {x: {model: a, streams: [depth]}}\n",
        ["rows.x.streams: 'depth' is none of rgb, flow."],
    ),
    ("models: {a: {}}\nbaseline: b\n", ["baseline: 'b' is no row. Known ones: a."]),
    (
        "models: {a: {}}\ntiou: 0.5\npublished: {a: {0.6: 1}, b: {0.5: 2}}\nothers: {C: {mean: 3}}\n",
        [
            "published.a.0.6: is no column. Did you mean '0.5'?",
            "published.b: is no row. Known ones: a.",
            "others.C.mean: is no column. Known ones: 0.5.",
        ],
    ),
    (
        "models: {a: {}, b: {}}\nmeasure: attention\nrows: {x: {attention: a, classifier: b}}\n",
        ["rows.x: measure: attention is of one model, not of two models' modules."],
    ),
    (
        "models: {a: {}}\nvary: {setting: loss.beta, values: [1]}\n",
        ["vary: stands beside 'models'. Leave one of them out."],
    ),
    ("vary: {values: [1]}\n", ["vary.setting: is missing: which setting varies, such as loss.beta?"]),
    (
        "vary: {setting: loss.beta, values: [1, -1]}\n",
        ["vary: loss.beta: must be greater than or equal to 0, got -1."],
    ),
    ("models: {a: {}}\nmeasure: maps\n", ["measure: must be 'map' or 'attention', got 'maps'."]),
    ("models: {a: {}}\nmodels: {b: {}}\n", ["models: is given twice; only the last would count."]),
]


@pytest.mark.parametrize(("text", "expected"), BAD, ids=[text or "empty" for text, _ in BAD])
def test_a_bad_file_says_what_is_wrong(
    text: str, expected: list[str | None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = write(tmp_path, text)
    assert reproduce(own, "sim", tmp_path / "out", *SET) == 2
    told = capsys.readouterr().err.rstrip().splitlines()
    assert told[0] == "dgam reproduce: The experiment is not usable:"
    if expected == [None]:
        assert told[1:] == [f"  {own}: must hold sections such as 'train:', got ['a']."]
    else:
        assert told[1:] == [f"  {own}: {line}" for line in expected]
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml: cannot be read: No such file or directory\."):
        read_experiment(str(tmp_path / "nowhere.yaml"))
    (tmp_path / "own.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="is not a text file in UTF-8"):
        read_experiment(str(tmp_path / "own.yaml"))

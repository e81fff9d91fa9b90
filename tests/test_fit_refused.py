"""What `dgam fit` on ready features refuses, leaves out or warns of, and in which words."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import dgam
from dgam.cli import main
from dgam.core.errors import InputError, InputProblems
from dgam.core.locks import file_lock
from dgam.fitting.fit import FitOptions
from dgam.fitting.folder import load_model_folder
from tiny_data import arrays, settings
from tiny_fit import ACTIONS, OPTIONS, fit, tree, write_features, write_labels

pytest_plugins = ["fit_fixtures"]


# --- what is in the way


def test_another_fit_in_the_folder_is_refused(data: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    shutil.copytree(model, out)
    with pytest.raises(InputError) as error:
        fit(data, out, replace(OPTIONS, seed=5))
    assert str(error.value) == (
        f"--out {out}: holds another fit (its seed, held-out parts differ). Give another --out, or pass "
        "--restart to replace it."
    )
    assert tree(out) == tree(model)
    fit(data, out, replace(OPTIONS, seed=5, restart=True))
    assert load_model_folder(out).run.seed == 5
    with pytest.raises(InputError, match="holds another fit"):
        fit(data, out)
    fit(data, out, replace(OPTIONS, restart=True))
    assert tree(out) == tree(model)


def test_a_folder_that_another_fit_is_at_work_on_is_refused(data: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    shutil.copytree(model, out)
    with file_lock(out / ".fit.lock") as mine:  # as the other process holds it
        assert mine
        with pytest.raises(InputError, match="another 'dgam fit' is at work on this folder"):
            fit(data, out, replace(OPTIONS, seed=5, restart=True))
    assert tree(out) == tree(model)


def test_changed_labels_or_features_are_another_fit(data: Path, model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "model")
    shutil.copytree(data / "features", tmp_path / "features")
    write_labels(tmp_path / "labels.csv", {**ACTIONS, "v03": ("jump",)})
    with pytest.raises(InputError, match=r"its labels, held-out parts differ|its labels differ"):
        fit(tmp_path, tmp_path / "model")
    write_labels(tmp_path / "labels.csv")
    write_features(tmp_path / "features", v02=np.zeros((18, 5), np.float32))
    with pytest.raises(InputError, match="its features differ"):
        fit(tmp_path, tmp_path / "model")


def test_foreign_folders_are_refused_before_any_work(data: Path, tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(InputError) as error:
        fit(data, tmp_path)
    assert str(error.value) == (
        f"--out {tmp_path}: is not empty and was not made by 'dgam fit' (it holds precious.txt). Give a new "
        "folder."
    )
    with pytest.raises(InputError, match="is a file; expected the model folder"):
        fit(data, tmp_path / "precious.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["precious.txt"]


def test_bad_options(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--seed: must be a whole number from 0 on, got -1"):
        fit(data, tmp_path / "m", FitOptions(seed=-1))
    with pytest.raises(InputError, match="'dgam fit' sees video labels only"):
        fit(data, tmp_path / "m", FitOptions(config=settings("train.select=test-map")))
    with pytest.raises(
        InputError, match=r"does not exist\. Expected a folder of videos, or of their features"
    ):
        dgam.fit(tmp_path / "nothing", data / "labels.csv", tmp_path / "m")
    with pytest.raises(InputError, match="has no stream 'smell'"):
        fit(data, tmp_path / "m", FitOptions(streams=("smell",)))


# --- what the checks do


def test_defects_of_features_and_labels_come_together(data: Path, tmp_path: Path) -> None:
    holed = arrays(ACTIONS)["v01"]["rgb"]
    holed[2, 3] = np.nan
    write_features(tmp_path / "features", v01=holed)
    write_labels(tmp_path / "labels.csv", {**ACTIONS, "v1x": ("dive",), "w": ("Diving",)})
    with pytest.raises(InputProblems) as error:
        fit(tmp_path, tmp_path / "m")
    told = str(error.value)
    assert "--skip-bad leaves bad videos out" in told
    assert "video 'v01': " in told
    assert "at snippet 2, dimension 3" in told
    assert "video 'v1x': has labels, but there is no such video" in told
    assert "The nearest name is 'v1" in told
    assert "'Diving' (1 video) and 'dive' (7 videos) look like one label" in told
    assert not (tmp_path / "m").exists()
    seen: list[tuple[str, str | None]] = []
    model = fit(
        tmp_path,
        tmp_path / "m",
        replace(OPTIONS, skip_bad=True),
        on_problem=lambda severity, problem: seen.append((severity, problem.video)),
    )
    assert ("error", "v01") in seen
    card = json.loads((model.path / "card.json").read_text())
    assert card["data"]["left_out"] == ["v01", "v1x", "w"]
    assert card["data"]["videos"] == 11
    assert model.run.classes == ("dive", "jump")  # "Diving" went with its only video
    assert any("look like one label" in text for text in card["data_warnings"])


def test_short_features_are_warned_about(tmp_path: Path) -> None:
    write_features(tmp_path / "features", v01=np.ones((3, 5), np.float32))
    write_labels(tmp_path / "labels.csv")
    seen: list[str] = []
    with pytest.raises(InputProblems):  # strict
        fit(tmp_path, tmp_path / "m", replace(OPTIONS, strict=True))
    fit(
        tmp_path,
        tmp_path / "m",
        replace(OPTIONS, hold_out="none"),
        on_problem=lambda severity, problem: seen.append(f"{severity}: {problem.what}"),
    )
    assert seen == [
        "note: 3 videos without labels: taken to hold none of the actions.",
        "warning: 1 video is shorter than 4 snippets (2.6 s): v01 (3 snippets).",
    ]


def test_too_few_left_after_skipping(tmp_path: Path) -> None:
    write_features(tmp_path / "features", {"a": ("x",), "b": ("y",)})
    write_labels(tmp_path / "labels.csv", {"a": ("x",), "zzz": ("y",)})
    with pytest.raises(InputProblems, match="1 video to train on; at least 2 are needed"):
        fit(tmp_path, tmp_path / "m", replace(OPTIONS, skip_bad=True))


@pytest.mark.parametrize("name", [[], ["--labels"]])  # as "dgam train" takes them
def test_the_command_tells_what_is_wrong(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: list[str]
) -> None:
    write_labels(tmp_path / "labels.csv", {"v00": ("x",), "nope": ("y",)})
    labels = [*name, str(tmp_path / "labels.csv")]
    assert main(["fit", str(data / "features"), *labels, "--out", str(tmp_path / "m")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("dgam fit: The videos and labels cannot be fitted as they are")
    assert "Traceback" not in told


# --- damaged model folders


@pytest.mark.parametrize("name", ["encoder.json", "calibration.json"])
@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"method": 3}'])
def test_a_damaged_model_folder(model: Path, tmp_path: Path, name: str, content: str) -> None:
    shutil.copytree(model, tmp_path / "m")
    (tmp_path / "m" / name).write_text(content)
    with pytest.raises(InputError, match=rf"{name}: damaged or not written by dgam"):
        load_model_folder(tmp_path / "m")

"""A whole fit on tiny ready features: what the model folder holds, that it goes on, and that bytes agree."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dgam
from dgam.cli import main
from dgam.core.errors import InputError, InputProblems
from dgam.core.locks import file_lock
from dgam.fitting.fit import FitOptions
from dgam.fitting.folder import load_model_folder
from dgam.fitting.judge import judge, load_judged, save_judged
from dgam.fitting.localizer import Localizer
from tiny_data import NETWORKS, arrays, settings

ACTIONS = {f"v{i:02}": (("dive",), ("jump",), ("dive", "jump"), ())[i % 4] for i in range(12)}
SHORT = settings("train.epochs=4", "train.batch=12")
OPTIONS = FitOptions(config=SHORT, streams=("rgb",))


def write_features(folder: Path, actions: Mapping[str, Any] = ACTIONS, **changes: np.ndarray) -> Path:
    """A folder per stream with a .npy for each video."""
    for video, streams in arrays(actions).items():
        for stream, x in streams.items():
            (folder / stream).mkdir(parents=True, exist_ok=True)
            np.save(folder / stream / f"{video}.npy", changes.get(video, x) if stream == "rgb" else x)
    return folder


def write_labels(path: Path, actions: Mapping[str, Any] = ACTIONS) -> Path:
    rows = "".join(f"{video},{';'.join(names)}\n" for video, names in actions.items())
    path.write_text(f"video,labels\n{rows}")
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fit")
    write_features(root / "features")
    write_labels(root / "labels.csv")
    return root


def fit(data: Path, out: Path, options: FitOptions = OPTIONS, **more: Any) -> Any:
    return dgam.fit(data / "features", data / "labels.csv", out, options=options, **more)


@pytest.fixture(scope="module")
def model(data: Path) -> Path:
    return fit(data, data / "model").path  # type: ignore[no-any-return]


def tree(folder: Path) -> dict[str, bytes]:
    """All files but the times, by name."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "times.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# --- the model folder


def test_the_model_folder(model: Path) -> None:
    assert sorted(tree(model)) == [
        "calibration.json",
        "card.json",
        "card.md",
        "encoder.json",
        "fit.json",
        "rgb/checkpoint.safetensors",
        "rgb/metrics.jsonl",
        "rgb/model.safetensors",
        "run.json",
    ]
    assert sorted(path.name for path in model.iterdir())[0] == "calibration.json"  # no work folder is left
    folder = load_model_folder(model)
    assert folder.run.classes == ("dive", "jump")
    assert folder.run.videos == 12
    assert folder.encoder is None
    assert folder.calibration is not None
    assert folder.calibration.videos == 12
    assert folder.name == "model"
    times = json.loads((model / "times.json").read_text())
    assert list(times) == [
        "checking and extracting",
        "held-out parts",
        "calibrating",
        "training on all videos",
    ]
    assert dgam.load_model(model) == folder


def test_the_run_has_the_calibrated_threshold(model: Path) -> None:
    folder = load_model_folder(model)
    assert folder.calibration is not None
    threshold = folder.calibration.class_thresholds["rgb"]
    assert folder.run.config.localize.class_threshold == threshold
    assert folder.calibration.thresholds["rgb"] == folder.run.config.localize.thresholds
    assert dgam.load_run(model).config == folder.run.config


def test_the_card(model: Path, data: Path) -> None:
    card = json.loads((model / "card.json").read_text())
    assert card["simulated"] is False
    assert card["data"] == {
        "kind": "features",
        "source": str(data / "features"),
        "labels": str(data / "labels.csv"),
        "videos": 12,
        "hours": round(sum(3 * (4 + i) * 0.64 for i in range(12)) / 3600, 4),
        "shortest_seconds": 7.68,
        "longest_seconds": 28.8,
        "without_labels": 3,
        "left_out": [],
        "classes": {"dive": 6, "jump": 6},
    }
    assert card["features"] == {
        "encoder": None,
        "streams": {"rgb": 5},
        "snippet_seconds": 0.64,
        "recorded": None,
    }
    assert card["training"]["seed"] == 0
    assert card["training"]["settings"]["train"]["epochs"] == 4
    assert card["held_out"] == (
        "The 12 videos were held out in 5 parts, each judged by a model trained on the rest."
    )
    assert card["calibration"] == json.loads((model / "calibration.json").read_text())
    assert sum(part["videos"] for part in card["calibration"]["scores"]["parts"]) == 12
    text = load_model_folder(model).card()
    scores = card["calibration"]["scores"]
    for words in (
        "# Model card: model",
        "- 12 videos, 3.6 minutes in all, 7.68 to 28.8 s each; 3 without any label",
        "- features: encoder not known, rgb (5 numbers); one snippet is 0.64 s",
        f"| dive | 6 | {scores['classes']['dive']['ap']:.2f} |",
        f"- mean average precision over classes: {scores['map']:.2f}; random orders reach",
        "- the same by part: ",
        "- preset `default`, 4 epochs, seed 0; all settings are in run.json",
        "Learned from video labels alone",
        "Times lie on a grid of 0.64 s",
        *card["calibration"]["notes"],
    ):
        assert words in text


def test_a_model_that_can_learn_tells_held_out_labels(data: Path, tmp_path: Path) -> None:
    config = settings("train.epochs=60", "train.batch=12", "train.lr=0.02", "train.checkpoint_every=60")
    model = fit(data, tmp_path / "m", replace(OPTIONS, config=config))
    assert model.calibration.scores["map"] > 0.8  # each action is in a feature of its own
    assert model.calibration.scores["map"] > model.calibration.scores["chance_95"]
    found = Localizer(model).localize(dgam.open_features(data / "features"), "v00")
    best = found.detections[0]
    assert best.label == "dive"
    assert best.start < 6 * 0.64 < best.end  # the middle of the middle third
    assert max(found.probabilities, key=lambda name: found.probabilities[name]) == "dive"


def test_no_video_is_judged_by_a_model_that_saw_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dgam.api
    import dgam.fitting.fit

    trained: dict[Path, set[str]] = {}
    judged: dict[Path, set[str]] = {}
    train, judge = dgam.api.train, dgam.fitting.fit.judge

    def watch_training(features: Any, labels: Any, out: Path, **more: Any) -> Any:
        trained[out] = set(labels.videos)
        return train(features, labels, out, **more)

    def watch_judging(run: Path, features: Any, labels: Any, *more: Any) -> Any:
        judged[run] = set(labels.videos)
        return judge(run, features, labels, *more)

    monkeypatch.setattr(dgam.api, "train", watch_training)
    monkeypatch.setattr(dgam.fitting.fit, "judge", watch_judging)
    fit(data, tmp_path / "m")
    assert trained.pop(tmp_path / "m") == set(ACTIONS)  # the model that stays
    assert trained.keys() == judged.keys()
    for run, videos in judged.items():
        assert videos
        assert trained[run] == set(ACTIONS) - videos
    assert sorted(video for videos in judged.values() for video in videos) == sorted(ACTIONS)


def test_every_class_is_judged_in_every_video(data: Path, model: Path) -> None:
    source, labels = dgam.open_features(data / "features"), dgam.read_labels(data / "labels.csv")
    judged = judge(model, source, labels, 3)
    assert [one.video for one in judged] == list(labels.videos)
    for one in judged:
        assert np.isfinite(one.best).all()  # also of classes that the model would not look for by itself
        assert one.truth.tolist() == [name in labels.labels[one.video] for name in ("dive", "jump")]
        assert one.part == 3
        assert 0 <= one.attended["rgb"] <= 1
    save_judged(model.parent / "judged.json", judged)
    again = load_judged(model.parent / "judged.json")
    assert again is not None
    assert [vars(one)["probabilities"]["rgb"].tolist() for one in again] == [
        one.probabilities["rgb"].tolist() for one in judged
    ]


# --- the same bytes


def test_the_same_call_gives_the_same_bytes(data: Path, model: Path, tmp_path: Path) -> None:
    again = fit(data, tmp_path / "model").path
    assert tree(again) == tree(model)
    other = fit(data, tmp_path / "seed 1", replace(OPTIONS, seed=1)).path
    assert tree(other)["rgb/model.safetensors"] != tree(model)["rgb/model.safetensors"]


def test_the_order_of_rows_changes_nothing(data: Path, model: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "features", tmp_path / "features")
    write_labels(tmp_path / "labels.csv", dict(reversed(ACTIONS.items())))
    here = fit(tmp_path, tmp_path / "model").path
    assert tree(here)["rgb/model.safetensors"] == tree(model)["rgb/model.safetensors"]
    assert tree(here)["calibration.json"] == tree(model)["calibration.json"]


class Stop(Exception):
    """Raised in place of a kill."""


@pytest.mark.parametrize("at", [0.1, 0.4, 0.9])
def test_an_interrupted_fit_goes_on(data: Path, model: Path, tmp_path: Path, at: float) -> None:
    trained: list[str] = []

    def stop(what: str, done: float, losses: dict[str, float]) -> None:
        if done >= at:
            raise Stop

    with pytest.raises(Stop):
        fit(data, tmp_path / "model", on_training=stop)
    with pytest.raises(InputError, match=r"no run\.json"):
        load_model_folder(tmp_path / "model")  # half a model is none
    fit(data, tmp_path / "model", on_training=lambda what, done, losses: trained.append(what))
    assert tree(tmp_path / "model") == tree(model)
    assert len(trained) < 6 * 4  # epochs that were done are not done again
    assert ("part 1 of 5, rgb" in trained) == (at < 1 / 6)


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from test_fit import OPTIONS, Path, fit

def kill(what, done, losses):
    if done > 0.45:  # in the third part
        os.kill(os.getpid(), signal.SIGKILL)

fit(Path(sys.argv[2]), Path(sys.argv[3]), OPTIONS, on_training=kill)
"""


def test_a_killed_fit_goes_on(data: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(data), str(out)]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    assert sorted(path.name for path in (out / ".fit").glob("part-?.json")) == ["part-0.json", "part-1.json"]
    fit(data, out)
    assert tree(out) == tree(model)


def test_a_finished_fit_is_left_alone(data: Path, model: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in model.rglob("*")}
    fit(data, model, on_training=lambda *_: pytest.fail("trained again"))
    assert {path: path.stat().st_mtime_ns for path in model.rglob("*")} == before


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


def test_three_videos_give_a_model_without_calibration(tmp_path: Path) -> None:
    actions = {"a": ("x",), "b": ("y",), "c": ()}
    write_features(tmp_path / "features", actions)
    write_labels(tmp_path / "labels.csv", actions)
    model = fit(tmp_path, tmp_path / "m")
    assert model.calibration is None
    assert json.loads((model.path / "calibration.json").read_text()) is None
    text = model.card()
    assert "No video was held out: 3 are too few, at least 4 are needed." in text
    assert "- all are the preset's: nothing was held out to choose them on" in text
    assert "- Nothing was held out: how well the model tells even the video labels is not known." in text
    assert model.run.config.localize.class_threshold == SHORT.localize.class_threshold


# --- other ways in


def test_several_streams_and_a_joint_one(data: Path, tmp_path: Path) -> None:
    options = replace(OPTIONS, streams=("rgb", "rgb+flow"), hold_out="one")
    model = fit(data, tmp_path / "m", options)
    assert model.run.streams == {"rgb": 5, "rgb+flow": 9}
    assert model.calibration is not None
    for stream, value in model.calibration.class_thresholds.items():
        assert model.run.config.for_stream(stream).localize.class_threshold == value
    assert set(model.calibration.scores["attended"]) == {"rgb", "rgb+flow"}


def test_features_in_memory(data: Path, tmp_path: Path) -> None:
    from dgam.features.source import ArrayFeatures

    held = ArrayFeatures(arrays(ACTIONS))
    model = dgam.fit(held, data / "labels.csv", tmp_path / "m", options=replace(OPTIONS, hold_out="none"))
    assert model.run.streams == {"rgb": 5}


def test_subsets(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "features", tmp_path / "features")
    rows = [f"{v},{'test' if v > 'v07' else 'train'},{';'.join(n)}" for v, n in ACTIONS.items()]
    (tmp_path / "labels.csv").write_text("\n".join(["video,subset,labels", *rows]))
    model = fit(tmp_path, tmp_path / "m", replace(OPTIONS, subset=("train",), hold_out="none"))
    assert model.run.videos == 8
    with pytest.raises(InputError, match=r"has no video of subset nope\. Its subsets: test, train"):
        fit(tmp_path, tmp_path / "m2", replace(OPTIONS, subset=("nope",)))


def test_simulated_data_are_called_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    knobs = [f"--set={knob}" for knob in ("train=6", "test=1", "classes=2", "dimension=6", "instances=4")]
    sim, out = tmp_path / "sim", tmp_path / "m"
    assert main(["simulate", str(sim), *knobs]) == 0
    call = ["fit", str(sim / "train"), str(sim / "labels.csv"), "--subset", "train", "--out", str(out)]
    tiny = [f"--set={text}" for text in (*NETWORKS, "train.snippets=8")]
    assert main([*call, *tiny, "--epochs", "2", "--streams", "rgb"]) == 0
    told = capsys.readouterr()
    assert "The data are simulated: these scores say nothing about real videos." in told.out
    assert "warning: " in told.err
    assert "6 videos are few" in told.err
    assert "**Trained on simulated data" in (out / "card.md").read_text()
    assert json.loads((out / "card.json").read_text())["training"]["settings"]["train"]["epochs"] == 2


def test_the_command_tells_what_is_wrong(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_labels(tmp_path / "labels.csv", {"v00": ("x",), "nope": ("y",)})
    assert (
        main(["fit", str(data / "features"), str(tmp_path / "labels.csv"), "--out", str(tmp_path / "m")]) == 2
    )
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


def test_a_plain_run_folder_loads(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "m")
    for name in ("encoder.json", "calibration.json", "card.md"):
        (tmp_path / "m" / name).unlink()
    folder = load_model_folder(tmp_path / "m")
    assert (folder.encoder, folder.calibration, folder.card()) == (None, None, "")
    with pytest.raises(InputError, match="trained on features of unknown origin"):
        Localizer(folder).localize_file(model / "run.json")

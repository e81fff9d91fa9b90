"""A whole fit on tiny ready features: what the model folder and its card hold, and that it learns."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dgam
from dgam.cli import main
from dgam.core.errors import InputError
from dgam.fitting.folder import load_model_folder
from dgam.fitting.judge import judge, load_judged, save_judged
from dgam.fitting.localizer import Localizer
from tiny_data import NETWORKS, arrays, settings
from tiny_fit import ACTIONS, OPTIONS, SHORT, fit, tree, write_features, write_labels

pytest_plugins = ["fit_fixtures"]


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
        "- preset `default`, 4 epochs at most, seed 0; all settings, and after which epoch each stream "
        "ended, are in run.json",
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


def test_a_plain_run_folder_loads(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "m")
    for name in ("encoder.json", "calibration.json", "card.md"):
        (tmp_path / "m" / name).unlink()
    folder = load_model_folder(tmp_path / "m")
    assert (folder.encoder, folder.calibration, folder.card()) == (None, None, "")
    with pytest.raises(InputError, match="trained on features of unknown origin"):
        Localizer(folder).localize_file(model / "run.json")

"""Localising by the API: defective videos, curves, settings, table 2, and what is refused."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dgam
import tiny_data
from data_helpers import write_streams
from dgam.core.config import LocalizeSettings
from dgam.core.errors import InputError, InputProblems, Problem
from dgam.core.run import Run
from dgam.core.types import AnnotatedVideo, Detections, Segment, SegmentAnnotations
from dgam.data.sampling import uniform
from dgam.features.source import ArrayFeatures
from dgam.training.checkpoint import load_model
from tiny_data import broken, features, train


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of both streams that has learnt the tiny data."""
    config = tiny_data.settings(base=tiny_data.LEARNS)
    return train(tmp_path_factory.mktemp("api") / "run", config=config)


LOCALISING_DEFECTS = [
    "arrays: video 'v1': stream 'rgb' has NaN or infinite features.",
    "arrays: video 'v3': has no features in stream 'flow'.",
    "arrays: video 'v4': video 'v4' has no snippets (T = 0).".replace("video 'v4' has", "has"),
]


def test_localising_tells_of_videos_that_it_cannot_use(trained: Run) -> None:
    source = features(broken())
    with pytest.raises(InputProblems, match="--skip-bad goes on without them") as caught:
        dgam.localize(trained, source)
    assert [str(problem) for problem in caught.value.problems] == LOCALISING_DEFECTS
    told: list[Problem] = []
    found = dgam.localize(trained, source, on_problem=told.append)
    assert [str(problem) for problem in told] == LOCALISING_DEFECTS
    assert list(found.videos) == ["v0", "v2", "v3"]
    assert found.videos["v0"] == dgam.localize(trained, features()).videos["v0"]


def test_a_video_of_one_stream_gets_that_streams_detections(trained: Run, tmp_path: Path) -> None:
    source = features(broken())
    found = dgam.localize(trained, source, videos=["v3"], on_problem=lambda p: None, curves=tmp_path)
    alone = dgam.localize(replace(trained, streams={"rgb": 5}), source, videos=["v3"])
    assert found.videos["v3"] == alone.videos["v3"] != ()
    with np.load(tmp_path / "v3.npz") as curves:
        assert {name.split(".")[0] for name in curves} == {"rgb", "classes"}


def test_every_defect_of_a_video_is_told(trained: Run) -> None:
    """Not only the stream that it lacks, where the other one is what it was left out for."""
    x = np.full((4, 5), np.inf, np.float32)
    told: list[str] = []
    found = dgam.localize(
        trained, features({"v3": {"rgb": x}}), videos=["v3"], on_problem=lambda p: told.append(str(p))
    )
    assert not found.videos
    assert told == [
        "arrays: video 'v3': has no features in stream 'flow'.",
        "arrays: video 'v3': stream 'rgb' has NaN or infinite features.",
    ]


def test_a_damaged_file_is_named_when_localising(trained: Run, tmp_path: Path) -> None:
    folder = write_streams(tmp_path, tiny_data.arrays())
    short = folder / "flow" / "v1.npy"
    np.save(short, np.load(short)[:-2])
    told: list[str] = []
    found = dgam.localize(trained, dgam.open_features(folder), on_problem=lambda p: told.append(str(p)))
    assert list(found.videos) == ["v0", "v2", "v3", "v4"]
    assert told == [f"{short}: video 'v1': stream 'flow' has 13 snippets, the video's first stream has 15."]


# What localising leaves behind, and its settings.


def test_curves_hold_what_the_model_says(trained: Run, tmp_path: Path) -> None:
    told: list[str] = []
    overrides = ["localize.t_max=13"]
    dgam.localize(trained, features(), overrides=overrides, curves=tmp_path, on_video=told.append)
    assert told == list(tiny_data.ACTIONS)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{video}.npz" for video in told]
    for index, video in enumerate(told):
        with np.load(tmp_path / f"{video}.npz", allow_pickle=False) as curves:
            assert curves["classes"].tolist() == ["dive", "jump"]
            rows = uniform(3 * (4 + index), 1, 13)
            for stream in ("rgb", "flow"):
                model = load_model(trained.folder(stream) / "model.safetensors")
                x = torch.from_numpy(tiny_data.arrays()[video][stream][rows])[None]
                with torch.no_grad():
                    attention, logits, tcam = model(x)
                np.testing.assert_array_equal(curves[f"{stream}.positions"], rows + 0.5)
                np.testing.assert_allclose(curves[f"{stream}.attention"], attention[0], atol=1e-6)
                np.testing.assert_allclose(curves[f"{stream}.logits"], logits[0, :, :2], atol=1e-5)
                np.testing.assert_allclose(curves[f"{stream}.tcam"], tcam[0, :, :2], atol=1e-5)
                assert curves[f"{stream}.probabilities"].shape == (2,)


def test_settings_of_localising_can_be_changed(trained: Run) -> None:
    plain = dgam.localize(trained, features())
    whole = dgam.localize(
        trained, features(), overrides=["localize.thresholds=[0]", "localize.threshold_scale=absolute"]
    )
    for index, video in enumerate(tiny_data.ACTIONS):
        end = 3 * (4 + index) * tiny_data.SECONDS
        assert {(d.start, round(d.end, 9)) for d in whole.videos[video]} == {(0.0, round(end, 9))}
    assert plain.videos != whole.videos
    # What a result says of itself is free JSON, annotated as object.
    settings = whole.about["dgam"]["localize"]  # type: ignore[index]  # a mapping there
    assert settings["thresholds"] == [0.0]
    assert LocalizeSettings.model_validate(settings)
    apart = ["localize.fusion=segments", "streams.flow.localize.min_seconds=1000"]
    flow = dgam.localize(trained, features(), overrides=apart)
    assert flow.videos == dgam.localize(replace(trained, streams={"rgb": 5}), features()).videos


def test_results_say_how_they_came_about(trained: Run, tmp_path: Path) -> None:
    found = dgam.localize(trained.path, features())
    assert found.about["details"] == "Features from arrays"
    assert found.about["selection"] == trained.selection
    dgam.write_detections(tmp_path / "detections.json", found)
    read = dgam.read_detections(tmp_path / "detections.json")
    assert isinstance(read, Detections)
    assert read.videos == found.videos
    assert dict(read.about) == dict(found.about)


def test_statistics_are_those_of_table_2(trained: Run) -> None:
    # Labels that the model does not agree with, so that it matters which classes are looked at.
    actions = {**tiny_data.ACTIONS, "v0": ("jump",), "v1": ("dive",)}
    found = dgam.statistics(trained, features(), tiny_data.truth(actions), threshold=0.4)
    assert found.keys() == {"rgb", "flow"}
    for stream, statistics in found.items():
        model, counts = load_model(trained.folder(stream) / "model.safetensors"), np.zeros(5)
        for index, (video, names) in enumerate(actions.items()):
            x, third = torch.from_numpy(tiny_data.arrays()[video][stream])[None], 4 + index
            with torch.no_grad():
                attention, _, tcam = model(x)
            columns = [("dive", "jump").index(name) for name in names]
            att = attention[0].numpy() > 0.4
            cls = torch.softmax(tcam[0], dim=-1)[:, columns].max(dim=1).values.numpy() > 0.4
            gt = np.repeat([False, True, False], third)
            parts = (att & ~gt, gt & ~att, cls & ~gt & ~att, att & gt & ~cls, gt)
            counts += [part.sum() for part in parts]
        ratios = (statistics.false_activation, statistics.omission, statistics.filtered, statistics.recovered)
        assert ratios == pytest.approx(counts[:4] / counts[4])
        assert (statistics.videos, statistics.threshold) == (5, 0.4)


def test_statistics_leave_out_videos_without_features_and_unknown_labels(trained: Run) -> None:
    more = {
        **tiny_data.truth().videos,
        "absent": AnnotatedVideo((Segment(0, 1, "dive"),)),
        "v4": AnnotatedVideo((Segment(0, 1, "nobody knows"),)),
    }
    found = dgam.statistics(trained, features(), SegmentAnnotations(more))
    assert found["rgb"].videos == 5
    with pytest.raises(InputError, match="do the annotations belong to these videos"):
        dgam.statistics(trained, features(), SegmentAnnotations({"absent": more["absent"]}))


# What is refused.


def other_dimension(run: Run) -> object:
    return dgam.localize(run, ArrayFeatures(tiny_data.arrays(dims={"rgb": 7, "flow": 4})))


def other_streams(run: Run) -> object:
    return dgam.localize(run, ArrayFeatures(tiny_data.arrays(dims={"rgb": 5, "audio": 4})))


def change(run: Run, **values: Any) -> Path:
    """A copy of the run folder's run.json, changed, beside the same models."""
    content = {**json.loads((run.path / "run.json").read_text()), **values}
    folder = run.path.parent / f"changed-{len(list(run.path.parent.iterdir()))}"
    folder.mkdir()
    for stream in run.streams:
        os.symlink(run.folder(stream), folder / stream)
    (folder / "run.json").write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return folder


def damaged(run: Run, text: str) -> Path:
    folder = change(run)
    (folder / "run.json").write_text(text)
    return folder


REFUSED = {
    "other dimension": (
        other_dimension,
        "arrays: stream 'rgb' has dimension 7, the run was trained on dimension 5. Features must come from",
    ),
    "other streams": (
        other_streams,
        "arrays: has no stream 'flow', which the run was trained on. It has: rgb, audio.",
    ),
    "unknown video": (
        lambda run: dgam.localize(run, features(), videos=["v0", "w1", "w0"]),
        "arrays: has no video 'w0' (2 such in all).",
    ),
    "settings of training": (
        lambda run: dgam.localize(run, features(), overrides=["localize.eta=0", "loss.alpha=1"]),
        "--set: 'loss.alpha=1' has no effect after training; only localize.* settings do.",
    ),
    "unknown setting": (
        lambda run: dgam.localize(run, features(), overrides=["localize.treshold=1"]),
        "--set localize.treshold: no such setting. Did you mean 'thresholds'?",
    ),
    "streams fused two ways": (
        lambda run: dgam.localize(run, features(), overrides=["streams.flow.localize.nms=hard"]),
        "localize.nms differs between streams (rgb: 'soft-gaussian', flow: 'hard')",
    ),
    "curves into a file": (
        lambda run: dgam.localize(run, features(), curves=run.path / "run.json"),
        "run.json: is a file; expected a folder.",
    ),
    "no run": (
        lambda run: dgam.localize(run.path / "rgb", features()),
        "rgb: not a run folder, it has no run.json. Expected what 'dgam train --out RUN' made.",
    ),
    "run.json cut short": (
        lambda run: dgam.localize(damaged(run, '{"format": 1, "seed"'), features()),
        "run.json: damaged or not written by dgam (JSONDecodeError: Expecting ':' delimiter",
    ),
    "run.json is a list": (
        lambda run: dgam.localize(damaged(run, "[1]"), features()),
        "run.json: damaged or not written by dgam (TypeError",
    ),
    "run.json is not text": (
        lambda run: dgam.localize(damaged(run, "\0"), features()),
        "run.json: damaged or not written by dgam (JSONDecodeError",
    ),
    "run.json without classes": (
        lambda run: dgam.localize(change(run, classes=None), features()),
        "run.json: damaged or not written by dgam (KeyError: 'classes').",
    ),
    "run.json of another version": (
        lambda run: dgam.localize(change(run, format=9), features()),
        "run.json: format 9, this version of dgam reads 1.",
    ),
    "run.json with another config": (
        lambda run: dgam.localize(change(run, config={"train": {"epoch": 3}}), features()),
        "run.json: damaged or not written by dgam (ValidationError: 1 validation error",
    ),
    "run.json of other classes": (
        lambda run: dgam.localize(change(run, classes=["a", "b", "c"]), features()),
        "rgb: a model of 2 classes, but run.json lists 3. Both must come from the same training.",
    ),
    "run.json of streams that are not there": (
        lambda run: dgam.localize(change(run, streams={"audio": 4}), features()),
        "model.safetensors: there is no such file. Expected one that 'dgam train' made.",
    ),
    "no such device": (
        lambda run: dgam.localize(run, features(), device="gpu"),
        "--device gpu: cannot be used here.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_done_is_refused_in_words(name: str, trained: Run) -> None:
    action, message = REFUSED[name]
    with pytest.raises(InputError) as caught:
        action(trained)
    assert message in str(caught.value)

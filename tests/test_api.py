"""The Python API end to end on tiny simulated features, what it learns from, and which weights it keeps."""

from __future__ import annotations

import doctest
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dgam
import tiny_data
from data_helpers import tree_bytes, write_streams, write_text
from dgam import api, runs
from dgam.cli import main
from dgam.core.errors import InputError, InputProblems
from dgam.core.run import Run
from dgam.core.types import AnnotatedVideo, Segment, SegmentAnnotations
from dgam.training.checkpoint import load_model, load_tensors
from tiny_data import features, train, weights


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of both streams that has learnt the tiny data."""
    config = tiny_data.settings(base=tiny_data.LEARNS)
    return train(tmp_path_factory.mktemp("api") / "run", config=config)


# From features and labels to mAP.


def test_train_localise_evaluate_learns_what_the_data_hold(trained: Run) -> None:
    found = dgam.localize(trained, features())
    result = dgam.evaluate(found, tiny_data.truth(), [0.1, 0.5])
    assert list(found.videos) == list(tiny_data.ACTIONS)
    assert result.map[0] > 0.5
    best = {video: max(detections, key=lambda d: d.score).label for video, detections in found.videos.items()}
    assert all(best[video] in actions for video, actions in tiny_data.ACTIONS.items())
    two = {d.label for d in found.videos["v2"]}
    assert two == {"dive", "jump"}, "a video of two labels has detections of both"
    for detections in found.videos.values():
        scores = [d.score for d in detections]
        assert scores == sorted(scores, reverse=True)


def test_a_run_says_what_it_is(trained: Run) -> None:
    loaded = dgam.load_run(trained.path)
    assert loaded == trained
    assert loaded.streams == {"rgb": 5, "flow": 4}
    assert loaded.classes == ("dive", "jump")
    assert (loaded.videos, loaded.seed) == (5, 0)
    lengths = {s: len((loaded.folder(s) / "metrics.jsonl").read_text().splitlines()) for s in ("rgb", "flow")}
    epochs = ", ".join(f"{stream}: epoch {length}" for stream, length in lengths.items())
    assert loaded.selection == f"the weights after the last epoch ({epochs})"


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_same_seed_gives_the_same_detections_file(tmp_path: Path, on_disk: bool) -> None:
    source: Any = features()
    if on_disk:
        source = dgam.open_features(write_streams(tmp_path / "features", tiny_data.arrays()))
    written = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        found = dgam.localize(train(tmp_path / name, source=source, seed=seed), source)
        dgam.write_detections(tmp_path / f"{name}.json", found)
        written.append((tmp_path / f"{name}.json").read_bytes())
    assert written[0] == written[1]
    assert json.loads(written[0])["results"] != json.loads(written[2])["results"]


def test_arrays_and_folders_and_stores_give_the_same_weights(tmp_path: Path) -> None:
    folder = write_streams(tmp_path / "features", tiny_data.arrays())
    dgam.import_features(dgam.open_features(folder), tmp_path / "store")
    runs = [
        train(tmp_path / "a"),
        train(tmp_path / "b", source=dgam.open_features(folder)),
        train(tmp_path / "c", source=dgam.open_features(tmp_path / "store")),
    ]
    for stream in ("rgb", "flow"):
        assert len({weights(run, stream) for run in runs}) == 1


def test_two_streams_joined_into_one(tmp_path: Path) -> None:
    run = train(tmp_path, "streams.rgb+flow.loss.gamma1=0.1", streams=["rgb+flow"])
    assert run.streams == {"rgb+flow": 9}
    assert run.config.for_stream("rgb+flow").loss.gamma1 == 0.1
    assert load_model(run.folder("rgb+flow") / "model.safetensors").shape.dimension == 9
    found = dgam.localize(run, features())
    assert any(found.videos.values())
    assert dgam.statistics(run, features(), tiny_data.truth()).keys() == {"rgb+flow"}
    lacking = features({"v0": {"rgb": tiny_data.arrays()["v0"]["rgb"]}})
    with pytest.raises(InputProblems, match="'v0': has no features in stream 'flow'"):
        dgam.localize(run, lacking)


def test_only_the_streams_asked_for(tmp_path: Path) -> None:
    run = train(tmp_path / "one", streams=["flow"])
    assert run.streams == {"flow": 4}
    assert not (tmp_path / "one" / "rgb").exists()
    assert weights(run, "flow") == weights(train(tmp_path / "both"), "flow"), (
        "streams do not disturb each other"
    )


def test_a_video_without_labels_is_a_negative_example(tmp_path: Path) -> None:
    labels = tiny_data.labels({**tiny_data.ACTIONS, "v4": ()})
    plain = train(tmp_path / "a")
    assert weights(train(tmp_path / "b", labels=labels)) != weights(plain)
    held_out = ("train.select=held-out", "train.select_every=1", "train.held_out=0.7")
    assert train(tmp_path / "c", *held_out, labels=labels).videos == 5


def test_the_example_in_the_documentation_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line of it, in order, on a folder with the names that it uses."""
    write_streams(tmp_path / "features", tiny_data.arrays())
    write_streams(tmp_path / "new", tiny_data.arrays(seed=1))
    rows = [f"{video},{';'.join(names)},train" for video, names in tiny_data.ACTIONS.items()]
    write_text(tmp_path / "labels.csv", "\n".join(["video,labels,subset", *rows, "w,dive,test"]) + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "load_config", tiny_data.settings)
    examples = doctest.DocTestParser().get_examples(api.__doc__ or "")
    assert len(examples) == 6
    names: dict[str, Any] = {}
    for example in examples:
        exec(example.source, names)
    assert dgam.read_detections("detections.json").videos == names["detections"].videos
    assert set(names["detections"].videos) == set(tiny_data.ACTIONS)


# Weak supervision: nothing but labels has a way in.


def database(actions: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """ActivityNet JSON with an instance or more of each label, at random places."""
    videos = {}
    for video, names in actions.items():
        annotations = []
        for name in [*names, *names[:1]]:
            start, end = sorted(rng.uniform(0, 8, 2).tolist())
            annotations.append({"label": name, "segment": [start, end]})
        videos[video] = {"subset": "train", "duration": 9.0, "annotations": annotations}
    return {"version": "1.3", "database": videos}


def test_segments_in_the_file_of_labels_change_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [f"{video},{';'.join(names)},train" for video, names in tiny_data.ACTIONS.items()]
    files = [
        write_text(tmp_path / "labels.csv", "\n".join(["video,labels,subset", *rows]) + "\n"),
        write_text(tmp_path / "gt.json", database(tiny_data.ACTIONS, rng)),
        write_text(tmp_path / "scrambled.json", database(tiny_data.ACTIONS, rng)),
    ]
    runs = []
    for file in files:
        run = train(tmp_path / file.stem, labels=dgam.read_labels(file).in_subset("train"))
        runs.append({name: data for name, data in tree_bytes(run.path).items() if name != "run.json"})
    assert files[1].read_text() != files[2].read_text()
    assert len(runs[0]) == 6
    assert runs[0] == runs[1] == runs[2]
    swapped = {**tiny_data.ACTIONS, "v0": ("jump",)}
    assert tree_bytes(train(tmp_path / "swapped", labels=tiny_data.labels(swapped)).path) != runs[0]


# Which weights are kept.

LOOKS = ("train.select_every=1", "train.epochs=6")


def scores(run: Run, stream: str) -> dict[int, float]:
    lines = (run.folder(stream) / "metrics.jsonl").read_text().splitlines()
    return {line["epoch"]: line["selection"] for line in map(json.loads, lines)}


def test_the_best_on_held_out_training_videos(tmp_path: Path) -> None:
    run = train(tmp_path, "train.select=held-out", "train.held_out=0.4", "train.lr=0.1", *LOOKS)
    assert run.selection.startswith(
        "the best by video classification on held-out training videos (rgb: epoch "
    )
    for stream in run.streams:
        by_epoch = scores(run, stream)
        best = max(by_epoch, key=lambda epoch: (by_epoch[epoch], -epoch))
        assert f"{stream}: epoch {best}" in run.selection
        _, facts = load_tensors(run.folder(stream) / "model.safetensors")
        assert facts["epoch"] == best
        assert all(score < 0 for score in by_epoch.values()), "a log-likelihood"


def test_held_out_videos_are_not_trained_on(tmp_path: Path) -> None:
    """The held-out score is that of these weights on these videos, and training saw the others only."""
    config = tiny_data.settings("train.select=held-out", "train.held_out=0.4", *LOOKS)
    training, apart = runs.split(tiny_data.labels(), config, 0)
    assert sorted((*training.videos, *apart.videos)) == sorted(tiny_data.ACTIONS)
    assert len(apart) == 2
    assert training.classes == apart.classes == ("dive", "jump")
    rng, noise = np.random.default_rng(0), {}
    for video in apart.videos:
        x = tiny_data.arrays()[video]
        noise[video] = {s: rng.random(x[s].shape, dtype=np.float32) for s in x}
    one = train(tmp_path / "a", config=config)
    two = train(tmp_path / "b", config=config, source=features(noise))
    for stream in one.streams:
        states = [load_tensors(run.folder(stream) / "checkpoint.safetensors")[0] for run in (one, two)]
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
        assert scores(one, stream) != scores(two, stream)


def test_held_out_must_leave_something(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train.held_out=0.95 leaves none of 5 videos to train on"):
        train(tmp_path, "train.select=held-out", "train.held_out=0.95")


TEST_MAP = ("train.select=test-map", *LOOKS, "train.lr=0.1")
SAYS = "CHOSEN ON THE TEST SET: the best by test mAP@0.5"


def test_choosing_by_test_map_says_so_wherever_its_numbers_go(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(tmp_path / "run", *TEST_MAP, test=(features(), tiny_data.truth()))
    assert run.selection.startswith(SAYS)
    assert "not comparable" in run.selection
    assert dgam.load_run(run.path).selection == run.selection
    found = dgam.localize(run, features())
    dgam.write_detections(tmp_path / "detections.json", found)
    content = json.loads((tmp_path / "detections.json").read_text())
    assert content["external_data"]["selection"] == run.selection
    instances = {
        video: {
            "subset": "test",
            "annotations": [{"label": s.label, "segment": [s.start, s.end]} for s in own.segments],
        }
        for video, own in tiny_data.truth().videos.items()
    }
    gt = write_text(tmp_path / "gt.json", {"database": instances})
    call = ["evaluate", str(tmp_path / "detections.json"), "--ground-truth", str(gt)]
    assert main(call) == 0
    assert SAYS in " ".join(capsys.readouterr().out.split())
    assert main([*call, "--json"]) == 0
    out, said = capsys.readouterr()
    assert SAYS in said
    assert any(SAYS in note for note in json.loads(out)["protocol"]["notes"])
    protocol = dgam.evaluate(found, tiny_data.truth()).to_dict()["protocol"]
    assert protocol["detections"]["selection"] == run.selection


def test_test_map_keeps_the_weights_of_the_best_test_map(tmp_path: Path) -> None:
    truth = tiny_data.truth()
    run = train(tmp_path, *TEST_MAP, test=(features(), truth))
    for stream in run.streams:
        by_epoch = scores(run, stream)
        best = max(by_epoch, key=lambda epoch: (by_epoch[epoch], -epoch))
        assert f"{stream}: epoch {best}" in run.selection
        alone = replace(run, streams={stream: run.streams[stream]})
        assert dgam.evaluate(dgam.localize(alone, features()), truth, [0.5]).map[0] == by_epoch[best]


def test_annotated_videos_without_features_are_no_misses_in_test_map(tmp_path: Path) -> None:
    truth = tiny_data.truth()
    more = {**truth.videos, "absent": AnnotatedVideo((Segment(0, 1, "jump"),), "train")}
    one = train(tmp_path / "a", *TEST_MAP, test=(features(), truth))
    two = train(tmp_path / "b", *TEST_MAP, test=(features(), SegmentAnnotations(more)))
    assert scores(one, "rgb") == scores(two, "rgb")


def test_test_data_and_test_map_need_each_other(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train\.select=test-map needs the test features and annotations"):
        train(tmp_path / "a", *TEST_MAP)
    for overrides in ((), ("train.select=held-out",)):
        with pytest.raises(InputError, match="and only it does"):
            train(tmp_path / "a", *overrides, test=(features(), tiny_data.truth()))
    assert not (tmp_path / "a").exists()


def test_test_features_of_other_videos_are_refused(tmp_path: Path) -> None:
    strangers = SegmentAnnotations({"x": AnnotatedVideo((Segment(0, 1, "dive"),))}, source="gt.json")
    with pytest.raises(InputError, match=r"has stream 'rgb' for none of the 1 videos of gt\.json"):
        train(tmp_path, *TEST_MAP, test=(features(), strangers))

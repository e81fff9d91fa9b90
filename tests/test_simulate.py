"""The simulated benchmark: its files, its timelines, its knobs' messages."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dgam.core.errors import InputError, InputProblems
from dgam.data.simulate import PRESETS, Simulated, Simulation, simulate
from dgam.data.simulate_knobs import build
from dgam.data.simulate_timeline import write_script

SMALL: dict[str, Any] = {
    "train": 12,
    "test": 6,
    "classes": 4,
    "dimension": 24,
    "instances": 5,
    "max_snippets": 200,
}


def digest(out: Path) -> dict[str, str]:
    files = sorted(file for file in out.rglob("*") if file.is_file())
    return {str(file.relative_to(out)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_writes_the_files_of_the_contract(tmp_path: Path) -> None:
    made = simulate(tmp_path / "sim", seed=3, **SMALL)
    assert isinstance(made, Simulated)
    assert (made.videos, made.preset, made.seed) == (18, "default", 3)
    names = [f"train_{i:05d}" for i in range(12)] + [f"test_{i:05d}" for i in range(6)]
    files = {f"{n.split('_')[0]}/{s}/{n}.npy" for n in names for s in ("rgb", "flow")}
    assert set(digest(made.out)) == files | {"labels.csv", "gt.json", "README.txt"}
    truth = json.loads((made.out / "gt.json").read_text())
    assert "simulated" in truth["version"]
    readme = (made.out / "README.txt").read_text()
    assert readme.startswith("SIMULATED DATA")
    assert "max_snippets = 200" in readme
    assert list(truth["database"]) == names
    snippets = 0
    for name, entry in truth["database"].items():
        rgb, flow = (np.load(made.out / entry["subset"] / s / f"{name}.npy") for s in ("rgb", "flow"))
        assert rgb.dtype == flow.dtype == np.float16
        assert rgb.shape == flow.shape == (int(entry["duration"] * entry["fps"] + 1e-6) // 16, 24)
        assert not np.array_equal(rgb, flow)
        snippets += len(rgb)
    assert made.snippets == snippets
    assert made.instances == sum(len(entry["annotations"]) for entry in truth["database"].values())


def test_labels_agree_with_the_segments_and_hold_no_time(tmp_path: Path) -> None:
    made = simulate(tmp_path / "sim", **{**SMALL, "two_labels": 0.5})
    database = json.loads((made.out / "gt.json").read_text())["database"]
    with open(made.out / "labels.csv", newline="") as file:
        header, *rows = list(csv.reader(file))
    assert header == ["video", "subset", "labels"]
    assert [row[0] for row in rows] == list(database)
    for video, subset, labels in rows:
        assert subset == database[video]["subset"]
        assert labels.split(";") == sorted({a["label"] for a in database[video]["annotations"]})
    assert {len(row[2].split(";")) for row in rows} == {1, 2}


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two processors")
def test_same_seed_same_bytes_whatever_the_number_of_threads(tmp_path: Path) -> None:
    """A threaded matrix product sums in another order, and training makes points of mAP of that."""
    digests = []
    for threads in ("1", "2"):
        out = tmp_path / threads
        code = f"import dgam; dgam.simulate({str(out)!r}, seed=1, train=8, test=2, classes=3)"
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)
        digests.append(digest(out))
    assert digests[0] == digests[1]


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    first = digest(simulate(tmp_path / "a", seed=7, **SMALL).out)
    assert digest(simulate(tmp_path / "b", seed=7, **SMALL).out) == first
    other = digest(simulate(tmp_path / "c", seed=8, **SMALL).out)
    assert all(other.get(name) != value for name, value in first.items())


def test_a_video_does_not_depend_on_how_many_others_there_are(tmp_path: Path) -> None:
    few = digest(simulate(tmp_path / "few", **{**SMALL, "train": 2, "test": 1}).out)
    many = digest(simulate(tmp_path / "many", **SMALL).out)
    features = {name: value for name, value in few.items() if name.endswith(".npy")}
    assert len(features) == 6
    assert features.items() <= many.items()


def test_replaces_an_earlier_simulation_and_nothing_else(tmp_path: Path) -> None:
    simulate(tmp_path / "sim", **SMALL)
    fewer: dict[str, Any] = {**SMALL, "train": 3, "test": 0}
    again = digest(simulate(tmp_path / "sim", **fewer).out)
    assert again == digest(simulate(tmp_path / "fresh", **fewer).out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("dear")
    with pytest.raises(
        InputError, match=r"mine: holds files that are no earlier simulation.*new or an empty folder"
    ):
        simulate(tmp_path / "mine", **SMALL)
    assert digest(tmp_path / "mine").keys() == {"thesis.txt"}
    with pytest.raises(InputError, match=r"thesis.txt: is a file; the simulation needs a folder"):
        simulate(tmp_path / "mine" / "thesis.txt", **SMALL)
    with pytest.raises(InputError, match=r"cannot be made: Not a directory"):
        simulate(tmp_path / "mine" / "thesis.txt" / "deeper", **SMALL)


def test_a_stopped_run_leaves_no_labels_at_odds_with_the_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate(tmp_path / "sim", seed=0, **SMALL)

    def stop(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dgam.data.simulate.make_features", stop)
    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "sim", seed=1, **SMALL)
    assert not {"labels.csv", "gt.json"} & digest(tmp_path / "sim").keys()
    monkeypatch.undo()
    assert digest(simulate(tmp_path / "sim", seed=1, **SMALL).out).keys() >= {"labels.csv", "gt.json"}


def test_timelines_have_the_statistics_of_thumos14() -> None:
    """Mean 4.5 s and median 3.2 s an instance, about 15 instances a video, 15 to 1,000 snippets (issue text).

    Tolerances are about three standard errors of 1,640 videos, plus the loss to the greatest length.
    """
    knobs = build("default", {})
    scripts = [write_script(knobs, "train", index, seed) for seed in range(4) for index in range(410)]
    durations = np.array([s.end - s.start for script in scripts for s in script.segments()])
    counts = np.array([len(script.segments()) for script in scripts])
    snippets = np.array([script.timeline.snippets for script in scripts])
    assert np.mean(durations) == pytest.approx(4.5, abs=0.2)
    assert np.median(durations) == pytest.approx(3.2, abs=0.15)
    assert np.log(durations).std() == pytest.approx(0.826, abs=0.04)
    assert counts.mean() == pytest.approx(15, abs=1.2)
    assert snippets.min() == 15
    assert 990 <= snippets.max() <= 1000
    assert 250 < snippets.mean() < 400  # THUMOS14: 24.4 hours in 413 videos, 332 snippets a video
    assert np.mean([len(script.labels) == 2 for script in scripts]) == pytest.approx(0.15, abs=0.03)
    starts = np.array([s.start for script in scripts for s in script.segments()]) / 0.64
    assert np.mean(np.abs(starts - np.round(starts)) > 0.05) > 0.8  # boundaries lie inside snippets


def test_mean_durations_of_classes_differ_by_their_share() -> None:
    def spread(share: float) -> float:
        knobs = build("default", {"class_durations": share, "classes": 10, "two_labels": 0})
        logs: dict[int, list[float]] = {}
        for index in range(200):
            for s in write_script(knobs, "train", index, 0).segments():
                logs.setdefault(index % 10, []).append(np.log(s.end - s.start))
        return float(np.var([np.mean(values) for values in logs.values()]))

    assert spread(0.0) < 0.02
    assert spread(0.5) == pytest.approx(0.5 * 2 * np.log(4.5 / 3.2), rel=0.25)


knob_draws = st.fixed_dictionaries(
    {
        "classes": st.integers(2, 30),
        "two_labels": st.sampled_from([0.0, 0.5, 1.0]),
        "instances": st.floats(1, 60),
        "instances_spread": st.floats(0, 2),
        "duration_mean": st.floats(3, 60),
        "duration_median": st.floats(0.3, 3),
        "gap_median": st.floats(0.2, 30),
        "gap_spread": st.floats(0, 2.5),
        "lead_median": st.floats(0.2, 100),
        "context": st.sampled_from([0.0, 0.5, 1.0]),
        "context_median": st.floats(0.1, 20),
        "min_snippets": st.integers(1, 15),
        "max_snippets": st.integers(15, 300),
    }
)


# One instance whose context is cut short by the end of the video; the cut once ended an ulp before it.
cut_short = {
    "classes": 2,
    "two_labels": 0.0,
    "instances": 1.0,
    "instances_spread": 0.0,
    "duration_mean": 3.0,
    "duration_median": 2.0,
    "gap_median": 1.0,
    "gap_spread": 0.0,
    "lead_median": 0.201171875,
    "context": 1.0,
    "context_median": 4.0,
    "min_snippets": 11,
    "max_snippets": 15,
}


@settings(max_examples=150, deadline=None)
@given(knob_draws, st.integers(0, 2**32), st.integers(0, 99_999))
@example(cut_short, 212, 1)
def test_stretches_tile_every_video(knobs: dict[str, Any], seed: int, index: int) -> None:
    chosen = build("default", knobs)
    script = write_script(chosen, "test", index, seed)
    assert chosen.min_snippets <= script.timeline.snippets <= chosen.max_snippets
    assert script.stretches[0].start == 0
    assert script.stretches[-1].end == pytest.approx(script.duration, abs=1e-6)
    for before, after in itertools.pairwise(script.stretches):
        assert before.end == pytest.approx(after.start, abs=1e-6)
    assert all(s.end > s.start for s in script.stretches)
    assert -1e-6 <= script.duration * 25 / 16 - script.timeline.snippets < 1 + 1e-6
    segments = script.segments()
    assert all(0 <= s.start < s.end <= script.duration for s in segments)
    assert all(a.end <= b.start for a, b in itertools.pairwise(segments))
    assert {s.label for s in segments} == {f"action_{label:03d}" for label in script.labels}
    assert index % chosen.classes in script.labels
    assert len(script.labels) in (
        {1} if chosen.two_labels == 0 else {2} if chosen.two_labels == 1 else {1, 2}
    )
    for at, s in enumerate(
        script.stretches
    ):  # context touches an instance of its own class, or runs into one
        if s.kind == "context":
            near = script.stretches[max(0, at - 1) : at + 2]
            assert any(n.kind == "action" and n.label == s.label for n in near)


def test_context_that_fills_a_gap_ends_where_the_gap_ends() -> None:
    """Where an instance has context after it and the next one none before it, rounding once ended the context
    an ulp too early: a sliver of context came after it, and at the end of the video an IndexError."""
    *_, action, last = write_script(build("all-context", {}), "train", 93, seed=2).stretches
    assert (action.kind, last.kind, action.label) == ("action", "context", last.label)
    knobs = build("default", {"context": 0.6, "context_median": 5.0, "gap_median": 1.0})
    for seed, index in ((49, 226), (58, 38)):
        stretches = write_script(knobs, "train", index, seed).stretches
        assert all(s.end - s.start > 1e-6 for s in stretches)


def test_context_0_leaves_none_and_1_leaves_no_instance_without() -> None:
    for index in range(30):
        bare = write_script(build("no-context", {}), "train", index, 0)
        assert not any(s.kind == "context" for s in bare.stretches)
        full = write_script(build("all-context", {}), "train", index, 0).stretches
        for before, s, after in zip(full, full[1:], full[2:], strict=False):
            if s.kind == "action":
                assert before.kind == "context" or before.end - before.start < 1e-6
                assert after.kind == "context"


def test_one_class_and_one_video(tmp_path: Path) -> None:
    made = simulate(tmp_path / "one", train=1, test=0, classes=1, two_labels=0, dimension=4, dtype="float32")
    assert (made.out / "labels.csv").read_text() == "video,subset,labels\ntrain_00000,train,action_000\n"
    x = np.load(made.out / "train" / "rgb" / "train_00000.npy")
    assert x.dtype == np.float32
    assert x.shape[1] == 4
    assert sorted(digest(made.out / "test")) == []


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"acton": 1}, r"acton: is no knob of the simulation\. Did you mean 'action'\?"),
        ({"preset": "hrad"}, r"preset: unknown preset 'hrad'\. Did you mean 'hard'\?"),
        ({"preset": "zzz"}, r"Known ones: default, easy, hard, no-context"),
        ({"context": 1.5}, r"context: must be a number from 0 to 1, got 1\.5\."),
        ({"train": 0}, r"train: must be a whole number from 1 to 99999, got 0\. \(Training videos\.\)"),
        ({"train": 2.5}, r"train: must be a whole number from 1 to 99999, got 2\.5\."),
        ({"train": True}, r"train: must be a whole number from 1 to 99999, got True\."),
        ({"action": float("nan")}, r"action: must be a number from 0 to 20, got nan\."),
        ({"action": "much"}, r"action: must be a number from 0 to 20, got 'much'\."),
        ({"dtype": "int8"}, r"dtype: must be float16 or float32, got 'int8'\."),
        ({"duration_mean": 3}, r"duration_median: must not exceed duration_mean = 3, got 3\.2\."),
        ({"min_snippets": 1001}, r"min_snippets: must not exceed max_snippets = 1000, got 1001\."),
        ({"classes": 1}, r"two_labels: is 0\.15, which needs at least 2 classes, got 1\."),
        ({"seed": -1}, r"seed: must be a whole number from 0 on, got -1\."),
        ({"seed": 0.5}, r"seed: must be a whole number from 0 on, got 0\.5\."),
    ],
)
def test_bad_knobs_are_named(tmp_path: Path, knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        simulate(tmp_path / "sim", **knobs)
    assert not (tmp_path / "sim").exists()


def test_all_bad_knobs_are_named_at_once() -> None:
    with pytest.raises(InputProblems) as caught:
        build("default", {"style": -1, "scene": -1, "latent": 1})
    assert [problem.where for problem in caught.value.problems] == ["style", "scene", "latent"]


def test_presets_are_usable_and_differ() -> None:
    made = [build(name, {}) for name in PRESETS]
    assert made[0] == Simulation()
    assert len(set(made)) == len(PRESETS)
    assert build("hard", {"wander": 1.25}).wander == 1.25
    for knob in dataclasses.fields(Simulation):
        assert knob.metadata["help"].endswith(".")

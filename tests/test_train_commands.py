"""`dgam train` and `dgam localize` as a user calls them: the agreed calls, options, kill -9."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import dgam
from data_helpers import tree_bytes
from dgam.cli import main
from tiny_commands import SMALL, simulate, train


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("commands") / "sim")


@pytest.fixture(scope="module")
def run(sim: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("commands") / "run"
    assert train(sim, out) == 0
    return out


def models(run: Path) -> dict[str, bytes]:
    """All files of a run but run.json, which names the file of labels."""
    return {name: data for name, data in tree_bytes(run).items() if name != "run.json"}


def test_the_bar_is_full_where_training_ended_early(
    sim: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[float] = []

    @contextmanager
    def track(description: str, total: float) -> Iterator[Callable[..., None]]:
        steps.append(-total)
        yield lambda step=1, **shown: steps.append(step)

    monkeypatch.setattr("dgam.cli.train.track", track)
    early = ["--set", "train.until=0.99", "--set", "train.least_steps=0", "--set", "train.epochs=50"]
    assert train(sim, tmp_path / "run", *early) == 0
    assert 2 < len(steps) < 100, "of fifty epochs of two streams"
    assert sum(steps) == 0


# The agreed calls.


def test_the_agreed_calls_one_after_the_other(
    sim: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sim)
    out = str(tmp_path / "run")
    call = ["train", "train", "--labels", "labels.csv", "--subset", "train", "--out", out]
    assert main([*call, "--preset", "thumos14", "--seed", "0", "--set", "train.epochs=2", *SMALL]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"{out}: trained rgb, flow on 6 videos, 2 classes, in ")
    assert told.endswith("s; the weights after the last epoch (rgb: epoch 2, flow: epoch 2).\n")
    assert dgam.load_run(out).config.preset == "thumos14"
    detections = str(tmp_path / "detections.json")
    assert main(["localize", out, "test", "--out", detections]) == 0
    count = sum(len(found) for found in dgam.read_detections(detections).videos.values())
    assert capsys.readouterr().out == f"{detections}: {count} detections in 4 videos.\n"
    judge = ["evaluate", detections, "--ground-truth", "gt.json", "--subset", "test"]
    assert main([*judge, "--tiou", "0.1:0.9:0.1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {"tiou", "map", "average", "per_class", "protocol", "videos", "instances"} <= result.keys()
    assert (result["videos"], len(result["map"])) == (4, 9)
    store = str(tmp_path / "store")
    assert main(["import", "train", "--out", store, "--fps", "25", "--snippet", "16"]) == 0
    capsys.readouterr()
    call[1], call[-1] = store, str(tmp_path / "again")
    assert main([*call, "--preset", "thumos14", "--seed", "0", "--set", "train.epochs=2", *SMALL]) == 0
    assert models(tmp_path / "again") == models(tmp_path / "run")


def test_labels_from_segments_give_the_same_weights(sim: Path, run: Path, tmp_path: Path) -> None:
    assert train(sim, tmp_path / "run", "--labels", str(sim / "gt.json")) == 0
    assert models(tmp_path / "run") == models(run)
    assert dgam.load_run(tmp_path / "run").labels == str(sim / "gt.json")


def test_a_seed_and_a_config_file_reach_the_run(sim: Path, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("preset: thumos14\ntrain: {lr: 0.002}\n")
    more = ("--config", str(tmp_path / "own.yaml"), "--seed", "7", "--streams", "rgb+flow")
    assert train(sim, tmp_path / "run", *more) == 0
    found = dgam.load_run(tmp_path / "run")
    assert (found.seed, found.config.preset, found.config.train.lr) == (7, "thumos14", 0.002)
    assert found.streams == {"rgb+flow": 12}
    assert (
        main(["localize", str(tmp_path / "run"), str(sim / "test"), "--out", str(tmp_path / "d.json")]) == 0
    )


def test_restart_trains_anew(
    sim: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    assert train(sim, out, "--set=loss.alpha=0.5") == 2
    assert "--restart" in capsys.readouterr().err
    assert train(sim, out, "--set=loss.alpha=0.5", "--restart") == 0
    assert models(out) != models(run)
    assert train(sim, out, "--restart") == 0
    assert models(out) == models(run)


def test_losses_for_tensorboard(sim: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert train(sim, tmp_path / "run", "--tensorboard", epochs=3) == 0
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    lines = (tmp_path / "run" / "flow" / "metrics.jsonl").read_text().splitlines()
    shown = [(event.step, event.value) for event in events.Scalars("flow/total")]
    assert shown == [(line["epoch"], pytest.approx(line["total"])) for line in map(json.loads, lines)]


def test_choosing_by_test_map_says_so_at_every_step(
    sim: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, detections = tmp_path / "run", tmp_path / "detections.json"
    test = ("--test-features", str(sim / "test"), "--test-ground-truth", str(sim / "gt.json"))
    more = ("--preset", "release-thumos14", "--set=train.select_every=1", *test)
    assert train(sim, out, *more) == 0
    assert "CHOSEN ON THE TEST SET" in capsys.readouterr().out
    assert main(["localize", str(out), str(sim / "test"), "--out", str(detections)]) == 0
    assert "note: CHOSEN ON THE TEST SET" in capsys.readouterr().out
    judge = ["evaluate", str(detections), "--ground-truth", str(sim / "gt.json"), "--subset", "test"]
    assert main(judge) == 0
    assert "weights chosen: CHOSEN ON THE TEST SET" in " ".join(capsys.readouterr().out.split())
    assert main(["info", str(out)]) == 0
    assert "CHOSEN ON THE TEST SET" in " ".join(capsys.readouterr().out.split())


def test_only_some_videos_and_their_curves(sim: Path, run: Path, tmp_path: Path) -> None:
    (tmp_path / "videos.txt").write_text("test_00002\ntest_00000\n")
    call = ["localize", str(run), str(sim / "test"), "--out", str(tmp_path / "d.json")]
    more = ["--videos", str(tmp_path / "videos.txt"), "--curves", str(tmp_path / "curves")]
    assert main([*call, *more, "--set", "localize.nms=none"]) == 0
    found = dgam.read_detections(tmp_path / "d.json")
    assert list(found.videos) == ["test_00002", "test_00000"]
    assert {path.name for path in (tmp_path / "curves").iterdir()} == {"test_00002.npz", "test_00000.npz"}
    assert json.loads((tmp_path / "d.json").read_text())["external_data"]["dgam"]["localize"]["nms"] == "none"


def damage(sim: Path, to: Path) -> Path:
    """A copy of the simulated data in which a video has a NaN and another lacks flow, in both subsets."""
    shutil.copytree(sim, to)
    for subset in ("train", "test"):
        path = to / subset / "rgb" / f"{subset}_00001.npy"
        array = np.load(path)
        array[3, 2] = np.nan
        np.save(path, array)
        (to / subset / "flow" / f"{subset}_00002.npy").unlink()
    return to


def test_skip_bad_trains_and_localises_without_them(
    sim: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, out = damage(sim, tmp_path / "bad"), tmp_path / "run"
    assert train(bad, out, "--skip-bad") == 0
    told, said = capsys.readouterr()
    assert "trained rgb, flow on 4 videos" in told
    rgb = bad / "train" / "rgb" / "train_00001.npy"
    assert (
        f"left out: {rgb}: video 'train_00001': holds 1 NaN or infinite value, the first (nan) at snip"
        in said
    )
    assert "video 'train_00002': has no features in stream 'flow', only in 'rgb'." in said
    assert said.endswith("2 defects were passed over because of --skip-bad; see above.\n")
    call = ["localize", str(run), str(bad / "test"), "--out", str(tmp_path / "d.json")]
    assert main([*call, "--skip-bad"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert [line.split(": ", 2)[2].split(".")[0] for line in said[:-1]] == [
        "video 'test_00001': stream 'rgb' has NaN or infinite features",
        "video 'test_00002': has no features in stream 'flow'",
    ]
    assert list(dgam.read_detections(tmp_path / "d.json").videos) == [
        "test_00000",
        "test_00002",
        "test_00003",
    ]


# Killed in the middle.


def kill_once(command: list[str], metrics: Path, lines: int) -> None:
    """Start the command, and kill -9 it as soon as so many epochs of a stream are logged."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and child.poll() is None:
            if metrics.exists() and metrics.read_bytes().count(b"\n") >= lines:
                break
            time.sleep(0.005)
    finally:
        child.send_signal(signal.SIGKILL)
    assert child.wait(timeout=60) == -signal.SIGKILL


def test_killed_and_called_again_ends_with_the_same_bytes(sim: Path, tmp_path: Path) -> None:
    more = ("--set=train.checkpoint_every=7", "--set=train.ema=0.9")
    call = [
        "train",
        str(sim / "train"),
        "--labels",
        str(sim / "labels.csv"),
        "--subset",
        "train",
        *SMALL,
        *more,
    ]
    call += ["--set=train.epochs=150", "--out"]
    assert main([*call, str(tmp_path / "whole")]) == 0
    out = tmp_path / "killed"
    for stream, lines in (("rgb", 20), ("flow", 30)):
        kill_once([sys.executable, "-m", "dgam", *call, str(out)], out / stream / "metrics.jsonl", lines)
        assert not (out / "run.json").exists(), "killed before the end"
    done = len((out / "flow" / "metrics.jsonl").read_text().splitlines())
    assert 30 <= done < 150
    assert main([*call, str(out)]) == 0
    assert tree_bytes(out) == tree_bytes(tmp_path / "whole")

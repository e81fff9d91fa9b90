"""`dgam reproduce`: runs that are kept, resumed, spread; data from anywhere; what people mistype."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dgam
from data_helpers import tree_bytes
from dgam.cli import main
from dgam.core.config import load_config
from dgam.evaluation import named_protocol
from dgam.experiments.cache import RunCache
from dgam.experiments.data import Identities, in_folder
from dgam.experiments.plan import Request, training_of
from dgam.experiments.runner import Spread, carry_out
from dgam.experiments.tasks import Training, attempt
from dgam.training.checkpoint import load_tensors
from tiny_experiments import SET, SETTINGS, read, reproduce, simulate


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return simulate(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def out(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three experiments, two seeds."""
    folder = tmp_path_factory.mktemp("runs") / "out"
    for name in ("table1", "table3", "table7"):
        assert reproduce(name, data, folder) == 0
    return folder


# Kept runs.


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(file.relative_to(folder)): (file.stat().st_mtime_ns, file.stat().st_size)
        for file in folder.rglob("*")
        if file.is_file() and "locks" not in file.parts
    }


def test_finished_runs_are_not_done_again_even_where_the_data_moved(
    out: Path, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = stamps(out / "runs")
    shutil.copytree(Path(data).parent, tmp_path / "moved")
    moved = str(tmp_path / "moved" / "sim-{seed}")
    assert reproduce("table1", moved, tmp_path / "out", "--cache", str(out / "runs")) == 0
    assert capsys.readouterr().err == "8 trainings, 8 of them finished; nothing to train.\n"
    assert stamps(out / "runs") == before
    again, first = read(tmp_path / "out", "table1"), read(out, "table1")
    assert again["tables"] == first["tables"]


def test_other_settings_data_or_seeds_are_other_runs(data: str, tmp_path: Path) -> None:
    protocol = named_protocol("activitynet")
    spec = in_folder(data, protocol)
    request = Request(spec, (0,))
    config = load_config("thumos14", overrides=SETTINGS)

    def key(overrides: tuple[str, ...] = (), seed: int = 0, stream: str = "rgb", folder: str = data) -> str:
        own = load_config("thumos14", overrides=(*SETTINGS, *overrides))
        place = in_folder(folder, protocol).at(0)
        return training_of(own, place, stream, seed, request, Identities({}), "x").key

    assert key() == training_of(config, spec.at(0), "rgb", 0, request, Identities({}), "y").key
    assert key(("localize.eta=0.9",)) == key(("train.log_every=3",)) == key()
    changed = tmp_path / "changed"
    shutil.copytree(data.format(seed=0), changed)
    file = next((changed / "train" / "rgb").glob("*.npy"))
    x = np.load(file)
    x[0, 0] += 1
    np.save(file, x)
    others = [key(("loss.beta=0.2",)), key(seed=1), key(stream="flow"), key(folder=str(changed))]
    assert len({key(), *others}) == 5
    assert key(stream="flow", folder=str(changed)) == key(stream="flow")  # only RGB changed


def test_a_killed_one_resumes_and_ends_with_the_same_weights(data: str, tmp_path: Path) -> None:
    spec, protocol = data.format(seed=0), ("--seeds", "0,", "--set=train.epochs=400")
    options = [*protocol, "--streams", "rgb", "--set=train.checkpoint_every=20"]
    call = ["reproduce", "table3", "--data", spec, *SET, *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "dgam", *call, "--out", str(tmp_path / "killed")], stderr=subprocess.DEVNULL
    )
    runs = tmp_path / "killed" / "runs" / "runs"
    until = time.monotonic() + 100
    while not list(runs.glob("*/rgb/checkpoint.safetensors")) and time.monotonic() < until:
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not list(runs.glob("*/done.json")), "it was finished before it could be killed"
    (checkpoint,) = runs.glob("*/rgb/checkpoint.safetensors")
    assert 0 < load_tensors(checkpoint)[1]["epoch"] < 400
    told: dict[str, Any] = {}
    for name in ("killed", "whole"):
        assert main([*call, "--out", str(tmp_path / name)]) == 0
        (model,) = (tmp_path / name / "runs" / "runs").glob("*/rgb/model.safetensors")
        told[name] = (model.read_bytes(), read(tmp_path / name, "table3")["tables"])
    assert told["killed"] == told["whole"]
    lines = (checkpoint.parent / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, 401))  # none twice


@pytest.fixture
def task(data: str) -> Training:
    config = load_config("thumos14", overrides=SETTINGS)
    spec = in_folder(data.format(seed=0), named_protocol("activitynet"))
    return training_of(config, spec, "rgb", 0, Request(spec, (0,)), Identities({}), "x")


def test_two_processes_do_not_do_the_same_run(task: Training, tmp_path: Path) -> None:
    cache = RunCache(tmp_path)
    with cache.claim(task.key, wait=False) as mine:
        assert mine
        assert attempt(task, cache, False, lambda fraction: None) == "busy"
        assert not cache.run_folder(task.key).exists()
    held = threading.Event()

    def other() -> None:
        with cache.claim(task.key, wait=False):
            held.set()
            time.sleep(0.3)
            cache.finish_run(task.key, {"by": "another"})

    thread = threading.Thread(target=other)
    thread.start()
    held.wait()
    assert carry_out([task], cache, Spread(), "training") == []  # waits for the other, and trains nothing
    thread.join()
    assert cache.run_facts(task.key) == {"by": "another"}
    assert not (cache.run_folder(task.key) / "rgb").exists()


def test_a_damaged_mark_says_what_to_do(task: Training, tmp_path: Path) -> None:
    file = tmp_path / "runs" / task.key / "done.json"
    file.parent.mkdir(parents=True)
    file.write_text("{")
    with pytest.raises(dgam.core.errors.InputError, match=r"damaged .* Remove it, and it is made again"):
        task.done(RunCache(tmp_path))


# Several processes, models together.


def test_processes_give_the_same_numbers(out: Path, data: str, tmp_path: Path) -> None:
    assert reproduce("table1", data, tmp_path, "--jobs", "2") == 0
    assert read(tmp_path, "table1")["tables"] == read(out, "table1")["tables"]
    key = read(out, "table1")["trainings"][0]["key"]
    ours, theirs = (folder / "runs" / "runs" / key / "rgb" for folder in (tmp_path, out))
    assert (ours / "model.safetensors").read_bytes() == (theirs / "model.safetensors").read_bytes()


def test_models_trained_together_equal_those_trained_alone(out: Path, data: str, tmp_path: Path) -> None:
    assert reproduce("table7", data, tmp_path, "--together") == 0
    together, alone = read(tmp_path, "table7"), read(out, "table7")
    assert {run["together"] for run in together["trainings"]} == {12}  # six values, two seeds
    assert {run["together"] for run in alone["trainings"]} == {1}
    for run in together["trainings"]:
        stream = run["about"]["stream"]
        pair = [
            load_tensors(folder / "runs" / "runs" / run["key"] / stream / "model.safetensors")[0]
            for folder in (tmp_path, out)
        ]
        for name, tensor in pair[0].items():
            assert torch.allclose(tensor, pair[1][name], atol=1e-4), name


def test_a_run_that_fails_is_named_and_the_others_are_kept(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("title: x\nmodels: {good: {}, bad: {train.lr: 1.0e+30}}\nstreams: [rgb]\n")
    for more in ((), ("--together",)):
        folder = tmp_path / f"out{len(more)}"
        assert reproduce(str(own), data, folder, "--seeds", "1", *more) == 2
        told = capsys.readouterr().err
        assert (
            "dgam reproduce: Some runs failed; all others are finished and kept:\n  bad, rgb, seed 0: "
            in told
        )
        assert "became nan in epoch" in told
        assert len(list((folder / "runs" / "runs").glob("*/done.json"))) == 1
        assert not (folder / "own.html").exists()


# Data.


def test_simulated_data_are_made_once_for_each_seed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    knobs = [f"--knob={k}" for k in ("train=4", "test=3", "classes=2", "dimension=6", "instances=3")]
    call = ["reproduce", "table3", "--data", "sim", *knobs, "--seeds", "2", *SET, "--out", str(tmp_path)]
    assert main(call) == 0
    (folder,) = (tmp_path / "runs" / "simulated").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["seed-0", "seed-1"]
    assert "seed 1:" in (folder / "seed-1" / "README.txt").read_text(encoding="utf-8")
    before = tree_bytes(folder)
    report = read(tmp_path, "table3")
    assert report["data"].startswith("simulated data (dgam simulate, train = 4, test = 3, classes = 2")
    assert report["settings"]["dgam"]["preset"] == "default"
    assert main(call) == 0
    assert tree_bytes(folder) == before
    told = capsys.readouterr().out
    assert told.startswith("Simulated data: Table 3: THUMOS14, mAP (%)\n")


def test_features_labels_and_ground_truth_can_lie_anywhere(
    data: str, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = data.format(seed=0)
    places = ["--features", f"{folder}/train", "--test-features", f"{folder}/test"]
    places += ["--labels", f"{folder}/labels.csv", "--subset", "train"]
    places += ["--ground-truth", f"{folder}/gt.json", "--data-name", "my features"]
    call = ["reproduce", "table3", *places, "--seeds", "1", *SET, "--out", str(tmp_path)]
    assert main([*call, "--cache", str(out / "runs")]) == 0
    capsys.readouterr()
    report, known = read(tmp_path, "table3"), read(out, "table3")
    # The same runs; the protocol is the experiment's own, and says that it does not fit.
    assert {run["key"] for run in report["trainings"]} < {run["key"] for run in known["trainings"]}
    assert report["data"].startswith("simulated data: my features (")
    assert report["protocol"][0].startswith("Protocol thumos14-210: 6 videos, ")
    assert "not comparable with published numbers" in " ".join(report["protocol"])
    assert "one run only" in (tmp_path / "table3.md").read_text(encoding="utf-8")


def test_defective_videos_are_left_out_where_asked(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "bad"
    shutil.copytree(data.format(seed=0), folder)
    (gone, *_) = sorted((folder / "train" / "rgb").iterdir())
    gone.unlink()
    options = ("--seeds", "1", "--streams", "rgb")
    assert reproduce("table3", str(folder), tmp_path / "out", *options) == 2
    assert f"video '{gone.stem}'" in capsys.readouterr().err
    assert reproduce("table3", str(folder), tmp_path / "out", *options, "--skip-bad") == 0
    assert capsys.readouterr().err.startswith(f"left out: {folder}/train: video '{gone.stem}': ")
    assert {run["videos"] for run in read(tmp_path / "out", "table3")["trainings"]} == {5}


# What people mistype.

BAD = [
    (
        "tabel4 --data sim",
        "there is no experiment 'tabel4'. Did you mean 'table4'? A file of your own ends in .yaml.",
    ),
    (
        "table4",
        "no data: give --data sim, --data with a folder, or --features, --labels and --ground-truth.",
    ),
    (
        "table4 --data DIR --labels x.csv",
        "--data stands for a whole folder; leave it out, or --features and the like.",
    ),
    ("table4 --data DIR --knob train=3", "--knob is for --data sim only."),
    ("table4 --data sim --knob train", "--knob: 'train' is not of the form knob=value, such as train=50."),
    (
        "table4 --data nowhere --seeds 1",
        "nowhere/train: does not exist (4 such in all). Expected train/, test/, labels.csv and gt.json as "
        "'dgam simulate' writes them, or --features, --labels and --ground-truth.",
    ),
    ("table4 --data DIR --seeds x", "--seeds: expected how many, as 5, or a list, as 3,4,7; got 'x'."),
    ("table4 --data DIR --seeds 0", "--seeds: expected how many, as 5, or a list, as 3,4,7; got '0'."),
    ("table4 --data DIR --jobs 0", "--jobs: must be a whole number from 1 on, got 0."),
    ("table4 --data DIR --jobs 2 --engine local", "--jobs 2 needs --engine processes, got --engine local."),
    (
        "table4 --data DIR --seeds 1 --streams depth",
        "DIR/train: has no stream 'depth'; it has rgb, flow.",
    ),
    (
        "table4 --data DIR --seeds 1 --set loss.betta=1",
        "The settings are not usable:\n  --set loss.betta: no such setting. Did you mean 'beta'?",
    ),
    (
        "table4 --data DIR --seeds 1 --protocol thumos",
        "--protocol: unknown protocol 'thumos' (did you mean 'thumos14-210'?). Known: activitynet, "
        "thumos14-210, thumos14-211-270, thumos14-211-1496, thumos14-wtalc-212.",
    ),
]


@pytest.mark.parametrize(("call", "expected"), BAD, ids=[call for call, _ in BAD])
def test_bad_calls_say_what_is_wrong(
    call: str, expected: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = data.format(seed=0)
    arguments = [folder if word == "DIR" else word for word in call.split()]
    assert main(["reproduce", *arguments, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.rstrip() == f"dgam reproduce: {expected.replace('DIR', folder)}"
    assert not list(tmp_path.rglob("*.html"))

"""Bad input of `dgam train` and `dgam localize`: the message, exit code 2, no traceback, nothing written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

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


Make = Callable[[Path, Path, Path], object]


def nothing(tmp: Path, sim: Path, run: Path) -> None:
    """Nothing to prepare."""


def copy_run(change: Callable[[Path], object]) -> Make:
    """RUN becomes a copy that is changed."""

    def make(tmp: Path, sim: Path, run: Path) -> None:
        shutil.copytree(run, tmp / "RUN")
        change(tmp / "RUN")

    return make


def cut(name: str, by: int) -> Make:
    def change(run: Path) -> None:
        (run / name).write_bytes((run / name).read_bytes()[:-by])

    return copy_run(change)


def copy_features(change: Callable[[Path], object]) -> Make:
    """BAD becomes a copy of the simulated data that is changed."""

    def make(tmp: Path, sim: Path, run: Path) -> None:
        shutil.copytree(sim, tmp / "BAD")
        change(tmp / "BAD")

    return make


def rewrite(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Make:
    return copy_features(lambda bad: np.save(bad / name, change(np.load(bad / name))))


def with_nan(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array[4:6, 1] = np.nan
    return array


def text(name: str, content: str) -> Make:
    return lambda tmp, sim, run: (tmp / name).write_text(content)


# TRAIN, TEST, LABELS and GT are of the simulated data; RUN is trained on it; OUT, BAD and FILE lie in an
# empty folder. SMALL stands for the settings that RUN was trained with.
BAD_TRAIN: list[tuple[str, Make, str]] = [
    ("nowhere --labels LABELS --out OUT", nothing, "nowhere: does not exist. Expected snippet features"),
    ("TRAIN --labels LABELS", nothing, "--out is missing."),
    ("TRAIN --out OUT", nothing, "--labels is missing."),
    ("TRAIN --labels LABELS --out OUT --seed one", nothing, "invalid value for --seed"),
    ("TRAIN --labels LABELS --subset train --out OUT --seed -1", nothing, "--seed: must be a whole number"),
    (
        "TRAIN --labels LABELS --out OUT --preset thumos41",
        nothing,
        "--preset: unknown preset 'thumos41'. Did you mean 'thumos14'?",
    ),
    (
        "TRAIN --labels LABELS --out OUT --config nowhere.yaml --set loss.apha=1 --set train.select=best",
        nothing,
        "The settings are not usable:\n"
        "  nowhere.yaml: cannot be read: No such file or directory.\n"
        "  --set loss.apha: no such setting. Did you mean 'alpha'?\n"
        "  --set train.select: must be 'last', 'held-out' or 'test-map', got 'best'.",
    ),
    (
        "TRAIN --labels LABELS --out OUT",
        nothing,
        "The training data are not usable (--skip-bad leaves such videos out):\n"
        "  TRAIN: video 'test_00000': has labels but no features.",
    ),
    (
        "TRAIN --labels LABELS --subset train --out OUT --streams audio",
        nothing,
        "TRAIN: has no stream 'audio'; it has rgb, flow.",
    ),
    (
        "TRAIN --labels LABELS --subset train --out OUT --streams rgb+audio",
        nothing,
        "TRAIN: has no stream 'audio'; it has rgb, flow.",
    ),
    (
        "TRAIN --labels LABELS --subset train --out OUT --set streams.flwo.loss.alpha=1",
        nothing,
        "streams.flwo: there is no such stream in this training; it has rgb, flow.",
    ),
    (
        "TRAIN --labels LABELS --subset train --out OUT --device gpu",
        nothing,
        "--device gpu: cannot be used here.",
    ),
    (
        "TRAIN --labels LABELS --subset train --out FILE",
        text("FILE", ""),
        "--out FILE: is a file; expected the run folder to write, or to go on with.",
    ),
    (
        "TRAIN --labels LABELS --subset train --out OUT --set train.select=test-map",
        nothing,
        "train.select=test-map needs the test features and annotations, and only it does.",
    ),
    (
        "TRAIN --labels LABELS --subset train --out OUT --test-features TEST",
        nothing,
        "--test-features and --test-ground-truth belong together; give both or none.",
    ),
    (
        "TRAIN --labels LABELS --subset train --out OUT --test-features TEST --test-ground-truth GT",
        nothing,
        "Give --test-features and --test-ground-truth with it, or leave all three out.",
    ),
    (
        "TRAIN --labels LABELS --subset train --out OUT --set train.select=test-map --test-features TEST "
        "--test-ground-truth LABELS",
        nothing,
        "LABELS: holds video labels without times, expected segments",
    ),
    (
        "TRAIN --labels LABELS --subset train --out OUT --set train.select=held-out "
        "--set train.held_out=0.95",
        nothing,
        "train.held_out=0.95 leaves none of 6 videos to train on.",
    ),
    (
        "BAD/train --labels LABELS --subset train --out OUT",
        rewrite("train/flow/train_00003.npy", with_nan),
        "BAD/train/flow/train_00003.npy: video 'train_00003': holds 2 NaN or infinite values, the first "
        "(nan) at snippet 4, dimension 1.",
    ),
    (
        "BAD/train --labels LABELS --subset train --out OUT",
        rewrite("train/flow/train_00003.npy", lambda array: array[:-5]),
        "BAD/train/flow/train_00003.npy: video 'train_00003': stream 'flow' has ",
    ),
    (
        "BAD/train --labels LABELS --subset train --out OUT",
        rewrite("train/rgb/train_00003.npy", lambda array: array[:, :4]),
        "BAD/train/rgb/train_00003.npy: video 'train_00003': ",
    ),
    (
        "TRAIN --labels FILE.csv --out OUT",
        text("FILE.csv", "video,labels\ntrain_00000,\ntrain_00001,\n"),
        "no video of 2 has a label.",
    ),
    (
        "TRAIN --labels LABELS --subset train --out RUN SMALL --set loss.alpha=0.5",
        copy_run(lambda run: None),
        "RUN/rgb/checkpoint.safetensors: belongs to another training (its loss.alpha differ). Choose another "
        "--out, or pass --restart to overwrite it.",
    ),
    (
        "TRAIN --labels FILE.csv --out RUN SMALL",
        lambda tmp, sim, run: (
            shutil.copytree(run, tmp / "RUN"),
            (tmp / "FILE.csv").write_text(
                "video,labels\n" + "".join(f"train_0000{i},action_00{int(i == 0)}\n" for i in range(6))
            ),
        ),
        "belongs to another training (its labels differ).",
    ),
    (
        "TRAIN --labels LABELS --subset train --out RUN SMALL",
        cut("flow/checkpoint.safetensors", 100),
        "RUN/flow/checkpoint.safetensors: not a readable safetensors file",
    ),
]

BAD_LOCALIZE: list[tuple[str, Make, str]] = [
    ("RUN TEST", nothing, "--out is missing."),
    ("RUN --out OUT", nothing, "FEATURES is missing."),
    ("RUN nowhere --out OUT", nothing, "nowhere: does not exist. Expected snippet features"),
    (
        "TRAIN TEST --out OUT",
        nothing,
        "TRAIN: not a run folder, it has no run.json. Expected what 'dgam train",
    ),
    (
        "RUN TEST --out FOLDER",
        lambda tmp, sim, run: (tmp / "FOLDER").mkdir(),
        "--out FOLDER: is a folder; expected the file to write, such as FOLDER/detections.json.",
    ),
    (
        "RUN TEST --out OUT --set loss.alpha=1",
        nothing,
        "--set: 'loss.alpha=1' has no effect after training; only localize.* settings do.",
    ),
    (
        "RUN TEST --out OUT --set localize.thresholds=0.5",
        nothing,
        "--set localize.thresholds: must be a list such as [0.1, 0.5], got 0.5.",
    ),
    (
        "RUN TEST --out OUT --videos FILE",
        text("FILE", "test_00000\ntest_99999\n"),
        "TEST: has no video 'test_99999' (1 such in all).",
    ),
    (
        "RUN TEST --out OUT --videos FILE",
        text("FILE", "test_00000\ntest_00000\n"),
        "FILE: name 2 is repeated: 'test_00000'.",
    ),
    ("RUN TEST --out OUT --videos nowhere", nothing, "nowhere: cannot be read: No such file or directory."),
    ("RUN TEST --out OUT --curves FILE", text("FILE", ""), "--curves FILE: is a file; expected a folder."),
    ("RUN TEST --out OUT --device tpu", nothing, "--device tpu: cannot be used here."),
    (
        "RUN TEST --out OUT",
        cut("run.json", 9),
        "RUN/run.json: damaged or not written by dgam (JSONDecodeError",
    ),
    (
        "RUN TEST --out OUT",
        copy_run(lambda run: (run / "run.json").unlink()),
        "RUN: not a run folder, it has no run.json.",
    ),
    (
        "RUN TEST --out OUT",
        cut("rgb/model.safetensors", 5),
        "RUN/rgb/model.safetensors: not a readable safetensors file",
    ),
    (
        "RUN TEST --out OUT",
        copy_run(lambda run: (run / "flow" / "model.safetensors").unlink()),
        "RUN/flow/model.safetensors: there is no such file. Expected one that 'dgam train' made.",
    ),
    (
        "RUN TEST --out OUT",
        copy_run(lambda run: shutil.copy(run / "rgb/checkpoint.safetensors", run / "rgb/model.safetensors")),
        "RUN/rgb/model.safetensors: its weights do not fit its own shape",
    ),
    (
        "RUN BAD/test --out OUT",
        copy_features(lambda bad: shutil.rmtree(bad / "test" / "flow")),
        "BAD/test: has no stream 'flow', which the run was trained on. It has: rgb.",
    ),
    (
        "RUN BAD/test --out OUT",
        copy_features(
            lambda bad: [np.save(p, np.load(p)[:, :4]) for p in (bad / "test" / "rgb").glob("*.npy")]
        ),
        "BAD/test: stream 'rgb' has dimension 4, the run was trained on dimension 6. Features must come from",
    ),
    (
        "RUN BAD/test --out OUT",
        rewrite("test/rgb/test_00001.npy", with_nan),
        "Some videos cannot be localised (--skip-bad goes on without them):\n"
        "  BAD/test: video 'test_00001': stream 'rgb' has NaN or infinite features.",
    ),
    (
        "RUN BAD/test --out OUT",
        rewrite("test/flow/test_00001.npy", lambda array: array[:-5]),
        "BAD/test/flow/test_00001.npy: video 'test_00001': stream 'flow' has ",
    ),
    (
        "RUN BAD/test --out OUT",
        copy_features(lambda bad: (bad / "test" / "rgb" / "test_00001.npy").write_bytes(b"\x93NUMPY\x01")),
        "BAD/test/rgb/test_00001.npy: ",
    ),
]


@pytest.mark.parametrize(
    ("line", "make", "message"),
    [
        pytest.param(f"{command} {line}", make, message, id=f"{command}-{number}")
        for command, table in (("train", BAD_TRAIN), ("localize", BAD_LOCALIZE))
        for number, (line, make, message) in enumerate(table)
    ],
)
def test_bad_input_is_told_and_exits_with_2(
    line: str,
    make: Make,
    message: str,
    sim: Path,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make(tmp_path, sim, run)
    places = {
        "TRAIN": sim / "train",
        "TEST": sim / "test",
        "LABELS": sim / "labels.csv",
        "GT": sim / "gt.json",
        "RUN": tmp_path / "RUN" if (tmp_path / "RUN").exists() else run,
    }
    for name in ("OUT", "FOLDER", "FILE", "FILE.csv", "BAD/train", "BAD/test"):
        places[name] = tmp_path / name
    before = tree_bytes(tmp_path)
    capsys.readouterr()
    words = line.replace("SMALL", " ".join([*SMALL, "--set=train.epochs=2"])).split()
    assert main([str(places.get(word, word)) for word in words]) == 2
    said = capsys.readouterr().err
    for name in sorted(places, key=len, reverse=True):
        said = said.replace(str(places[name]), name)
    assert said.startswith(f"dgam {words[0]}: ")
    assert message in said
    assert "Traceback" not in said
    assert tree_bytes(tmp_path) == before, "nothing was written"

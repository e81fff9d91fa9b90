"""Kept runs and measurements are of one source: code that was changed since finds none of them."""

from __future__ import annotations

import inspect
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType

import pytest

import dgam
from dgam.core.config import load_config
from dgam.core.errors import InputError, Problem
from dgam.evaluation import named_protocol
from dgam.experiments.cache import RunCache
from dgam.experiments.data import Identities, in_folder, simulated_data
from dgam.experiments.plan import Request, measurement_of, training_of
from dgam.experiments.ray_runner import _attempt_one
from dgam.experiments.source import MEASURING, SIMULATING, TRAINING, digest_of_source, source_of
from dgam.experiments.tasks import Measurement, Part, Task, Training, attempt
from dgam.experiments.together import TrainingGroup
from test_layers import imports_of, sources_of
from tiny_experiments import SETTINGS, reproduce, simulate

PACKAGE = Path(dgam.__file__).parent


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return simulate(tmp_path_factory.mktemp("source"), seeds=(0,))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package's source elsewhere, to be changed."""
    shutil.copytree(PACKAGE, tmp_path / "copy" / "dgam", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "copy" / "dgam"


def change(file: Path) -> None:
    """A change of no importance. Whether one is, a digest cannot tell."""
    file.write_bytes(file.read_bytes() + b"# so\n")


def key_of(data: str, *more: str, seed: int = 0, stream: str = "rgb") -> Training:
    spec = in_folder(data, named_protocol("activitynet")).at(0)
    config = load_config("thumos14", overrides=(*SETTINGS, *more))
    return training_of(config, spec, stream, seed, Request(spec, (seed,)), Identities({}), "x")


def measurement(data: str, training: Training) -> Measurement:
    spec = in_folder(data, named_protocol("activitynet")).at(0)
    parts = {"rgb": Part(training.key, training.key, training.config.localize)}
    return measurement_of(parts, spec, "x", Request(spec, (0,)), Identities({}), (0.5,))


# What a digest is made of.


def test_a_digest_is_of_names_and_bytes(copy: Path) -> None:
    names = ("core", "runs.py", "training")
    found = [digest_of_source(copy, names)]

    def differs() -> bool:
        found.append(digest_of_source(copy, names))
        return len(set(found)) == len(found)

    change(copy / "training" / "engine.py")
    assert differs()
    change(copy / "runs.py")
    assert differs()
    (copy / "training" / "engine.py").rename(copy / "training" / "engines.py")
    assert differs()
    (copy / "core" / "deeper").mkdir()
    (copy / "core" / "deeper" / "more.py").touch()
    assert differs()
    (copy / "core" / "types.py").unlink()
    assert differs()


def test_a_digest_is_of_nothing_else(copy: Path) -> None:
    before = digest_of_source(copy, MEASURING)
    change(copy / "page" / "charts.py")
    (copy / "core" / "notes.txt").write_text("x")
    (copy / "core" / "__pycache__").mkdir()
    (copy / "core" / "__pycache__" / "types.cpython-311.pyc").write_text("x")
    for file in copy.rglob("*.py"):
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
        os.utime(file, (1, 1))
    assert digest_of_source(copy.rename(copy.parent / "elsewhere"), reversed(MEASURING)) == before


def test_a_name_without_source_is_refused(copy: Path) -> None:
    (copy / "empty").mkdir()
    for name in ("modle", "runs", "empty", "presets"):
        with pytest.raises(InputError, match=rf"{name}: holds no source of dgam"):
            digest_of_source(copy, ("core", name))


def test_two_processes_agree_wherever_dgam_lies(copy: Path, tmp_path: Path) -> None:
    other = tmp_path / "other machine" / "dgam"
    shutil.copytree(copy, other)
    code = (
        "from dgam.experiments.source import *; import dgam; print(dgam.__file__);"
        "print(*(source_of(*names) for names in (TRAINING, MEASURING, SIMULATING)))"
    )

    def ask(package: Path) -> list[str]:
        environment = {**os.environ, "PYTHONPATH": str(package.parent), "PYTHONHASHSEED": "random"}
        told = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=package
        )
        assert told.returncode == 0, told.stderr
        place, digests = told.stdout.splitlines()
        assert Path(place).parent == package
        return digests.split()

    first = ask(copy)
    assert ask(other) == first
    change(other / "detection" / "nms.py")
    changed = ask(other)
    assert [a == b for a, b in zip(first, changed, strict=True)] == [True, False, True]


# What keys are made of.


def test_other_source_makes_other_keys_for_what_it_is_the_source_of(
    data: str, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("plan", "data"):
        monkeypatch.setattr(
            f"dgam.experiments.{module}.source_of", lambda *names: digest_of_source(copy, names)
        )
    knobs = {"train": 1, "test": 1, "classes": 2, "dimension": 4, "instances": 1}

    def keys() -> list[str]:
        training = key_of(data)
        simulated = simulated_data(RunCache(tmp_path), (0,), named_protocol("activitynet"), knobs)
        chosen = key_of(data, "train.select=test-map")
        # the measurement is always of the same runs
        measured = measurement(data, replace(training, key="0"))
        return [training.key, chosen.key, measured.key, simulated.training]

    for file, differ in {
        "training/engine.py": [True, True, True, False],
        "detection/nms.py": [False, True, True, False],
        "data/simulate_knobs.py": [True, True, True, True],
        "report/tables.py": [False, False, False, False],
    }.items():
        before = keys()
        assert keys() == before
        change(copy / file)
        assert [a != b for a, b in zip(before, keys(), strict=True)] == differ, file


def test_a_worker_of_other_source_is_refused(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it trained would be kept under the key of the source that this process has."""
    monkeypatch.setattr("dgam.experiments.pool.source_of", lambda *names: "another")
    assert reproduce("table3", data, tmp_path / "out", "--seeds", "1", "--jobs", "2") == 2
    said = capsys.readouterr().err
    assert "the source of dgam on " in said
    assert "is not what this command began with" in said
    with pytest.raises(InputError, match="is not what this command began with"):
        _attempt_one(key_of(data), str(tmp_path / "out" / "runs"), "another", False)
    assert not list((tmp_path / "out").rglob("done.json"))


# Whether the lists of names hold all that they should.


def files_that_run(work: Callable[[], object]) -> set[str]:
    """The package's files of which a function is called by ``work``, in any thread that it starts."""
    found = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_flags & inspect.CO_OPTIMIZED:  # no body of a module or class
            found.add(frame.f_code.co_filename)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return {
        Path(file).relative_to(PACKAGE).as_posix() for file in found if Path(file).is_relative_to(PACKAGE)
    }


def within(names: tuple[str, ...]) -> set[str]:
    """Files that names stand for."""
    places = [PACKAGE / name for name in names]
    files = {file for place in places for file in ([place] if place.is_file() else place.rglob("*.py"))}
    return {file.relative_to(PACKAGE).as_posix() for file in files}


def test_all_that_a_training_and_a_measurement_run_through_is_in_their_keys(
    data: str, tmp_path: Path
) -> None:
    cache = RunCache(tmp_path)
    beside = {"experiments/cache.py"}  # it names files

    def do(task: Task) -> None:
        assert not isinstance(attempt(task, cache, False, lambda fraction: None), Problem)
        assert task.done(cache)

    def works(seed: int) -> tuple[list[Task], Task]:
        alone = key_of(data, "train.select=held-out", seed=seed)
        pair = tuple(key_of(data, f"loss.beta={beta}", seed=seed) for beta in (0.1, 0.2))
        return [alone, TrainingGroup(pair)], measurement(data, alone)

    trainings, measuring = works(0)  # first, what is done once in a process, such as imports
    for task in (*trainings, measuring):
        do(task)
    trainings, measuring = works(1)
    trained = files_that_run(lambda: [do(task) for task in trainings])
    measured = files_that_run(lambda: do(measuring))
    assert {"training/trainer.py", "training/many.py", "model/losses.py", "runs.py"} <= trained
    assert {"detection/nms.py", "evaluation/metrics.py", "api.py"} <= measured
    assert trained - within(TRAINING) - beside == set()
    assert measured - within(MEASURING) - beside == set()


@pytest.mark.parametrize("names", [TRAINING, MEASURING, SIMULATING], ids=["train", "measure", "simulate"])
def test_all_that_they_import_is_in_their_keys(names: tuple[str, ...]) -> None:
    """Also what runs on a GPU only. The modules that put others together import more than one work needs."""
    together = {"api.py", "runs.py", "experiments/data.py", "experiments/tasks.py", "experiments/together.py"}
    texts = sources_of(PACKAGE)
    files = {file.relative_to(PACKAGE).as_posix() for file in PACKAGE.rglob("*.py")}
    missing = set()
    for file in within(names) - together:
        module = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for target in imports_of(texts[module], texts, types_too=False):
            place = target.replace(".", "/")
            missing |= ({f"{place}.py", f"{place}/__init__.py"} & files) - within(names)
    assert missing == set()


def test_the_digest_of_the_installed_source_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process goes on with what it imported, so later changes are not its runs'."""
    before = source_of(*TRAINING)
    monkeypatch.setattr("dgam.experiments.source.files", lambda package: Path("nowhere"))
    assert source_of(*TRAINING) == before

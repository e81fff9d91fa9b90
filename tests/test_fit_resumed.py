"""The same fit gives the same bytes, also when it was stopped or killed on the way."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dgam.core.errors import InputError
from dgam.fitting.folder import load_model_folder
from tiny_fit import ACTIONS, OPTIONS, fit, tree, write_labels

pytest_plugins = ["fit_fixtures"]


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
from pathlib import Path
from tiny_fit import OPTIONS, fit

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

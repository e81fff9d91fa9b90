"""What all tests share: one thread a process, no window, no time limit for hypothesis, the reference data."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from dgam.cli import main
from dgam.core.results import write_detections
from dgam.core.types import Detection, Detections

# Before anything imports torch or matplotlib: test processes share the cores, and none has a screen.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

# A busy machine makes single examples slow, which says nothing about the code.
settings.register_profile(
    "dgam", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("dgam")

SMALL = [f"--set={knob}" for knob in ("train=4", "test=3", "classes=3", "dimension=6", "instances=4")]

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of published detections and ground truth, which may lie beside the repository."""
    folder = SHARED / "reference"
    if not folder.is_dir():
        pytest.skip("the reference data is not on this machine")
    return folder


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small simulated data set, 4 training and 3 test videos of 6 dimensions, written by the command."""
    out = tmp_path_factory.mktemp("cli") / "sim"
    assert main(["simulate", str(out), "--seed", "0", *SMALL]) == 0
    return out


@pytest.fixture
def detections(simulated: Path, tmp_path: Path) -> Path:
    """The ground truth of the simulated test videos, written as detections."""
    database = json.loads((simulated / "gt.json").read_text())["database"]
    found = {
        video: [Detection(*item["segment"], item["label"], 1.0) for item in entry["annotations"]]
        for video, entry in database.items()
        if entry["subset"] == "test"
    }
    path = tmp_path / "detections.json"
    write_detections(path, Detections(found))
    return path

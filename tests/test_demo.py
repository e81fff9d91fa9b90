"""The demo on little simulated data: every step and every picture of it, only smaller."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

import dgam
import tiny_data
from dgam.cli import main
from dgam.cli.demo import show

KNOBS = {"train": 6, "test": 8, "classes": 2, "dimension": 6, "instances": 8.0}
SETTINGS = (*tiny_data.NETWORKS, "train.epochs=3", "train.snippets=20", "train.checkpoint_every=3")


@dataclass(frozen=True)
class Shown:
    """Where the demo wrote, and what it printed."""

    out: Path
    told: str


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    out, capture = tmp_path_factory.mktemp("demo") / "demo", pytest.MonkeyPatch()
    lines: list[str] = []
    capture.setattr("builtins.print", lambda *words, **_: lines.append(" ".join(map(str, words))))
    try:
        show(out, 3, knobs=KNOBS, settings=SETTINGS)
    finally:
        capture.undo()
    return Shown(out, "\n".join(lines))


def test_tables_compare_with_and_without_the_generative_part(shown: Shown) -> None:
    told = shown.told
    assert "14 videos" in told
    maps, statistics = told.index("with the generative part"), told.index("rgb, without")
    assert maps < statistics
    for threshold in ("0.1", "0.3", "0.7"):
        assert threshold in told
    for row in ("flow, with", "rgb, with", "flow, without", "without the generative part"):
        assert row in told


def test_all_of_it_is_called_simulated(shown: Shown) -> None:
    head, maps, statistics, *_ = shown.told.split("\n\n")
    assert "simulated data, no real video" in head
    assert "imulated" in maps
    assert "imulated" in statistics


def test_pictures_are_drawn(shown: Shown) -> None:
    names = {path.name for path in (shown.out / "pictures").iterdir()}
    assert {"losses.png", "class-ap.png"} < names
    videos = sorted(names - {"losses.png", "class-ap.png"})
    assert 1 <= len(videos) <= 3
    assert all(name.startswith("test_") for name in videos)
    for name in names:
        picture = imread(shown.out / "pictures" / name)
        assert min(picture.shape[:2]) > 200
        assert np.ptp(picture[..., :3]) > 0.5, "not an empty page"
        assert str(shown.out / "pictures" / name) in shown.told


def test_the_numbers_are_those_of_the_files_that_it_leaves(shown: Shown) -> None:
    truth = dgam.read_segments(shown.out / "data" / "gt.json").in_subset("test")
    for name in ("with", "without"):
        found = dgam.read_detections(shown.out / f"detections-{name}.json")
        result = dgam.evaluate(found, truth, [0.1])
        assert f"{100 * result.map[0]:.1f}" in shown.told
        run = dgam.load_run(shown.out / f"run-{name}")
        assert (run.config.loss.gamma1 == 0) == (name == "without")
        terms = json.loads((run.folder("rgb") / "metrics.jsonl").read_text().splitlines()[0])
        assert ("re" in terms) == (name == "with")


def test_it_ends_with_what_to_type_next(shown: Shown) -> None:
    end = shown.told.split("With features and labels of your own")[1]
    commands = [line.split()[1] for line in end.splitlines() if line.startswith("  dgam ")]
    assert commands == ["check", "train", "localize", "evaluate"]


def test_a_demo_called_again_goes_on(shown: Shown, capsys: pytest.CaptureFixture[str]) -> None:
    files = [path for path in shown.out.rglob("*") if path.suffix in {".json", ".jsonl", ".safetensors"}]
    before = {path: path.read_bytes() for path in files}
    show(shown.out, 3, knobs=KNOBS, settings=SETTINGS)
    assert {path: path.read_bytes() for path in files} == before
    assert len(files) > 12
    assert "With features and labels of your own" in capsys.readouterr().out


def test_a_folder_with_something_else_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.txt").write_text("precious")
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert "data" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["thesis.txt"]

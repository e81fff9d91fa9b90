"""The benchmark of training settings: its numbers are those of direct calls, and its table says so."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import dgam
import tiny_experiments
import variants
from dgam.core.types import Detections, SegmentAnnotations
from dgam.experiments.halves import halves

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SETTINGS = (*tiny_experiments.SETTINGS, "localize.t_max=4000")  # so that curves are at every snippet
FILE = """
plain: {}
slow: {train.lr: 0.004, train.schedule: cosine}
broken: {train.lr: 1.0e+30}
"""


def run(data: str, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """The benchmark on tiny simulated data, two data sets with two trainings each."""
    file = out.with_name("file.yaml")
    file.write_text(FILE)
    given = [f"--data={data}", "--seeds", "0", "1", "--trainings=2", f"--json={out}"]
    given += [f"--set={text}" for text in SETTINGS]
    command = [sys.executable, str(BENCHMARKS / "variants.py"), "run", str(file), *given, *more]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=250)


def expected(data: Path, seed: int, overrides: list[str], out: Path) -> dict[str, Any]:
    """mAP on all test videos and on both halves, and table 2, of one training by itself."""
    labels = dgam.read_labels(data / "labels.csv").in_subset("train")
    config = dgam.load_config(overrides=[*SETTINGS, *overrides])
    trained = dgam.train(dgam.open_features(data / "train"), labels, out, config=config, seed=seed)
    test = dgam.open_features(data / "test")
    truth = dgam.read_segments(data / "gt.json").in_subset("test")
    found = dgam.localize(trained, test)
    scores = {"all": dgam.evaluate(found, truth, variants.TIOU).map}
    for name, videos in zip(("selection", "report"), halves(truth), strict=True):
        own = SegmentAnnotations({video: truth.videos[video] for video in videos}, truth.classes)
        kept = Detections({video: found.videos[video] for video in videos})
        scores[name] = dgam.evaluate(kept, own, variants.TIOU).map
    return {"map": scores, "attention": dgam.statistics(trained, test, truth)}


def test_numbers_are_those_of_direct_calls(tmp_path: Path) -> None:
    data, out = tiny_experiments.simulate(tmp_path), tmp_path / "out.json"
    done = run(data, out, "--trainers=2")
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    keys = [(r["variant"], r["data"], r["seed"]) for r in result["runs"]]
    assert keys == [
        (name, number, seed)
        for name in ("plain", "slow")
        for number, seed in [(0, 0), (0, 1000), (1, 1), (1, 1010)]
    ]
    for place, own in [(1, []), (7, ["train.lr=0.004", "train.schedule=cosine"])]:
        found = result["runs"][place]
        folder = Path(data.format(seed=found["data"]))
        direct = expected(folder, found["seed"], own, tmp_path / str(place))
        for videos in ("all", "selection", "report"):
            assert found["map"][videos] == pytest.approx(list(direct["map"][videos]), abs=1e-6), videos
        for stream, values in direct["attention"].items():
            assert found["attention"][stream] == pytest.approx(
                {name: getattr(values, name) for name in ("false_activation", "omission")}
            )
            assert found["losses"][stream]["epoch"] == 3
    assert "broken: came to nothing." in done.stdout
    assert "not finite" in done.stdout or "became" in done.stdout
    rows = {line.split(" | ")[0].strip("| "): line for line in done.stdout.splitlines() if " | " in line}
    assert list(rows) == ["variant", "plain", "slow"]
    slow = [r for r in result["runs"] if r["variant"] == "slow"]
    half = statistics.mean(statistics.mean(r["map"]["report"]) for r in slow)
    assert rows["slow"].split(" | ")[2] == f"{100 * half:.1f}"


def test_nothing_is_begun_once_the_time_is_spent(tmp_path: Path) -> None:
    done = run(
        str(tmp_path / "absent-{seed}"), tmp_path / "out.json", "--seconds=0", "--only", "slow", "plain"
    )
    assert done.returncode == 0, done.stderr
    assert "Left out as the time was spent: slow, plain." in done.stdout


def training(variant: str, data: int, seed: int, value: float, half: float) -> dict[str, Any]:
    scores = {"all": [value] * 7, "selection": [half] * 7, "report": [2 * value - half] * 7}
    return {"variant": variant, "data": data, "seed": seed, "map": scores}


def test_table() -> None:
    a = [(0, 0, 0.7), (0, 1, 0.8), (1, 1, 0.76), (1, 1010, 0.5)]
    b = [(0, 0, 0.8), (0, 1, 0.8), (1, 1, 0.76), (1, 1010, 0.8)]
    runs = [training("a", data, seed, value, value + 0.02) for data, seed, value in a]
    runs += [training("b", data, seed, value, value - 0.02) for data, seed, value in b]
    common = {"seconds": {}, "failed": {}}
    first = {**common, "settings": {"a": {}, "b": {}}, "runs": runs[:5], "left_out": ["b", "c"]}
    second = {**common, "settings": {"b": {}}, "runs": runs[4:], "left_out": []}
    text = variants.table(variants.merged([first, second]))
    # By hand: a is 69.0 on average with a median of 73.0, so 50 fails; b gains (10 + 0) / 2 and (0 + 30) / 2.
    assert text.splitlines()[2:] == [
        "| a | 71.0 | 67.0 | 69.0 | 69.0 | 13.3 | 50.0 | 1 of 4 |  |  |",
        "| b | 77.0 | 81.0 | 79.0 | 79.0 | 2.0 | 76.0 | 0 of 4 | +10.0 ± 7.1 | +14.0 ± 7.1 |",
        "",
        "Left out as the time was spent: c.",
    ]


def test_every_variant_of_the_file_is_usable() -> None:
    read = variants.read_variants(BENCHMARKS / "schedules.yaml")
    assert next(iter(read.values())) == {}, "the first is what others are compared with"
    for own in read.values():
        dgam.load_config(overrides=variants.overrides(own))
    assert len({json.dumps(own, sort_keys=True) for own in read.values()}) == len(read)

"""`dgam search`: chosen on one half of the test videos, reported on the other; resumable; says so."""

from __future__ import annotations

import csv
import json
import shutil
import statistics
from pathlib import Path
from typing import Any

import pytest

import dgam
from dgam.cli import main
from dgam.core.config import load_config
from dgam.core.errors import InputError
from dgam.core.types import AnnotatedVideo, Segment, SegmentAnnotations
from dgam.experiments.halves import halves
from dgam.experiments.search_spec import read_search, search_names
from tiny_experiments import SET, SETTINGS, simulate

pytest.importorskip("optuna", reason="the extra search is not installed")

SPEC = """
title: A tiny search
preset: thumos14
set: {train.epochs: 2}
tiou: "0.3:0.5:0.1"
trials: 3
startup: 2
seeds: 1
space:
  loss.beta: {low: 0.01, high: 10, log: true}
  train.epochs: {low: 1, high: 3}
  localize.thresholds: {choices: [[0.5], [0.3, 0.5]]}
  localize.eta: {low: 0, high: 1}
"""
# The file's train.epochs is searched, so --set must not fix it.
GIVEN = tuple(text for text in SET if "train.epochs" not in text)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return simulate(tmp_path_factory.mktemp("search"))


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("search") / "tiny.yaml"
    path.write_text(SPEC, encoding="utf-8")
    return str(path)


def search(spec: str, data: str, out: Path, *more: str) -> int:
    return main(["search", spec, "--data", data, "--out", str(out), "--seeds", "2", *GIVEN, *more])


def read(out: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((out / "tiny.json").read_text(encoding="utf-8"))
    return value


@pytest.fixture(scope="module")
def out(spec: str, data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search") / "out"
    assert search(spec, data, folder) == 0
    return folder


def test_the_halves_are_disjoint_and_the_same_whoever_asks(out: Path, data: str) -> None:
    report = read(out)
    for seed in ("0", "1"):
        truth = dgam.read_segments(Path(data.format(seed=seed)) / "gt.json").in_subset("test")
        selection, rest = (set(report["halves"][seed][half]) for half in ("selection", "report"))
        assert not selection & rest
        assert selection | rest == set(truth.videos)
        assert abs(len(selection) - len(rest)) <= 1
        assert (tuple(sorted(selection)), tuple(sorted(rest))) == halves(truth)


def test_every_class_is_split_evenly() -> None:
    videos = {f"v{index:02d}": AnnotatedVideo((Segment(0, 1, "abc"[index % 3]),)) for index in range(30)} | {
        "nothing": AnnotatedVideo(())
    }
    first, second = halves(SegmentAnnotations(videos))
    for label in range(3):
        assert sum(int(name[1:]) % 3 == label for name in first if name != "nothing") == 5
    assert (len(first) + len(second), first) == (31, tuple(sorted(first)))
    assert halves(SegmentAnnotations(dict(reversed(videos.items())))) == (first, second)
    assert halves(SegmentAnnotations(videos), seed=1) != (first, second)


def own_map(data: str, seed: int, config: Any, videos: list[str], folder: Path) -> dict[float, float]:
    """mAP in percent on some test videos, by the plain functions."""
    place = Path(data.format(seed=seed))
    labels = dgam.read_labels(place / "labels.csv").in_subset("train")
    run = dgam.train(dgam.open_features(place / "train"), labels, folder, config=config, seed=seed)
    found = dgam.localize(run, dgam.open_features(place / "test"), videos=videos)
    truth = dgam.read_segments(place / "gt.json").in_subset("test")
    kept = SegmentAnnotations({video: truth.videos[video] for video in videos}, truth.classes)
    tiou = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    return {t: 100 * v for t, v in zip(tiou, dgam.evaluate(found, kept, tiou).map, strict=True)}


def test_trials_are_judged_on_the_selection_half_and_reported_on_the_other(
    out: Path, data: str, tmp_path: Path
) -> None:
    report = read(out)
    trial = report["trials"][0]
    overrides = (*(t for t in SETTINGS if "epochs=" not in t or "warmup" in t),)
    overrides += tuple(f"{name}={json.dumps(value)}" for name, value in trial["settings"].items())
    config = load_config("thumos14", overrides=overrides)
    chosen = report["halves"]["0"]["selection"]
    expected = own_map(data, 0, config, chosen, tmp_path / "trial")
    assert trial["value"] == pytest.approx(statistics.mean(expected[t] for t in (0.3, 0.4, 0.5)), abs=1e-9)
    best = load_config("thumos14", None).model_validate(report["settings"])
    for place, seed in enumerate((0, 1)):
        rest = report["halves"][str(seed)]["report"]
        expected = own_map(data, seed, best, rest, tmp_path / f"best-{seed}")
        columns = report["report_half"]["found"]
        assert columns["0.5"]["values"][place] == pytest.approx(expected[0.5], abs=1e-9)
        assert columns["mean"]["values"][place] == pytest.approx(statistics.mean(expected.values()), abs=1e-9)


def test_the_best_trial_is_what_is_reported_and_compared_seed_by_seed(out: Path) -> None:
    report = read(out)
    values = [trial["value"] for trial in report["trials"]]
    assert len(values) == 3
    assert report["best"]["trial"] == values.index(max(values))
    assert report["selection_half"]["found"] == [pytest.approx(max(values))]
    found, base = (report["report_half"][which]["0.5"]["values"] for which in ("found", "base"))
    gap = [a - b for a, b in zip(found, base, strict=True)]
    line = next(
        line for line in (out / "tiny.md").read_text().splitlines() if line.startswith("| found minus preset")
    )
    assert line.split("|")[6].strip() == f"{statistics.mean(gap):+.1f} ± {statistics.stdev(gap):.1f}"


def test_everything_says_that_test_annotations_were_used_and_that_data_are_simulated(out: Path) -> None:
    for ending in ("html", "md", "json", "preset.yaml"):
        text = " ".join((out / f"tiny.{ending}").read_text(encoding="utf-8").replace("\n# ", " ").split())
        assert (
            "CHOSEN WITH TEST ANNOTATIONS: segment annotations of the selection half (3 of the test" in text
        )
        assert "simulated data" in text.lower()
    with open(out / "tiny.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    report = read(out)
    assert [float(row["mean mAP over tIoU 0.3 to 0.5, selection half"]) for row in rows] == [
        trial["value"] for trial in report["trials"]
    ]
    for row, trial in zip(rows, report["trials"], strict=True):
        assert {name: json.loads(row[name]) for name in trial["settings"]} == trial["settings"]
        assert row["data"].startswith("simulated data")
        assert isinstance(trial["settings"]["train.epochs"], int)
        assert trial["settings"]["localize.thresholds"] in ([0.5], [0.3, 0.5])


def test_the_preset_gives_the_settings_found(out: Path) -> None:
    expected = {**read(out)["settings"], "preset": "default"}
    assert load_config(file=out / "tiny.preset.yaml").model_dump(mode="json") == expected


def test_an_interrupted_search_ends_as_an_uninterrupted_one(
    out: Path, spec: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dgam.experiments import search as module

    real, calls = module.run_trials, 0

    def cut(*arguments: Any) -> Any:
        """The second trial is interrupted in the middle of its work."""
        evaluate = arguments[4]

        def interrupted(number: int, settings: Any) -> float:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise KeyboardInterrupt
            value: float = evaluate(number, settings)
            return value

        return real(*arguments[:4], interrupted, *arguments[5:])

    monkeypatch.setattr(module, "run_trials", cut)
    assert search(spec, data, tmp_path) == 130
    assert not (tmp_path / "tiny.html").exists()
    monkeypatch.undo()
    assert search(spec, data, tmp_path) == 0
    again, first = read(tmp_path), read(out)
    for key in ("trials", "best", "report_half", "selection_half", "settings"):
        assert again[key] == first[key]


def test_a_finished_search_goes_on_without_training_again(
    out: Path, spec: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(out, tmp_path / "out")
    runs = tmp_path / "out" / "runs" / "runs"
    before = {path.name for path in runs.iterdir()}
    assert search(spec, data, tmp_path / "out") == 0
    assert {path.name for path in runs.iterdir()} == before
    assert search(spec, data, tmp_path / "out", "--trials", "4") == 0
    assert read(tmp_path / "out")["trials"][:3] == read(out)["trials"]
    assert len(read(tmp_path / "out")["trials"]) == 4
    assert "--trials 4" in read(tmp_path / "out")["command"]


def test_a_search_with_other_source_begins_anew(
    out: Path, spec: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its trials would be compared with scores that other code made; runs have keys of their own."""
    shutil.copytree(out, tmp_path / "out")
    monkeypatch.setattr("dgam.experiments.search.source_of", lambda *names: "another")
    journal = tmp_path / "out" / "tiny.journal"
    lines = len(journal.read_text().splitlines())
    assert search(spec, data, tmp_path / "out") == 0
    assert len(journal.read_text().splitlines()) == 2 * lines
    assert read(tmp_path / "out")["trials"] == read(out)["trials"]


def test_a_trial_that_cannot_be_trained_fails_alone(data: str, tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    choices = "space: {train.lr: {choices: [1.0e+30, 0.01]}, localize.eta: {low: 0, high: 1}}"
    path.write_text(f"title: x\nstreams: [rgb]\ntrials: 6\nseeds: 1\n{choices}\n")
    out = tmp_path / "out"
    assert search(str(path), data, out, "--set=train.epochs=2") == 0
    values = {trial["settings"]["train.lr"]: trial["value"] for trial in read(out)["trials"]}
    assert values[1e30] is None
    assert values[0.01] is not None
    text = (out / "tiny.md").read_text()
    assert "trials could not be trained." in text


def test_the_searches_of_the_package_are_usable(capsys: pytest.CaptureFixture[str]) -> None:
    assert search_names()
    for name in search_names():
        assert len(read_search(name).space) > 3
    assert main(["search"]) == 0
    assert capsys.readouterr().out.startswith(search_names()[0])


BAD = [
    ("title: x\n", "space: is missing: which settings are searched, as loss.beta: {low: 0.1, high: 10}?"),
    ("space: {loss.betta: {low: 0, high: 1}}\n", "space: loss.betta: no such setting. Did you mean 'beta'?"),
    (
        "space: {loss.beta: {low: -1, high: 1}}\n",
        "space: loss.beta: must be greater than or equal to 0, got -1.",
    ),
    ("space: {loss.beta: {low: 1}}\n", "space.loss.beta: needs either 'choices', or both 'low' and 'high'."),
    ("space: {loss.beta: {low: 2, high: 1}}\n", "space.loss.beta: low must lie below high, got 2 and 1."),
    (
        "space: {loss.beta: {low: 0, high: 1, log: true}}\n",
        "space.loss.beta: a logarithmic range needs low above 0 and no step.",
    ),
    (
        "space: {loss.beta: {lowe: 0, high: 1}}\n",
        "space.loss.beta.lowe: no such setting.",
    ),
    (
        "trials: 0\nspace: {loss.beta: {low: 0, high: 1}}\n",
        "trials: must be greater than or equal to 1, got 0.",
    ),
]


@pytest.mark.parametrize(("text", "expected"), BAD, ids=[text for text, _ in BAD])
def test_a_bad_file_says_what_is_wrong(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_search(str(path))
    assert str(caught.value) == f"The search is not usable:\n  {path}: {expected}"


def test_a_damaged_journal_and_bad_calls(
    spec: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.journal").write_text("no journal\nat all\n")
    assert search(spec, data, tmp_path) == 2
    assert "tiny.journal: damaged or no journal of a search" in capsys.readouterr().err
    assert search(spec, data, tmp_path, "--trials", "0") == 2
    assert capsys.readouterr().err == "dgam search: --trials: must be a whole number from 1 on, got 0.\n"
    assert main(["search", "dgam-pluss", "--data", data]) == 2
    told = "there is no search 'dgam-pluss'. Did you mean 'dgam-plus'? A file of your own ends in .yaml."
    assert capsys.readouterr().err == f"dgam search: {told}\n"

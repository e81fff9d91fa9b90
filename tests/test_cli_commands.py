"""What each command does, run as a user would, and what it prints."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import dgam
from conftest import SMALL
from dgam.cli import main
from dgam.core.config import Config, load_config, preset_names
from dgam.core.run import Run

SECTIONS = ("model", "loss", "train", "localize")


def test_simulate_is_as_agreed_and_repeats_itself(simulated: Path, tmp_path: Path) -> None:
    assert {path.name for path in simulated.iterdir()} >= {"train", "test", "labels.csv", "gt.json"}
    assert len(list((simulated / "train" / "rgb").glob("*.npy"))) == 4
    header = (simulated / "labels.csv").read_text().splitlines()[0].split(",")
    assert {"video", "labels", "subset"} <= set(header)
    assert main(["simulate", str(tmp_path / "again"), *SMALL]) == 0
    for path in simulated.rglob("*"):
        if path.is_file():
            assert (tmp_path / "again" / path.relative_to(simulated)).read_bytes() == path.read_bytes(), path


def test_import_writes_a_store_that_the_others_read(
    simulated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    call = ["import", str(simulated / "test"), "--out", str(store), "--fps", "30000/1001", "--snippet", "8"]
    assert main(call) == 0
    assert "3 videos imported, 0 were there already, 0 left out" in capsys.readouterr().out
    assert main(["info", str(store)]) == 0
    told = capsys.readouterr().out
    assert re.search(r"streams: +rgb \(6\), flow \(6\)", told)
    assert "30000/1001 frames/s, 8 frames a snippet, one every 8" in told
    assert main(["check", str(store), "--labels", str(simulated / "labels.csv"), "--subset", "test"]) == 0
    assert capsys.readouterr().out.endswith("No defects.\n")


def test_skip_bad_leaves_out_and_lists(
    simulated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = tmp_path / "features"
    for stream in ("rgb", "flow"):
        (features / stream).mkdir(parents=True)
        for path in (simulated / "test" / stream).glob("*.npy"):
            (features / stream / path.name).write_bytes(path.read_bytes())
    broken = features / "flow" / "test_00001.npy"
    array = np.load(broken)
    array[2, 3] = np.nan
    np.save(broken, array)
    call = ["import", str(features), "--out", str(tmp_path / "store")]
    assert main(call) == 2
    said = capsys.readouterr().err
    assert str(broken) in said
    assert "'test_00001'" in said
    assert "NaN" in said
    assert main([*call, "--skip-bad"]) == 0
    out, said = capsys.readouterr()
    assert "1 left out" in out
    assert said.startswith(f"left out: {broken}: video 'test_00001': ")
    assert "1 defects were passed over because of --skip-bad" in said


def test_check_lists_every_defect_on_stdout_and_exits_with_2(
    simulated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("video,labels\ntrain_00000,action_000\ntrain_00000,action_000\nnobody,action_001\n")
    assert main(["check", str(simulated / "train"), "--labels", str(labels)]) == 2
    out, said = capsys.readouterr()
    assert "'nobody': has labels but no features." in out
    assert "'train_00003': has features but no labels." in out
    assert re.search(r"'train_00000': .*(twice|second|again)", out)
    assert re.fullmatch(r"dgam check: \d+ defects, in \d+ videos\.\n", said)


def test_evaluate_prints_one_json_object(
    simulated: Path, detections: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["evaluate", str(detections), "--ground-truth", str(simulated / "gt.json"), "--subset", "test"]
    assert main([*call, "--tiou", "0.1:0.9:0.1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result) == {"tiou", "map", "average", "per_class", "protocol", "videos", "instances"}
    assert result["tiou"] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert result["map"] == [1.0] * 9  # the detections are the ground truth
    assert result["average"] == 1.0
    assert result["videos"] == 3
    assert "subsets=test" in result["protocol"]["name"]


def test_evaluate_skips_bad_predictions_only_when_told(
    simulated: Path, detections: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads(detections.read_text())
    content["results"]["test_00001"].append({"label": "action_000", "score": 1, "segment": [5, 2]})
    detections.write_text(json.dumps(content))
    call = ["evaluate", str(detections), "--ground-truth", str(simulated / "gt.json"), "--subset", "test"]
    assert main(call) == 2
    assert "ends before it starts" in capsys.readouterr().err
    assert main([*call, "--skip-bad"]) == 0
    out, said = capsys.readouterr()
    assert "100.0" in out
    assert said.startswith(f"left out: {detections}: video 'test_00001': prediction ")


def test_evaluate_shows_classes_and_errors_on_request(
    simulated: Path, detections: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["evaluate", str(detections), "--ground-truth", str(simulated / "gt.json"), "--subset", "test"]
    assert main(call) == 0
    plain = capsys.readouterr().out
    assert main([*call, "--per-class", "--errors"]) == 0
    told = capsys.readouterr().out
    assert told.startswith(plain.rstrip("\n"))
    assert "action_001" in told
    assert "background" in told
    assert "action_001" not in plain


def test_from_training_to_map(simulated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The agreed calls, one after the other, on so little that only their fitting together is shown."""
    features, run, found = simulated / "train", tmp_path / "run", tmp_path / "detections.json"
    labels = ["--labels", str(simulated / "labels.csv"), "--subset", "train"]
    small = ["--set", "train.epochs=2", "--set", "train.snippets=16", "--set", "train.batch=4"]
    assert main(["train", str(features), *labels, "--out", str(run), "--seed", "0", *small]) == 0
    assert "trained rgb, flow on 4 videos" in capsys.readouterr().out
    assert main(["localize", str(run), str(simulated / "test"), "--out", str(found)]) == 0
    truth = ["--ground-truth", str(simulated / "gt.json"), "--subset", "test"]
    capsys.readouterr()
    assert main(["evaluate", str(found), *truth, "--tiou", "0.1:0.9:0.1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["videos"] == 3
    assert 0 <= result["average"] <= 1
    assert main(["info", str(run)]) == 0
    assert "train.epochs=2" in capsys.readouterr().out


def test_published_detections_give_the_published_numbers(
    reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """STPN's detections; its authors print the same numbers (bellos1203/STPN)."""
    truth = reference / "thumos14_gt" / "gt.json"
    call = (
        f"evaluate {reference / 'stpn_thumos14' / 'results.json'} --ground-truth {truth} --subset test --json"
    )
    assert main(call.split()) == 0
    result = json.loads(capsys.readouterr().out)
    shown = " ".join(f"{100 * value:.2f}" for value in result["map"])
    assert shown == "52.12 44.20 34.70 26.06 17.70 10.09 4.99 1.34 0.10"
    assert (result["videos"], result["instances"]) == (210, 3311)


def test_info_names_every_setting_with_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "settings", "--set", "train.lr=3e-4"]) == 0
    told = capsys.readouterr().out
    for section in SECTIONS:
        for name, field in type(getattr(Config(), section)).model_fields.items():
            assert re.search(rf"^  {section}\.{name} = ", told, re.M), name
            assert " ".join(str(field.description).split())[:40] in told
    assert "train.lr = 0.0003    number > 0" in told
    assert "train.betas = [0.9, 0.999]    list of 2, each a number ≥ 0 and < 1" in told
    assert "train.cvae_lr = null    number > 0 or null" in told
    assert 'train.select = "last"    last | held-out | test-map' in told
    assert main(["info", "loss"]) == 0
    assert "train.lr" not in capsys.readouterr().out


def test_info_shows_versions_presets_simulation_and_protocols(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    told = capsys.readouterr().out
    assert f"dgam {dgam.__version__}" in told
    assert all(f"  {name}\n" in told for name in preset_names())
    assert main(["info", "default"]) == 0
    assert "dgam train" in capsys.readouterr().out
    assert main(["info", "simulation"]) == 0
    assert "  context = 0.8    0 to 1" in capsys.readouterr().out
    assert main(["info", "protocols"]) == 0
    assert "thumos14-210" in capsys.readouterr().out


def test_info_describes_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = load_config(overrides=["train.epochs=7", "streams.flow.loss.gamma1=0.3"])
    run_folder = Run(
        tmp_path, 3, ("Dive", "Jump"), {"rgb": 6, "flow": 6}, config, "after the last epoch", 4, "l.csv"
    )
    run_folder.save()
    assert main(["info", str(tmp_path)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for part in (
        "seed: 3",
        "trained on: 4 videos, labels from l.csv",
        "streams: rgb (6), flow (6)",
        "classes: 2: Dive, Jump",
        "weights: after the last epoch",
        "settings: train.epochs=7; streams.flow.loss.gamma1=0.3",
    ):
        assert part in told

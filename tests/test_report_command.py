"""`dgam report` and `dgam explain` as a user calls them: what they write, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import lxml.html
import pytest

import dgam
from dgam.cli import main
from tiny_commands import simulate, train
from tiny_report import text_of, values_of


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("report") / "sim")


@pytest.fixture(scope="module")
def trained(sim: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "run"
    assert train(sim, out) == 0
    return out


def test_the_command_on_simulated_data(
    sim: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["localize", str(trained), str(sim / "test"), "--out", str(tmp_path / "d.json")]) == 0
    call = ["report", str(trained), "--features", str(sim / "test"), "--ground-truth", str(sim / "gt.json")]
    call += ["--subset", "test", "--compare", f"again={tmp_path / 'd.json'}", "--tiou", "0.3,0.5"]
    out = tmp_path / "out" / "r.html"
    assert main([*call, "--out", str(out), "--pictures", str(tmp_path / "pictures")]) == 0
    told = capsys.readouterr().out
    assert f"{out}: 4 videos; " in told
    page = lxml.html.document_fromstring(out.read_text(encoding="utf-8"))
    judge = ["evaluate", str(tmp_path / "d.json"), "--ground-truth", str(sim / "gt.json"), "--subset", "test"]
    assert main([*judge, "--tiou", "0.3,0.5", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    for row in page.xpath("//table[@id='map']/tbody/tr"):
        assert values_of(row) == pytest.approx([100 * v for v in (*result["map"], result["average"])])
    assert "simulated data (dgam simulate, preset default, seed 0)" in text_of(page.xpath("//header")[0])
    for caption in page.xpath("//section//table[@id]/caption[contains(., 'Protocol')]"):
        assert "Simulated data." in text_of(caption)
    assert all("simulated" in text_of(p) for p in page.xpath("//article//p[@class='about']"))
    pictures = {
        path.relative_to(tmp_path / "pictures").as_posix() for path in (tmp_path / "pictures").rglob("*.*")
    }
    assert {
        "losses.png",
        "losses.svg",
        "class-ap.png",
        "videos/test_00000.png",
        "curves/action_000.svg",
    } <= pictures
    assert main([*call, "--out", str(tmp_path / "again.html")]) == 0
    assert (tmp_path / "again.html").read_bytes() == out.read_bytes()  # the same input, the same page


def test_explain_from_the_command_line(
    sim: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["explain", str(trained), str(sim / "test"), "test_00001"]
    assert main([*call, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    first = told["detections"][0]
    found = dgam.localize(trained, dgam.open_features(sim / "test"), videos=["test_00001"]).videos[
        "test_00001"
    ]
    assert (first["start"], first["end"], first["label"], first["score"]) == (
        found[0].start,
        found[0].end,
        found[0].label,
        found[0].score,
    )
    assert first["explanation"]["final"] == found[0].score
    assert main(call) == 0
    told_video = capsys.readouterr().out
    assert f"{found[0].score:.3f}" in told_video
    assert "simulated data" in told_video
    assert main([*call, "--detection", "1", "--out", str(tmp_path / "why.png")]) == 0
    assert "What each snippet gives to the score" in capsys.readouterr().out
    assert (tmp_path / "why.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        (["--compare", "detections.json"], "expected NAME=detections.json"),
        (["--compare", "run={gt}"], "is that of the run itself"),
        (["--compare", "a={d}", "--compare", "a={d}"], "given twice"),
        (["--pictures", "{d}"], "is a file"),
        (["--most", "0"], "must be 1 or more"),
        (["--videos", "{sim}/nowhere"], "is no folder"),
        (["--videos", "{sim}"], "holds no video file"),
        (["--set", "train.epochs=3"], "only localize"),
    ],
)
def test_bad_options_of_report(
    extra: list[str],
    complaint: str,
    sim: Path,
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    empty = tmp_path / "d.json"
    empty.write_text('{"results": {}}')
    given = [text.format(gt=empty, d=empty, sim=sim) for text in extra]
    out = tmp_path / "r.html"
    call = ["report", str(trained), "--features", str(sim / "test"), "--out", str(out), *given]
    assert main(call) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()


def test_bad_calls_of_explain_and_subset_without_truth(
    sim: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["explain", str(trained), str(sim / "test")]
    for extra, complaint in (
        (["nobody"], "has no video 'nobody'. It has: test_00000"),
        (["test_00000", "--detection", "100000"], "numbered from 1"),
        (["test_00000", "--detection", "0"], "numbered from 1"),
        (["test_00000", "--out", str(tmp_path / "x.png")], "--detection 1"),
        (["test_00000", "--detection", "1", "--out", str(tmp_path / "x.gif")], "as .png or .svg"),
    ):
        assert main([*call, *extra]) == 2
        assert complaint in capsys.readouterr().err
    assert main(["report", str(trained), "--features", str(sim / "test"), "--out", str(sim)]) == 2
    assert "is a folder" in capsys.readouterr().err
    assert main(["report", str(trained), "--features", str(sim / "test"), "--subset", "test"]) == 2
    assert "--ground-truth" in capsys.readouterr().err

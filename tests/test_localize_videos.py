"""`dgam localize` on video files: the table, the files, clips, batches, and bad videos."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import dgam
from coded_videos import write_sound
from colour_model import BLUE, GREY, RED, colour_video, colours
from dgam.cli import main
from dgam.cli.outputs import show
from dgam.core.types import Detection
from dgam.exports.formats import FORMATS
from dgam.features.store import FeatureStore
from dgam.video.container import probe
from dgam.video.framing import FrameSettings
from dgam.video.reader import FrameReader


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model/, trained on simulated videos, and the videos new/one.mp4 and new/sub/two.mp4."""
    return colours(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="module")
def model(place: Path) -> str:
    return str(place / "model")


def results(path: Path) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = json.loads(path.read_text())["results"]
    return found


def best(path: Path, video: str, label: str) -> tuple[float, float]:
    found = [one for one in dgam.read_detections(path).videos[video] if one.label == label]
    return found[0].start, found[0].end


# What is printed


def test_segments_are_printed_as_a_table(place: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["localize", model, str(place / "new" / "one.mp4"), "--min-score", "0"]) == 0
    out, said = capsys.readouterr()
    assert said == ""
    lines = out.splitlines()
    assert lines[0] == "one, 0:00:13.4: 2 segments"
    assert lines[1].split() == ["start", "end", "label", "score"]
    assert [line.split()[:3] for line in lines[2:]] == [
        ["0:00:03.2", "0:00:05.1", RED],
        ["0:00:09.0", "0:00:11.5", BLUE],
    ]
    assert all(re.fullmatch(r"\d+\.\d{3}", line.split()[3]) for line in lines[2:])


def test_no_more_than_twenty_segments_are_shown_unless_asked(capsys: pytest.CaptureFixture[str]) -> None:
    found = [Detection(30 - i, 31 - i, "run", 30 - i) for i in range(30)]
    show("v", None, found, None)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "v: 30 segments"
    assert len(lines) == 1 + 1 + 20 + 1
    assert lines[-1] == "  … and 10 of lower score; --top shows more, --out writes all."
    starts = [line.split()[0] for line in lines[2:-1]]
    assert starts == sorted(starts), "in order of time"
    assert starts[0] == "0:00:11.0", "the best of them"
    show("v", None, found, 30)
    assert len(capsys.readouterr().out.splitlines()) == 32


def test_a_terminal_gets_a_drawn_table_that_no_name_disturbs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    show("[bold]v\x1b[31m", 90.0, [Detection(1, 2, "[red]x[/red]\x1b[2J", 0.5)], None)
    out = capsys.readouterr().out
    assert "[bold]v [31m, 0:01:30.0: 1 segment" in out
    assert re.search(r"0:00:01\.0\s+0:00:02\.0\s+\[red\]x\[/red\] \[2J\s+0\.500", out)
    assert "─" in out
    assert "\x1b[2J" not in out


# What is written


def test_videos_and_their_features_give_the_same_detections(place: Path, model: str, tmp_path: Path) -> None:
    videos, features = tmp_path / "videos.json", tmp_path / "features.json"
    call = ["localize", model, str(place / "new"), "--out", str(videos), "--store", str(tmp_path / "store")]
    assert main(call) == 0
    assert main(["localize", model, str(tmp_path / "store"), "--out", str(features)]) == 0
    assert results(videos) == results(features)
    assert list(results(videos)) == ["one", "two"]
    assert best(videos, "one", RED) == pytest.approx((3.2, 5.12))
    assert best(videos, "two", BLUE) == pytest.approx((2.56, 5.76))
    about = [json.loads(path.read_text())["external_data"] for path in (videos, features)]
    assert about[0]["details"] == f"Videos, through the model {model}"
    assert {k: v for k, v in about[0].items() if k != "details"} == {
        k: v for k, v in about[1].items() if k != "details"
    }


def test_features_are_kept_in_the_store_and_used_again(place: Path, model: str, tmp_path: Path) -> None:
    call = ["localize", model, str(place / "new" / "one.mp4"), "--store", str(tmp_path / "store")]
    assert main([*call, "--out", str(tmp_path / "a.json")]) == 0
    array = tmp_path / "store" / "rgb" / "one.npy"
    before = array.stat().st_mtime_ns
    assert main([*call, "--out", str(tmp_path / "b.json"), "--curves", str(tmp_path / "curves")]) == 0
    assert array.stat().st_mtime_ns == before
    assert results(tmp_path / "a.json") == results(tmp_path / "b.json")
    assert (tmp_path / "curves" / "one.npz").is_file()
    assert FeatureStore(tmp_path / "store").videos == ("one",)


def test_every_format_and_clips_at_once(
    place: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, clips = tmp_path / "out", tmp_path / "clips"
    call = ["localize", model, str(place / "new"), "--out", str(out), "--to", ",".join(FORMATS)]
    capsys.readouterr()
    assert main([*call, "--clips", str(clips), "--top", "1"]) == 0
    told = capsys.readouterr().out
    assert f"11 files in {out}: 2 detections in 2 videos.\n{clips}: 2 clips.\n" in told
    assert sorted(path.name for path in out.iterdir()) == [
        "detections.csv", "detections.json", "fiftyone.json", "labelstudio-config.xml", "labelstudio.json",
        "one.eaf", "one.srt", "one.vtt", "two.eaf", "two.srt", "two.vtt",
    ]  # fmt: skip
    assert [len(found) for found in results(out / "detections.json").values()] == [1, 1]
    labels = json.loads((out / "fiftyone.json").read_text())
    assert set(labels["labels"]) == {str(place / "new" / "one.mp4"), str(place / "new" / "sub" / "two.mp4")}
    assert labels["classes"] == [BLUE, RED]
    names = sorted(path.name for path in clips.iterdir())
    assert names == ["one_red_0h00m03.200s.mp4", "two_blue_0h00m02.560s.mp4"]
    assert probe(clips / names[0]).seconds == pytest.approx(1.92, abs=0.05)
    with FrameReader(clips / names[0], FrameSettings(short_side=0)) as reader:
        pictures = list(reader)
    assert all(picture[..., 0].mean() > picture[..., 2].mean() + 80 for picture in pictures), "all red"


def test_min_score_and_top_choose_what_is_kept(place: Path, model: str, tmp_path: Path) -> None:
    def kept(*more: str) -> list[float]:
        call = ["localize", model, str(place / "new" / "one.mp4"), "--out", str(tmp_path / "a.json"), *more]
        assert main(call) == 0
        return [float(str(one["score"])) for one in results(tmp_path / "a.json")["one"]]

    scores = kept()
    assert len(scores) == 4
    assert scores == sorted(scores, reverse=True)
    assert kept("--top", "3") == scores[:3]
    assert kept("--min-score", str(scores[1])) == scores[:2]
    assert kept("--min-score", str(scores[1]), "--top", "1") == scores[:1]


def test_some_videos_by_their_ids(place: Path, model: str, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("sub/two\n")
    call = ["localize", model, str(place / "new"), "--out", str(tmp_path / "a.vtt"), "--ids", "path"]
    assert main([*call, "--videos", str(tmp_path / "ids.txt")]) == 0
    assert (tmp_path / "a.vtt").read_text().startswith("WEBVTT\n\n1\n00:00:02.560 --> 00:00:05.760\nblue (")


def test_the_calibrated_threshold_is_pointed_out(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dgam.fitting.calibration import CALIBRATION_FILE, Calibration

    model = tmp_path / "model"
    shutil.copytree(place / "model", model)
    found = Calibration("held out", 3, {"rgb": 0.5}, {"rgb": (0.5,)}, score_threshold=0.25)
    (model / CALIBRATION_FILE).write_text(json.dumps(found.to_json()))
    call = ["localize", str(model), str(place / "new" / "one.mp4")]
    capsys.readouterr()
    assert main(call) == 0
    told = (
        "2 of 4 segments score at least 0.25, the threshold that the model's calibration found: "
        "--min-score 0.25\n"
    )
    assert capsys.readouterr().out.endswith(told)
    assert main([*call, "--min-score", "0"]) == 0
    assert "calibration" not in capsys.readouterr().out


# Bad videos


@pytest.fixture
def bad(place: Path, tmp_path: Path) -> Path:
    """A folder of a good video, one of text, one of sound only, and one more good one."""
    folder = tmp_path / "bad"
    folder.mkdir()
    shutil.copy(place / "new" / "one.mp4", folder / "a.mp4")
    (folder / "b.mp4").write_text("no video")
    write_sound(folder / "c.mp4")
    shutil.copy(place / "new" / "sub" / "two.mp4", folder / "d.mp4")
    return folder


def test_files_that_are_no_videos_are_told_before_any_work(
    model: str, bad: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    call = [
        "localize",
        model,
        str(bad),
        "--out",
        str(tmp_path / "o.json"),
        "--store",
        str(tmp_path / "store"),
    ]
    assert main(call) == 2
    out, said = capsys.readouterr()
    assert out == "", "nothing was localised"
    head, first, second = said.splitlines()
    assert head == "dgam localize: Some videos cannot be read (--skip-bad goes on without them):"
    assert first.startswith(f"  {bad / 'b.mp4'}: video 'b': is no video that FFmpeg can read")
    assert second == (
        f"  {bad / 'c.mp4'}: video 'c': holds no moving picture (only audio). Leave it out, or give the "
        "video file."
    )
    assert not (tmp_path / "o.json").exists()
    assert not (tmp_path / "store").exists()


def test_skip_bad_goes_on_without_them(
    model: str, bad: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["localize", model, str(bad), "--out", str(tmp_path / "o.json"), "--skip-bad"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in said[:2]] == ["left out", "left out"]
    assert said[2] == "2 defects were passed over because of --skip-bad; see above."
    assert list(results(tmp_path / "o.json")) == ["a", "d"]


def cut_off(source: Path, to: Path) -> Path:
    """A video of which the last third is missing; its header does not know."""
    data = source.read_bytes()
    to.write_bytes(data[: len(data) * 2 // 3])
    return to


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A folder of a good video, one that breaks off in its middle, and one more good one."""
    folder = tmp_path / "damaged"
    for name in ("a", "b", "c"):
        colour_video(folder / f"{name}.mkv", [(3, GREY), (3, RED), (3, GREY)])
    cut_off(folder / "a.mkv", folder / "b.mkv")
    return folder


def test_a_video_that_breaks_off_costs_no_finished_work(
    model: str, damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, clips = tmp_path / "o.json", tmp_path / "clips"
    call = ["localize", model, str(damaged), "--out", str(out), "--clips", str(clips), "--top", "1"]
    capsys.readouterr()
    assert main(call) == 2
    told, said = capsys.readouterr()
    assert told.startswith("a, 0:00:05.8: 1 segment\n")
    assert said.startswith(f"dgam localize: {damaged / 'b.mkv'}: ")
    assert said.endswith(
        f" 1 of 3 videos were finished before it and are in {out}. Go on without it with --skip-bad.\n"
    )
    assert list(results(out)) == ["a"]
    assert [path.name for path in clips.iterdir()] == ["a_red_0h00m01.920s.mp4"]
    assert main([*call, "--skip-bad"]) == 0
    assert list(results(out)) == ["a", "c"]
    assert capsys.readouterr().err.startswith(f"left out: {damaged / 'b.mkv'}: video 'b': ")


def test_where_no_video_is_left_nothing_is_claimed(
    model: str, damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (damaged / "a.mkv").unlink()
    (damaged / "c.mkv").unlink()
    call = ["localize", model, str(damaged), "--out", str(tmp_path / "o.json"), "--skip-bad"]
    assert main(call) == 2
    assert "dgam localize: no video could be localised; see above.\n" in capsys.readouterr().err
    assert not (tmp_path / "o.json").exists()


def test_ctrl_c_keeps_what_is_finished(place: Path, model: str, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    for number in range(8):
        colour_video(folder / f"v{number}.mp4", [(2, GREY), (2, RED), (2, GREY)])
    command = [
        sys.executable,
        "-m",
        "dgam",
        "localize",
        model,
        str(folder),
        "--out",
        str(tmp_path / "o.json"),
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLOUR_ENCODER_SECONDS": "0.3", "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("v0, ")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert said == "dgam localize: interrupted.\n"
    found = list(results(tmp_path / "o.json"))
    assert found == [f"v{number}" for number in range(len(found))]
    assert 1 <= len(found) < 8

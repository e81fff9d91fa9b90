"""A fit on videos: what it extracts once, what the model records, and bad videos."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import dgam
from coded_videos import write_sound, write_video
from dgam.cli import main
from dgam.core.errors import InputProblems
from dgam.features.store import FeatureStore
from dgam.fitting.folder import load_model_folder
from dgam.fitting.identity import EncoderIdentity
from tiny_encoder import FrameNumbers
from tiny_video_fit import OPTIONS, ROWS, TINY, write_labels

pytest_plugins = ["fit_fixtures"]


def test_a_fit_from_videos(video_model: Path, videos: Path) -> None:
    store = FeatureStore(video_model.with_name("model.features"))
    assert list(store.videos) == [f"clip {number}" for number in range(5)]
    folder = load_model_folder(video_model)
    assert folder.run.classes == ("pour", "stir")
    assert folder.run.streams == {"rgb": 4}
    assert folder.encoder == EncoderIdentity(TINY, store.head.settings)
    card = json.loads((video_model / "card.json").read_text())
    assert card["data"]["kind"] == "videos"
    assert card["data"]["source"] == str(videos)
    assert card["data"]["shortest_seconds"] == 4.0
    assert card["features"]["encoder"] == "tiny_encoder:frame_numbers"
    assert card["features"]["recorded"] == store.head.settings
    assert any("5 videos are few" in text for text in card["data_warnings"])
    assert not any("shorter than" in text for text in card["data_warnings"])


def test_features_are_reused(video_model: Path, videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = video_model.with_name("model.features")
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*.npy")}
    labels = video_model.with_name("labels.csv")
    monkeypatch.setattr(FrameNumbers, "encode", lambda *_: pytest.fail("extracted again"))
    again = dgam.fit(
        videos,
        labels,
        video_model.with_name("other"),
        extraction=TINY,
        store=store,
        options=replace(OPTIONS, seed=1),
    )
    assert again.run.seed == 1
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*.npy")} == before


def test_bad_videos_are_told_before_anything_is_decoded(videos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "v"
    shutil.copytree(videos, folder)
    write_sound(folder / "sound.mp4")
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "page.mp4").write_text("<html>")
    write_video(folder / "short.mp4", range(20))
    shutil.copy(folder / "clip 1.mp4", folder / "copy.mp4")
    names = ("sound", "empty", "page", "short", "copy", "clop 3")
    labels = write_labels(tmp_path / "labels.csv", [*ROWS, *(f"{name};pour" for name in names)])
    with pytest.raises(InputProblems) as error:
        dgam.fit(folder, labels, tmp_path / "m", extraction=TINY, options=OPTIONS)
    lines = str(error.value).splitlines()
    assert lines[0] == (
        "The videos and labels cannot be fitted as they are (--skip-bad leaves bad videos out):"
    )
    assert [line.strip() for line in lines if "sound" in line] == [
        f"{folder}/sound.mp4: video 'sound': holds no moving picture (only audio). Leave it out, or give the "
        "video file."
    ]
    for told in (
        "video 'clop 3': has labels, but there is no such video in",
        "The nearest name is 'clip 3'.",
        "video 'empty': the file is empty (0 bytes).",
        "video 'page': is no video that FFmpeg can read",
        f"{folder}: 1 video is shorter than 4 snippets (2.6 s): short (0.8 s).",
        f"{folder}: clip 1, copy are the same file, byte for byte. Keep one",
    ):
        assert told in str(error.value)
    assert not (tmp_path / "m.features").exists()
    model = dgam.fit(folder, labels, tmp_path / "m", extraction=TINY, options=replace(OPTIONS, skip_bad=True))
    card = json.loads((model.path / "card.json").read_text())
    assert card["data"]["left_out"] == ["clop 3", "empty", "page", "sound"]
    assert card["data"]["videos"] == 7


def test_a_video_that_breaks_off_is_told_after_extraction(videos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "v"
    shutil.copytree(videos, folder)
    whole = write_video(tmp_path / "whole.mkv", range(200)).read_bytes()
    (folder / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    labels = write_labels(tmp_path / "labels.csv", [*ROWS, "cut;pour"])
    with pytest.raises(InputProblems, match="video 'cut': ") as error:
        dgam.fit(folder, labels, tmp_path / "m", extraction=TINY, options=OPTIONS)
    assert "--skip-bad leaves bad videos out" in str(error.value)
    assert len(FeatureStore(tmp_path / "m.features").videos) == 5  # the others are kept
    model = dgam.fit(folder, labels, tmp_path / "m", extraction=TINY, options=replace(OPTIONS, skip_bad=True))
    assert model.run.videos == 5
    assert json.loads((model.path / "card.json").read_text())["data"]["left_out"] == ["cut"]


def test_missing_i3d_weights_are_told_with_all_else(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    labels = write_labels(tmp_path / "labels.csv", [*ROWS, "nowhere;pour"])
    assert main(["fit", str(videos), str(labels), "--out", str(tmp_path / "m"), "--streams", "rgb"]) == 2
    told = capsys.readouterr().err
    for words in (
        "video 'nowhere': has labels, but there is no such video",
        "--encoder i3d: no I3D weights for the stream 'rgb'",
        "dgam weights get",
        "dgam weights check",
        "Or take another encoder: --encoder tflite --streams rgb --weights rgb=MOVINET.tflite",
        "give ready features in place of the videos",
    ):
        assert words in told


def test_the_command_on_videos(videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = write_labels(tmp_path / "labels.csv", ROWS)
    call = [
        "fit",
        str(videos),
        str(labels),
        "--out",
        str(tmp_path / "m"),
        "--streams",
        "rgb",
        "--epochs",
        "2",
    ]
    more = ["--encoder", TINY.encoder, "--hold-out", "folds", "--set", "train.snippets=4"]
    assert main([*call, *more, "--features", str(tmp_path / "f")]) == 0
    out = capsys.readouterr().out
    assert f"{tmp_path}/m: rgb trained on 5 videos; videos of each class: pour (2), stir (3)." in out
    assert "The 5 videos were held out in 5 parts" in out
    assert f"Next: dgam localize {tmp_path}/m VIDEO" in out
    assert (tmp_path / "f" / "store.json").is_file()

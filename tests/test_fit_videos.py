"""A fit on videos, and the model folder localising others: extraction, the encoder's identity, bad files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import dgam
from coded_videos import write_sound, write_video
from dgam.cli import main
from dgam.core.errors import InputError, InputProblems
from dgam.encoders.encoder import EncoderOptions
from dgam.extraction.extract import extract
from dgam.extraction.worker import ExtractSettings
from dgam.features.store import FeatureStore
from dgam.fitting.fit import FitOptions
from dgam.fitting.folder import load_model_folder
from dgam.fitting.identity import (
    EncoderIdentity,
    differences,
    identity_of_store,
    restricted,
    settings_from_json,
    settings_to_json,
)
from dgam.fitting.localizer import Localizer
from tiny_data import settings
from tiny_encoder import FrameNumbers

TINY = ExtractSettings(streams=("rgb",), encoder="tiny_encoder:frame_numbers")
I3D = ExtractSettings(("rgb",), "i3d-random", EncoderOptions(short_side=32, crop=32))
OPTIONS = FitOptions(config=settings("train.epochs=2", "train.snippets=4"), hold_out="none")
LENGTHS = (100, 132, 116, 148, 164)
ROWS = ["clip 0.mp4;pour", "clip 1;stir", "clip 2;pour|stir", "clip 3;", "clip 4;stir"]


def write_labels(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(["Video;Labels", *rows]))
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("videos")
    for number, length in enumerate(LENGTHS):
        write_video(root / f"clip {number}.mp4", range(length))
    return root


@pytest.fixture(scope="module")
def model(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the tiny encoder."""
    root = tmp_path_factory.mktemp("models")
    labels = write_labels(root / "labels.csv", ROWS)
    return dgam.fit(videos, labels, root / "model", extraction=TINY, options=OPTIONS).path


# --- from videos to a model


def test_a_fit_from_videos(model: Path, videos: Path) -> None:
    store = FeatureStore(model.with_name("model.features"))
    assert list(store.videos) == [f"clip {number}" for number in range(5)]
    folder = load_model_folder(model)
    assert folder.run.classes == ("pour", "stir")
    assert folder.run.streams == {"rgb": 4}
    assert folder.encoder == EncoderIdentity(TINY, store.head.settings)
    card = json.loads((model / "card.json").read_text())
    assert card["data"]["kind"] == "videos"
    assert card["data"]["source"] == str(videos)
    assert card["data"]["shortest_seconds"] == 4.0
    assert card["features"]["encoder"] == "tiny_encoder:frame_numbers"
    assert card["features"]["recorded"] == store.head.settings
    assert any("5 videos are few" in text for text in card["data_warnings"])
    assert not any("shorter than" in text for text in card["data_warnings"])


def test_features_are_reused(model: Path, videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = model.with_name("model.features")
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*.npy")}
    labels = model.with_name("labels.csv")
    monkeypatch.setattr(FrameNumbers, "encode", lambda *_: pytest.fail("extracted again"))
    again = dgam.fit(
        videos,
        labels,
        model.with_name("other"),
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


# --- the model on other videos


def test_localizing_a_file(model: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "new film.mp4", range(320))
    stages: list[tuple[str, float]] = []
    localizer = Localizer(model)
    assert localizer.classes == ("pour", "stir")
    found = localizer.localize_file(video, on_progress=lambda stage, part: stages.append((stage, part)))
    assert found.video == "new film"
    assert found.duration == 12.8
    assert found.timeline.snippets == 20
    assert found.detections
    assert all(0 <= one.start < one.end <= 12.8 for one in found.detections)
    scores = [one.score for one in found.detections]
    assert scores == sorted(scores, reverse=True)
    assert found.curves["rgb"].attention.shape == (20,)
    assert found.probabilities == dict(
        zip(("pour", "stir"), found.curves["rgb"].probabilities.tolist(), strict=True)
    )
    names = list(dict.fromkeys(stage for stage, _ in stages))
    assert names == ["extracting", "localising"]
    for name in names:
        parts = [part for stage, part in stages if stage == name]
        assert parts == sorted(parts)
        assert (parts[0], parts[-1]) == (0.0, 1.0)
    usual = dgam.localize(model, *_extracted(video, tmp_path))
    assert usual.videos["new film"] == found.detections


def _extracted(video: Path, root: Path) -> tuple[FeatureStore]:
    extract([video], root / "usual", TINY)
    return (FeatureStore(root / "usual"),)


def test_a_store_is_reused_and_ids_can_be_given(
    model: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    localizer = Localizer(model)
    first = localizer.localize_file(videos / "clip 0.mp4", tmp_path / "store", video_id="x1")
    assert first.video == "x1"
    assert FeatureStore(tmp_path / "store").videos == ("x1",)
    monkeypatch.setattr(FrameNumbers, "encode", lambda *_: pytest.fail("extracted again"))
    again = localizer.localize_file(videos / "clip 0.mp4", tmp_path / "store", video_id="x1")
    assert again.detections == first.detections
    source, name = localizer.features(videos / "clip 0.mp4", tmp_path / "store", video_id="x1")
    assert localizer.localize(source, name).detections == first.detections


def test_networks_are_built_once(
    model: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []
    honest = ExtractSettings.build
    monkeypatch.setattr(ExtractSettings, "build", lambda self: built.append(self.encoder) or honest(self))
    localizer = Localizer(model)
    assert built == []  # not before a video comes
    localizer.localize_file(videos / "clip 0.mp4", tmp_path / "a")
    localizer.localize_file(videos / "clip 1.mp4", tmp_path / "b")
    assert built == [TINY.encoder]


class Stop(Exception):
    """What a caller raises to cancel."""


def test_cancelling_leaves_a_good_store(model: Path, videos: Path, tmp_path: Path) -> None:
    localizer = Localizer(model)
    localizer.features(videos / "clip 0.mp4", tmp_path / "store")

    def cancel(stage: str, part: float) -> None:
        if part > 0:
            raise Stop

    with pytest.raises(Stop):
        localizer.features(videos / "clip 4.mp4", tmp_path / "store", on_progress=cancel)
    store = FeatureStore(tmp_path / "store")
    assert store.videos == ("clip 0",)
    assert list(store.verify()) == []
    assert localizer.localize_file(videos / "clip 4.mp4", tmp_path / "store").timeline.snippets == 10


def test_settings_can_be_overridden(model: Path, videos: Path, tmp_path: Path) -> None:
    plain = Localizer(model).localize_file(videos / "clip 3.mp4", tmp_path / "s")
    one = Localizer(model, overrides=["localize.max_detections=1"]).localize_file(
        videos / "clip 3.mp4", tmp_path / "s"
    )
    assert one.detections == plain.detections[:1]
    with pytest.raises(InputError, match="has no effect after training"):
        Localizer(model, overrides=["train.epochs=3"])


BAD_VIDEOS: list[tuple[str, Callable[[Path], Any], str]] = [
    ("none.mp4", lambda path: None, "there is no such video file"),
    ("folder.mp4", lambda path: path.mkdir(), "is a folder, expected a video file"),
    ("empty.mp4", lambda path: path.write_bytes(b""), "the file is empty"),
    ("page.mp4", lambda path: path.write_text("<html>"), "is no video that FFmpeg can read"),
    ("sound.mp4", write_sound, "holds no moving picture"),
]


@pytest.mark.parametrize(("name", "make", "message"), BAD_VIDEOS)
def test_bad_videos(
    model: Path, tmp_path: Path, name: str, make: Callable[[Path], Any], message: str
) -> None:
    make(tmp_path / name)
    with pytest.raises(InputError, match=message):
        Localizer(model).localize_file(tmp_path / name, tmp_path / "store")
    assert list(tmp_path.rglob("*.npy")) == []


def test_features_that_do_not_fit(model: Path) -> None:
    from dgam.features.source import ArrayFeatures

    other = ArrayFeatures({"a": {"rgb": pytest.importorskip("numpy").zeros((5, 7), "float32")}})
    with pytest.raises(InputError, match="dimension 7, the run was trained on dimension 4"):
        Localizer(model).localize(other, "a")
    with pytest.raises(InputError, match="has no video 'b'"):
        Localizer(model).localize(other, "b")


# --- the encoder's identity


def change_encoder(model: Path, out: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """A copy of a model folder with another encoder.json."""
    shutil.copytree(model, out)
    value = json.loads((out / "encoder.json").read_text())
    change(value)
    (out / "encoder.json").write_text(json.dumps(value))
    return out


def test_another_encoder_is_refused(model: Path, videos: Path, tmp_path: Path) -> None:
    out = change_encoder(model, tmp_path / "m", lambda value: value["settings"]["options"].update(seed=3))
    with pytest.raises(InputError) as error:
        Localizer(out).localize_file(videos / "clip 0.mp4", tmp_path / "store")
    assert str(error.value) == (
        f"{out}: the encoder 'tiny_encoder:frame_numbers' here would make other features than those the "
        "model was trained on, and its detections would mean nothing. encoder.seed: trained with 0, here 3. "
        "Bring the same weights and settings (weights in another place: --weights STREAM=PATH), or fit the "
        "model again."
    )
    assert not (tmp_path / "store").exists()


def test_an_encoder_that_is_not_here(model: Path, videos: Path, tmp_path: Path) -> None:
    out = change_encoder(model, tmp_path / "m", lambda value: value["settings"].update(encoder="/gone.py:x"))
    with pytest.raises(
        InputError, match=r"went through the encoder '/gone.py:x', which cannot be had here: "
    ):
        Localizer(out).localize_file(videos / "clip 0.mp4")


@pytest.mark.parametrize("place", ["evil.py", "{model}/evil.py", "{model}/../m/rgb/../evil.py"])
def test_a_program_that_came_with_the_model_is_not_run(
    model: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    program = place.format(model=tmp_path / "m")
    out = change_encoder(
        model, tmp_path / "m", lambda value: value["settings"].update(encoder=f"{program}:build")
    )
    (out / "evil.py").write_text("open('was-run', 'w').close()\ndef build(options): ...\n")
    monkeypatch.chdir(out)
    with pytest.raises(
        InputError, match=r"in the model's own folder, so it may be a stranger's, and it is not"
    ):
        Localizer(out).localize_file(videos / "clip 0.mp4")
    assert not (out / "was-run").exists()


def test_an_exported_program_that_came_with_the_model_is_not_loaded(
    model: Path, videos: Path, tmp_path: Path
) -> None:
    def change(value: dict[str, Any]) -> None:
        value["settings"]["encoder"] = "torch-export"
        value["settings"]["options"]["weights"] = {"rgb": str(tmp_path / "m" / "net.pt2")}

    out = change_encoder(model, tmp_path / "m", change)
    with pytest.raises(InputError, match=r"net.pt2', a program that is a relative path or lies in the"):
        Localizer(out).localize_file(videos / "clip 0.mp4")


def test_settings_survive_json() -> None:
    odd = ExtractSettings(
        ("rgb", "flow"),
        "i3d-random",
        EncoderOptions(short_side=40, crop=32, seed=4, batch=3, quantise_flow=False),
        replace(TINY.frames, size=(340, 256), interpolation="area"),
        length=8,
        stride=4,
        flow="torch",
        flow_parameters={"warps": 2, "epsilon": 0.05},
        dtype="float16",
    )
    for settings_ in (TINY, I3D, odd):
        assert settings_from_json(json.loads(json.dumps(settings_to_json(settings_)))) == settings_
    own = settings_to_json(replace(TINY, encoder="mine.py:make"))
    assert own["encoder"] == f"{Path('mine.py').resolve()}:make"
    weighted = replace(TINY, options=EncoderOptions(weights={"rgb": "w.pt"}, device="cuda", threads=3))
    back = settings_from_json(settings_to_json(weighted))
    assert back.options.weights == {"rgb": str(Path("w.pt").resolve())}
    assert (back.options.device, back.options.threads) == ("auto", None)  # these decide the speed only


def test_differences_are_named() -> None:
    one = {"encoder": {"name": "i3d", "weights.rgb": "a" * 64, "crop": 224}, "frames": {"fps": "25"}}
    two = {"encoder": {"name": "i3d", "weights.rgb": "b" * 64}, "frames": {"fps": "30"}}
    assert differences(one, one) == []
    assert differences(one, two) == [
        "encoder.weights.rgb: trained with aaaaaaaaaaaa…, here bbbbbbbbbbbb…",
        "encoder.crop: trained with 224, here nothing",
        "frames.fps: trained with 25, here 30",
    ]
    both = {"encoder": {"name": "i3d", "weights.rgb": "a", "weights.flow": "b"}, "flow": {"method": "llvm"}}
    assert restricted(both, ("rgb",)) == {"encoder": {"name": "i3d", "weights.rgb": "a"}}
    assert restricted(both, ("rgb", "flow")) == both


# --- ready features that tell, or are told, their encoder


def test_a_store_of_i3d_features_makes_a_model_that_reads_videos(videos: Path, tmp_path: Path) -> None:
    extract([videos], tmp_path / "store", I3D)
    labels = write_labels(tmp_path / "labels.csv", ROWS)
    model = dgam.fit(tmp_path / "store", labels, tmp_path / "m", options=OPTIONS)
    assert model.encoder is not None
    assert model.encoder.encoder == "i3d-random"
    assert model.encoder.recorded == FeatureStore(tmp_path / "store").head.settings
    assert model.encoder.settings.options == I3D.options
    found = Localizer(model, device="cpu").localize_file(videos / "clip 1.mp4")
    assert (
        found.detections == Localizer(model).localize(FeatureStore(tmp_path / "store"), "clip 1").detections
    )
    head = FeatureStore(tmp_path / "store").head.settings
    assert identity_of_store({**head, "encoder": {"name": "mine"}}, ("rgb",)) is None
    assert identity_of_store({}, ("rgb",)) is None


def test_features_with_their_encoder_named(videos: Path, tmp_path: Path) -> None:
    extract([videos], tmp_path / "store", TINY)
    labels = write_labels(tmp_path / "labels.csv", ROWS)
    unnamed = dgam.fit(tmp_path / "store", labels, tmp_path / "m0", options=OPTIONS)
    assert unnamed.encoder is None  # the store says "frame-numbers", which no encoder here is called
    named = dgam.fit(tmp_path / "store", labels, tmp_path / "m1", extraction=TINY, options=OPTIONS)
    assert Localizer(named).localize_file(videos / "clip 0.mp4").detections
    other = replace(TINY, options=EncoderOptions(seed=9))
    with pytest.raises(InputError, match=r"encoder\.seed: trained with 0, here 9"):
        dgam.fit(tmp_path / "store", labels, tmp_path / "m2", extraction=other, options=OPTIONS)
    bare = tmp_path / "bare" / "rgb"
    shutil.copytree(tmp_path / "store" / "rgb", bare)
    model = dgam.fit(bare.parent, labels, tmp_path / "m3", extraction=TINY, options=OPTIONS)
    assert model.encoder is not None
    with pytest.raises(InputError, match=r"its stream 'rgb' has 1024 numbers a snippet, .* has 4"):
        dgam.fit(bare.parent, labels, tmp_path / "m4", extraction=I3D, options=OPTIONS)

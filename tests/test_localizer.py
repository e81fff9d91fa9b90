"""A model folder localising video files: what is found, kept, cancelled, overridden, refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dgam
from coded_videos import write_sound, write_video
from dgam.core.errors import InputError
from dgam.extraction.extract import extract
from dgam.extraction.worker import ExtractSettings
from dgam.features.store import FeatureStore
from dgam.fitting.localizer import Localizer
from tiny_encoder import FrameNumbers
from tiny_video_fit import TINY

pytest_plugins = ["fit_fixtures"]


def test_localizing_a_file(video_model: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "new film.mp4", range(320))
    stages: list[tuple[str, float]] = []
    localizer = Localizer(video_model)
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
    usual = dgam.localize(video_model, *_extracted(video, tmp_path))
    assert usual.videos["new film"] == found.detections


def _extracted(video: Path, root: Path) -> tuple[FeatureStore]:
    extract([video], root / "usual", TINY)
    return (FeatureStore(root / "usual"),)


def test_a_store_is_reused_and_ids_can_be_given(
    video_model: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    localizer = Localizer(video_model)
    first = localizer.localize_file(videos / "clip 0.mp4", tmp_path / "store", video_id="x1")
    assert first.video == "x1"
    assert FeatureStore(tmp_path / "store").videos == ("x1",)
    monkeypatch.setattr(FrameNumbers, "encode", lambda *_: pytest.fail("extracted again"))
    again = localizer.localize_file(videos / "clip 0.mp4", tmp_path / "store", video_id="x1")
    assert again.detections == first.detections
    source, name = localizer.features(videos / "clip 0.mp4", tmp_path / "store", video_id="x1")
    assert localizer.localize(source, name).detections == first.detections


def test_networks_are_built_once(
    video_model: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []
    honest = ExtractSettings.build
    monkeypatch.setattr(ExtractSettings, "build", lambda self: built.append(self.encoder) or honest(self))
    localizer = Localizer(video_model)
    assert built == []  # not before a video comes
    localizer.localize_file(videos / "clip 0.mp4", tmp_path / "a")
    localizer.localize_file(videos / "clip 1.mp4", tmp_path / "b")
    assert built == [TINY.encoder]


class Stop(Exception):
    """What a caller raises to cancel."""


def test_cancelling_leaves_a_good_store(video_model: Path, videos: Path, tmp_path: Path) -> None:
    localizer = Localizer(video_model)
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


def test_settings_can_be_overridden(video_model: Path, videos: Path, tmp_path: Path) -> None:
    plain = Localizer(video_model).localize_file(videos / "clip 3.mp4", tmp_path / "s")
    one = Localizer(video_model, overrides=["localize.max_detections=1"]).localize_file(
        videos / "clip 3.mp4", tmp_path / "s"
    )
    assert one.detections == plain.detections[:1]
    with pytest.raises(InputError, match="has no effect after training"):
        Localizer(video_model, overrides=["train.epochs=3"])


BAD_VIDEOS: list[tuple[str, Callable[[Path], Any], str]] = [
    ("none.mp4", lambda path: None, "there is no such video file"),
    ("folder.mp4", lambda path: path.mkdir(), "is a folder, expected a video file"),
    ("empty.mp4", lambda path: path.write_bytes(b""), "the file is empty"),
    ("page.mp4", lambda path: path.write_text("<html>"), "is no video that FFmpeg can read"),
    ("sound.mp4", write_sound, "holds no moving picture"),
]


@pytest.mark.parametrize(("name", "make", "message"), BAD_VIDEOS)
def test_bad_videos(
    video_model: Path, tmp_path: Path, name: str, make: Callable[[Path], Any], message: str
) -> None:
    make(tmp_path / name)
    with pytest.raises(InputError, match=message):
        Localizer(video_model).localize_file(tmp_path / name, tmp_path / "store")
    assert list(tmp_path.rglob("*.npy")) == []


def test_features_that_do_not_fit(video_model: Path) -> None:
    from dgam.features.source import ArrayFeatures

    other = ArrayFeatures({"a": {"rgb": pytest.importorskip("numpy").zeros((5, 7), "float32")}})
    with pytest.raises(InputError, match="dimension 7, the run was trained on dimension 4"):
        Localizer(video_model).localize(other, "a")
    with pytest.raises(InputError, match="has no video 'b'"):
        Localizer(video_model).localize(other, "b")

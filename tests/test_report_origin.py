"""Thumbnails from video files, and what simulated data say of themselves."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import av
import pytest

import tiny_data
from coded_videos import read_number, write_video
from dgam.core.errors import InputError
from dgam.page.collect import Asked, collect
from dgam.page.origin import simulated_data
from dgam.page.thumbnails import files_of, thumbnails


def test_frames_come_from_the_middle_of_their_stretch(tmp_path: Path) -> None:
    """100 frames at 25/s carry their numbers: four stretches of a second, from their middles on."""
    path = write_video(tmp_path / "v.mp4", range(100), width=256, height=128)
    found = thumbnails(path, 4, width=256)
    numbers = []
    for picture in found:
        head, _, data = picture.address.partition(",")
        assert head == "data:image/jpeg;base64"
        jpeg = base64.b64decode(data)
        assert jpeg[:2] == b"\xff\xd8"
        with av.open(io.BytesIO(jpeg), format="mjpeg") as container:
            numbers.append(read_number(next(container.decode(video=0)).to_ndarray(format="rgb24")))
    assert [round(25 * picture.seconds) for picture in found] == numbers
    assert [abs(n - m) <= 1 for n, m in zip(numbers, (12, 37, 62, 87), strict=True)] == [True] * 4


def test_thumbnails_on_a_page(tmp_path: Path) -> None:
    write_video(tmp_path / "videos" / "v0.mp4", range(60))
    (tmp_path / "videos" / "v1.mp4").write_bytes(b"no video")
    run = tiny_data.train(tmp_path / "run")
    content, _ = collect(run, tiny_data.features(), Asked(files=files_of(tmp_path / "videos")))
    by_name = {video.video: video for video in content.videos}
    assert len(by_name["v0"].thumbnails) == 8
    assert not by_name["v1"].thumbnails
    assert any("No thumbnails for v1" in remark for remark in content.remarks)
    assert any("No video file for v2" in remark for remark in content.remarks)


def test_folders_without_videos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no folder"):
        files_of(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no video file"):
        files_of(tmp_path)


def test_simulated_data_are_known_by_what_they_say(simulated: Path, tmp_path: Path) -> None:
    said = "simulated data (dgam simulate, preset default, seed 0)"
    assert simulated_data(simulated / "gt.json") == said
    assert simulated_data(None, "", simulated / "test") == said
    assert simulated_data(simulated / "labels.csv") == said
    assert simulated_data(simulated / "test" / "rgb") == said
    (tmp_path / "gt.json").write_text('{"version": "VERSION 1.3", "database": {}}')
    (tmp_path / "README.txt").write_text("Real data; simulated data are elsewhere.")
    (tmp_path / "bad.json").write_text("[1")
    assert simulated_data(tmp_path / "gt.json", tmp_path, tmp_path / "bad.json", tmp_path / "gone") is None

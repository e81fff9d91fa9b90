"""Extraction: the right frames in every snippet, whatever the batch, the workers and the interruptions."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from coded_videos import write_sound, write_video
from dgam.core.errors import InputError
from dgam.core.timeline import SnippetGrid
from dgam.encoders.encoder import EncoderOptions
from dgam.extraction.channel import Cancelled, Channel
from dgam.extraction.extract import extract, report_file
from dgam.extraction.lock import sole_writer
from dgam.extraction.pipeline import encode_video
from dgam.extraction.worker import ExtractSettings
from dgam.features.store import FeatureStore
from dgam.video.framing import FrameSettings
from dgam.video.listing import find_videos
from dgam.video.reader import FrameReader
from tiny_encoder import FrameNumbers

TINY = ExtractSettings(streams=("rgb",), encoder="tiny_encoder:frame_numbers")
SMALL = FrameSettings(short_side=32)


def tree(store: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(store)): path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file()
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    videos = tmp_path / "videos"
    for number, length in enumerate((100, 31, 64, 47)):
        write_video(videos / f"clip {number}.mp4", range(length))
    return videos


# --- one video


@pytest.mark.parametrize("batch", [1, 2, 3, 50])
@pytest.mark.parametrize(("length", "stride"), [(16, 16), (16, 4), (8, 24), (16, 33), (1, 1)])
def test_every_snippet_sees_its_frames(tmp_path: Path, length: int, stride: int, batch: int) -> None:
    path = write_video(tmp_path / "a.mp4", range(211))
    grid = SnippetGrid(Fraction(25), length, stride)
    with FrameReader(path, SMALL) as reader:
        got = encode_video(reader, FrameNumbers(EncoderOptions()), ["rgb"], grid, None, batch).features["rgb"]
    starts = list(range(0, 211 - length + 1, stride))
    assert got[:, 0].tolist() == starts
    assert got[:, 1].tolist() == [start + length - 1 for start in starts]


def differences(pictures: np.ndarray) -> np.ndarray:
    """A stand-in for flow whose value names both of its pictures: brightness of this and of the next one."""
    light = pictures.mean(axis=(1, 2, 3), dtype=np.float64).astype(np.float32)
    both = np.stack([light[:-1], light[1:]], axis=-1)  # (n - 1, 2)
    return np.broadcast_to(both[:, None, None, :], (len(both), 8, 8, 2)).copy()


@pytest.mark.parametrize("frames", [1, 5, 16, 17, 48, 49, 100])
@pytest.mark.parametrize("batch", [1, 3])
def test_flow_leads_to_the_next_picture(tmp_path: Path, frames: int, batch: int) -> None:
    path = write_video(tmp_path / "a.mp4", range(frames))
    with FrameReader(path, SMALL) as reader:
        light = [float(picture.mean()) for picture in reader]
    with FrameReader(path, SMALL) as reader:
        encoder = FrameNumbers(EncoderOptions())
        got = encode_video(reader, encoder, ["rgb", "flow"], SnippetGrid(), differences, batch).features
    light += light[-1:] * (16 - frames)
    pairs = [(light[i], light[i + 1]) for i in range(len(light) - 1)]
    pairs.append(pairs[-1])  # the last picture has no successor
    count = max(1, frames // 16)
    wanted = np.array(pairs[: count * 16]).reshape(count, 16, 2).mean(axis=1)
    np.testing.assert_allclose(got["flow"], wanted, rtol=1e-4)
    assert len(got["rgb"]) == count


def test_an_error_in_a_stage_comes_out_and_threads_end(tmp_path: Path) -> None:
    def broken(pictures: np.ndarray) -> np.ndarray:
        raise ZeroDivisionError("in the flow")

    path = write_video(tmp_path / "a.mp4", range(400))
    with FrameReader(path, SMALL) as reader, pytest.raises(ZeroDivisionError, match="in the flow"):
        encode_video(reader, FrameNumbers(EncoderOptions()), ["flow"], SnippetGrid(), broken, 1)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("dgam-")]


def test_channel_is_bounded_and_can_be_cancelled() -> None:
    channel: Channel[int] = Channel(2)
    channel.put(1)
    channel.put(2)
    channel.close(ValueError("stopped"))
    with pytest.raises(ValueError, match="stopped"):
        list(channel)
    channel = Channel(1)
    channel.put(1)
    writer = threading.Timer(0.05, channel.cancel)
    writer.start()
    with pytest.raises(Cancelled):
        channel.put(2)  # waits, since it is full, until it is cancelled
    writer.join()
    assert list(channel) == []


# --- the store


def test_extract_and_read_back(folder: Path, tmp_path: Path) -> None:
    write_video(folder / "short.mkv", range(5))
    (folder / "notes.txt").write_text("no video")
    told = extract([folder], tmp_path / "store", TINY)
    store = FeatureStore(tmp_path / "store")
    assert list(store.videos) == ["clip 0", "clip 1", "clip 2", "clip 3", "short"]
    assert [store.timeline(video).snippets for video in store.videos] == [6, 1, 4, 2, 1]
    assert store.timeline("clip 0").duration == 4.0
    assert store.entry("clip 3").frames == 47
    assert store.read("clip 0", "rgb")[:, 0].tolist() == [0, 16, 32, 48, 64, 80]
    assert store.read("clip 0", "rgb")[:, 1].tolist() == [15, 31, 47, 63, 79, 95]
    assert list(store.verify()) == []
    assert told.ignored == (str(folder / "notes.txt"),)
    assert told.videos[4].warnings == ("it has 5 of a snippet's 16 frames; the last one was repeated",)
    written = json.loads(report_file(tmp_path / "store").read_text())
    assert written["counts"] == {"extracted": 5, "unchanged": 0, "failed": 0}
    assert [video["frames"] for video in written["videos"]] == [100, 31, 64, 47, 5]
    assert written["bound"] in written["seconds"]
    assert set(written["videos"][0]["seconds"]) == {"decode", "network", "store"}
    table = told.table()
    assert "clip 2  extracted      64         4      2.56" in table
    assert "    it has 5 of a snippet's 16 frames" in table
    assert "bound by: " in table


def test_what_is_there_and_unchanged_is_left(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "store"
    extract([folder], out, TINY)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.npy")}
    os.utime(folder / "clip 1.mp4")  # touched, but the same bytes
    write_video(folder / "clip 2.mp4", range(80))
    told = extract([folder], out, TINY)
    assert [video.status for video in told.videos] == ["unchanged", "unchanged", "extracted", "unchanged"]
    assert FeatureStore(out).timeline("clip 2").snippets == 5
    changed = [path.name for path, at in before.items() if path.stat().st_mtime_ns != at]
    assert changed == ["clip 2.npy"]
    assert told.videos[0].frames == 100


def test_what_a_killed_writer_left_is_cleared(folder: Path, tmp_path: Path) -> None:
    extract([folder], tmp_path / "store", TINY)
    before = tree(tmp_path / "store")
    (tmp_path / "store" / "rgb" / ".clip 1.npy.x1y2.part").write_bytes(b"half")
    extract([folder], tmp_path / "store", TINY)
    assert tree(tmp_path / "store") == before


def test_other_settings_need_another_store(folder: Path, tmp_path: Path) -> None:
    extract([folder], tmp_path / "store", TINY)
    other = ExtractSettings(("rgb",), TINY.encoder, EncoderOptions(seed=1))
    with pytest.raises(InputError, match=r"other properties.*'seed': 0.*'seed': 1"):
        extract([folder], tmp_path / "store", other)


def test_workers_do_not_change_a_byte(folder: Path, tmp_path: Path) -> None:
    extract([folder], tmp_path / "one", TINY)
    told = extract([folder], tmp_path / "two", TINY, workers=2)
    assert told.counts["extracted"] == 4
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_bad_videos(folder: Path, tmp_path: Path) -> None:
    (folder / "clip 0b.mp4").write_bytes((folder / "clip 0.mp4").read_bytes()[:900])
    write_sound(folder / "song.mp4")
    (folder / "nothing.avi").touch()
    with pytest.raises(InputError, match=r"clip 0b.mp4: is no video.*1 of 7 videos are stored.*--skip-bad"):
        extract([folder], tmp_path / "store", TINY)
    for workers in (1, 2):
        told = extract([folder], tmp_path / f"store{workers}", TINY, skip_bad=True, workers=workers)
        assert told.counts == {"extracted": 4, "unchanged": 0, "failed": 3}
        assert [v.video for v in told.videos if v.status == "failed"] == ["clip 0b", "nothing", "song"]
        assert "empty (0 bytes)" in told.table()
        assert list(FeatureStore(tmp_path / f"store{workers}").videos) == [f"clip {n}" for n in range(4)]


def test_a_worker_that_dies_costs_its_video_only(folder: Path, tmp_path: Path) -> None:
    settings = ExtractSettings(("rgb",), "tiny_encoder:crashing")
    told = extract([folder], tmp_path / "store", settings, workers=2, skip_bad=True)
    status = {video.video: video.status for video in told.videos}
    assert status == {"clip 0": "failed", "clip 1": "extracted", "clip 2": "failed", "clip 3": "extracted"}
    assert "killed by signal 9, 2 times. Memory may have run out" in told.videos[0].message


def test_one_extraction_at_a_time(folder: Path, tmp_path: Path) -> None:
    with sole_writer(tmp_path / "store"), pytest.raises(InputError, match="another dgam extract is writing"):
        extract([folder], tmp_path / "store", TINY)


RUN = """
import sys
from dgam.extraction.extract import extract
from dgam.extraction.worker import ExtractSettings
settings = ExtractSettings(("rgb",), "tiny_encoder:frame_numbers")
extract([sys.argv[1]], sys.argv[2], settings, workers=int(sys.argv[3]))
"""


def run(videos: Path, out: Path, workers: int) -> subprocess.Popen[bytes]:
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "TINY_ENCODER_SECONDS": "0.03"}
    command = [sys.executable, "-c", RUN, str(videos), str(out), str(workers)]
    with open(out.with_suffix(".stderr"), "wb") as errors:
        return subprocess.Popen(command, env=environment, stderr=errors)


def wait_for(process: subprocess.Popen[bytes], out: Path, more: int) -> None:
    """Wait until the store has ``more`` more videos (0: until the process is at work), or it ends."""
    entries = out / "videos"
    there = len(list(entries.glob("*.json")))
    began = out / ".extract.lock"
    began.unlink(missing_ok=True)
    while process.poll() is None:
        if began.exists() and len(list(entries.glob("*.json"))) >= there + more:
            return
        time.sleep(0.01)


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_any_moment_the_store_ends_the_same(folder: Path, tmp_path: Path, workers: int) -> None:
    """Three kills; DGAM_KILLS=20 makes it twenty."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run(folder, whole, workers).wait() == 0
    rng = random.Random(workers)
    for _ in range(int(os.environ.get("DGAM_KILLS", "3"))):
        process = run(folder, killed, workers)
        wait_for(process, killed, more=rng.choice([0, 0, 1, 2]))
        time.sleep(rng.uniform(0.0, 0.2))
        process.kill()
        process.wait()
        for entry in sorted((killed / "videos").glob("*.json")) if (killed / "videos").exists() else []:
            assert (
                tree(killed)[f"videos/{entry.name}"] == tree(whole)[f"videos/{entry.name}"]
            )  # done is whole
    assert run(folder, killed, workers).wait() == 0, killed.with_suffix(".stderr").read_text()
    assert tree(killed) == tree(whole)
    assert list(FeatureStore(killed).verify()) == []


# --- which videos


def test_walks_folders_lists_and_files(tmp_path: Path) -> None:
    for name in ("a/x.mp4", "a/deep/y.MKV", "a/.hidden/z.mp4", "a/.h.mp4", "a/w.json", "b/odd.name.avi", "c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "a/deep/up").symlink_to(tmp_path / "a")
    (tmp_path / "list.txt").write_text("# mine\nb/odd.name.avi\n\nc\n")
    found = find_videos([tmp_path / "a", tmp_path / "list.txt"])
    assert [(one.video, one.size) for one in found.videos] == [("c", 1), ("odd.name", 1), ("x", 1), ("y", 1)]
    assert found.ignored == (str(tmp_path / "a/w.json"),)
    below = find_videos([tmp_path / "a"], ids="path")
    assert [one.video for one in below.videos] == ["deep/y", "x"]


def test_the_same_file_named_twice_counts_once(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_text("x")
    assert len(find_videos([tmp_path, tmp_path / "x.mp4"]).videos) == 1


def test_what_cannot_be_listed(tmp_path: Path) -> None:
    for name in ("a/x.mp4", "b/x.avi"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("x")
    with pytest.raises(
        InputError, match=r"video 'x': has the same id as .*x\.avi\. Rename one, or use --ids path"
    ):
        find_videos([tmp_path])
    assert len(find_videos([tmp_path], ids="path").videos) == 2
    (tmp_path / "list.txt").write_text("gone.mp4\n")
    with pytest.raises(InputError, match=r"list\.txt, line 1: there is no"):
        find_videos([tmp_path / "list.txt"])
    with pytest.raises(InputError, match="no such file or folder"):
        find_videos([tmp_path / "missing"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no video found in .*empty"):
        find_videos([tmp_path / "empty"])


@pytest.mark.parametrize(
    ("bad", "words"),
    [({"streams": ()}, "none"), ({"streams": ("rgb", "rgb")}, "rgb,rgb"), ({"length": 0}, "at least 1 frame"),
     ({"streams": ("flow",), "length": 1}, "at least 2")],
)  # fmt: skip
def test_settings_that_contradict(bad: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ExtractSettings(**bad)  # type: ignore[arg-type]  # wrong on purpose

"""The feature store: what is written is what is read, whatever happens in between."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_helpers import Arrays, same, some_arrays, tree_bytes, write_streams
from dgam.core.errors import InputError
from dgam.core.timeline import SnippetGrid
from dgam.features.names import file_stem, video_id
from dgam.features.store import FeatureStore
from dgam.features.writer import StoreWriter

NTSC = SnippetGrid(Fraction(30000, 1001), 16, 8)
DIMS = {"rgb": 4, "flow": 6}


def write_store(path: Path, arrays: Arrays, dtype: str = "float32") -> FeatureStore:
    writer = StoreWriter(path, DIMS, dtype=dtype)
    for video, streams in arrays.items():
        writer.add(video, streams, grid=NTSC, frames=100, duration=3.3, source=f"{video}.mp4")
    return FeatureStore(path)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_written_is_read(tmp_path: Path, dtype: str) -> None:
    arrays = some_arrays()
    store = write_store(tmp_path / "store", arrays, dtype)
    assert store.streams == DIMS
    assert store.videos == ("a", "b", "c")
    for video, streams in arrays.items():
        assert store.timeline(video).grid == NTSC
        assert (store.timeline(video).snippets, store.timeline(video).duration) == (len(streams["rgb"]), 3.3)
        for stream, array in streams.items():
            read = store.read(video, stream)
            assert same(read, array.astype(dtype))
            assert not read.flags.writeable
            assert same(np.load(tmp_path / "store" / stream / f"{video}.npy"), array.astype(dtype))
    assert not list(store.verify())


def test_the_manifest_says_everything(tmp_path: Path) -> None:
    write_store(tmp_path, some_arrays(("a",)), "float16")
    assert json.loads((tmp_path / "store.json").read_text()) == {
        "format": 1,
        "dtype": "float16",
        "streams": {"rgb": 4, "flow": 6},
        "settings": {},
    }
    entry = json.loads((tmp_path / "videos" / "a.json").read_text())
    assert all(len(entry["sha256"].pop(stream)) == 64 for stream in ("rgb", "flow"))
    assert entry == {
        "video": "a",
        "snippets": 3,
        "fps": "30000/1001",
        "length": 16,
        "stride": 8,
        "frames": 100,
        "duration": 3.3,
        "source": "a.mp4",
        "sha256": {},
    }


def test_order_of_writing_leaves_no_trace(tmp_path: Path) -> None:
    arrays = some_arrays()
    write_store(tmp_path / "one", arrays)
    write_store(tmp_path / "two", dict(reversed(arrays.items())))
    assert tree_bytes(tmp_path / "one") == tree_bytes(tmp_path / "two")


def test_layout_of_memory_leaves_no_trace(tmp_path: Path) -> None:
    arrays = some_arrays()
    turned: Arrays = {v: {s: np.asfortranarray(x) for s, x in at.items()} for v, at in arrays.items()}
    big_endian: Arrays = {v: {s: x.astype(">f8") for s, x in at.items()} for v, at in arrays.items()}
    write_store(tmp_path / "one", arrays)
    write_store(tmp_path / "two", turned)
    write_store(tmp_path / "three", big_endian)
    assert tree_bytes(tmp_path / "one") == tree_bytes(tmp_path / "two") == tree_bytes(tmp_path / "three")


def test_a_video_may_lack_a_stream(tmp_path: Path) -> None:
    arrays = some_arrays()
    del arrays["b"]["flow"]
    store = write_store(tmp_path, arrays)
    assert [store.has(video, "flow") for video in store.videos] == [True, False, True]
    with pytest.raises(KeyError):
        store.read("b", "flow")
    assert not store.has("nobody", "rgb")


def test_only_streams(tmp_path: Path) -> None:
    store = write_store(tmp_path, some_arrays()).only_streams(["flow"])
    assert store.streams == {"flow": 6}
    assert not store.has("a", "rgb")
    with pytest.raises(KeyError):
        store.read("a", "rgb")


def _add_one(path: Path, video: str) -> None:
    StoreWriter(path, DIMS).add(video, some_arrays((video,))[video], grid=NTSC)


def test_processes_write_side_by_side(tmp_path: Path) -> None:
    videos = [f"v{number}" for number in range(24)]
    with ProcessPoolExecutor(4) as pool:
        list(pool.map(_add_one, [tmp_path / "many"] * len(videos), videos))
    for video in reversed(videos):
        _add_one(tmp_path / "one", video)
    assert tree_bytes(tmp_path / "many") == tree_bytes(tmp_path / "one")
    assert len(FeatureStore(tmp_path / "many").videos) == len(videos)


def test_killed_at_any_moment_and_started_again(tmp_path: Path) -> None:
    """Ten imports killed after other times; what is listed is whole, and in the end nothing tells of the
    kills."""
    source = write_streams(tmp_path / "source", some_arrays(tuple(f"v{n:03d}" for n in range(60))))
    script = (
        "import sys; from dgam.features.layouts import open_features;"
        "from dgam.features.convert import import_features;"
        "s = open_features(sys.argv[1]); print('go', flush=True); print(import_features(s, sys.argv[2]).kept)"
    )

    def start(out: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", script, str(source), str(tmp_path / out)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "go\n"
        return process

    kills = 0
    for round_ in range(5):
        process = start("killed")
        time.sleep(0.003 + 0.03 * round_)
        process.send_signal(signal.SIGKILL)
        assert process.stdout is not None
        process.stdout.close()
        kills += process.wait() == -signal.SIGKILL
        if (tmp_path / "killed" / "store.json").exists():
            store = FeatureStore(tmp_path / "killed")
            assert all(
                same(store.read(v, s), np.load(source / s / f"{v}.npy")) for v in store.videos for s in DIMS
            )
    assert kills
    for out in ("killed", "whole"):
        process = start(out)
        kept, _ = process.communicate()
        assert process.returncode == 0
        assert out == "killed" or int(kept) == 0
    assert tree_bytes(tmp_path / "killed") == tree_bytes(tmp_path / "whole")


def test_an_incomplete_video_is_recognised(tmp_path: Path) -> None:
    write_store(tmp_path, some_arrays())
    writer = StoreWriter(tmp_path, DIMS)
    assert writer.entry("a") == FeatureStore(tmp_path).entry("a")
    assert writer.entry("nobody") is None
    file = tmp_path / "flow" / "a.npy"
    file.write_bytes(file.read_bytes()[:-1])
    assert writer.entry("a") is None
    (tmp_path / "videos" / "b.json").write_text("{")
    assert writer.entry("b") is None
    (tmp_path / "rgb" / "c.npy").unlink()
    assert writer.entry("c") is None
    for wrong in (np.zeros((6, 4), np.float32), np.zeros((5, 4), np.float16)):
        np.save(tmp_path / "rgb" / "c.npy", wrong)
        assert writer.entry("c") is None
    np.save(tmp_path / "rgb" / "c.npy", np.zeros((5, 4), np.float32))
    assert writer.entry("c") is not None


def test_what_a_killed_writer_left_is_cleared_with_its_video(tmp_path: Path) -> None:
    write_store(tmp_path, some_arrays())
    left = [tmp_path / "rgb" / ".a.npy.x1_y2z3w.part", tmp_path / "videos" / ".a.json.abcdefgh.part"]
    other = tmp_path / "rgb" / ".b.npy.x1_y2z3w.part"  # may be of a writer that is alive
    for file in (*left, other):
        file.write_bytes(b"half")
    assert FeatureStore(tmp_path).videos == ("a", "b", "c")
    _add_one(tmp_path, "a")
    assert [file.exists() for file in (*left, other)] == [False, False, True]


def test_replacing_a_video(tmp_path: Path) -> None:
    write_store(tmp_path, some_arrays())
    longer = some_arrays(("x", "y", "z", "a"))["a"]
    StoreWriter(tmp_path, DIMS).add("a", longer, grid=SnippetGrid())
    store = FeatureStore(tmp_path)
    assert store.timeline("a").snippets == 6
    assert same(store.read("a", "flow"), longer["flow"])


def test_a_replacement_that_fails_leaves_no_false_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when the new entry is due: the old entry must not speak of the new bytes."""
    write_store(tmp_path, some_arrays())

    def full(*arguments: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("dgam.features.writer.write_json", full)
    with pytest.raises(OSError, match="no space left"):
        StoreWriter(tmp_path, DIMS).add("a", some_arrays(("x", "y", "a"))["a"], grid=SnippetGrid())
    assert FeatureStore(tmp_path).videos == ("b", "c")


def test_verify_finds_what_changed(tmp_path: Path) -> None:
    store = write_store(tmp_path, some_arrays(("a", "b", "c", "d", "e")))
    flipped = bytearray((tmp_path / "rgb" / "a.npy").read_bytes())
    flipped[-1] ^= 1
    (tmp_path / "rgb" / "a.npy").write_bytes(flipped)
    (tmp_path / "flow" / "b.npy").unlink()
    (tmp_path / "videos" / "c.json").unlink()
    (tmp_path / "videos" / "d.json").write_text("[]")
    found = [(problem.video, problem.where, problem.what) for problem in FeatureStore(tmp_path).verify()]
    assert [(video, Path(where).relative_to(tmp_path).as_posix()) for video, where, _ in found] == [
        ("a", "rgb/a.npy"),
        ("b", "flow/b.npy"),
        ("d", "videos/d.json"),
        ("c", "rgb/c.npy"),
        ("c", "flow/c.npy"),
    ]
    assert [what.split(",")[0].split(":")[0] for *_, what in found] == [
        f"has SHA-256 {hashlib.sha256(flipped).hexdigest()[:12]}…",
        "cannot be read",
        "must hold a JSON object",
        "has features but no manifest entry",
        "has features but no manifest entry",
    ]
    assert store.videos == ("a", "b", "c", "d", "e")


def test_a_file_that_does_not_fit_its_entry_is_refused(tmp_path: Path) -> None:
    store = write_store(tmp_path, some_arrays())
    np.save(tmp_path / "rgb" / "a.npy", np.zeros((9, 4), np.float32))
    with pytest.raises(
        InputError, match=r"rgb/a\.npy: holds float32 \(9, 4\), the store says float32 \(3, 4\)"
    ):
        store.read("a", "rgb")
    np.save(tmp_path / "rgb" / "b.npy", np.zeros((4, 4), np.float16))
    with pytest.raises(InputError, match="holds float16"):
        store.read("b", "rgb")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_no_file_stays_open(tmp_path: Path) -> None:
    store = write_store(tmp_path, some_arrays())
    before = len(os.listdir("/proc/self/fd"))
    for video in store.videos:
        assert float(store.read(video, "rgb").sum()) >= 0
    assert len(os.listdir("/proc/self/fd")) == before
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


PLAIN = ("video_test_0000324", "--1DO2V4K74", "S2 Fall (1)", "видео", "动作1", "café", "a.b")


@pytest.mark.parametrize("video", PLAIN)
def test_plain_ids_are_their_own_file_names(video: str) -> None:
    assert file_stem(video) == video


@pytest.mark.parametrize(
    ("video", "stem"),
    [
        ("a/b", "a%2Fb"),
        ("100%", "100%25"),
        (".hidden", "%2Ehidden"),
        ("..", "%2E%2E"),
        ("end ", "end%20"),
        ("a:b*?", "a%3Ab%2A%3F"),
        ("cafe\u0301", "cafe%CC%81"),  # the accent as its own character: macOS would join it to the e
        ("\u212b", "%E2%84%AB"),  # the sign for ångström, which normalising turns into the letter Å
        ("a\nb\0", "a%0Ab%00"),
        ("😀", "%F0%9F%98%80"),
    ],
)
def test_odd_ids_are_escaped(video: str, stem: str) -> None:
    assert file_stem(video) == stem
    assert video_id(stem) == video


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=16))
def test_every_id_has_a_safe_name_that_leads_back(video: str) -> None:
    stem = file_stem(video)
    assert video_id(stem) == video
    assert not set(stem) & set('/\\:*?"<>|\0\n')
    assert stem not in (".", "..")
    assert not stem.startswith(".")


@given(st.text(st.characters(codec="utf-8"), max_size=12))
def test_a_name_is_that_of_one_id_or_of_none(stem: str) -> None:
    try:
        video = video_id(stem)
    except InputError:
        return
    assert file_stem(video) == stem


def test_odd_ids_in_a_store(tmp_path: Path) -> None:
    videos = ("camera 1/2020-06-26.mp4", "视频", ".", "cafe\u0301", "café", "*starred", "(in brackets")
    arrays = some_arrays(videos)
    store = write_store(tmp_path, arrays)
    assert store.videos == tuple(sorted(videos))
    assert all(same(store.read(video, "rgb"), arrays[video]["rgb"]) for video in videos)
    assert not list(store.verify())

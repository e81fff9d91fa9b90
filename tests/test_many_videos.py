"""Ten thousand videos: opening is quick; checking, importing and training need little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dgam.core.timeline import SnippetGrid
from dgam.features.store import StoreEntry, StoreHead

VIDEOS = 10_000
PROGRAM = """
import resource, sys, time
from dgam.core.types import VideoLabels
from dgam.data.checks import check
from dgam.features.convert import import_features
from dgam.features.layouts import open_features

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

before = peak()
clock = time.perf_counter()
source = open_features(sys.argv[1])
print(f"open {time.perf_counter() - clock:.2f} s, {len(source.videos)} videos")
labels = VideoLabels({video: ("x",) for video in source.videos})
assert check(source, labels) == []
if len(sys.argv) > 2:
    print(f"imported {import_features(source, sys.argv[2], dtype='float16').written}")
print(f"memory {peak() - before:.0f} MiB")
"""


TRAINING = """
import resource, sys
import dgam

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

before = peak()
source = dgam.open_features(sys.argv[1])
labels = dgam.read_labels(sys.argv[2])
config = dgam.load_config(overrides=["train.epochs=1", "train.snippets=20", "model.normalise=none"])
run = dgam.train(source, labels, sys.argv[3], config=config, streams=["rgb"], device="cpu")
print(f"open 0 s, trained on {run.videos} videos")
print(f"memory {peak() - before:.0f} MiB")
"""


def run(*arguments: Path, program: str = PROGRAM) -> tuple[float, float, str]:
    """Seconds to open, MiB of memory beyond the start, and all that was printed."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    words = printed.split()
    return float(words[1]), float(words[words.index("memory") + 1]), printed


def test_memory_does_not_grow_with_the_videos(tmp_path: Path) -> None:
    """256 videos of 2 MiB each in two streams (sparse files): half a GiB passes through less than 100 MiB."""
    write_sparse(tmp_path / "in", videos=256, snippets=1024)
    _, memory, printed = run(tmp_path / "in")
    assert "256 videos" in printed
    assert memory < 100


@pytest.mark.slow
@pytest.mark.parametrize("store", [False, True])
def test_ten_thousand_videos(tmp_path: Path, store: bool) -> None:
    write_sparse(tmp_path, videos=VIDEOS, snippets=20)
    if store:
        write_manifest(tmp_path, videos=VIDEOS, snippets=20)
    seconds, memory, printed = run(tmp_path)
    assert f"{VIDEOS} videos" in printed
    assert seconds < 2
    assert memory < 200


@pytest.mark.slow
def test_training_on_ten_thousand_videos(tmp_path: Path) -> None:
    """800 MB of float32 features a stream: more than is kept in memory, so read as needed."""
    write_sparse(tmp_path / "in", videos=VIDEOS, snippets=20)
    rows = [f"v{number:05d},{'a' if number % 2 else 'b'}\n" for number in range(VIDEOS)]
    (tmp_path / "labels.csv").write_text("video,labels\n" + "".join(rows))
    _, memory, printed = run(tmp_path / "in", tmp_path / "labels.csv", tmp_path / "run", program=TRAINING)
    assert f"trained on {VIDEOS} videos" in printed
    print(printed)
    assert memory < 2048


def test_importing_needs_little_memory(tmp_path: Path) -> None:
    write_sparse(tmp_path / "in", videos=64, snippets=1024)
    _, memory, printed = run(tmp_path / "in", tmp_path / "store")
    assert "imported 64" in printed
    assert memory < 100


def write_sparse(folder: Path, *, videos: int, snippets: int, dimension: int = 1024) -> None:
    """Simulated features that are all zero and take no space on most disks."""
    head = {"descr": "<f2", "fortran_order": False, "shape": (snippets, dimension)}
    for stream in ("rgb", "flow"):
        (folder / stream).mkdir(parents=True)
        for number in range(videos):
            with (folder / stream / f"v{number:05d}.npy").open("wb") as file:
                np.lib.format.write_array_header_1_0(file, head)
                file.truncate(file.tell() + snippets * dimension * 2)


def write_manifest(folder: Path, *, videos: int, snippets: int, dimension: int = 1024) -> None:
    """What makes a store of such a folder, without the time that a store takes to be sure of the disk."""
    head = StoreHead({"rgb": dimension, "flow": dimension}, "float16")
    (folder / "store.json").write_text(json.dumps(head.to_json()))
    (folder / "videos").mkdir()
    for number in range(videos):
        video = f"v{number:05d}"
        entry = StoreEntry(video, snippets, SnippetGrid(), {"rgb": "0" * 64, "flow": "0" * 64})
        (folder / "videos" / f"{video}.json").write_text(json.dumps(entry.to_json()))

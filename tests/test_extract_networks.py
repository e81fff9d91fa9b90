"""Extraction with the real flow and the real network (random weights), and the command itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cyclopts import App

from coded_videos import write_video
from dgam.core.errors import InputError
from dgam.encoders.encoder import EncoderOptions
from dgam.extraction.extract import extract
from dgam.extraction.neighbour_flow import NeighbourFlow
from dgam.extraction.show import sample_video
from dgam.extraction.worker import ExtractSettings
from dgam.features.store import FeatureStore
from dgam.flow.tvl1 import FlowSettings, flow, quantise
from dgam.report.flowview import flow_colours
from dgam.video.framing import FrameSettings
from dgam.video.reader import FrameReader

SMALL = EncoderOptions(short_side=32, crop=32, device="cpu")
QUICK = {"epsilon": 0.1, "warps": 2, "nscales": 2}
I3D = ExtractSettings(("rgb", "flow"), "i3d-random", SMALL, flow="torch", flow_parameters=QUICK)


def test_bytes_depend_neither_on_batch_nor_workers_nor_threads(tmp_path: Path) -> None:
    for name, length in (("a", 52), ("b", 33)):
        write_video(tmp_path / "videos" / f"{name}.mp4", range(length))
    for out, settings, workers in (
        ("one", I3D, 1),
        ("batch", replace(I3D, options=replace(SMALL, batch=2)), 1),
        ("two", replace(I3D, threads=1), 2),
    ):
        told = extract([tmp_path / "videos"], tmp_path / out, settings, workers=workers)
        assert told.bound in ("decode", "flow", "network", "store")
    one = FeatureStore(tmp_path / "one")
    assert one.streams == {"rgb": 1024, "flow": 1024}
    assert [one.timeline(video).snippets for video in one.videos] == [3, 2]
    for other in (FeatureStore(tmp_path / "batch"), FeatureStore(tmp_path / "two")):
        assert other.head == one.head
        assert [other.entry(video) for video in one.videos] == [one.entry(video) for video in one.videos]
    settings = one.head.settings
    assert settings["flow"]["method"] == "torch"
    assert settings["flow"]["warps"] == 2
    assert settings["frames"]["short_side"] == 32


@pytest.mark.parametrize("method", ["torch", "llvm"])
def test_neighbour_flow_is_the_flow_of_neighbours(tmp_path: Path, method: str) -> None:
    if method == "llvm":
        pytest.importorskip("llvmlite")
    path = write_video(tmp_path / "a.mp4", range(20))
    with FrameReader(path, FrameSettings(short_side=24)) as reader:
        pictures = np.stack([*reader])
    of_neighbours = NeighbourFlow(method, QUICK, device="cpu", bound=5.0)
    got = of_neighbours(pictures)
    motion = flow(pictures[:-1], pictures[1:], FlowSettings(epsilon=0.1, warps=2, nscales=2), method=method)
    np.testing.assert_array_equal(got, quantise(motion, 5.0).transpose(0, 2, 3, 1))
    assert got.dtype == np.uint8
    assert got.shape == (19, 24, 48, 2)
    # The same pairs in other company.
    np.testing.assert_array_equal(of_neighbours(pictures[17:]), got[17:])
    plain = NeighbourFlow(method, QUICK, device="cpu", quantised=False)(pictures)
    np.testing.assert_array_equal(plain, motion.transpose(0, 2, 3, 1))


def test_flow_parameters_that_cannot_be() -> None:
    with pytest.raises(InputError, match="no parameter 'epsillon', only tau, lambda, theta"):
        NeighbourFlow("torch", {"epsillon": 1}, device="cpu")
    with pytest.raises(InputError, match="must be numbers"):
        NeighbourFlow("torch", {"tau": "fast"}, device="cpu")
    assert NeighbourFlow("torch", {"lambda": 0.3}, device="cpu").settings["lambda_"] == 0.3


# --- --show


def test_samples_lie_in_the_middle_of_their_snippets(tmp_path: Path) -> None:
    from coded_videos import read_number

    path = write_video(tmp_path / "a.mp4", range(100))
    found = sample_video(path, I3D, count=3)
    assert [(sample.snippet, sample.frame) for sample in found.samples] == [(0, 8), (2, 40), (5, 88)]
    assert [read_number(sample.picture) for sample in found.samples] == [8, 40, 88]
    assert all(
        s.flow is not None and s.flow.shape == (32, 64, 2) and s.flow.dtype == np.float32
        for s in found.samples
    )
    assert (found.frames, found.timeline.snippets, found.seconds) == (100, 6, 4.0)


def test_one_picture_has_no_flow(tmp_path: Path) -> None:
    found = sample_video(write_video(tmp_path / "a.mp4", [0]), I3D)
    assert len(found.samples) == 1
    assert found.samples[0].flow is None


def test_colours_of_flow() -> None:
    motion = np.array([[[0, 0], [2, 0], [9, 0], [0, 2], [-1, 0]]], float)
    colours = flow_colours(motion, 2.0)[0]
    np.testing.assert_allclose(colours[0], [1, 1, 1])  # none: white
    np.testing.assert_allclose(colours[1], [1, 0, 0])  # right: red
    np.testing.assert_allclose(colours[2], [1, 0, 0])  # longer: no stronger
    np.testing.assert_allclose(colours[3], [0.5, 1, 0])  # down: yellow-green
    np.testing.assert_allclose(colours[4], [0.5, 1, 1])  # left, half as long: pale cyan


# --- the command


def call(*arguments: object) -> None:
    from dgam.cli.extract import extract as command

    app = App(result_action="return_value")
    app.default(command)
    app([str(argument) for argument in arguments], exit_on_error=False, print_error=False)


def test_command_extracts_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_video(tmp_path / "videos" / "a.mp4", range(40))
    (tmp_path / "videos" / "b.mp4").touch()
    options = [
        "--encoder",
        "tiny_encoder:frame_numbers",
        "--out",
        tmp_path / "store",
        "--skip-bad",
        "--flow",
        "torch",
    ]
    call(tmp_path / "videos", *options, "--flow-set", "warps=1", "--flow-set", "epsilon=0.1", "--json")
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert told["counts"] == {"extracted": 1, "unchanged": 0, "failed": 1}
    assert told["settings"]["flow"]["warps"] == 1
    assert told["settings"]["flow"]["epsilon"] == 0.1
    assert "left out: " in printed.err
    assert "b.mp4: the file is empty" in printed.err
    call(tmp_path / "videos", *options, "--flow-set", "warps=1", "--flow-set", "epsilon=0.1")
    table = capsys.readouterr().out
    assert "a      unchanged      40         2      1.60" in table
    assert f"report: {tmp_path / 'store.report.json'}" in table
    assert FeatureStore(tmp_path / "store").streams == {"rgb": 4, "flow": 2}


def test_command_draws_a_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_video(tmp_path / "a.mp4", range(40))
    call(
        "--show",
        path,
        "--out",
        tmp_path / "a.png",
        "--flow",
        "torch",
        "--flow-set",
        "warps=1",
        "--short-side",
        32,
    )
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "a.png: 2 frames of 40 at 25 fps, 2 snippets, 1.60 s." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--out", "x"], "no videos were given"), (["a.mp4"], "--out is missing"),
     (["a.mp4", "--out", "x", "--fps", "fast"], "--fps fast: expected a number"),
     (["a.mp4", "--out", "x", "--size", "big"], "--size big: expected width x height"),
     (["a.mp4", "--out", "x", "--weights", "w.pt"], "--weights w.pt: expected a stream and its file"),
     (["a.mp4", "--out", "x", "--flow-set", "warps"], "--flow-set warps: expected a name and a value"),
     (["a.mp4", "--out", "x", "--workers", "0"], "--workers must be at least 1"),
     (["a.mp4", "--out", "x", "--threads", "-1"], "--threads must be at least 1"),
     (["a.mp4", "--show", "b.mp4"], "--show draws one video"),
     (["a.mp4", "--out", "x", "--streams", ","], "--streams must name each stream once")],
)  # fmt: skip
def test_command_messages(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=words):
        call(*arguments)

"""The live trial: the extraction's features one by one, decisions after the stated delay, bounded memory."""

from __future__ import annotations

import json
import re
import weakref
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import dgam
from coded_videos import read_number, write_video
from colour_encoder import mean_colours
from colour_model import BLUE, ENCODER, GREY, RED, SNIPPET, colour_video, train_colours
from dgam.api import load_models
from dgam.cli import main
from dgam.core.timeline import SnippetGrid
from dgam.encoders.encoder import EncoderOptions
from dgam.extraction.extract import extract
from dgam.extraction.neighbour_flow import NeighbourFlow
from dgam.extraction.worker import ExtractSettings
from dgam.live.stream import open_source, paced, snippet_features
from dgam.live.watch import Event, Watcher
from dgam.video.framing import FrameSettings
from file_server import Server

SCENE = [(5, GREY), (3, RED), (6, GREY), (4, BLUE), (3, GREY)]  # in snippets


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model/, trained on simulated videos, and scene.mp4."""
    folder = tmp_path_factory.mktemp("live")
    train_colours(folder)
    colour_video(folder / "scene.mp4", SCENE)
    return folder


# Features


@pytest.mark.parametrize(("length", "stride"), [(16, 16), (16, 8), (8, 16), (8, 9), (16, 5)])
def test_features_are_those_of_the_extraction(length: int, stride: int, tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", range(80))  # 80 frames: the last flow is needed, and repeated
    settings = ExtractSettings(
        streams=("rgb", "flow"), encoder=ENCODER, length=length, stride=stride, flow="llvm", threads=1
    )
    extract([video], tmp_path / "store", settings)
    store = dgam.open_features(tmp_path / "store")
    encoder, flow = settings.build(), settings.build_flow()
    with open_source(str(video), settings.pictures(encoder)) as reader:
        rows = list(snippet_features(reader, encoder, settings.streams, settings.grid, flow))
    for stream in settings.streams:
        np.testing.assert_array_equal(np.stack([row[stream] for row in rows]), store.read("v", stream))


def test_a_snippet_comes_as_soon_as_its_pictures_are_there() -> None:
    grid = SnippetGrid(Fraction(25), 16, 16)
    encoder = mean_colours(EncoderOptions())
    given = 0

    def pictures() -> Iterator[np.ndarray]:
        nonlocal given
        for number in range(40):
            given += 1
            yield np.full((32, 64, 3), number, np.uint8)

    asked = [given for _ in snippet_features(pictures(), encoder, ("rgb",), grid, None)]
    assert asked == [16, 32]
    given = 0
    flow = NeighbourFlow("llvm", device="cpu", threads=1)
    asked = [given for _ in snippet_features(pictures(), encoder, ("rgb", "flow"), grid, flow)]
    assert asked == [17, 33], "flow leads to the next picture"


def test_pictures_are_held_no_longer_than_needed() -> None:
    alive: list[weakref.ref[np.ndarray]] = []
    most = 0

    def pictures() -> Iterator[np.ndarray]:
        for number in range(200):
            picture = np.full((32, 64, 3), number, np.uint8)
            alive.append(weakref.ref(picture))
            yield picture

    grid = SnippetGrid(Fraction(25), 16, 8)
    for _ in snippet_features(pictures(), mean_colours(EncoderOptions()), ("rgb",), grid, None):
        most = max(most, sum(one() is not None for one in alive))
    assert most <= 17


# Decisions


def watcher(place: Path, **options: float) -> Watcher:
    run = dgam.load_run(place / "model")
    grid = SnippetGrid(Fraction(25), 16, 16)
    # For mypy: options of several types.
    return Watcher(load_models(run, "cpu"), run.classes, grid, **options)  # type: ignore[arg-type]


def watch(own: Watcher, rows: np.ndarray) -> list[tuple[int, Event]]:
    """Events, each with the number of snippets seen by then."""
    told = [(own.seen, event) for row in rows for event in own.add({"rgb": row})]
    return told + [(own.seen, event) for event in own.finish()]


@pytest.fixture(scope="module")
def rows(place: Path) -> np.ndarray:
    """The scene's features (21, 5)."""
    store = place / "scene-features"
    extract([place / "scene.mp4"], store, ExtractSettings(streams=("rgb",), encoder=ENCODER, threads=1))
    return np.array(dgam.open_features(store).read("scene", "rgb"))


@pytest.mark.parametrize("delay", [2, 4, 7])
def test_actions_are_told_after_the_delay(delay: int, place: Path, rows: np.ndarray) -> None:
    own = watcher(place, delay=delay, min_score=0.0)
    told = watch(own, rows)
    kinds = [(event.kind, event.label, round(event.start / SNIPPET)) for _, event in told]
    assert kinds == [("begins", RED, 5), ("ends", RED, 5), ("begins", BLUE, 14), ("ends", BLUE, 14)]
    assert [None if e.end is None else round(e.end / SNIPPET) for _, e in told] == [None, 8, None, 18]
    # The cell that decides must have ended, and `delay` more; at the end of the source there are none.
    assert [seen for seen, _ in told] == [min(cell + 1 + delay, 21) for cell in (5, 8, 14, 18)]
    assert all(event.score > 0 for _, event in told)


def test_the_same_source_gives_the_same_events(place: Path, rows: np.ndarray) -> None:
    assert watch(watcher(place), rows) == watch(watcher(place), rows)


def test_memory_is_that_of_the_window(place: Path, rows: np.ndarray) -> None:
    own = watcher(place, window=8, delay=2, min_score=0.0)
    told = watch(own, np.concatenate([rows] * 4))
    assert len(own._rows) == 8
    assert own.decided == own.seen == 84
    begun = [
        round(event.start / SNIPPET) for _, event in told if event.kind == "begins" and event.label == RED
    ]
    assert {5, 26, 47, 68} <= set(begun), "also long after the beginning"


def test_an_action_that_goes_on_ends_with_the_source(place: Path, rows: np.ndarray) -> None:
    own = watcher(place, delay=3, min_score=0.0)
    told = watch(own, rows[:7])
    assert [(event.kind, event.label) for _, event in told] == [("begins", RED), ("ends", RED)]
    assert told[-1][1].end == pytest.approx(7 * SNIPPET)


def test_scores_below_the_least_are_not_told(place: Path, rows: np.ndarray) -> None:
    assert watch(watcher(place, min_score=1e9), rows) == []


def test_the_stated_delay_counts_the_snippet_those_after_it_and_one_picture() -> None:
    grid = SnippetGrid(Fraction(25), 16, 16)
    assert Watcher({}, (), grid, delay=4).stated_delay == pytest.approx((5 * 16 + 1) / 25)
    overlapping = SnippetGrid(Fraction(25), 16, 8)  # a cell begins 4 frames into its snippet
    assert Watcher({}, (), overlapping, delay=2).stated_delay == pytest.approx((2 * 8 + 16 + 1 - 4) / 25)
    with pytest.raises(ValueError, match="window must exceed delay, which is at least 0; got 4, 4"):
        Watcher({}, (), grid, window=4, delay=4)


def test_pacing_waits_for_each_pictures_time() -> None:
    now = 100.0
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds

    def clock() -> float:
        return now

    pictures = [np.zeros((1, 1, 3), np.uint8)] * 4
    times: list[float] = []
    for _ in paced(pictures, 10.0, clock=clock, sleep=sleep):
        times.append(now - 100.0)
        now += 0.25 if len(times) == 2 else 0.0  # the second takes longer than it may
    assert times == pytest.approx([0.0, 0.1, 0.35, 0.35])
    assert slept == pytest.approx([0.1])


# The command


def events(out: str) -> list[Mapping[str, object]]:
    return [json.loads(line) for line in out.splitlines()]


def test_a_file_as_if_live(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["live", str(place / "model"), str(place / "scene.mp4")]) == 0
    out, said = capsys.readouterr()
    assert said == ""
    lines = out.splitlines()
    assert lines[0] == f"{place / 'scene.mp4'}: snippets of 0.64 s, in a window of 41.0 s."
    assert lines[1] == (
        "Delay: a moment is decided at most 3.24 s after it was seen, plus what computing takes."
    )
    assert [line.split()[:3] for line in lines[2:6]] == [
        ["0:00:03.2", "…", RED],
        ["0:00:03.2", "0:00:05.1", RED],
        ["0:00:09.0", "…", BLUE],
        ["0:00:09.0", "0:00:11.5", BLUE],
    ]
    assert re.fullmatch(
        r"21 snippets, 13\.4 s of the source in \d+\.\d s \(\d+\.\d pictures a second, 25 are real time\)\.",
        lines[6],
    )
    assert lines[7] == (
        "Delay measured: 3.20 s in the mean, 3.20 s at most (of the source, without computing)."
    )


def test_paced_the_delay_is_measured_by_the_clock(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["live", str(place / "model"), str(place / "scene.mp4"), "--pace", "--json", "--delay", "0"]
    capsys.readouterr()
    assert main([*call, "--seconds", "1.92"]) == 0
    head, *_, foot = events(capsys.readouterr().out)
    assert head["stated_delay"] == pytest.approx(0.68)
    assert foot["pictures"] == 48
    assert foot["snippets"] == 3
    delay = foot["delay"]
    assert isinstance(delay, dict)
    assert delay["real_time"] is True
    assert 0.55 < delay["mean"] <= delay["most"] < 2.0, "0.6 s of pictures, and computing on a busy machine"


def test_a_stream_from_the_network(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["live", str(place / "model"), str(place / "scene.mp4"), "--json"]) == 0
    of_file = events(capsys.readouterr().out)[1:-1]
    with Server({"/scene.mp4": (place / "scene.mp4").read_bytes()}).running() as server:
        assert main(["live", str(place / "model"), f"{server.url}/scene.mp4", "--json"]) == 0
    out = events(capsys.readouterr().out)
    assert out[1:-1] == of_file
    assert [(one["kind"], one["label"]) for one in of_file][:2] == [("begins", RED), ("ends", RED)]


def test_a_stream_that_begins_anywhere_is_read(tmp_path: Path) -> None:
    """A camera's stream begins between key frames; a file is held to what the settings say."""
    video = write_video(tmp_path / "v.ts", range(100), codec="libx264", options={"g": "30"})
    data = video.read_bytes()
    lost = 188 * 12
    assert lost < len(data) // 4
    settings = FrameSettings(short_side=0)
    with (
        Server({"/v.ts": data[lost:]}).running() as server,
        open_source(f"{server.url}/v.ts", settings) as reader,
    ):
        numbers = [read_number(picture) for picture in reader]
    assert numbers[-1] == 99
    assert 40 < len(numbers) < 100
    assert reader.settings.damage == "conceal"
    with open_source(str(video), settings) as reader:
        assert reader.settings.damage == "refuse"


REFUSED = [
    ("MODEL SCENE --delay 4 --window 4", "--window must exceed --delay, which is at least 0; got 4 and 4."),
    ("MODEL SCENE --seconds 0", "--seconds must be above 0, got 0.0."),
    (
        "MODEL nowhere.mp4",
        "nowhere.mp4: cannot be opened (No such file or directory). Expected a file, an address "
        "such as rtsp://… or http://…, or a camera such as /dev/video0.",
    ),
    (
        "MODEL http://127.0.0.1:9/x",
        "http://127.0.0.1:9/x: cannot be opened (Connection refused). Expected a file, "
        "an address such as rtsp://… or http://…, or a camera such as /dev/video0.",
    ),
    ("MODEL SCENE --weights x", "--weights x: expected a stream and its file, as rgb=rgb_imagenet.pt."),
    (
        "SCENE SCENE",
        "SCENE: not a run folder, it has no run.json. Expected what 'dgam train --out RUN' made.",
    ),
]


@pytest.mark.parametrize(("line", "message"), REFUSED)
def test_bad_calls_are_refused(
    line: str, message: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"MODEL": str(place / "model"), "SCENE": str(place / "scene.mp4")}
    capsys.readouterr()
    assert main(["live", *[places.get(word, word) for word in line.split()]]) == 2
    said = message.replace("SCENE", places["SCENE"])
    assert capsys.readouterr().err == f"dgam live: {said}\n"

"""`dgam export`: result files in other tools' formats, and clips of them."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path

import pytest

from coded_videos import read_number, write_video
from dgam.cli import main
from dgam.cli.app import build_app
from dgam.core.results import write_detections
from dgam.core.types import Detection, Detections
from dgam.exports.formats import FORMATS, export
from dgam.video.framing import FrameSettings
from dgam.video.reader import FrameReader

FOUND = Detections(
    {
        "a": [Detection(1.0, 2.0, "run", 0.5), Detection(0.4, 0.8, "jump", 0.9), Detection(2, 9, "run", 0.1)],
        "b": [Detection(0.0, 0.4, "run", 0.7)],
        "c": [],
    },
    {"seed": 5},
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with detections.json and videos/ of a (3 s at 25 a second), sub/b (2 s at 10 a second), c."""
    write_detections(tmp_path / "detections.json", FOUND)
    write_video(tmp_path / "videos" / "a.mp4", range(75))
    write_video(tmp_path / "videos" / "sub" / "b.mkv", range(20), Fraction(1, 10))
    write_video(tmp_path / "videos" / "c.mp4", range(25))
    return tmp_path


def call(place: Path, *more: str) -> int:
    return main(["export", str(place / "detections.json"), *more])


def test_formats_into_a_folder(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert call(place, "--to", "vtt,csv", "--out", str(place / "out")) == 0
    assert capsys.readouterr().out == f"4 files in {place / 'out'}: 4 detections in 3 videos.\n"
    for name, data in {**export("vtt", FOUND), **export("csv", FOUND)}.items():
        assert (place / "out" / name).read_bytes() == data


@pytest.mark.parametrize("name", ["o.csv", "o.json"])
def test_a_files_ending_says_its_format(name: str, place: Path) -> None:
    assert call(place, "--out", str(place / name)) == 0
    (data,) = export(name.split(".")[1], FOUND).values()
    assert (place / name).read_bytes() == data


def test_one_format_into_a_file_of_its_ending(place: Path) -> None:
    assert call(place, "--to", "labelstudio", "--out", str(place / "tasks.json")) == 0
    assert [task["data"]["video_id"] for task in json.loads((place / "tasks.json").read_text())] == [
        "a",
        "b",
        "c",
    ]


def test_the_videos_lend_their_lengths_rates_and_places(place: Path) -> None:
    media = ("--media", str(place / "videos"))
    assert call(place, "--to", "csv,labelstudio,fiftyone", "--out", str(place / "out"), *media) == 0
    rows = (place / "out" / "detections.csv").read_text().splitlines()
    assert rows[3] == "a,2.000,3.000,run,0.1", "cut to the video's three seconds"
    tasks = json.loads((place / "out" / "labelstudio.json").read_text())
    assert [task["data"]["fps"] for task in tasks] == [25.0, 10.0, 25.0]
    assert tasks[1]["predictions"][0]["result"][0]["value"]["ranges"] == [{"start": 1, "end": 4}]
    assert tasks[0]["data"]["video"] == str(place / "videos" / "a.mp4")
    labels = json.loads((place / "out" / "fiftyone.json").read_text())["labels"]
    assert list(labels) == [str(place / "videos" / name) for name in ("a.mp4", "sub/b.mkv", "c.mp4")]


def test_the_videos_address_takes_the_place_of_their_paths(place: Path) -> None:
    (place / "videos" / "a.mp4").rename(place / "videos" / "ä b.mp4")
    write_detections(
        place / "detections.json", Detections({"ä b": FOUND.videos["a"], "b": FOUND.videos["b"]})
    )
    media = ("--media", str(place / "videos"), "--media-url", "https://host/v")
    assert call(place, "--to", "labelstudio", "--out", str(place / "t.json"), *media) == 0
    tasks = json.loads((place / "t.json").read_text())
    assert [task["data"]["video"] for task in tasks] == [
        "https://host/v/%C3%A4%20b.mp4",
        "https://host/v/sub/b.mkv",
    ]


def test_clips_of_the_best(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips = place / "clips"
    capsys.readouterr()
    assert call(place, "--clips", str(clips), "--media", str(place / "videos"), "--top", "1") == 0
    assert capsys.readouterr().out == f"{clips}: 2 clips.\n"
    names = sorted(path.name for path in clips.iterdir())
    assert names == ["a_jump_0h00m00.400s.mp4", "b_run_0h00m00.000s.mp4"]
    with FrameReader(clips / names[0], FrameSettings(short_side=0)) as reader:
        assert [read_number(picture) for picture in reader] == [*range(10, 20)]


def test_min_score_and_top(place: Path) -> None:
    assert call(place, "--out", str(place / "o.csv"), "--min-score", "0.2", "--top", "1") == 0
    assert (place / "o.csv").read_text().splitlines()[1:] == [
        "a,0.400,0.800,jump,0.9",
        "b,0.000,0.400,run,0.7",
    ]


def test_skip_bad_lists_what_it_leaves_out(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "videos" / "c.mp4").unlink()
    (place / "videos" / "sub" / "b.mkv").write_text("no video")
    value = json.loads((place / "detections.json").read_text())
    value["results"]["a"][0]["segment"] = [5, 1]
    (place / "detections.json").write_text(json.dumps(value))
    capsys.readouterr()
    more = ("--media", str(place / "videos"), "--clips", str(place / "clips"), "--out", str(place / "o.csv"))
    assert call(place, *more, "--skip-bad") == 0
    out, said = capsys.readouterr()
    assert out == (
        f"note: {place / 'videos'}: has no video 'c' of {place / 'detections.json'} (1 such in all).\n"
        f"{place / 'o.csv'}: 3 detections in 3 videos.\n"
        f"{place / 'clips'}: 2 clips.\n"
    )
    first, second, last = said.splitlines()
    assert first.endswith("video 'a': prediction 0: its segment [5, 1] ends before it starts.")
    assert second.startswith(f"left out: {place / 'videos/sub/b.mkv'}: video 'b': is no video that FFmpeg")
    assert last == "2 defects were passed over because of --skip-bad; see above."


REFUSED = [
    ("FOUND", "--out is missing: the folder or file to write. Or cut clips with --clips."),
    ("FOUND --to vtt", "--to needs --out: the folder to write into."),
    ("FOUND --clips OUT", "--clips needs --media: the videos to cut."),
    ("FOUND --out OUT --media-url http://x", "--media-url needs --media: which files it serves."),
    (
        "FOUND --out OUT.srt",
        "--out OUT.srt: srt has one file for each video, and there are 3. Name a folder, and the format with "
        "--to srt.",
    ),
    (
        "FOUND --out OUT.csv --media VIDEOS/c.mp4",
        "VIDEOS/c.mp4: has no video 'a' of FOUND (2 such in all). Give those files too, or go on without "
        "their media with --skip-bad.",
    ),
    ("nowhere.json --out OUT.csv", "nowhere.json: cannot be read: No such file or directory."),
    ("FOUND --out FOUND/a.csv", "--out FOUND: FOUND is a file; expected a folder."),
    ("FOUND --clips FOUND --media VIDEOS", "--clips FOUND: FOUND is a file; expected a folder."),
    (
        "FOUND --media nowhere --out OUT.csv",
        "These videos cannot be extracted:\n  nowhere: there is no such file or folder.",
    ),
]


@pytest.mark.parametrize(("line", "message"), REFUSED)
def test_bad_calls_are_refused(
    line: str, message: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"FOUND": place / "detections.json", "VIDEOS": place / "videos", "OUT": place / "out"}

    def put(text: str) -> str:
        return re.sub(r"\b(FOUND|VIDEOS|OUT)\b", lambda found: str(places[found[0]]), text)

    before = sorted(place.rglob("*"))
    capsys.readouterr()
    assert main(["export", *map(put, line.split())]) == 2
    assert capsys.readouterr() == ("", f"dgam export: {put(message)}\n")
    assert sorted(place.rglob("*")) == before


DOCUMENT = (Path(__file__).parents[1] / "docs" / "localize.md").read_text(encoding="utf-8")
CALLS = [line.strip() for line in DOCUMENT.splitlines() if line.startswith("    dgam ")]


@pytest.mark.parametrize("line", CALLS)
def test_the_calls_of_the_document_are_understood(line: str) -> None:
    _, command, *_ = words = line.split()
    function, _, unused = build_app(command).parse_args(words[1:], exit_on_error=False, print_error=False)
    assert function.__name__ == command
    assert not unused


def test_the_document_has_a_row_for_every_format() -> None:
    rows = [line.split("|")[1:3] for line in DOCUMENT.splitlines() if line.startswith("| `")][1:]
    assert [name.strip(" `") for name, _ in rows] == list(FORMATS)
    for (_, files), own in zip(rows, FORMATS.values(), strict=True):
        assert own.suffix in files

"""`dgam fit` reading labels and checking them: spreadsheets of all kinds, and every message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dgam
from dgam.core.errors import InputError, InputProblems, Problem
from dgam.core.types import VideoLabels
from dgam.fitting.checks import check_labels
from dgam.fitting.findings import Findings
from dgam.fitting.matching import list_videos, match_labels
from dgam.fitting.spelling import is_number, is_placeholder, look_alikes
from dgam.fitting.spreadsheet import read_label_sheet
from dgam.video.listing import VideoFile


def read(path: Path, content: str | bytes) -> tuple[VideoLabels, list[str], list[str]]:
    """Labels, defects and notes of a file with this content."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    defects: list[Problem] = []
    notes: list[Problem] = []
    labels = read_label_sheet(path, defects.append, notes.append)
    return labels, [p.what for p in defects], [p.what for p in notes]


WANTED = {"a.mp4": ("pour", "stir"), "b": (), "c": ("stir",)}
SHEETS = {
    "plain": "video,labels\na.mp4,pour;stir\nb,\nc,stir\n",
    "byte order mark": "\ufeffvideo,labels\r\na.mp4,pour;stir\r\nb,\r\nc,stir\r\n",
    "semicolons": 'Video;Label(s)\na.mp4;"pour;stir"\nb;\nc;stir\n',
    "semicolons, commas between labels": "file name;actions\na.mp4;pour, stir\nb;\nc;stir\n",
    "tabs": "filename\ttags\na.mp4\tpour|stir\nb\nc\tstir\n",
    "empty columns and rows": "video,labels,,\n,,,\na.mp4,pour;stir,,\nb,,,\nc,stir,,\n,,,\n",
    "other columns": "nr,name,label,who\n1,a.mp4,pour;stir,x\n2,b,,\n3,c,stir,y\n",
    "separator line": "sep=;\nvideo;labels\na.mp4;pour|stir\nb;\nc;stir\n",
    "a row for each label": "video,label\na.mp4,pour\na.mp4,stir\nb,\nc,stir\n",
}


@pytest.mark.parametrize("sheet", SHEETS.values(), ids=SHEETS)
def test_spreadsheets_of_all_kinds(sheet: str, tmp_path: Path) -> None:
    labels, defects, notes = read(tmp_path / "labels.csv", sheet)
    assert dict(labels.labels) == WANTED
    assert defects == []
    several = ["lists 1 videos in several rows (a.mp4); their labels are put together."]
    assert notes == (several if sheet == SHEETS["a row for each label"] else [])


def test_encodings(tmp_path: Path) -> None:
    text = "video;labels\nk;größe\n"
    for encoding, told in {"utf-8": [], "utf-16": ["was read as UTF-16."]}.items():
        labels, _, notes = read(tmp_path / "l.csv", text.encode(encoding))
        assert labels.labels["k"] == ("größe",)
        assert notes == told
    labels, _, notes = read(tmp_path / "l.csv", text.encode("cp1252"))
    assert labels.labels["k"] == ("größe",)
    assert notes == ["was read as Windows-1252, since it is not UTF-8; look at letters with accents."]


def test_subsets_are_read(tmp_path: Path) -> None:
    labels, _, _ = read(tmp_path / "l.csv", "video,Split,labels\na,train,x\nb,test,y\n")
    assert dict(labels.subset_of) == {"a": "train", "b": "test"}


def test_other_formats_go_the_usual_way(tmp_path: Path) -> None:
    (tmp_path / "gt.json").write_text(
        '{"database": {"a": {"subset": "train", "annotations": [{"label": "x", "segment": [1, 2]}]}}}'
    )
    labels = read_label_sheet(tmp_path / "gt.json", pytest.fail, pytest.fail)
    assert dict(labels.labels) == {"a": ("x",)}


BAD_SHEETS = {
    "a,b\n1,2\n": "its first line names no column 'video' and no column 'labels'; it is 'a,b'. Expected "
    "'video,labels' and below it a line for each video, as in 'clip_01,pour;stir'.",
    "video,file\n1,2\n": "its first line names no column 'labels'; it is 'video,file'.",
    "": "its first line names no column 'video' and no column 'labels'; it is empty.",
    "video,labels\n": "holds no usable video. Expected a line for each below 'video,labels'.",
    "video,video,labels\n": "its first line names the column 'video' more than once.",
    'video,labels\n"a,b\n': "is not valid CSV: unexpected end of data.",
    "PK\x03\x04xx": "is a spreadsheet program's own file. Save the table as CSV and give that.",
}


@pytest.mark.parametrize("sheet", BAD_SHEETS)
def test_unusable_sheets(sheet: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path / "labels.csv", sheet)
    assert BAD_SHEETS[sheet] in str(error.value)


def test_defective_rows_are_named_with_their_line(tmp_path: Path) -> None:
    labels, defects, _ = read(tmp_path / "l.csv", "video,labels\na,x,y\n,x\nc,x\n")
    assert dict(labels.labels) == {"c": ("x",)}
    assert defects == [
        "line 2: 3 fields, the first line has 2. Separate labels with ';', or put them in quotes.",
        "line 3: the video is empty.",
    ]


NAMES = st.text("abcXYZ 01_-.()äñ", min_size=1, max_size=8).map(str.strip).filter(bool)


@given(st.dictionaries(NAMES, st.lists(NAMES, max_size=3, unique=True), min_size=1, max_size=5))
def test_the_plain_form_reads_as_in_read_labels(
    tmp_path_factory: pytest.TempPathFactory, table: Mapping[str, Sequence[str]]
) -> None:
    path = tmp_path_factory.mktemp("sheet") / "labels.csv"
    rows = "".join(f"{video},{';'.join(names)}\n" for video, names in table.items())
    path.write_text(f"video,labels\n{rows}", encoding="utf-8")
    usual = dgam.read_labels(path)
    mine = read_label_sheet(path, pytest.fail, pytest.fail)
    assert dict(mine.labels) == dict(usual.labels)
    assert mine.classes == usual.classes


# --- spelling


ALIKE = [
    ("Fall (FW)", "Falling (FW)"),
    ("walk", "Walk "),
    ("push-up", "push ups"),
    ("pick up", "PickUp"),
    ("sitting", "sit"),
    ("Standing", "Standng"),
    ("throw_ball", "throws ball"),
    ("jumped", "jumping"),
    ("stir", "stirs"),
    ("receive", "recieve"),
]
UNLIKE = [
    ("Fall (FW)", "Fall (BW)"),
    ("camera 1", "camera 2"),
    ("push", "pull"),
    ("walk", "talk"),
    ("walking", "talking"),
    ("open door", "open"),
    ("sit down", "stand up"),
    ("left", "lift"),
    ("sing", "s"),
]


@pytest.mark.parametrize("pair", ALIKE, ids=" / ".join)
def test_look_alikes(pair: tuple[str, str]) -> None:
    assert look_alikes(pair) == [pair]
    assert look_alikes(pair[::-1]) == [pair[::-1]]


@pytest.mark.parametrize("pair", UNLIKE, ids=" / ".join)
def test_labels_that_differ(pair: tuple[str, str]) -> None:
    assert look_alikes(pair) == []


def test_placeholders_and_numbers() -> None:
    assert [name for name in ("none", "No action", "-", "N/A", "nodding", "run") if is_placeholder(name)] == [
        "none",
        "No action",
        "-",
        "N/A",
    ]
    assert [name for name in ("1", "12.5-14", "0:10", "run 2", "2nd serve") if is_number(name)] == [
        "1",
        "12.5-14",
        "0:10",
    ]


# --- the labels as a whole


def told(labels: Mapping[str, Sequence[str]], **options: object) -> Findings:
    findings = Findings()
    # For mypy: options of several types.
    check_labels(VideoLabels({v: tuple(n) for v, n in labels.items()}, **options), "L", findings)  # type: ignore[arg-type]
    return findings


def many(count: int, **extra: Sequence[str]) -> dict[str, Sequence[str]]:
    """Videos of two well-behaved classes, and more."""
    return {**{f"v{i:02}": ("dive",) if i % 2 else ("jump",) for i in range(count)}, **extra}


def test_good_labels_are_not_talked_about() -> None:
    findings = told(many(10))
    assert (findings.errors, findings.warnings, findings.notes) == ([], [], [])


ERRORS = [
    ({"a": ["x"]}, "L: 1 video to train on; at least 2 are needed, better 10 or more."),
    ({"a": [], "b": []}, "L: none of 2 videos has a label, so there is nothing to learn."),
    (
        {"a": ["x"], "b": ["x"]},
        "L: every video has the label x, so nothing tells what belongs to it. Add videos without it, each "
        "with a row without labels, or videos of other actions.",
    ),
    (
        {"a": ["x", "y"], "b": ["y", "x"]},
        "L: every video has each of the labels x, y, so nothing tells what belongs to it. Add videos without "
        "it, each with a row without labels, or videos of other actions.",
    ),
]


@pytest.mark.parametrize(("labels", "message"), ERRORS)
def test_labels_that_cannot_be_learned(labels: dict[str, list[str]], message: str) -> None:
    assert [str(p) for p in told(labels).errors] == [message]


WARNINGS = [
    (
        {video: [*names, "person"] for video, names in many(10).items()},
        "L: every video has the label 'person': there is no contrast to learn it from. Add videos without "
        "it, or expect little of it.",
    ),
    (
        many(9),
        "L: 9 videos are few: expect a first impression, not a model to rely on. 10 give something, 50 or "
        "more are better.",
    ),
    (
        many(10, z=["climb"]),
        "L: only 1 video has the label 'climb': nothing tells it from whatever else is in that video. Add "
        "videos, or drop the label.",
    ),
    (
        many(10, y=["climb"], z=["rest"]),
        "L: only 1 video each has the labels 'climb', 'rest': nothing tells them from whatever else is in "
        "it. Add videos, or drop the label.",
    ),
    (
        many(10, y=["climb"], z=["climb", "dive"]),
        "L: fewer than 4 videos have the label 'climb' (2). Add videos, or drop the label.",
    ),
    (
        many(10, **{f"w{i}": ["Diving"] for i in range(4)}),
        "L: the labels 'Diving' (4 videos) and 'dive' (5 videos) look like one label written in two ways. If "
        "so, write both the same; now they are learned as two.",
    ),
    (
        many(10, **{f"w{i}": ["none"] for i in range(4)}),
        "L: the label 'none' looks like a way to say that there is none. If so, leave the cell empty; now it "
        "is learned as an action.",
    ),
    (
        many(10, **{f"w{i}": ["0:12"] for i in range(4)}),
        "L: the label '0:12' looks like a number or a time, not like the name of an action.",
    ),
    (
        many(10, **{f"w{i}": ["run, hop"] for i in range(4)}),
        "L: the label 'run, hop' holds a comma and counts as one label. If several are meant, separate them "
        "with ';'.",
    ),
    (
        many(10, **{f"w{i}": ["run", "hop"] for i in range(4)}),
        "L: the labels hop, run always come together, so nothing tells one from the other. Add videos with "
        "only one of them, or make them one label.",
    ),
]


@pytest.mark.parametrize(("labels", "message"), WARNINGS)
def test_labels_that_look_wrong(labels: dict[str, list[str]], message: str) -> None:
    findings = told(labels)
    assert [str(p) for p in findings.warnings] == [message]
    assert findings.errors == []


def test_subsets_are_warned_about() -> None:
    subsets = {f"v{i:02}": "test" if i < 3 else "train" for i in range(10)}
    assert [str(p) for p in told(many(10), subset_of=subsets).warnings] == [
        "L: names the subsets test, train; videos of all of them are trained on. Choose with --subset, and "
        "keep the test videos out."
    ]


def test_videos_without_labels_are_noted() -> None:
    findings = told(many(10, z=[]))
    assert [str(p) for p in findings.notes] == [
        "L: 1 video without labels: taken to hold none of the actions."
    ]
    assert findings.warnings == []


# --- labels and files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.mp4", "b.mkv", "sub/c.mp4", "sub/d.mp4", "d.avi", ".hidden.mp4", "notes.txt"):
        (tmp_path / "v" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "v" / name).write_bytes(name.encode())
    return tmp_path / "v"


def matched(folder: Path, names: Sequence[str]) -> tuple[dict[str, str], Findings]:
    findings = Findings()
    labels = VideoLabels(dict.fromkeys(names, ("x",)))
    found, files = match_labels(labels, list_videos(folder), "L", "V", findings)
    assert list(found.labels) == list(files)
    return {video: str(Path(file.path).relative_to(folder)) for video, file in files.items()}, findings


def test_the_files_of_a_folder(folder: Path) -> None:
    assert [file.video for file in list_videos(folder)] == ["a", "b", "d", "c", "d"]


@pytest.mark.parametrize(
    "name", ["a", "a.mp4", "v/a.mp4", "C:\\films\\v\\a.mp4", "/elsewhere/a.mp4", "a.mov"]
)
def test_ways_to_name_a_video(folder: Path, name: str) -> None:
    files, findings = matched(folder, [name, "b", "c", "sub/d.mp4"])
    assert files == {"a": "a.mp4", "b": "b.mkv", "c": "sub/c.mp4", "d": "sub/d.mp4"}
    assert findings.errors == []
    assert findings.warnings == []


def test_what_does_not_match_is_told_at_once(folder: Path) -> None:
    (folder / "extra.mp4").write_bytes(b"x")
    _, findings = matched(folder, ["aa.mp4", "b", "b.mkv", "d", "sub/d.mp4", "d.avi", "qqqqqq"])
    there = f"{folder}/d.avi, {folder}/sub/d.mp4"
    assert [str(p) for p in findings.errors] == [
        "L: video 'aa.mp4': has labels, but there is no such video in V. The nearest name is 'a'.",
        "L: video 'b.mkv': is the same video as 'b'. Keep one row.",
        f"L: video 'd': could be any of {there}. Rename all but one, or name its path in the labels.",
        f"L: video 'd.avi': has the same name, without its ending, as {folder}/sub/d.mp4: {folder}/d.avi. "
        "Rename one.",
        "L: video 'qqqqqq': has labels, but there is no such video in V. No name is near to it.",
    ]
    assert [str(p) for p in findings.warnings] == [
        "V: 3 videos without a row in L: a, c, extra. Not used. If none of the actions happens in them, give "
        "each a row without labels: that helps."
    ]


def test_ready_features_are_matched_by_id() -> None:
    findings = Findings()
    media = [VideoFile("a", ""), VideoFile("x/b", "")]
    found, _ = match_labels(VideoLabels({"a.mp4": ("p",), "x/b": ()}), media, "L", "F", findings)
    assert dict(found.labels) == {"a": ("p",), "x/b": ()}
    assert findings.errors == findings.warnings == []


# --- what findings do


def finding(*, warning: bool = False, error: str | None = None, general: bool = False) -> Findings:
    findings = Findings()
    findings.note("L", "was assumed.")
    if warning:
        findings.warn("L", "looks odd.")
    if error is not None:
        findings.error("V", "cannot be read.", error)
    if general:
        findings.error("L", "is hopeless.")
    return findings


def test_warnings_do_not_stop_and_strict_makes_them() -> None:
    seen: list[tuple[str, str]] = []
    left = finding(warning=True).settle(lambda s, p: seen.append((s, str(p))), skip_bad=False, strict=False)
    assert left == set()
    assert seen == [("note", "L: was assumed."), ("warning", "L: looks odd.")]
    with pytest.raises(InputProblems) as error:
        finding(warning=True).settle(lambda s, p: None, skip_bad=True, strict=True)
    assert str(error.value) == (
        "The videos and labels cannot be fitted as they are (without --strict warnings do not stop it):\n"
        "  L: looks odd."
    )


def test_errors_stop_with_the_warnings_beside_them() -> None:
    with pytest.raises(InputProblems) as error:
        finding(warning=True, error="a").settle(lambda s, p: None, skip_bad=False, strict=False)
    assert str(error.value) == (
        "The videos and labels cannot be fitted as they are (--skip-bad leaves bad videos out):\n"
        "  V: video 'a': cannot be read.\n  L: looks odd."
    )


def test_skip_bad_leaves_videos_out_but_not_the_rest() -> None:
    seen: list[str] = []
    left = finding(error="a").settle(lambda s, p: seen.append(s), skip_bad=True, strict=False)
    assert left == {"a"}
    assert seen == ["note", "error"]
    with pytest.raises(InputProblems, match="L: is hopeless"):
        finding(error="a", general=True).settle(lambda s, p: None, skip_bad=True, strict=False)

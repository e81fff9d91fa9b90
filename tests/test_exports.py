"""Every format, opened again by its own reader: the same segments, whatever the names."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
import webvtt
from hypothesis import given
from hypothesis import strategies as st

from dgam.core.errors import InputError
from dgam.core.types import Detection, Detections
from dgam.exports.content import Content
from dgam.exports.formats import FORMATS, PER_VIDEO, export, format_of, write_file, write_folder
from dgam.exports.labelstudio import labelling_config
from dgam.exports.text import one_line
from dgam.exports.times import clock, milliseconds, short_clock
from dgam.features.names import file_stem
from eaf_schema import complaints
from export_readers import READERS, Row, read_elan, read_labelstudio

EXACT = sorted({*FORMATS} - {"labelstudio"})  # the others keep milliseconds

FOUND = Detections(
    {
        "match": [
            Detection(12.0, 15.5, "High jump", 0.91),
            Detection(1.2344, 3.4567, "Diving", 0.5),
            Detection(2.0, 9.0, "Diving", -0.25),  # overlaps the one above, of the same class
            Detection(359999.25, 400000.5, "High jump", 0.125),  # 99:59:59.25 and beyond
        ],
        "sub/klipp å 中": [Detection(0.0, 0.0, "Diving", 2.0)],
        "nothing": [],
    },
    {"seed": 3},
)


def rows(detections: Detections, video: str) -> list[tuple[int, int, str]]:
    return sorted((as_ms(d.start), as_ms(d.end), d.label) for d in detections.videos[video])


def as_ms(seconds: float) -> int:
    return round(seconds * 1000)


def plain(found: list[Row]) -> list[tuple[int, int, str]]:
    return sorted(row[:3] for row in found)


# The readers


@pytest.mark.parametrize("format", EXACT)
def test_a_reader_finds_the_same_segments(format: str, tmp_path: Path) -> None:
    files = export(format, FOUND)
    found = READERS[format](files, tmp_path)
    assert plain(found["match"]) == rows(FOUND, "match")
    empty = 1 if format in PER_VIDEO else 0  # subtitles and ELAN have no segments of no length
    assert plain(found["sub/klipp å 中"]) == [(0, empty, "Diving")]
    assert found.get("nothing", []) == []
    assert len(files) == (3 if format in PER_VIDEO else 1)


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_scores_survive(format: str, tmp_path: Path) -> None:
    found = READERS[format](export(format, FOUND), tmp_path)["match"]
    told = sorted(float(row.score) for row in found)
    tolerance = 0.0051 if format in ("vtt", "srt") else 0
    assert told == pytest.approx([-0.25, 0.125, 0.5, 0.91], abs=tolerance)


@pytest.mark.parametrize("rate", [25.0, 30000 / 1001, 10.0])
def test_label_studio_counts_frames_from_1(rate: float, tmp_path: Path) -> None:
    found = Detections({"v": [Detection(2.0, 3.0, "run", 1.0), Detection(5.0, 5.0, "run", 1.0)]})
    files = export("labelstudio", found, rates={"v": rate})
    ranges = [
        r["value"]["ranges"][0] for r in json.loads(files["labelstudio.json"])[0]["predictions"][0]["result"]
    ]
    first, last = int(2 * rate + 0.5) + 1, int(3 * rate + 0.5)
    instant = int(5 * rate + 0.5) + 1
    assert ranges == [{"start": first, "end": last}, {"start": instant, "end": instant}]
    frame = 1000 / rate
    long, short = read_labelstudio(files, tmp_path)["v"]
    assert abs(long.start - 2000) <= frame / 2 + 1
    assert abs(long.end - 3000) <= frame / 2 + 1
    assert short.end - short.start == pytest.approx(frame, abs=1)


def test_label_studio_gets_the_configuration_that_its_tasks_fit() -> None:
    hostile = ['<b>&"', "run", "a\nb"]
    found = Detections({"v": [Detection(0, 1, name, 1.0) for name in hostile]})
    view = ElementTree.fromstring(labelling_config(Content(found, classes=("jump",)).classes))
    video, labels = view.find("Video"), view.find("TimelineLabels")
    assert video is not None
    assert labels is not None
    offered = [label.get("value") for label in labels]
    assert offered == ["jump", '<b>&"', "a b", "run"]
    (task,) = json.loads(export("labelstudio", found)["labelstudio.json"])
    for region in task["predictions"][0]["result"]:
        assert (region["from_name"], region["to_name"]) == (labels.get("name"), video.get("name"))
        assert region["value"]["timelinelabels"][0] in offered
    assert video.get("value") == "$video"
    assert video.get("frameRate") == "$fps"
    assert set(task["data"]) == {"video", "fps", "video_id"}


def test_fiftyones_confidences_lie_between_0_and_1_in_the_order_of_scores() -> None:
    def confidences(*scores: float) -> list[float]:
        found = Detections({"v": [Detection(at, at + 1, "run", score) for at, score in enumerate(scores)]})
        value = json.loads(export("fiftyone", found)["fiftyone.json"])
        return [one["confidence"] for one in value["labels"]["v"]]

    assert confidences(0.0, 0.25, 1.0) == [0.0, 0.25, 1.0]
    assert confidences(-800.0, -1.0, 0.0, 3.0) == pytest.approx([0.0, 0.2689414, 0.5, 0.9525741])


def test_media_are_named_as_each_tool_takes_them(tmp_path: Path) -> None:
    path = tmp_path / "a b.mp4"
    found = Detections({"v": [Detection(0, 1, "run", 1.0)]})
    (eaf,) = export("elan", found, media={"v": str(path)}).values()
    descriptor = ElementTree.fromstring(eaf).find("HEADER/MEDIA_DESCRIPTOR")
    assert descriptor is not None
    assert descriptor.attrib == {
        "MEDIA_URL": path.as_uri(),
        "MIME_TYPE": "video/mp4",
        "RELATIVE_MEDIA_URL": "./a%20b.mp4",
    }
    (eaf,) = export("elan", found, media={"v": "a b.mp4"}).values()
    assert b'MEDIA_URL="a%20b.mp4"' in eaf, "of a bare name no folder of this machine is told"
    assert complaints(eaf) == []
    (fiftyone,) = export("fiftyone", found, media={"v": str(path)}).values()
    assert list(json.loads(fiftyone)["labels"]) == [str(path)]
    (tasks,) = export("labelstudio", found, media={"v": "https://host/v.mp4"}).values()
    assert json.loads(tasks)[0]["data"] == {"video": "https://host/v.mp4", "fps": 25.0, "video_id": "v"}


@pytest.mark.parametrize("format", EXACT)
def test_segments_are_cut_to_the_video(format: str, tmp_path: Path) -> None:
    found = Detections({"v": [Detection(-1.0, 2.0, "run", 1.0), Detection(8.0, 12.0, "run", 0.5)]})
    cut = plain(READERS[format](export(format, found, durations={"v": 10.0}), tmp_path)["v"])
    assert cut == (
        [(-1000, 2000, "run"), (8000, 12000, "run")]
        if format == "json"
        else [(0, 2000, "run"), (8000, 10000, "run")]
    )


# Hostile names

HOSTILE = [
    "00:00:01.000 --> 00:00:02.000",
    "a\n\n2\n00:00:00,000 --> 00:00:09,000\nfake",
    "<script>alert(1)</script>",
    "</ANNOTATION_VALUE>",
    'Tom & "Jerry"',
    "{\\an8}<i>up</i>",
    "=HYPERLINK(1)",
    "nul\x00 bell\x07 \ud800",
    "\u2028line\u2029paragraph\x85next",
    "日本語 🤸 e\u0301",
    "WEBVTT",
    "NOTE x",
    "dive (2)",
    "",
]
SRT_LOOKS = str.maketrans({"<": "‹", ">": "›", "{": "(", "}": ")"})


@pytest.mark.parametrize("format", ["vtt", "srt", "elan", "labelstudio"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_class_name_stays_a_name(format: str, name: str, tmp_path: Path) -> None:
    found = Detections({"v": [Detection(1.0, 2.0, name, 0.5), Detection(3.0, 4.0, "run", 0.5)]})
    got = READERS[format](export(format, found), tmp_path)["v"]
    shown = one_line(name)
    if format == "srt":
        shown = shown.translate(SRT_LOOKS)
    if format == "elan" and not shown:
        shown = "no name"
    assert plain(got) == sorted([(1000, 2000, shown), (3000, 4000, "run")])


@pytest.mark.parametrize("format", ["csv", "fiftyone"])
@pytest.mark.parametrize("name", [name for name in HOSTILE if "\ud800" not in name and name[:1] != "="])
def test_tables_and_json_keep_a_hostile_name_as_it_is(format: str, name: str, tmp_path: Path) -> None:
    found = Detections({"v": [Detection(1.0, 2.0, name, 0.5)]})
    assert plain(READERS[format](export(format, found), tmp_path)["v"]) == [(1000, 2000, name)]


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\n=1"])
def test_a_spreadsheet_takes_no_name_for_a_formula(name: str) -> None:
    found = Detections({name: [Detection(1.0, 2.0, name, -0.5)]})
    (data,) = export("csv", found).values()
    _, row = csv.reader(io.StringIO(data.decode(), newline=""))
    assert row == [f"'{name}", "1.000", "2.000", f"'{name}", "-0.5"]


@pytest.mark.parametrize("format", sorted(PER_VIDEO))
@pytest.mark.parametrize("video", ["../../etc/passwd", "a/b", ".hidden", "con:aux", "x\ny", "é"])
def test_file_names_are_safe_and_tell_the_video(format: str, video: str, tmp_path: Path) -> None:
    files = export(format, Detections({video: [Detection(0, 1, "run", 1.0)]}))
    (name,) = files
    assert name == f"{file_stem(video)}{FORMATS[format].suffix}"
    assert "/" not in name
    assert not name.startswith(".")
    assert list(READERS[format](files, tmp_path)) == [video]


def test_overlapping_segments_of_a_class_get_tiers_of_their_own(tmp_path: Path) -> None:
    spans = [(0, 4), (1, 3), (2, 5), (4, 6), (3, 7)]
    found = Detections(
        {
            "v": [
                *(Detection(a, b, "dive", a) for a, b in spans),
                Detection(0, 9, "dive (2)", 1),
                Detection(0, 9, "dive score", 1),
            ]
        }
    )
    (data,) = export("elan", found).values()
    assert complaints(data) == []
    tiers = ElementTree.fromstring(data).findall("TIER")
    names = [tier.get("TIER_ID") for tier in tiers if tier.get("PARENT_REF") is None]
    assert names == ["dive", "dive (2)", "dive (3)", "dive (2) (2)", "dive score (2)"]
    got = read_elan({"v.eaf": data}, tmp_path)["v"]
    assert plain(got) == rows(found, "v")


def test_the_check_of_elan_files_itself_sees_faults() -> None:
    (good,) = export(
        "elan", Detections({"v": [Detection(0, 2, "run", 1), Detection(3, 4, "run", 1)]})
    ).values()
    for old, new in [
        (b'TIME_SLOT_REF2="ts2"', b'TIME_SLOT_REF2="ts9"'),
        (b'TIME_SLOT_REF2="ts2"', b'TIME_SLOT_REF2="ts4"'),
        (b'TIME_SLOT_REF2="ts2"', b'TIME_SLOT_REF2="ts1"'),
        (b'PARENT_REF="run"', b'PARENT_REF="walk"'),
        (b' DATE="1970-01-01T00:00:00+00:00"', b""),
        (b'ANNOTATION_ID="a3"', b'ANNOTATION_ID="a1"'),
    ]:
        assert old in good
        assert complaints(good.replace(old, new, 1)) != []
    assert complaints(good) == []


# Properties

TIMES = st.floats(0, 500_000, allow_nan=False).flatmap(
    lambda start: st.tuples(st.just(start), st.floats(0, 5000).map(lambda length: start + length))
)
SOME = st.lists(
    st.tuples(TIMES, st.text(max_size=12), st.floats(-1e6, 1e6)).map(lambda t: Detection(*t[0], t[1], t[2])),
    max_size=8,
)


@given(SOME, st.text(min_size=1, max_size=8))
def test_any_detections_are_read_again(found: list[Detection], video: str) -> None:
    detections = Detections({video: found})
    wanted = sorted((milliseconds(d.start), milliseconds(d.end)) for d in found)
    with tempfile.TemporaryDirectory() as folder:
        for format in ("vtt", "srt", "elan", "fiftyone"):
            (got,) = READERS[format](export(format, detections), Path(folder) / format).values()
            least = 1 if format in PER_VIDEO else 0
            assert sorted(row[:2] for row in got) == sorted((a, max(b, a + least)) for a, b in wanted), format


@given(st.floats(0, 1e7))
def test_milliseconds_are_the_nearest(seconds: float) -> None:
    assert abs(milliseconds(seconds) - seconds * 1000) <= 0.5 + 1e-6
    hours, minutes, rest = clock(milliseconds(seconds)).split(":")
    assert int(hours) * 3600 + int(minutes) * 60 + float(rest) == pytest.approx(seconds, abs=0.00051)
    assert re.fullmatch(r"\d+:\d\d:\d\d\.\d", short_clock(seconds))


@given(st.text())
def test_one_line_is_one_line_that_xml_may_hold(text: str) -> None:
    line = one_line(text)
    assert len(line.splitlines()) <= 1
    assert line == line.strip()
    assert ElementTree.fromstring(f"<a>{line.replace('&', '').replace('<', '')}</a>").text in (
        line.replace("&", "").replace("<", ""),
        None,
    )
    assert one_line(line) == line


def test_clocks() -> None:
    assert clock(0) == "00:00:00.000"
    assert clock(360_000_000 - 1, ",") == "99:59:59,999"
    assert clock(360_000_000) == "100:00:00.000"
    assert [milliseconds(s) for s in (0.0004, 0.0005, 0.25, 1.9996)] == [0, 1, 250, 2000]
    assert [short_clock(s) for s in (0, 59.96, 3599.95, 90061.04)] == [
        "0:00:00.0",
        "0:01:00.0",
        "1:00:00.0",
        "25:01:01.0",
    ]


# Names of formats, and files


def test_unknown_formats_are_refused() -> None:
    known = "Known ones: json, csv, vtt, srt, elan, labelstudio, fiftyone."
    with pytest.raises(
        InputError, match=re.escape(f"--to: unknown format 'vvt'. Did you mean 'vtt'? {known}")
    ):
        export("vvt", FOUND)
    with pytest.raises(InputError, match=re.escape(f"--to: unknown format 'xyz'. {known}")):
        export("xyz", FOUND)


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a.json", "json"),
        ("a.CSV", "csv"),
        ("a.vtt", "vtt"),
        ("a.srt", "srt"),
        ("a.eaf", "elan"),
        ("a", "json"),
        ("a.txt", "json"),
    ],
)
def test_a_files_ending_says_its_format(name: str, format: str) -> None:
    assert format_of(Path(name)) == format


def test_a_folder_of_all_formats(tmp_path: Path) -> None:
    content = Content(FOUND)
    paths = write_folder(tmp_path / "out", list(FORMATS), content)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in paths)
    assert len(paths) == 5 + 3 * 3, "json, csv, two for Label Studio, fiftyone; and three a video"
    assert (tmp_path / "out" / "match.vtt").read_bytes() == export("vtt", FOUND)["match.vtt"]
    assert write_folder(tmp_path / "out", ["vtt"], content)[0].read_bytes().startswith(b"WEBVTT\n")


def test_one_file_cannot_hold_several_videos_subtitles(tmp_path: Path) -> None:
    told = (
        f"--out {tmp_path / 'a.vtt'}: vtt has one file for each video, and there are 3 videos. Name a folder"
    )
    with pytest.raises(InputError, match=re.escape(told)):
        write_file(tmp_path / "a.vtt", "vtt", Content(FOUND))
    assert list(tmp_path.iterdir()) == []
    one = Detections({"match": FOUND.videos["match"]})
    assert len(webvtt.read(str(write_file(tmp_path / "a.vtt", "vtt", Content(one))))) == 4


def test_the_same_detections_give_the_same_bytes() -> None:
    for format in FORMATS:
        assert export(format, FOUND) == export(format, FOUND)


def test_exports_bring_in_no_torch() -> None:
    code = "import sys, dgam.exports.formats, dgam.exports.clips; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

"""Exported files opened again by the readers of those formats: each gives ``{video: [Row, …]}`` by start."""

from __future__ import annotations

import csv
import html
import io
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pympi
import srt
import webvtt

from dgam.core.results import read_detections
from dgam.features.names import video_id
from eaf_schema import complaints


class Row(NamedTuple):
    """A segment as a reader sees it: milliseconds, the label as it came, the score as far as it is told."""

    start: int
    end: int
    label: str
    score: str


Rows = dict[str, list[Row]]
Files = Mapping[str, bytes]

# Label Studio's documentation: "Import pre-annotated data into Label Studio" (tasks with data and
# predictions, ids that are unique) and "TimelineLabels" (value.ranges with start and end, one range a region,
# and value.timelinelabels), https://labelstud.io/guide/predictions and https://labelstud.io/tags/timelinelabels.
LABEL_STUDIO = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["data", "predictions"],
        "additionalProperties": False,
        "properties": {
            "data": {"type": "object", "required": ["video", "fps"]},
            "predictions": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["result"],
                    "additionalProperties": False,
                    "properties": {
                        "model_version": {"type": "string"},
                        "score": {"type": "number"},
                        "result": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "required": ["id", "type", "from_name", "to_name", "value"],
                                "properties": {
                                    "id": {"type": "string", "minLength": 1},
                                    "type": {"const": "timelinelabels"},
                                    "score": {"type": "number"},
                                    "value": {
                                        "type": "object",
                                        "required": ["ranges", "timelinelabels"],
                                        "additionalProperties": False,
                                        "properties": {
                                            "ranges": {
                                                "type": "array",
                                                "minItems": 1,
                                                "maxItems": 1,
                                                "items": {
                                                    "type": "object",
                                                    "required": ["start", "end"],
                                                    "additionalProperties": False,
                                                    "properties": {
                                                        "start": {"type": "integer", "minimum": 1},
                                                        "end": {"type": "integer", "minimum": 1},
                                                    },
                                                },
                                            },
                                            "timelinelabels": {
                                                "type": "array",
                                                "minItems": 1,
                                                "items": {"type": "string"},
                                            },
                                        },
                                    },
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}

# FiftyOne's documentation, "Importing datasets", FiftyOneTemporalDetectionDataset:
# https://docs.voxel51.com/user_guide/import_datasets.html; fiftyone.core.labels.TemporalDetection says that a
# confidence lies in [0, 1].
FIFTYONE = {
    "type": "object",
    "required": ["labels"],
    "additionalProperties": False,
    "properties": {
        "classes": {"type": "array", "items": {"type": "string"}},
        "labels": {
            "type": "object",
            "additionalProperties": {
                "type": ["array", "null"],
                "items": {
                    "type": "object",
                    "required": ["label"],
                    "additionalProperties": False,
                    "oneOf": [{"required": ["support"]}, {"required": ["timestamps"]}],
                    "properties": {
                        "label": {"type": "integer", "minimum": 0},
                        "timestamps": {
                            "type": "array",
                            "minItems": 2,
                            "maxItems": 2,
                            "items": {"type": "number", "minimum": 0},
                        },
                        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
                        "attributes": {"type": "object"},
                    },
                },
            },
        },
    },
}


def as_ms(seconds: float) -> int:
    return round(seconds * 1000)


def read_json(files: Files, folder: Path) -> Rows:
    (path,) = _written(files, folder)
    return {
        video: sorted(Row(as_ms(d.start), as_ms(d.end), d.label, repr(d.score)) for d in found)
        for video, found in read_detections(path).videos.items()
    }


def read_csv(files: Files, folder: Path) -> Rows:
    (data,) = files.values()
    rows: Rows = {}
    for row in csv.DictReader(io.StringIO(data.decode(), newline="")):
        times = as_ms(float(row["start"])), as_ms(float(row["end"]))
        rows.setdefault(row["video"], []).append(Row(*times, row["label"], row["score"]))
    return rows


def read_vtt(files: Files, folder: Path) -> Rows:
    rows: Rows = {}
    for name, data in files.items():
        found = webvtt.from_string(data.decode(), strict=True)
        rows[_video(name, ".vtt")] = [
            Row(
                as_ms(one.start_in_seconds + int(one.start[-3:]) / 1000),
                as_ms(one.end_in_seconds + int(one.end[-3:]) / 1000),
                *_captioned(html.unescape(one.raw_text)),
            )
            for one in found
        ]
    return rows


def read_srt(files: Files, folder: Path) -> Rows:
    rows: Rows = {}
    for name, data in files.items():
        rows[_video(name, ".srt")] = [
            Row(as_ms(one.start.total_seconds()), as_ms(one.end.total_seconds()), *_captioned(one.content))
            for one in srt.parse(data.decode(), ignore_errors=False)
        ]
    return rows


def read_elan(files: Files, folder: Path) -> Rows:
    rows: Rows = {}
    for (name, data), path in zip(files.items(), _written(files, folder), strict=True):
        assert complaints(data) == []
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            document = pympi.Elan.Eaf(str(path))
        found = []
        for tier in document.get_tier_names():
            if document.get_parameters_for_tier(tier).get("PARENT_REF") is None:
                below = document.child_tiers_for(tier)
                assert len(below) == 1
                scores = {one[:2]: one[2] for one in document.get_ref_annotation_data_for_tier(below[0])}
                for start, end, label in document.get_annotation_data_for_tier(tier):
                    found.append(Row(start, end, label, scores[start, end]))
        rows[_video(name, ".eaf")] = sorted(found)
    return rows


def read_labelstudio(files: Files, folder: Path) -> Rows:
    (data,) = files.values()
    tasks = json.loads(data)
    jsonschema.validate(tasks, LABEL_STUDIO)
    ids = [region["id"] for task in tasks for region in task["predictions"][0]["result"]]
    assert len(set(ids)) == len(ids)
    rows: Rows = {}
    for task in tasks:
        rate = task["data"]["fps"]
        rows[task["data"]["video_id"]] = [
            Row(
                as_ms((region["value"]["ranges"][0]["start"] - 1) / rate),
                as_ms(region["value"]["ranges"][0]["end"] / rate),
                region["value"]["timelinelabels"][0],
                repr(region["score"]),
            )
            for region in task["predictions"][0]["result"]
        ]
    return rows


def read_fiftyone(files: Files, folder: Path) -> Rows:
    (data,) = files.values()
    value = json.loads(data)
    jsonschema.validate(value, FIFTYONE)
    return {
        video: [
            Row(
                *map(as_ms, one["timestamps"]),
                value["classes"][one["label"]],
                repr(one["attributes"]["score"]),
            )
            for one in found
        ]
        for video, found in value["labels"].items()
    }


READERS: dict[str, Callable[[Files, Path], Rows]] = {
    "json": read_json,
    "csv": read_csv,
    "vtt": read_vtt,
    "srt": read_srt,
    "elan": read_elan,
    "labelstudio": read_labelstudio,
    "fiftyone": read_fiftyone,
}


def _captioned(text: str) -> tuple[str, str]:
    label, _, score = text.rpartition(" (")
    return label, score.removesuffix(")")


def _video(name: str, suffix: str) -> str:
    assert name.endswith(suffix)
    return video_id(name.removesuffix(suffix))


def _written(files: Files, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, data in files.items():
        path: Any = folder / name
        path.write_bytes(data)
        paths.append(path)
    return paths

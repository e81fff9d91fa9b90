"""Label Studio: tasks with predictions on the video timeline, to be checked and corrected by people.

The form is that of its pages "Import pre-annotated data" and "TimelineLabels": a task's ``data`` says which
video, its ``predictions`` hold one region a segment, whose range counts frames from 1, both ends included.
Import the file into a project with the labelling configuration of :func:`labelling_config`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree as Xml

from dgam.exports.content import Content, Placed
from dgam.exports.text import one_line

USUAL_RATE = 25.0
"""Frames a second where a video's own are not known. Any rate fits as long as the task names it, since Label
Studio turns its frame numbers into seconds by that very rate."""

_VIDEO, _LABELS = "video", "actions"


def write_labelstudio(content: Content) -> dict[str, bytes]:
    """``labelstudio.json``: a list of tasks, one a video. Times are rounded to frames."""
    tasks = [_task(number, video, content) for number, video in enumerate(content.detections.videos, start=1)]
    return {"labelstudio.json": (json.dumps(tasks, ensure_ascii=False) + "\n").encode(errors="replace")}


def labelling_config(classes: Sequence[str]) -> bytes:
    """The project's labelling configuration (XML) that the tasks of :func:`write_labelstudio` fit."""
    view = Xml.Element("View")
    Xml.SubElement(view, "Video", {"name": _VIDEO, "value": "$video", "frameRate": "$fps"})
    labels = Xml.SubElement(view, "TimelineLabels", {"name": _LABELS, "toName": _VIDEO})
    for name in dict.fromkeys(map(one_line, classes)):
        Xml.SubElement(labels, "Label", {"value": name})
    Xml.indent(view, "  ")
    return bytes(Xml.tostring(view, encoding="UTF-8")) + b"\n"


def _task(number: int, video: str, content: Content) -> dict[str, Any]:
    rate = content.rates.get(video, USUAL_RATE)
    segments = content.placed(video)
    prediction: dict[str, Any] = {
        "model_version": "dgam",
        "result": [_region(f"{number}-{at}", one, rate) for at, one in enumerate(segments, start=1)],
    }
    if segments:
        prediction["score"] = max(one.score for one in segments)
    data = {"video": content.media.get(video, video), "fps": rate, "video_id": video}
    return {"data": data, "predictions": [prediction]}


def _region(identity: str, one: Placed, rate: float) -> dict[str, Any]:
    first = int(one.start * rate / 1000 + 0.5) + 1
    last = max(first, int(one.end * rate / 1000 + 0.5))
    return {
        "id": identity,
        "type": "timelinelabels",
        "from_name": _LABELS,
        "to_name": _VIDEO,
        "score": one.score,
        "value": {"ranges": [{"start": first, "end": last}], "timelinelabels": [one_line(one.label)]},
    }

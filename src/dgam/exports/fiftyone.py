"""FiftyOne: the labels of a FiftyOneTemporalDetectionDataset, with times in seconds.

The form is that of FiftyOne's page "Importing datasets": ``classes``, and under ``labels`` for each video,
named by its file without the ending or by an absolute path, a list of temporal detections.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from dgam.exports.content import Content, Placed


def write_fiftyone(content: Content) -> dict[str, bytes]:
    """``fiftyone.json``, to be given as ``labels_path``; times in seconds with three decimals.

    FiftyOne's confidences lie between 0 and 1, scores of dgam need not: where one of them does not,
    ``confidence`` is 1/(1 + e^−score) for all. ``attributes.score`` is the score itself.
    """
    column = {name: index for index, name in enumerate(content.classes)}
    scores = [one.score for found in content.detections.videos.values() for one in found]
    within = all(0 <= score <= 1 for score in scores)
    labels = {
        _name(video, content.media.get(video)): [
            _detection(one, column, within) for one in content.placed(video)
        ]
        for video in content.detections.videos
    }
    value = {"classes": list(content.classes), "labels": labels}
    return {"fiftyone.json": (json.dumps(value, ensure_ascii=False) + "\n").encode(errors="replace")}


def _name(video: str, media: str | None) -> str:
    return media if media is not None and Path(media).is_absolute() else video


def _detection(one: Placed, column: dict[str, int], within: bool) -> dict[str, Any]:
    return {
        "label": column[one.label],
        "timestamps": [one.start / 1000, one.end / 1000],
        "confidence": one.score if within else 0.5 * (1 + math.tanh(one.score / 2)),  # never overflows
        "attributes": {"score": one.score},
    }

"""The report of a tiny run: its rules, a system to compare with, and how its page is read back."""

from __future__ import annotations

import lxml.html

import tiny_data
from dgam.core.types import Detection, Detections
from dgam.evaluation import Protocol

RULES = Protocol("activitynet").changed(subsets=("test",))
LEARNT = tiny_data.settings(base=tiny_data.LEARNS)


def theirs() -> Detections:
    segment = tiny_data.truth().videos["v0"].segments[0]
    found = {"v0": [Detection(segment.start, segment.end, segment.label, 0.7)]}
    return Detections(found, {"selection": "the weights after the last epoch", "dgam": {"seed": 9}})


def values_of(row: lxml.html.HtmlElement) -> list[float]:
    return [float(cell.get("data-v")) for cell in row.findall("td") if cell.get("data-v")]


def text_of(element: lxml.html.HtmlElement) -> str:
    return " ".join(element.text_content().split())

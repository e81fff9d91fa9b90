"""Turn a report's content into one HTML file that needs nothing else: no network, no other file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dgam.core.types import Detection, Segment
from dgam.evaluation import temporal_iou
from dgam.evaluation.errors import KINDS as ERROR_KINDS
from dgam.explain.segments import Explanation
from dgam.explain.tables import KINDS as CONTEXT_KINDS
from dgam.page.charts import (
    Panel,
    Step,
    contributions,
    error_profile,
    loss_panels,
    precision_recall_panels,
    waterfall,
)
from dgam.page.content import Content, VideoContent
from dgam.page.timeline import Lane, Tick, clock, lanes_of, ticks_of
from dgam.report.tables import map_table, statistics_table

LISTED = 8
"""Detections of each system in a video's table."""


@dataclass(frozen=True)
class ExplanationView:
    """An explanation with its drawings."""

    explanation: Explanation
    steps: list[Step]
    snippets: Panel
    words: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """A detection in a video's table; ``tiou`` with the nearest instance of its class, None without any."""

    system: str
    colour: int
    detection: Detection
    tiou: float | None


@dataclass(frozen=True)
class VideoView:
    """A video with its anchor and drawings."""

    video: VideoContent
    anchor: str
    lanes: list[Lane]
    ticks: list[Tick]
    hidden: int
    rows: list[Row]
    explanations: list[ExplanationView]
    words: str


def render(content: Content) -> str:
    """The page as HTML text. Names of classes, videos and files are escaped, whatever they hold."""
    environment = Environment(
        loader=PackageLoader("dgam.page", "template"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters.update(percent=_percent, clock=clock, fixed=_fixed, signed=_signed)
    evaluations = {s.name: s.evaluation for s in content.systems if s.evaluation is not None}
    results = {name: evaluation.to_dict() for name, evaluation in evaluations.items()}
    losses, streams = loss_panels(content.losses)
    colours = {system.name: index % 8 for index, system in enumerate(content.systems)}
    simulated = content.simulated is not None
    return environment.get_template("report.html.j2").render(
        content=content,
        css=_asset("report.css"),
        js=_asset("report.js"),
        colours=colours,
        evaluations=evaluations,
        scores=map_table(results, simulated=simulated) if results else None,
        column=_nearest(next(iter(evaluations.values())).tiou, content.tiou) if evaluations else 0,
        class_names=list(dict.fromkeys(label for e in evaluations.values() for label in e.classes)),
        curves=precision_recall_panels(evaluations, content.tiou),
        errors={
            s.name: (s.errors.to_dict(), error_profile(s.errors))
            for s in content.systems
            if s.errors is not None
        },
        error_kinds=ERROR_KINDS,
        losses=losses,
        streams=streams,
        statistics=statistics_table(
            {name: values.to_dict() for name, values in content.statistics.items()}, simulated=simulated
        )
        if content.statistics
        else None,
        videos=_views(content.videos, colours),
        context_kinds=CONTEXT_KINDS,
        seeds=_seeds(content),
        on_test=[system for system in content.systems if system.chosen_on_test],
    )


def anchors_of(names: Sequence[str]) -> dict[str, str]:
    """A short, unique anchor for each video: what of its name can stand in an address."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        base = "video-" + (re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:60] or "unnamed")
        anchor, number = base, 2
        while anchor in taken:
            anchor, number = f"{base}-{number}", number + 1
        taken.add(anchor)
        found[name] = anchor
    return found


def _views(videos: Sequence[VideoContent], colours: Mapping[str, int]) -> list[VideoView]:
    anchors = anchors_of([video.video for video in videos])
    return [_view(video, anchors[video.video], colours) for video in videos]


def _view(video: VideoContent, anchor: str, colours: Mapping[str, int]) -> VideoView:
    lanes, hidden = lanes_of(video, colours) if not video.listed else ([], 0)
    words = " ".join(
        [video.video, *video.labels, *(d.label for f in video.detections.values() for d in f[:1])]
    )
    return VideoView(
        video=video,
        anchor=anchor,
        lanes=lanes,
        ticks=ticks_of(video.duration),
        hidden=hidden,
        rows=[
            Row(system, colours[system], d, _best_overlap(d, video.truth))
            for system, found in video.detections.items()
            for d in found[:LISTED]
        ],
        explanations=[
            ExplanationView(e, waterfall(e), contributions(e), e.words()) for e in video.explanations
        ],
        words=words.lower(),
    )


def _best_overlap(detection: Detection, truth: Sequence[Segment]) -> float | None:
    same = [(s.start, s.end) for s in truth if s.label == detection.label]
    if not same:
        return None
    return float(temporal_iou([(detection.start, detection.end)], same).max())


def _seeds(content: Content) -> str:
    """The seeds of all systems in words, for captions."""
    return "; ".join(
        f"{system.name}: {f'seed {system.seed}' if system.seed else 'seed not told'}"
        for system in content.systems
    )


def _nearest(values: Sequence[float], wanted: float) -> int:
    return min(range(len(values)), key=lambda index: abs(values[index] - wanted))


def _asset(name: str) -> Markup:
    """Our own CSS or JavaScript, which goes into the page as it is."""
    return Markup((resources.files("dgam.page") / "template" / name).read_text(encoding="utf-8"))


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _fixed(value: float | None, decimals: int = 2) -> str:
    return "–" if value is None else f"{value:.{decimals}f}"


def _signed(value: Any) -> str:
    return "–" if value is None else f"{value:+.1f}"

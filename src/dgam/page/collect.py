"""Gather a report's content: localise every video once, evaluate all systems, keep what is drawn.

A video's curves are reduced to what a page can show before the next video is looked at, so memory grows with
detections only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dgam.core.errors import InputError, InputProblems, Problem
from dgam.core.run import Run
from dgam.core.types import Detection, Detections, SegmentAnnotations
from dgam.evaluation import Protocol, analyse_errors, evaluate, select
from dgam.features.arrays import as_problem
from dgam.features.source import FeatureSource
from dgam.page.content import Content, System, VideoContent
from dgam.page.curves import Localised
from dgam.page.facts import run_facts, settings_text
from dgam.page.reduce import Detail, instances_found, reduce_video
from dgam.page.thumbnails import thumbnails

TIOU = 0.5


@dataclass(frozen=True)
class Asked:
    """What a report is to hold.

    ``compare`` are other systems' detections by name, with the files that they come from in ``sources``.
    ``protocol`` and ``tiou`` are those of the evaluation. ``files`` are video files by video id, for
    thumbnails. Of more than ``most`` videos the rest is only listed. ``overrides`` change the run's
    ``localize`` settings.
    """

    name: str = "this run"
    protocol: Protocol = field(default_factory=lambda: Protocol("activitynet"))
    tiou: tuple[float, ...] = tuple(step / 10 for step in range(1, 10))
    compare: Mapping[str, Detections] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    most: int = 250
    overrides: tuple[str, ...] = ()
    device: str | None = None


def collect(
    run: Run,
    features: FeatureSource,
    asked: Asked,
    *,
    truth: SegmentAnnotations | None = None,
    simulated: str | None = None,
    version: str = "",
    on_video: Callable[[str], None] | None = None,
    on_problem: Callable[[Problem], None] | None = None,
) -> tuple[Content, Detections]:
    """The content of a report, and the run's own detections, which are those of ``dgam localize``.

    Without ``truth`` there are no scores. ``on_video`` is told of each finished video. Videos that cannot be
    localised are raised together as InputProblems; with ``on_problem`` each is told and left out.
    """
    if asked.name in asked.compare:
        raise InputError(f"--compare: the name {asked.name!r} is that of the run itself; take another.")
    localised = Localised(run, features, overrides=asked.overrides, device=asked.device)
    run = localised.run
    names = _videos(features, truth, asked.protocol)
    if not names:
        raise InputError(f"{features.name}: has none of the videos to report on.")
    detail = Detail.for_videos(min(len(names), asked.most))
    found: dict[str, list[Detection]] = {}
    videos: list[VideoContent] = []
    problems: list[Problem] = []
    remarks: list[str] = []
    report = on_problem or problems.append
    for name in names:
        for problem in _missing_streams(run, features, name):
            report(problem)
        try:
            own, curves = localised.video(name)
        except InputError as error:
            report(as_problem(error, features.name, name))
            continue
        found[name] = own
        everyone = {asked.name: own, **{s: d.videos.get(name, ()) for s, d in asked.compare.items()}}
        content = VideoContent(
            video=name,
            duration=features.timeline(name).end,
            listed=len(videos) >= asked.most,
            truth=truth.videos[name].segments if truth and name in truth.videos else (),
            ambiguous=truth.videos[name].ambiguous if truth and name in truth.videos else (),
            totals={system: len(detections) for system, detections in everyone.items()},
        )
        if truth and name in truth.videos:
            content = replace(content, found=instances_found(own, content.truth, TIOU))
        if not content.listed:
            timeline = features.timeline(name)
            content = reduce_video(
                content, curves, everyone, localised.settings, timeline, run.classes, detail
            )
            content = _with_thumbnails(content, asked.files, detail, remarks)
        else:
            content = replace(content, detections={s: tuple(d[:1]) for s, d in everyone.items()})
        videos.append(content)
        if on_video is not None:
            on_video(name)
    if problems:
        raise InputProblems("Some videos cannot be localised (--skip-bad goes on without them):", problems)
    detections = Detections(found, _about(run, features))
    systems = _systems(run, asked, detections, truth)
    evaluated = [system.evaluation for system in systems if system.evaluation is not None]
    middle = min(asked.tiou, key=lambda value: abs(value - TIOU))
    content_of = Content(
        title=asked.name,
        version=version,
        facts=run_facts(run, features, len(names), truth, simulated),
        settings=settings_text(run),
        systems=systems,
        videos=tuple(videos),
        simulated=simulated,
        protocol=str(evaluated[0].protocol["name"]) if evaluated else "",
        tiou=middle,
        losses=tuple(_losses(run, remarks)),
        statistics=_statistics(run, features, truth, asked, remarks),
        remarks=tuple(remarks),
        hidden=sum(video.listed for video in videos),
        drawn=detail.detections,
    )
    return content_of, detections


def _videos(features: FeatureSource, truth: SegmentAnnotations | None, protocol: Protocol) -> list[str]:
    """Videos of the features, without those that the protocol leaves out."""
    if truth is None:
        return list(features.videos)
    blocked = set(protocol.blocked)

    def wanted(name: str) -> bool:
        annotated = truth.videos.get(name)
        if annotated is None:
            return protocol.outside == "false-positive" and name not in blocked
        return name not in blocked and (not protocol.subsets or annotated.subset in protocol.subsets)

    return [name for name in features.videos if wanted(name)]


def _missing_streams(run: Run, features: FeatureSource, video: str) -> list[Problem]:
    parts = dict.fromkeys(part for stream in run.streams for part in stream.split("+"))
    missing = [part for part in parts if not features.has(video, part)]
    return [Problem(features.name, f"has no features in stream {missing[0]!r}.", video)] if missing else []


def _about(run: Run, features: FeatureSource) -> dict[str, object]:
    return {
        "used": True,
        "details": f"Features from {features.name}",
        "selection": run.selection,
        "dgam": {
            "preset": run.config.preset,
            "streams": list(run.streams),
            "seed": run.seed,
            "localize": run.config.localize.model_dump(mode="json"),
        },
    }


def _systems(run: Run, asked: Asked, own: Detections, truth: SegmentAnnotations | None) -> tuple[System, ...]:
    systems = [System(asked.name, str(run.path), str(run.seed), run.selection)]
    for name, detections in asked.compare.items():
        inner = detections.about.get("dgam")
        seed = str(inner.get("seed", "")) if isinstance(inner, Mapping) else ""
        selection = detections.about.get("selection")
        said = selection if isinstance(selection, str) else ""
        systems.append(System(name, asked.sources.get(name, ""), seed, said))
    if truth is None:
        return tuple(systems)
    every = {asked.name: own, **asked.compare}
    scored = []
    for system in systems:
        chosen = select(every[system.name], truth, asked.protocol)
        scored.append(
            replace(
                system,
                evaluation=evaluate(every[system.name], truth, asked.tiou, asked.protocol),
                errors=analyse_errors(chosen.detections, chosen.ground_truth, TIOU),
            )
        )
    return tuple(scored)


def _losses(run: Run, remarks: list[str]) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for stream in run.streams:
        file = run.folder(stream) / "metrics.jsonl"
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
            records += [{"stream": stream, **json.loads(line)} for line in lines if line.strip()]
        except OSError:
            remarks.append(f"There is no {file.name} of stream {stream}, so its losses are not shown.")
        except (ValueError, TypeError) as error:
            raise InputError(f"{file}: is damaged ({error}).") from error
    return records


def _statistics(
    run: Run,
    features: FeatureSource,
    truth: SegmentAnnotations | None,
    asked: Asked,
    remarks: list[str],
) -> Mapping[str, Any]:
    if truth is None:
        return {}
    from dgam.api import statistics

    names = set(_videos(features, truth, asked.protocol))
    chosen = {name: video for name, video in truth.videos.items() if name in names}
    try:
        return statistics(
            run, features, SegmentAnnotations(chosen, truth.classes, truth.source), device=asked.device
        )
    except InputError as error:
        remarks.append(f"No attention statistics: {error}")
        return {}


def _with_thumbnails(
    content: VideoContent, files: Mapping[str, Path], detail: Detail, remarks: list[str]
) -> VideoContent:
    if not files:
        return content
    if content.video not in files:
        remarks.append(f"No video file for {content.video}, so it has no thumbnails.")
        return content
    try:
        return replace(content, thumbnails=thumbnails(files[content.video], detail.thumbnails))
    except InputError as error:
        remarks.append(f"No thumbnails for {content.video}: {error}")
        return content

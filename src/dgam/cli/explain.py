"""``dgam explain``."""

from __future__ import annotations

import json as json_
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgam.cli.options import FeatureOptions, Repeatable
from dgam.core.errors import InputError
from dgam.core.run import load_run

if TYPE_CHECKING:
    from dgam.core.types import Detection
    from dgam.explain.context import ContextCandidate
    from dgam.explain.segments import Explanation

LISTED = 10


def explain(
    run: Path,
    features: Path,
    video: str,
    /,
    *,
    detection: int | None = None,
    out: Path | None = None,
    json: bool = False,
    set: Repeatable = (),
    device: str | None = None,
    reading: FeatureOptions | None = None,
) -> None:
    """Say why a detection has its score, and where a video's attention and classifier disagree.

    Without --detection the video's best detections are listed, numbered, with the parts of their scores, and
    below them the context candidates: stretches where the classifier sees an action and attention does not,
    or the reverse. With --detection N one of them is taken apart: which stream proposed it at which
    threshold, what each snippet gives, what the surroundings took away, and what thinning (NMS) did. All
    parts add up to the score.

    ```
    dgam explain RUN FEATURES VIDEO
    dgam explain RUN FEATURES VIDEO --detection 1 --out why.png
    ```

    Parameters
    ----------
    run
        What "dgam train" made.
    features
        Features of the same streams and the same extractor as in training.
    video
        The video's id in the features.
    detection
        Its number in the list, from 1 on, the best being 1.
    out
        A picture of the detection to write, .png or .svg.
    json
        Print one JSON object instead: video, detections with their explanations, context.
    set
        A localize setting that differs from the run's; repeat it. It must be that of the detections.
    device
        cpu, cuda, cuda:1 … [default: a GPU if there is one]
    """
    facts = load_run(run)
    parts = tuple(dict.fromkeys(part for stream in facts.streams for part in stream.split("+")))
    reading = reading or FeatureOptions()
    source = (replace(reading, streams=parts) if reading.layout == "single" else reading).open(features)
    if video not in source.videos:
        shown = ", ".join(source.videos[:5]) + (", …" if len(source.videos) > 5 else "")
        raise InputError(f"{source.name}: has no video {video!r}. It has: {shown}")
    if out is not None and detection is None:
        raise InputError("--out: a picture shows one detection; say which with --detection 1.")

    from dgam.explain.context import context_candidates
    from dgam.explain.segments import explain_detections
    from dgam.page.curves import Localised
    from dgam.page.origin import simulated_data

    localised = Localised(facts, source, overrides=set, device=device)
    found, curves = localised.video(video)
    timeline = source.timeline(video)
    if detection is not None and not 1 <= detection <= len(found):
        has = f"has {len(found)}, numbered from 1" if found else "has none"
        raise InputError(f"--detection {detection}: the video {has}.")
    chosen = [found[detection - 1]] if detection is not None else found[:LISTED]
    explanations = explain_detections(curves, chosen, localised.settings, timeline, facts.classes)
    context = context_candidates(curves, timeline, facts.classes)
    said = simulated_data(features, facts.labels)
    if out is not None:
        from dgam.detection.fusion import as_scored
        from dgam.explain.picture import explanation_figure
        from dgam.report.plots import save_figure

        simulated = said is not None
        drawn = {**curves, **as_scored(curves, localised.settings)[0]}
        save_figure(out, explanation_figure(explanations[0], drawn, timeline, video, simulated=simulated))
    if json:
        print(_to_json(video, chosen, explanations, context))
    elif detection is not None:
        _show_one(video, explanations[0])
    else:
        _show_video(video, len(found), explanations, context)
    if said is not None and not json:
        print(f"note: {said}")
    if out is not None:
        print(f"{out}: written.", file=sys.stderr if json else sys.stdout)


def _show_video(
    video: str, count: int, explanations: Sequence[Explanation], context: Sequence[ContextCandidate]
) -> None:
    from dgam.explain.tables import context_table, parts_table

    print(parts_table(video, explanations, count).text())
    if explanations:
        print("--detection N takes one of them apart")
    print("\n" + context_table(context, LISTED).text())


def _show_one(video: str, e: Explanation) -> None:
    from dgam.explain.tables import snippet_table, stream_table

    print(f"{video}: {e.label}, {e.start:.2f}–{e.end:.2f} s, score {e.final:.6g}\n")
    for line in e.words():
        print(textwrap.fill(line, 100, initial_indent="  ", subsequent_indent="    "))
    print("\n" + stream_table(e).text())
    print("\n" + snippet_table(e).text())


def _to_json(
    video: str,
    found: Sequence[Detection],
    explanations: Sequence[Explanation],
    context: Sequence[ContextCandidate],
) -> str:
    value: dict[str, Any] = {
        "video": video,
        "detections": [
            {"start": d.start, "end": d.end, "label": d.label, "score": d.score, "explanation": e.to_dict()}
            for d, e in zip(found, explanations, strict=True)
        ],
        "context": [candidate.to_dict() for candidate in context],
    }
    return json_.dumps(value, ensure_ascii=False, allow_nan=False)

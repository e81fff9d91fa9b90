"""Which videos, instances and predictions are evaluated: options with names that travel with every number.

Numbers on THUMOS14 are only comparable under one protocol. Papers differ in the videos they leave out and in
what they do with predictions on "Ambiguous" stretches.
"""

from __future__ import annotations

import difflib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dgam.core.errors import InputError
from dgam.core.types import Detection, Detections, SegmentAnnotations
from dgam.evaluation.metrics import Evaluation, mean_average_precision

TIOU_THUMOS14 = tuple(step / 10 for step in range(1, 10))
TIOU_ACTIVITYNET = tuple(step / 100 for step in range(50, 100, 5))


@dataclass(frozen=True)
class Protocol:
    """What is evaluated.

    ``subsets``: only videos of these subsets; empty: all. ``blocked``: videos left out, with their
    predictions. ``ambiguous``: "drop" leaves out predictions that share time with an Ambiguous stretch, as
    W-TALC does; "keep" does not look at such stretches. ``outside``: whether a prediction for a video that
    the ground truth file lacks is a "false-positive", as in ActivityNet's script, or one to "ignore".
    Predictions for blocked videos, and for videos of other subsets, are always left out. ``expected``: the
    videos and instances that published numbers rest on; a ground truth that has others is remarked on.
    """

    name: str
    summary: str = ""
    subsets: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()
    ambiguous: Literal["keep", "drop"] = "keep"
    outside: Literal["false-positive", "ignore"] = "false-positive"
    expected: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.ambiguous not in ("keep", "drop"):
            raise InputError(f"protocol: ambiguous must be 'keep' or 'drop', got {self.ambiguous!r}.")
        if self.outside not in ("false-positive", "ignore"):
            raise InputError(f"protocol: outside must be 'false-positive' or 'ignore', got {self.outside!r}.")

    def changed(self, **options: Any) -> Protocol:
        """A copy with other options; the name then tells which: ``"thumos14-210, ambiguous=drop"``."""
        new = replace(self, **options)
        told = [
            f"{key}={_shown(getattr(new, key))}" for key in options if getattr(new, key) != getattr(self, key)
        ]
        return replace(new, name=", ".join([self.name, *told]))


def _thumos14(
    name: str, blocked: Iterable[int], expected: tuple[int, int], summary: str, **more: Any
) -> Protocol:
    left_out = tuple(f"video_test_{number:07d}" for number in blocked)
    return Protocol(name, summary, ("test",), left_out, expected=expected, **more)


_NAMED = (
    Protocol("activitynet", "every video of the ground truth, nothing filtered"),
    _thumos14(
        "thumos14-210", (270, 1292, 1496), (210, 3311), "THUMOS14 as DGAM, STPN, BaS-Net and UM report it"
    ),
    _thumos14("thumos14-211-270", (1292, 1496), (211, 3340), "THUMOS14 with the wrongly annotated video 270"),
    _thumos14(
        "thumos14-211-1496", (270, 1292), (211, 3329), "THUMOS14 with the wrongly annotated video 1496"
    ),
    _thumos14(
        "thumos14-wtalc-212",
        (1292,),
        (212, 3358),
        "THUMOS14 as W-TALC and its followers: with 270 and 1496, without predictions on Ambiguous stretches",
        ambiguous="drop",
    ),
)


def protocol_names() -> tuple[str, ...]:
    """The protocols that have a name."""
    return tuple(protocol.name for protocol in _NAMED)


def named_protocol(name: str) -> Protocol:
    """The protocol of that name; InputError, with the nearest name, where there is none."""
    for protocol in _NAMED:
        if protocol.name == name:
            return protocol
    known = protocol_names()
    raise InputError(f"--protocol: unknown protocol {name!r}{_hint(name, known)}. Known: {', '.join(known)}.")


def read_video_list(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Video ids from a text file with one in each line, or a JSON list; InputError where it is neither."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        ids = json.loads(text) if text.lstrip().startswith("[") else text.split("\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: must hold one video id a line, or a JSON list of them: {error}."
        ) from error
    if not all(isinstance(name, str) for name in ids):
        raise InputError(f"{path}: must be a list of video ids, all of them strings.")
    return tuple(dict.fromkeys(name.strip() for name in ids if name.strip()))


def parse_tiou(text: str) -> tuple[float, ...]:
    """Thresholds from ``"0.5"``, ``"0.3,0.5,0.7"`` or ``"0.1:0.9:0.1"`` (first:last:step, last included).

    Values are rounded to 10 decimals, so that 0.3 is 0.3. InputError for anything else.
    """
    expected = "expected numbers in (0, 1], as 0.5 or 0.3,0.5,0.7 or 0.1:0.9:0.1 (first:last:step)"
    try:
        if ":" not in text:
            values = [float(part) for part in text.split(",")]
        else:
            first, last, step = (float(part) for part in text.split(":"))
            if not (0 < first <= last <= 1 and step >= 1e-4):
                raise ValueError
            values = [first + step * index for index in range(int((last - first) / step + 1e-6) + 1)]
    except (ValueError, OverflowError):
        raise InputError(f"--tiou: cannot use {text!r}; {expected}.") from None
    thresholds = tuple(dict.fromkeys(round(value, 10) for value in values))
    if not all(0 < value <= 1 for value in thresholds):
        raise InputError(f"--tiou: {text!r} leaves the range; {expected}.")
    return thresholds


@dataclass(frozen=True)
class Selection:
    """What a protocol chose, and ``report``, JSON values that say what it did to what."""

    detections: Detections
    ground_truth: SegmentAnnotations
    report: dict[str, Any]


def select(detections: Detections, ground_truth: SegmentAnnotations, protocol: Protocol) -> Selection:
    """The videos, instances and predictions that ``protocol`` evaluates.

    InputError where the ground truth has no video of the protocol's subsets, or where the detections have
    no video or no label in common with it.
    """
    truth = _select_videos(ground_truth, protocol)
    blocked = set(protocol.blocked)
    left_out = {"blocked": 0, "other_subset": 0, "outside": 0, "ambiguous": 0, "unknown_label": 0}
    outside: dict[str, int] = {}
    kept: dict[str, Sequence[Detection]] = {}
    for video, found in detections.videos.items():
        if video in blocked:
            left_out["blocked"] += len(found)
        elif video in truth.videos:
            stretches = [(s.start, s.end) for s in truth.videos[video].ambiguous]
            kept[video] = _off(stretches, found) if protocol.ambiguous == "drop" and stretches else found
            left_out["ambiguous"] += len(found) - len(kept[video])
        elif video in ground_truth.videos:
            left_out["other_subset"] += len(found)
        elif found:
            outside[video] = len(found)
            if protocol.outside == "false-positive":
                kept[video] = found
            else:
                left_out["outside"] += len(found)
    chosen = Detections(kept, detections.about)
    unknown = _unknown_labels(chosen, truth)
    left_out["unknown_label"] = sum(unknown.values())
    _refuse_strangers(detections, ground_truth, chosen, unknown)
    report: dict[str, Any] = {
        "name": protocol.name,
        "summary": protocol.summary,
        "subsets": list(protocol.subsets),
        "blocked": list(protocol.blocked),
        "ambiguous": protocol.ambiguous,
        "outside": protocol.outside,
        "predictions": sum(map(len, kept.values())) - left_out["unknown_label"],
        "left_out": left_out,
        "outside_videos": outside,
        "unknown_labels": dict(unknown.most_common()),
        "videos_without_predictions": sum(not kept.get(video) for video in truth.videos),
        "ground_truth": ground_truth.source,
        "detections": dict(detections.about),
    }
    report["notes"] = list(_notes(protocol, report, ground_truth, truth))
    return Selection(chosen, truth, report)


def evaluate(
    detections: Detections,
    ground_truth: SegmentAnnotations,
    tiou: Sequence[float] = TIOU_THUMOS14,
    protocol: str | Protocol = "activitynet",
    on_note: Callable[[str], None] | None = None,
) -> Evaluation:
    """mAP under a protocol; its name and effect are in the result's ``protocol``. ``on_note`` gets each
    remark.

    ``tiou``: thresholds in (0, 1]. InputError as in :func:`select` and
    :func:`dgam.evaluation.metrics.mean_average_precision`.
    """
    rules = named_protocol(protocol) if isinstance(protocol, str) else protocol
    chosen = select(detections, ground_truth, rules)
    if on_note:
        for note in chosen.report["notes"]:
            on_note(note)
    return mean_average_precision(chosen.detections, chosen.ground_truth, tiou, chosen.report)


def _select_videos(ground_truth: SegmentAnnotations, protocol: Protocol) -> SegmentAnnotations:
    source = ground_truth.source or "the ground truth"
    truth = ground_truth.in_subset(*protocol.subsets) if protocol.subsets else ground_truth
    if not truth.videos:
        known = Counter(video.subset for video in ground_truth.videos.values())
        has = ", ".join(f"{name!r} ({count} videos)" for name, count in known.items()) or "no video at all"
        raise InputError(
            f"{source}: has no video of subset {_shown(protocol.subsets)}; it has {has}. See --subset."
        )
    blocked = set(protocol.blocked)
    left = {name: video for name, video in truth.videos.items() if name not in blocked}
    return SegmentAnnotations(left, ground_truth.classes, ground_truth.source)


def _off(stretches: Sequence[tuple[float, float]], found: Sequence[Detection]) -> Sequence[Detection]:
    """The detections that share no time with any of the stretches."""
    bad = np.array(stretches)  # (A, 2)
    spans = np.array([(d.start, d.end) for d in found]).reshape(-1, 2)  # (n, 2)
    shared = np.minimum(spans[:, None, 1], bad[:, 1]) - np.maximum(spans[:, None, 0], bad[:, 0])  # (n, A)
    return [d for d, touches in zip(found, (shared > 0).any(axis=1), strict=True) if not touches]


def _unknown_labels(detections: Detections, truth: SegmentAnnotations) -> Counter[str]:
    present = {segment.label for video in truth.videos.values() for segment in video.segments}
    counts = Counter(d.label for found in detections.videos.values() for d in found)
    return Counter({label: count for label, count in counts.items() if label not in present})


def _refuse_strangers(
    detections: Detections, ground_truth: SegmentAnnotations, chosen: Detections, unknown: Counter[str]
) -> None:
    source = ground_truth.source or "the ground truth"
    if not any(detections.videos.values()):
        return
    if not any(video in ground_truth.videos for video in detections.videos):
        raise InputError(
            f"{source}: none of the {len(detections.videos)} videos with detections is in it; the detections "
            f"have {next(iter(detections.videos))!r}, it has {next(iter(ground_truth.videos), None)!r}."
        )
    predicted = sum(map(len, chosen.videos.values()))
    if predicted and predicted == sum(unknown.values()) and not set(unknown) & set(ground_truth.classes):
        theirs, ours = (", ".join(map(repr, list(names)[:3])) for names in (unknown, ground_truth.classes))
        raise InputError(
            f"{source}: none of the labels of the detections is in it; the detections have {theirs}, "
            f"it has {ours}."
        )


def _notes(
    protocol: Protocol, report: Mapping[str, Any], ground_truth: SegmentAnnotations, truth: SegmentAnnotations
) -> Iterator[str]:
    """What a reader must know to judge the number."""
    left_out, outside, unknown = report["left_out"], report["outside_videos"], report["unknown_labels"]
    videos, instances = len(truth.videos), sum(len(video.segments) for video in truth.videos.values())
    if protocol.expected and protocol.expected != (videos, instances):
        yield (
            f"{protocol.name} means {protocol.expected[0]} videos with {protocol.expected[1]:,} instances; "
            f"this ground truth has {videos} with {instances:,}: not comparable with published numbers."
        )
    subsets = Counter(video.subset for video in truth.videos.values())
    if not protocol.subsets and len(subsets) > 1:
        shown = ", ".join(f"{name!r} ({count} videos)" for name, count in subsets.items())
        yield f"all subsets were evaluated together: {shown}."
    if protocol.ambiguous == "drop" and not any(video.ambiguous for video in truth.videos.values()):
        yield "no prediction was dropped as ambiguous: the ground truth has no Ambiguous stretches."
    reasons = {
        "ambiguous": "they touch an Ambiguous stretch",
        "blocked": "their videos are blocked",
        "other_subset": "their videos are of other subsets",
    }
    for key, reason in reasons.items():
        if left_out[key]:
            yield f"predictions left out because {reason}: {left_out[key]:,}."
    if outside:
        effect = "counted as false positives" if protocol.outside == "false-positive" else "left out"
        shown = ", ".join(list(outside)[:3]) + (", …" if len(outside) > 3 else "")
        count = sum(outside.values())
        yield f"predictions for videos without ground truth, {effect}: {count:,}, for {shown}."
    if unknown:
        first = list(unknown.items())[:5]
        shown = ", ".join(f"{name!r} ({count:,}){_hint(name, ground_truth.classes)}" for name, count in first)
        shown += f", and {len(unknown) - 5} more labels" if len(unknown) > 5 else ""
        yield f"predictions left out because their label has no instance here: {shown}."
    if isinstance(selection := report["detections"].get("selection"), str):
        yield f"weights chosen: {selection}"
    if report["videos_without_predictions"]:
        yield f"videos without a prediction: {report['videos_without_predictions']} of {videos}."


def _shown(value: Any) -> str:
    return "+".join(value) if isinstance(value, tuple) and value else str(value or "none")


def _hint(name: str, known: Sequence[str]) -> str:
    if name in known:
        return ""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""

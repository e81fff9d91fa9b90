"""The model card: what a model was made from, how well its video labels were told, and what it cannot do."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import dgam
from dgam.core.config import Config
from dgam.core.timeline import Timeline
from dgam.fitting.calibration import Calibration
from dgam.fitting.findings import counted
from dgam.fitting.inputs import Inputs

LIMITS = (
    "Learned from video labels alone: nobody told it when an action begins or ends, and nothing in this card "
    "says how well it finds that. To know, write down the times in a few videos that were not trained on, "
    "and run 'dgam evaluate'.",
    "Scores put detections in order; they are no probabilities.",
    "An action that always comes with the same place or people may be recognised by these (context). 'dgam "
    "report' and the page of 'dgam serve' show where attention and classifier disagree.",
    "Videos unlike the training videos (camera, angle, light, frame rate) can give anything.",
)


def build_card(
    inputs: Inputs,
    config: Config,
    *,
    seed: int,
    streams: Mapping[str, int],
    labels_from: str,
    calibration: Calibration | None,
    held_out: str,
    data_warnings: Sequence[str],
    model_warnings: Sequence[str],
) -> dict[str, Any]:
    """The card as JSON values; depends on data, settings and seed only. ``held_out`` says how videos were
    held out, or why not."""
    labels = inputs.labels
    counts = Counter(name for names in labels.labels.values() for name in names)
    timelines = {video: inputs.features.timeline(video) for video in labels.videos}
    grid = next(iter(timelines.values())).grid
    snippet = float(grid.stride / grid.fps)
    return {
        "format": 1,
        "dgam": dgam.__version__,
        "simulated": inputs.simulated,
        "data": {
            "kind": inputs.kind,
            "source": inputs.source,
            "labels": labels_from,
            "videos": len(labels),
            "hours": round(sum(timeline.end for timeline in timelines.values()) / 3600, 4),
            "shortest_seconds": round(min(map(_end, timelines.values())), 2),
            "longest_seconds": round(max(map(_end, timelines.values())), 2),
            "without_labels": sum(not names for names in labels.labels.values()),
            "left_out": list(inputs.left_out),
            "classes": {name: counts[name] for name in labels.classes},
        },
        "features": {
            "encoder": inputs.identity.encoder if inputs.identity is not None else None,
            "streams": dict(streams),
            "snippet_seconds": snippet,
            "recorded": dict(inputs.identity.recorded) if inputs.identity is not None else None,
        },
        "training": {"seed": seed, "preset": config.preset, "settings": config.model_dump(mode="json")},
        "held_out": held_out,
        "calibration": calibration.to_json() if calibration is not None else None,
        "data_warnings": list(data_warnings),
        "model_warnings": list(model_warnings),
        "limits": [
            *LIMITS,
            f"Times lie on a grid of {snippet:.2f} s (one snippet); what is shorter can hardly be found.",
        ],
    }


def card_text(card: Mapping[str, Any], name: str) -> str:
    """The card as Markdown."""
    data, features, training = card["data"], card["features"], card["training"]
    title = f"# Model card: {name}"
    lines = [title, ""]
    if card["simulated"]:
        lines += ["**Trained on simulated data: its scores say nothing about real videos.**", ""]
    lines += [
        f"Finds when actions happen in videos; trained by dgam {card['dgam']} on video labels alone.",
        "",
        "## Data",
        "",
        f"- {counted(data['videos'], 'video')}, {_hours(data['hours'])} in all, "
        f"{data['shortest_seconds']:g} to {data['longest_seconds']:g} s each; {data['without_labels']} "
        "without any label",
        f"- {data['kind']} from `{data['source']}`, labels from `{data['labels']}`",
    ]
    if data["left_out"]:
        lines.append(f"- left out: {', '.join(data['left_out'])}")
    encoder = f"`{features['encoder']}`" if features["encoder"] is not None else "not known"
    streams = ", ".join(f"{stream} ({size} numbers)" for stream, size in features["streams"].items())
    lines += [
        f"- features: encoder {encoder}, {streams}; one snippet is {features['snippet_seconds']:.2f} s",
        "",
        *_class_table(card),
        "",
        "## How well video labels were told",
        "",
        *_held_out(card),
        "",
        "## Thresholds",
        "",
        *_thresholds(card),
        "",
        "## Settings",
        "",
        f"- preset `{training['preset']}`, {training['settings']['train']['epochs']} epochs at most, seed "
        f"{training['seed']}; all settings, and after which epoch each stream ended, are in run.json",
        "- how long it took: times.json",
        "",
        "## Warnings",
        "",
        *(f"- {text}" for text in [*card["model_warnings"], *card["data_warnings"]] or ["none"]),
        "",
        "## Limits",
        "",
        *(f"- {text}" for text in card["limits"]),
    ]
    return "\n".join(lines) + "\n"


def _class_table(card: Mapping[str, Any]) -> list[str]:
    scores = card["calibration"]["scores"] if card["calibration"] is not None else {}
    judged = scores.get("classes", {})
    rows = ["| class | videos | held-out AP |", "|---|---|---|"]
    for name, count in card["data"]["classes"].items():
        value = judged.get(name, {}).get("ap")
        plain = name.replace("|", "\\|")
        rows.append(f"| {plain} | {count} | {'–' if value is None else f'{value:.2f}'} |")
    return rows


def _held_out(card: Mapping[str, Any]) -> list[str]:
    lines = [card["held_out"]]
    if card["calibration"] is None:
        return lines
    scores = card["calibration"]["scores"]
    if scores["map"] is None:
        return [
            *lines,
            "",
            "No class could be judged: each needs two videos that have it and one that has not.",
        ]
    lines += [
        "",
        f"- mean average precision over classes: {scores['map']:.2f}; random orders reach "
        f"{scores['chance']:.2f} on average, and 95 % of them stay below {scores['chance_95']:.2f}",
    ]
    if scores["top1"] is not None:
        lines.append(
            f"- the likeliest class is one of the video's in {100 * scores['top1']:.0f} % of the videos that "
            f"have labels; naming the commonest class always, in {100 * scores['commonest']:.0f} %"
        )
    by_part = [100 * part["top1"] for part in scores["parts"] if part["top1"] is not None]
    if len(by_part) > 1:
        spread = statistics.stdev(by_part)
        shown = ", ".join(f"{value:.0f}" for value in by_part)
        lines.append(f"- the same by part: {shown} % (standard deviation {spread:.0f})")
    lines += ["", "This is about which actions a video holds, not about when."]
    return lines


def _thresholds(card: Mapping[str, Any]) -> list[str]:
    calibration = card["calibration"]
    if calibration is None:
        return ["- all are the preset's: nothing was held out to choose them on"]
    return [f"- {note}" for note in calibration["notes"]]


def _hours(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 2 else f"{60 * hours:.1f} minutes"


def _end(timeline: Timeline) -> float:
    return timeline.end

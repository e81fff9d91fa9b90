"""``dgam evaluate``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Literal

from dgam.cli.options import Repeatable, Skipped
from dgam.core.results import read_detections
from dgam.data.annotations import read_segments
from dgam.evaluation import (
    Evaluation,
    analyse_errors,
    named_protocol,
    parse_tiou,
    read_video_list,
    select,
)
from dgam.evaluation import evaluate as compute
from dgam.report.tables import class_table, error_table, map_table


def evaluate(
    detections: Path,
    /,
    *,
    ground_truth: Path,
    subset: Repeatable = (),
    tiou: str = "0.1:0.9:0.1",
    protocol: str = "activitynet",
    block: Path | None = None,
    ambiguous: Literal["keep", "drop"] | None = None,
    outside: Literal["false-positive", "ignore"] | None = None,
    per_class: bool = False,
    errors: bool = False,
    json: bool = False,
    skip_bad: bool = False,
) -> None:
    """Compute the mean average precision of detections, as ActivityNet's algorithm does.

    Predictions of a class are matched to its ground truth by falling score, each to the free instance that it
    overlaps most, and AP is the area under the interpolated precision-recall curve. Numbers can only be
    compared under the same protocol (which videos and predictions count), so the output names it.

    ```
    dgam evaluate detections.json --ground-truth gt.json --subset test
    dgam evaluate detections.json --ground-truth gt.json --protocol thumos14-210 --tiou 0.3,0.5,0.7 --json
    ```

    Parameters
    ----------
    detections
        ActivityNet result JSON, such as "dgam localize" writes.
    ground_truth
        Segments: ActivityNet JSON, or the folder of THUMOS14's annotations.
    subset
        Only videos of this subset of the ground truth; repeat it for several. [default: all]
    tiou
        Thresholds: 0.5, or 0.3,0.5,0.7, or first:last:step.
    protocol
        A named protocol to start from; "dgam info protocols" lists them.
    block
        A file of video ids to leave out, with their predictions: one a line, or a JSON list.
    ambiguous
        drop: leave out predictions that touch an Ambiguous stretch, as W-TALC does. [default: the protocol's]
    outside
        What a prediction for a video that the ground truth lacks is. [default: the protocol's]
    per_class
        Also print the AP of each class.
    errors
        Also print what kinds of errors the predictions make at tIoU 0.5, and what they cost.
    json
        Print one JSON object instead: tiou, map (fractions), average, per_class, protocol, videos, instances.
    skip_bad
        Leave out predictions and annotations that are defective, and list them.
    """
    skipped = Skipped()
    on_problem = skipped if skip_bad else None
    found = read_detections(detections, on_problem)
    truth = read_segments(ground_truth, on_problem=on_problem)
    options: dict[str, object] = {"subsets": subset or None, "ambiguous": ambiguous, "outside": outside}
    if block is not None:
        options["blocked"] = read_video_list(block)
    rules = named_protocol(protocol).changed(**{k: v for k, v in options.items() if v is not None})
    result = compute(found, truth, parse_tiou(tiou), rules, on_note=_note if json else None)
    analysis = None
    if errors:
        chosen = select(found, truth, rules)
        analysis = analyse_errors(chosen.detections, chosen.ground_truth)
    if json:
        print(_to_json(result, analysis.to_dict() if analysis else None))
    else:
        results = {detections.name: result.to_dict()}
        print(map_table(results).text())
        if per_class:
            middle = min(result.tiou, key=lambda value: abs(value - 0.5))
            print("\n" + class_table(results, middle).text())
        if analysis:
            print("\n" + error_table(analysis.to_dict()).text())
    skipped.summary()


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def _to_json(result: Evaluation, analysis: object) -> str:
    value = result.to_dict()
    if analysis is not None:
        value["errors"] = analysis
    return json.dumps(value, ensure_ascii=False, allow_nan=False)

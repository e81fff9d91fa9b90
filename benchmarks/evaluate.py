"""How fast mAP is, beside a plain pandas evaluation of the kind that the field uses.

    python benchmarks/evaluate.py                           simulated sets, sized as THUMOS14 and ActivityNet
    python benchmarks/evaluate.py DETECTIONS GROUND_TRUTH   two files, tIoU .1 to .9

Both run on one core, on data already read. The pandas version below walks over the predictions of each class
with ``iterrows`` and asks a group-by for the ground truth of each one's video, as ActivityNet's script does.
Ties are broken as NumPy's default sort happens to, so on data with ties the two may differ in the fourth
decimal.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from dgam.core.results import read_detections
from dgam.core.types import AnnotatedVideo, Detection, Detections, Segment, SegmentAnnotations
from dgam.data.annotations import read_segments
from dgam.evaluation import TIOU_ACTIVITYNET, TIOU_THUMOS14, mean_average_precision


def pandas_map(truth: pd.DataFrame, found: pd.DataFrame, tiou: Sequence[float]) -> np.ndarray:
    """mAP at each threshold; frames have video, start, end, label, and score for the predictions."""
    found_of = dict(iter(found.groupby("label")))
    ap = []
    for label, instances in truth.groupby("label"):
        ranked = found_of.get(label, found.iloc[:0])
        ranked = ranked.iloc[ranked["score"].to_numpy().argsort()[::-1]].reset_index(drop=True)
        ap.append(pandas_class_ap(instances.reset_index(drop=True), ranked, tiou))
    return np.mean(ap, axis=0)


def pandas_class_ap(truth: pd.DataFrame, ranked: pd.DataFrame, tiou: Sequence[float]) -> np.ndarray:
    """AP of one class at each threshold."""
    free = np.ones((len(tiou), len(truth)), dtype=bool)
    hit = np.zeros((len(tiou), len(ranked)))
    by_video = truth.groupby("video")
    known = set(by_video.groups)
    for rank, prediction in ranked.iterrows():
        if prediction["video"] not in known:
            continue
        instances = by_video.get_group(prediction["video"]).reset_index()
        starts, ends = instances["start"].to_numpy(), instances["end"].to_numpy()
        shared = np.minimum(ends, prediction["end"]) - np.maximum(starts, prediction["start"])
        shared = shared.clip(0)
        overlap = shared / ((ends - starts) + (prediction["end"] - prediction["start"]) - shared)
        for row, threshold in enumerate(tiou):
            for nearest in overlap.argsort()[::-1]:
                if overlap[nearest] < threshold:
                    break
                place = instances.loc[nearest, "index"]
                if free[row, place]:
                    free[row, place] = False
                    hit[row, rank] = 1
                    break
    precision = np.cumsum(hit, axis=1) / np.arange(1, len(ranked) + 1)
    recall = np.cumsum(hit, axis=1) / len(truth)
    return np.array([area_under_envelope(p, r) for p, r in zip(precision, recall, strict=True)])


def area_under_envelope(precision: np.ndarray, recall: np.ndarray) -> float:
    """Interpolated average precision."""
    precision = np.concatenate([[0], precision, [0]])
    recall = np.concatenate([[0], recall, [1]])
    for place in range(len(precision) - 2, -1, -1):
        precision[place] = max(precision[place], precision[place + 1])
    steps = np.flatnonzero(np.diff(recall)) + 1
    return float(np.sum((recall[steps] - recall[steps - 1]) * precision[steps]))


def frames(truth: SegmentAnnotations, found: Detections) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ground truth and predictions as the pandas version takes them."""
    rows = [(name, s.start, s.end, s.label) for name, video in truth.videos.items() for s in video.segments]
    guesses = [(name, d.start, d.end, d.label, d.score) for name, some in found.videos.items() for d in some]
    columns = ["video", "start", "end", "label", "score"]
    return pd.DataFrame(rows, columns=columns[:4]), pd.DataFrame(guesses, columns=columns)


def simulated(
    videos: int, classes: int, per_video: float, guesses: int, seed: int = 0
) -> tuple[SegmentAnnotations, Detections]:
    """Random instances and predictions, half of these near an instance; nothing real about them but the
    counts."""
    rng = np.random.default_rng(seed)
    annotated, found = {}, {}
    for index in range(videos):
        duration = float(rng.uniform(60, 300))
        label = f"class {rng.integers(classes)}"
        count = 1 + rng.poisson(per_video - 1)
        starts = np.sort(rng.uniform(0, duration - 5, count))
        segments = [Segment(float(s), float(s + rng.uniform(1, 5)), label) for s in starts]
        near = [segments[int(pick)] for pick in rng.integers(count, size=guesses)]
        some = []
        for segment in near:
            start = max(0.0, segment.start + float(rng.normal(0, 1)))
            if rng.random() < 0.5:
                start = float(rng.uniform(0, duration))
            length = float(rng.uniform(1, 8))
            guessed = label if rng.random() < 0.9 else f"class {rng.integers(classes)}"
            some.append(Detection(start, start + length, guessed, float(rng.random())))
        annotated[f"video {index}"] = AnnotatedVideo(tuple(segments), "test", duration)
        found[f"video {index}"] = some
    return SegmentAnnotations(annotated, source="simulated"), Detections(found)


def fastest(run: Callable[[], object], times: int) -> float:
    """Seconds of the fastest of several runs."""
    spent = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        spent.append(time.perf_counter() - start)
    return min(spent)


def compare(
    name: str, truth: SegmentAnnotations, found: Detections, tiou: Sequence[float], plain: bool
) -> None:
    """Print what both versions take and how far their results lie apart."""
    ours = mean_average_precision(found, truth, tiou)
    taken = fastest(lambda: mean_average_precision(found, truth, tiou), 5)
    predictions = sum(map(len, found.videos.values()))
    sizes = f"{ours.videos:,} videos, {ours.instances:,} instances, {predictions:,} predictions"
    print(f"{name}: {sizes}, {len(tiou)} tIoU")
    print(f"  mAP    {' '.join(f'{100 * value:.2f}' for value in ours.map)}")
    print(f"  dgam   {taken:8.3f} s")
    if plain:
        tables = frames(truth, found)
        start = time.perf_counter()
        theirs = pandas_map(*tables, tiou)
        theirs_taken = time.perf_counter() - start
        apart = np.abs(theirs - np.array(ours.map)).max()
        print(
            f"  pandas {theirs_taken:8.3f} s, {theirs_taken / taken:.0f} times as long; apart by {apart:.1e}"
        )
        if apart > 1e-3:
            raise SystemExit("the two versions do not agree")


def main(arguments: Sequence[str]) -> None:
    """Compare on the files given, or on simulated sets."""
    if arguments:
        detections, ground_truth = arguments
        compare(
            detections, read_segments(ground_truth), read_detections(detections), TIOU_THUMOS14, plain=True
        )
        return
    compare("simulated, THUMOS14's size", *simulated(210, 20, 15, 45), TIOU_THUMOS14, plain=True)
    compare("simulated, ActivityNet's size", *simulated(2400, 100, 1.5, 100), TIOU_ACTIVITYNET, plain=False)


if __name__ == "__main__":
    main(sys.argv[1:])

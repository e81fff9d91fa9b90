"""``dgam check``."""

from __future__ import annotations

from pathlib import Path

from dgam.cli.options import FeatureOptions, Repeatable, only_subset
from dgam.core.errors import InputError, Problem
from dgam.core.progress import track
from dgam.data.annotations import read_labels, read_segments
from dgam.data.checks import check as find_problems


def check(
    features: Path,
    /,
    *,
    labels: Path | None = None,
    subset: Repeatable = (),
    segments: Path | None = None,
    reading: FeatureOptions | None = None,
) -> None:
    """Look for defects in features, labels and annotations, and name each with its file, video and number.

    Of features: a stream that a video lacks, streams of different lengths, NaN or infinity, a wrong
    dimension, an empty video. Of labels: videos without features and the reverse, a video listed twice. Of
    segments: unknown labels, times outside the video, durations that do not fit the frame rate. All of it is
    read, nothing is changed. The exit code is 0 if there is no defect, and 2 otherwise.

    ```
    dgam check FEATURES --labels labels.csv --subset train
    dgam check FEATURES --labels labels.csv --segments gt.json
    ```

    Parameters
    ----------
    features
        A store, or features of any known layout.
    labels
        Video labels: a CSV `video,labels`, ActivityNet JSON, or another known format.
    subset
        Only the labels and segments of this subset; repeat it for several. [default: all]
    segments
        Annotations with times, to be checked against the features and the labels.
    """
    reading = reading or FeatureOptions()
    source = reading.open(features)
    print(f"{source.name}: {len(source.videos)} videos; streams {', '.join(source.streams)}.")
    found: list[Problem] = []

    def tell(problem: Problem) -> None:
        found.append(problem)
        print(problem)

    chosen = truth = None
    if labels is not None:
        chosen = read_labels(labels, trusted_pickle=reading.trusted_pickle, on_problem=tell)
        chosen = only_subset(chosen, subset, labels)
        print(f"{labels}: labels of {len(chosen)} videos, {len(chosen.classes)} classes.")
    if segments is not None:
        truth = read_segments(segments, trusted_pickle=reading.trusted_pickle, on_problem=tell)
        truth = truth.in_subset(*subset) if subset else truth
        print(f"{segments}: segments of {len(truth.videos)} videos, {len(truth.classes)} classes.")
    with track("checking", total=len(source.videos)) as advance:
        # With a subset, features of other videos are no defect: they belong to the other subsets.
        problems = find_problems(source, chosen, truth, unlabelled=not subset, progress=advance)
    for problem in problems:
        tell(problem)
    if found:
        videos = {problem.video for problem in found if problem.video is not None}
        raise InputError(f"{len(found)} defects, in {len(videos)} videos.")
    print("No defects.")

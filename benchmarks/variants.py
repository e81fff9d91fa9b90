"""Which training settings do best, and which do not fail: many variants, each trained with many seeds.

    python benchmarks/variants.py run benchmarks/schedules.yaml --data 'stitched-{seed}' --json out.json
        [--seeds 0 1 2 3 4] [--trainings 5] [--preset default] [--set KEY=VALUE] [--only NAME ...]
        [--device cuda] [--trainers 8] [--jobs 8] [--threads 1] [--seconds 150]
    python benchmarks/variants.py show out.json [more.json ...]

The file holds variants, ``{name: {setting: value}}``, each on top of the preset and ``--set``. A variant is
trained, all data sets and seeds in one call of ``dgam.train_many``, on every data set (``{seed}`` in the path
becomes the number of the data set; laid out as ``dgam simulate`` and the stitched benchmark lay it out) with
the data set's own seed and others. ``--trainers`` processes each train one variant at a time, in the file's
order; several keep a GPU busy, as drawing snippets takes a processor longer than the GPU needs for a step.
``--jobs`` processes localise and evaluate what is trained, on the CPU with one thread each. ``--seconds``
after the start no further variant is begun; those left out are told. JSON is written whenever a variant is
done.

The test videos are cut into two halves, class by class: choose on the selection half, and read off the report
half what the choice is worth. ``show`` prints Markdown; numbers are mAP in percent, "mean" over tIoU .1 to
.7. "sd", "worst" and "fail" are over single trainings and all test videos; one fails that is more than 15
points below the median of its variant. Differences to the first variant are taken training by training (same
data set, same seed) and averaged over a data set's trainings: mean ± standard deviation over the data sets.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import yaml

import dgam
from dgam.api import load_models
from dgam.core.config import Config
from dgam.core.errors import InputError
from dgam.core.files import write_json
from dgam.core.types import Detections, SegmentAnnotations, VideoLabels
from dgam.detection.localize import localize_videos
from dgam.detection.proposals import StreamCurves
from dgam.experiments.halves import halves
from dgam.features.source import FeatureSource

TIOU = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
HALF = TIOU.index(0.5)
FAILS = 0.15  # so far below the median of its variant a training has failed

Scores = dict[str, Any]
"""One training: variant, data, seed; map: videos ("all", "selection", "report") to mAP at each tIoU;
attention (:func:`attended`) and losses of the last epoch, both by stream."""


@dataclass(frozen=True)
class Task:
    """One variant's trainings: the data set's folder, its number and the training's seed, for each."""

    name: str
    config: Config
    trainings: tuple[tuple[Path, int, int], ...]
    folder: Path
    device: str

    def out(self, number: int) -> Path:
        return self.folder / str(number)


@dataclass
class Found:
    """What came of the variants: every training's numbers, seconds of training, what failed, what is left."""

    settings: dict[str, dict[str, Any]]
    runs: list[Scores] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("file", type=Path)
    run.add_argument("--data", required=True)
    run.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    run.add_argument("--trainings", type=int, default=5)
    run.add_argument("--preset", default="default")
    run.add_argument("--set", action="append", default=[])
    run.add_argument("--only", nargs="+", default=[], help="these variants of the file, in this order")
    run.add_argument("--device", default="cpu")
    run.add_argument("--trainers", type=int, default=1)
    run.add_argument("--jobs", type=int, default=1)
    run.add_argument("--threads", type=int, default=1, help="of each trainer")
    run.add_argument("--seconds", type=float, default=float("inf"))
    run.add_argument("--json", type=Path, required=True)
    show = commands.add_parser("show")
    show.add_argument("files", type=Path, nargs="+")
    given = parser.parse_args()
    if given.command == "show":
        print(table(merged([json.loads(path.read_text()) for path in given.files])))
        return
    variants = read_variants(given.file, given.only)
    configs = {
        name: dgam.load_config(given.preset, overrides=[*given.set, *overrides(own)])
        for name, own in variants.items()
    }
    trainings = tuple(
        (Path(given.data.format(seed=number)), number, seed)
        for number in given.seeds
        for seed in training_seeds(number, given.trainings)
    )
    found = Found(variants)

    def save() -> None:
        found.runs.sort(key=lambda run: (list(variants).index(run["variant"]), run["data"], run["seed"]))
        about = {"preset": given.preset, "set": given.set, "data": given.data, "device": given.device}
        write_json(given.json, {**about, **asdict(found)})

    with tempfile.TemporaryDirectory() as scratch:
        tasks = [
            Task(name, config, trainings, Path(scratch) / str(place), given.device)
            for place, (name, config) in enumerate(configs.items())
        ]
        with workers(given.trainers, given.threads) as trainers, workers(given.jobs, 1) as judges:
            work(tasks, trainers, given.trainers, judges, given.seconds, found, save)
    print(table(found))


def read_variants(path: Path, only: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Variants by name, in the file's order, or those of ``only`` in that order."""
    read = {str(name): own or {} for name, own in yaml.safe_load(path.read_text(encoding="utf-8")).items()}
    unknown = [name for name in only if name not in read]
    if unknown:
        raise SystemExit(f"{path}: has no variant {unknown[0]!r}. It has: {', '.join(read)}.")
    return {name: read[name] for name in only or read}


def overrides(settings: Mapping[str, Any]) -> list[str]:
    """Settings as ``section.name=value``."""
    return [f"{name}={json.dumps(value)}" for name, value in settings.items()]


def training_seeds(number: int, count: int) -> list[int]:
    """The seeds that a data set is trained with: its own, and further ones that no other data set has."""
    return [number, *(1000 + 10 * number + n for n in range(count - 1))]


@contextmanager
def workers(count: int, threads: int) -> Iterator[ProcessPoolExecutor]:
    """Processes with so many torch threads each; what none of them has begun is dropped at the end."""
    context = multiprocessing.get_context("spawn")  # a forked copy of torch's threads would hang
    pool = ProcessPoolExecutor(count, context, torch.set_num_threads, (threads,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def work(
    tasks: Sequence[Task],
    trainers: ProcessPoolExecutor,
    at_once: int,
    judges: ProcessPoolExecutor,
    seconds: float,
    found: Found,
    save: Callable[[], None],
) -> None:
    """Train variants in order, ``at_once`` at a time, until the seconds are spent, and measure each as soon
    as it is trained."""
    began = time.monotonic()
    waiting = list(tasks)
    training: dict[Future[float | str], Task] = {}
    judging: dict[Future[Scores], Task] = {}
    while True:
        while waiting and len(training) < at_once and time.monotonic() - began < seconds:
            task = waiting.pop(0)
            training[trainers.submit(train, task)] = task
        if not training and not judging:
            break
        pending: list[Future[Any]] = [*training, *judging]
        wait(pending, return_when=FIRST_COMPLETED)
        for trained in [future for future in training if future.done()]:
            task, came = training.pop(trained), trained.result()
            if isinstance(came, str):
                found.failed[task.name] = came
                continue
            found.seconds[task.name] = came
            judging |= {judges.submit(measure, task, n): task for n in range(len(task.trainings))}
        for measured in [future for future in judging if future.done()]:
            task = judging.pop(measured)
            found.runs.append(measured.result())
            if all(task.name != other.name for other in judging.values()):
                shutil.rmtree(task.folder)
                save()
                now, spent = time.monotonic() - began, found.seconds[task.name]
                print(f"{now:.0f} s: {task.name}, trained in {spent:.0f} s", file=sys.stderr, flush=True)
    found.left_out = [task.name for task in waiting]
    save()


def train(task: Task) -> float | str:
    """Train a variant into its folders; the seconds that took, or why it came to nothing."""
    began = time.monotonic()
    sources = [opened(folder / "train") for folder, _, _ in task.trainings]
    labels = [labels_of(folder) for folder, _, _ in task.trainings]
    outs = [task.out(number) for number in range(len(task.trainings))]
    seeds = [seed for _, _, seed in task.trainings]
    try:
        dgam.train_many(sources, labels, outs, task.config, seeds, device=task.device)
    except (InputError, RuntimeError) as error:  # a loss that is not finite; memory that does not suffice
        return " ".join(str(error).split())
    return time.monotonic() - began


def measure(task: Task, number: int) -> Scores:
    """Localise the test videos with one training, by its own settings; its numbers."""
    folder, data, seed = task.trainings[number]
    run = dgam.load_run(task.out(number))
    test, truth = opened(folder / "test"), truth_of(folder)
    curves: dict[str, Mapping[str, StreamCurves]] = {}
    detections = localize_videos(
        load_models(run, "cpu"), test, test.videos, run.classes, on_video=curves.__setitem__
    )
    selection, report = halves(truth)
    lines = {s: (run.folder(s) / "metrics.jsonl").read_text().splitlines() for s in run.streams}
    return {
        "variant": task.name,
        "data": data,
        "seed": seed,
        "map": {
            "all": score(detections, truth, tuple(truth.videos)),
            "selection": score(detections, truth, selection),
            "report": score(detections, truth, report),
        },
        "attention": {
            stream: attended({video: own[stream] for video, own in curves.items()}, test, truth)
            for stream in run.streams
        },
        "losses": {stream: json.loads(own[-1]) for stream, own in lines.items()},
    }


def score(detections: Detections, truth: SegmentAnnotations, videos: Sequence[str]) -> list[float]:
    """mAP at each tIoU on some of the videos."""
    own = SegmentAnnotations({video: truth.videos[video] for video in videos}, truth.classes, truth.source)
    found = Detections({video: detections.videos[video] for video in videos})
    return [float(value) for value in dgam.evaluate(found, own, TIOU).map]


def attended(
    curves: Mapping[str, StreamCurves], features: FeatureSource, truth: SegmentAnnotations
) -> dict[str, float]:
    """Snippets attended to (λ > 0.5) outside the annotated segments, and snippets inside them that are not,
    both in proportion to all snippets inside, as in the paper's table 2. Of videos longer than
    ``localize.t_max``, the snippets that are localised count."""
    outside = missed = inside = 0
    for video, own in curves.items():
        stretches = [(segment.start, segment.end) for segment in truth.videos[video].segments]
        within = features.timeline(video).mask(stretches)[own.positions.astype(int)]  # (T,)
        outside += int((own.attention > 0.5)[~within].sum())
        missed += int((own.attention <= 0.5)[within].sum())
        inside += int(within.sum())
    return {"false_activation": outside / inside, "omission": missed / inside}


@lru_cache
def opened(folder: Path) -> FeatureSource:
    """A folder's features, opened once, so that trainings on the same data share them."""
    return dgam.open_features(folder)


@lru_cache
def labels_of(folder: Path) -> VideoLabels:
    return dgam.read_labels(folder / "labels.csv").in_subset("train")


@lru_cache
def truth_of(folder: Path) -> SegmentAnnotations:
    return dgam.read_segments(folder / "gt.json").in_subset("test")


def merged(parts: Sequence[Mapping[str, Any]]) -> Found:
    """Several files of results as one; a training that is in several counts once."""
    found = Found({})
    known: set[tuple[object, ...]] = set()
    for part in parts:
        found.settings |= part["settings"]
        found.seconds |= part["seconds"]
        found.failed |= part["failed"]
        for run in part["runs"]:
            key = run["variant"], run["data"], run["seed"]
            if key not in known:
                known.add(key)
                found.runs.append(run)
    done = {run["variant"] for run in found.runs} | set(found.failed)
    left = [name for part in parts for name in part["left_out"] if name not in done]
    found.left_out = list(dict.fromkeys(left))
    return found


def table(found: Found) -> str:
    """Markdown: a line for each variant, then what is missing and why."""
    by_name = {name: [r for r in found.runs if r["variant"] == name] for name in found.settings}
    by_name = {name: runs for name, runs in by_name.items() if runs}
    lines = [
        "| variant | selection half, mean | report half, mean | all, @0.5 | all, mean | sd | worst | fail "
        "| difference, all | difference, report half |",
        "|---|" + "---:|" * 9,
    ]
    for name, runs in by_name.items():
        reference = next(iter(by_name.values()))
        means = [mean_of(run, "all") for run in runs]
        cells = [
            percent(statistics.mean(mean_of(run, "selection") for run in runs)),
            percent(statistics.mean(mean_of(run, "report") for run in runs)),
            percent(statistics.mean(run["map"]["all"][HALF] for run in runs)),
            percent(statistics.mean(means)),
            percent(deviation(means)),
            percent(min(means)),
            f"{failures(means)} of {len(means)}",
            *(difference(runs, reference, videos) for videos in ("all", "report")),
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [f"\n{name}: came to nothing. {why}" for name, why in found.failed.items()]
    if found.left_out:
        lines.append(f"\nLeft out as the time was spent: {', '.join(found.left_out)}.")
    return "\n".join(lines)


def mean_of(run: Scores, videos: str) -> float:
    """A training's mean mAP on these videos."""
    return statistics.mean(map(float, run["map"][videos]))


def failures(means: Sequence[float]) -> int:
    """How many trainings of a variant fail."""
    return sum(mean < statistics.median(means) - FAILS for mean in means)


def difference(runs: Sequence[Scores], reference: Sequence[Scores], videos: str) -> str:
    """Paired difference of mean mAP to the reference's trainings, over the data sets that both have."""
    theirs = {(run["data"], run["seed"]): mean_of(run, videos) for run in reference}
    gains: dict[int, list[float]] = {}
    for run in runs:
        key = run["data"], run["seed"]
        if key in theirs:
            gains.setdefault(run["data"], []).append(mean_of(run, videos) - theirs[key])
    if not gains or runs is reference:
        return ""
    each = [statistics.mean(own) for own in gains.values()]
    return f"{100 * statistics.mean(each):+.1f} ± {100 * deviation(each):.1f}"


def deviation(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


if __name__ == "__main__":
    main()

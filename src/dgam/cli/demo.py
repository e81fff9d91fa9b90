"""``dgam demo``: the whole of it on simulated data."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import dgam
from dgam.core.progress import track

if TYPE_CHECKING:
    from dgam.core.run import Run
    from dgam.core.types import Detections, SegmentAnnotations
    from dgam.features.source import FeatureSource

# Two thirds of the default preset's training, in the time that somebody waits.
SETTINGS = ("train.epochs=40",)
SYSTEMS = {"without": ("loss.gamma1=0",), "with": ()}
TIOU = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
PICTURES = 3


def demo(*, out: Path = Path("demo"), seed: int = 0) -> None:
    """See all of it work on simulated data, in a minute or two on two cores.

    Simulates snippet features of untrimmed videos, trains both streams on video labels alone, with and
    without the generative part of DGAM, finds the actions in the test videos, evaluates, and leaves tables
    and pictures in a folder. One seed of simulated data shows how things look, not which model is better.

    ```
    dgam demo
    dgam demo --out demo --seed 1
    ```

    Parameters
    ----------
    out
        The folder for data, runs and pictures. An interrupted demo goes on when called again.
    seed
        Of the simulation and the training.
    """
    show(out, seed)


def show(
    out: Path, seed: int, *, knobs: Mapping[str, Any] | None = None, settings: tuple[str, ...] = SETTINGS
) -> None:
    """The demo with other ``knobs`` of the simulation and other ``settings`` of the training, as dotted
    overrides."""
    began = time.monotonic()
    print("1. Simulating snippet features of untrimmed videos (simulated data, no real video).")
    data = dgam.simulate(out / "data", seed=seed, **(knobs or {}))
    print(f"   {data.videos} videos, {data.instances} action instances, {data.snippets} snippets of 0.64 s.")
    labels = dgam.read_labels(out / "data" / "labels.csv").in_subset("train")
    training = dgam.open_features(out / "data" / "train")
    test = dgam.open_features(out / "data" / "test")
    truth = dgam.read_segments(out / "data" / "gt.json").in_subset("test")
    results: dict[str, Any] = {}
    statistics: dict[str, Any] = {}
    found: dict[str, Detections] = {}
    runs: dict[str, Run] = {}
    for step, (name, overrides) in enumerate(SYSTEMS.items(), start=2):
        title = f"{name} the generative part"
        print(f"{step}. Training {title} on the labels of {len(labels)} videos, then localising.")
        runs[title] = _train(training, labels, out / f"run-{name}", (*settings, *overrides), seed)
        with track("localising", total=len(test.videos)) as advance:
            found[title] = dgam.localize(runs[title], test, on_video=lambda video: advance(1))
        dgam.write_detections(out / f"detections-{name}.json", found[title])
        results[title] = dgam.evaluate(found[title], truth, TIOU).to_dict()
        for stream, values in dgam.statistics(runs[title], test, truth).items():
            statistics[f"{stream}, {name}"] = values.to_dict()
    print("4. Evaluating against the segments that training never saw.\n")
    _show_tables(results, statistics)
    pictures = _draw(out, runs, found, results, test, truth)
    print(f"\nPictures, done after {time.monotonic() - began:.0f} s:")
    for path in pictures:
        print(f"  {path}")
    print(_NEXT)


def _train(features: FeatureSource, labels: Any, out: Path, overrides: tuple[str, ...], seed: int) -> Run:
    config = dgam.load_config(overrides=overrides)
    left = config.train.epochs * len(features.streams)
    with track("training", total=left) as advance:

        def on_epoch(stream: str, epoch: int, losses: dict[str, float]) -> None:
            nonlocal left
            left -= 1
            advance(1, stream=stream, loss=losses["total"])

        run = dgam.train(features, labels, out, config=config, seed=seed, on_epoch=on_epoch)
        advance(left)  # a stream may end before its last epoch
        return run


def _show_tables(results: Mapping[str, Any], statistics: Mapping[str, Any]) -> None:
    from dgam.report.tables import map_table, statistics_table

    print(map_table(results, simulated=True).text())
    print("\n" + statistics_table(statistics, simulated=True).text())


def _draw(
    out: Path,
    runs: Mapping[str, Run],
    found: Mapping[str, Detections],
    results: Mapping[str, Any],
    test: FeatureSource,
    truth: SegmentAnnotations,
) -> list[Path]:
    from dgam.report.plots import class_ap_figure, losses_figure, save_figure
    from dgam.report.timelines import timeline_figure

    pictures = out / "pictures"
    paths = []
    for video in _telling_videos(found, truth):
        paths.append(pictures / f"{video}.png")
        save_figure(paths[-1], timeline_figure(_picture(video, runs, found, test, truth)))
    records = []
    run = runs["with the generative part"]
    for stream in run.streams:
        lines = (run.folder(stream) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        records += [{"stream": stream, **json.loads(line)} for line in lines]
    paths.append(pictures / "losses.png")
    save_figure(paths[-1], losses_figure(records, simulated=True))
    paths.append(pictures / "class-ap.png")
    save_figure(paths[-1], class_ap_figure(results, simulated=True))
    return paths


def _telling_videos(found: Mapping[str, Detections], truth: SegmentAnnotations) -> list[str]:
    """Videos short enough to read, with several instances, spread over the classes."""
    readable = [
        (video.segments[0].label, name)
        for name, video in sorted(truth.videos.items())
        if 4 <= len(video.segments) <= 15
        and (video.duration or 0) < 240
        and all(name in detections.videos for detections in found.values())
    ]
    first_of_class = dict(reversed(readable))
    return [first_of_class[label] for label in sorted(first_of_class)][:PICTURES]


def _picture(
    video: str,
    runs: Mapping[str, Run],
    found: Mapping[str, Detections],
    test: FeatureSource,
    truth: SegmentAnnotations,
) -> Any:
    from dgam.api import load_models
    from dgam.detection.localize import snippet_scores
    from dgam.features.source import read_stream
    from dgam.report.timelines import VideoPicture

    run = runs["with the generative part"]
    timeline = test.timeline(video)
    seconds = timeline.seconds(np.arange(timeline.snippets) + 0.5)
    labels = sorted({segment.label for segment in truth.videos[video].segments})
    attention, tcam = {}, {}
    for stream, own in load_models(run).items():
        values, classes = snippet_scores(own.model, read_stream(test, video, stream))
        attention[stream] = (seconds, values)
        for label in labels:
            tcam[f"{label}, {stream}"] = (seconds, classes[:, run.classes.index(label)])
    return VideoPicture(
        video=video,
        truth=truth.videos[video].segments,
        detections={name: detections.videos[video][:12] for name, detections in found.items()},
        attention=attention,
        tcam=tcam,
        duration=timeline.end,
        simulated=True,
    )


_NEXT = """
With features and labels of your own (see README.md for what they look like):

  dgam check FEATURES --labels labels.csv
  dgam train FEATURES --labels labels.csv --subset train --out RUN
  dgam localize RUN FEATURES --out detections.json
  dgam evaluate detections.json --ground-truth gt.json --subset test"""

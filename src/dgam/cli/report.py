"""``dgam report``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import dgam
from dgam.cli.options import FeatureOptions, Repeatable, Skipped
from dgam.core.errors import InputError
from dgam.core.files import atomic_write
from dgam.core.progress import track
from dgam.core.results import read_detections
from dgam.core.run import load_run

if TYPE_CHECKING:
    from dgam.core.types import Detections


def report(
    run: Path,
    /,
    *,
    features: Path,
    out: Path = Path("report.html"),
    ground_truth: Path | None = None,
    subset: Repeatable = (),
    compare: Repeatable = (),
    videos: Path | None = None,
    pictures: Path | None = None,
    tiou: str = "0.1:0.9:0.1",
    protocol: str = "activitynet",
    block: Path | None = None,
    most: int = 250,
    name: str | None = None,
    set: Repeatable = (),
    device: str | None = None,
    skip_bad: bool = False,
    reading: FeatureOptions | None = None,
) -> None:
    """Write a report of a run as one HTML page, to look at in any browser and to hand on.

    The page needs no network and no other file. It has the scores, AP per class, precision-recall curves,
    the kinds of false positives, statistics of attention and the losses; and for every video a timeline with
    ground truth, detections of each system compared, attention, class activation, context candidates and why
    the best detections score as they do. Tables sort, videos can be filtered, and each has a link of its own.
    Without ground truth it shows the timelines.

    ```
    dgam report RUN --features FEATURES
    dgam report RUN --features FEATURES --ground-truth gt.json --subset test --compare other=detections.json
    ```

    Parameters
    ----------
    run
        What "dgam train" made.
    features
        Features of the videos to report on.
    out
        The page to write.
    ground_truth
        Segments: ActivityNet JSON, or the folder of THUMOS14's annotations.
    subset
        Only videos of this subset of the ground truth; repeat it for several. [default: all]
    compare
        Another system's detections to show beside the run's, as NAME=detections.json; repeat it.
    videos
        The folder of the video files, for thumbnails; a file is named as its video.
    pictures
        A folder to write the charts and timelines to, each as PNG and SVG.
    tiou
        Thresholds: 0.5, or 0.3,0.5,0.7, or first:last:step.
    protocol
        A named protocol to evaluate by; "dgam info protocols" lists them.
    block
        A file of video ids to leave out: one a line, or a JSON list.
    most
        Videos that get a timeline; of more, the rest is listed. Scores always count all.
    name
        What the run is called on the page. [default: the run folder's name]
    set
        A localize setting that differs from the run's; repeat it.
    device
        cpu, cuda, cuda:1 … [default: a GPU if there is one]
    skip_bad
        Leave out what is defective in features, detections and annotations, and list it.
    """
    if out.is_dir():
        raise InputError(
            f"--out {out}: is a folder; expected the file to write, such as {out / 'report.html'}."
        )
    if pictures is not None and pictures.exists() and not pictures.is_dir():
        raise InputError(f"--pictures {pictures}: is a file; expected a folder.")
    if most < 1:
        raise InputError(f"--most: must be 1 or more, got {most}.")
    if ground_truth is None and (subset or block):
        raise InputError("--subset and --block choose among the ground truth; give it with --ground-truth.")
    facts = load_run(run)

    from dgam.data.annotations import read_segments
    from dgam.evaluation import named_protocol, parse_tiou, read_video_list
    from dgam.page.collect import Asked, collect
    from dgam.page.origin import simulated_data
    from dgam.page.pictures import save_pictures
    from dgam.page.render import render
    from dgam.page.thumbnails import files_of

    skipped = Skipped()
    on_problem = skipped if skip_bad else None
    parts = tuple(dict.fromkeys(part for stream in facts.streams for part in stream.split("+")))
    reading = reading or FeatureOptions()
    source = (replace(reading, streams=parts) if reading.layout == "single" else reading).open(features)
    truth = read_segments(ground_truth, on_problem=on_problem) if ground_truth is not None else None
    paths = _pairs(compare)
    others: dict[str, Detections] = {key: read_detections(path, on_problem) for key, path in paths.items()}
    rules = named_protocol(protocol)
    if subset:
        rules = rules.changed(subsets=subset)
    if block is not None:
        rules = rules.changed(blocked=read_video_list(block))
    asked = Asked(
        name=name or run.resolve().name,
        protocol=rules,
        tiou=parse_tiou(tiou),
        compare=others,
        sources={key: str(path) for key, path in paths.items()},
        files=files_of(videos) if videos is not None else {},
        most=most,
        overrides=set,
        device=device,
    )
    with track("localising", total=len(source.videos)) as advance:
        content, _ = collect(
            facts,
            source,
            asked,
            truth=truth,
            simulated=simulated_data(ground_truth, features, facts.labels),
            version=dgam.__version__,
            on_video=lambda video: advance(1),
            on_problem=on_problem,
        )
    text = render(content).encode()
    with atomic_write(out) as file:
        file.write(text)
    hidden = f", {content.hidden} of them only listed (--most {most})" if content.hidden else ""
    print(f"{out}: {len(content.videos)} videos{hidden}; {len(text) / 1e6:.1f} MB, one file.")
    for system in content.systems:
        if system.chosen_on_test:
            print(f"note: {system.name}: {system.selection}")
    if pictures is not None:
        with track("drawing pictures") as advance:
            written = save_pictures(pictures, content, on_picture=lambda picture: advance(1))
        print(f"{pictures}: {len(written)} pictures.")
    skipped.summary()


def _pairs(texts: Repeatable) -> dict[str, Path]:
    """``NAME=detections.json`` as a mapping; InputError where a name is missing or given twice."""
    pairs: dict[str, Path] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not name.strip() or not path:
            raise InputError(f"--compare: {text!r} is not usable; expected NAME=detections.json.")
        if name.strip() in pairs:
            raise InputError(f"--compare: the name {name.strip()!r} is given twice.")
        pairs[name.strip()] = Path(path)
    return pairs

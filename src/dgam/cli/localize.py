"""``dgam localize``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import dgam
from dgam.cli.options import FeatureOptions, Repeatable, Skipped
from dgam.cli.outputs import Choice, Target, told_of
from dgam.core.errors import InputError
from dgam.core.progress import track
from dgam.core.run import Run, load_run
from dgam.core.types import Detections
from dgam.exports.content import Content
from dgam.features.names import read_names

if TYPE_CHECKING:
    from dgam.features.source import FeatureSource


def localize(
    model: Path,
    /,
    *what: Path,
    out: Path | None = None,
    to: str | None = None,
    clips: Path | None = None,
    choice: Choice | None = None,
    store: Path | None = None,
    ids: Literal["name", "path"] = "name",
    members: Repeatable = (),
    set: Repeatable = (),
    videos: Path | None = None,
    curves: Path | None = None,
    device: str | None = None,
    weights: Repeatable = (),
    skip_bad: bool = False,
    reading: FeatureOptions | None = None,
) -> None:
    """Find segments in videos with a trained model.

    Attention above thresholds becomes segments; each is scored for the video's classes against its
    surroundings, the streams' segments are put together, and overlapping ones are thinned.

    Videos go through the encoder that the model was trained with, and their segments are printed as a table.
    Snippet features that are there already go straight into a result file: ActivityNet's JSON, times in
    seconds, with the model and settings that made it.

    ```
    dgam localize model/ video.mp4
    dgam localize model/ videos/ --out found --to json,csv,vtt,srt,elan --clips clips --store features
    dgam localize RUN FEATURES --out detections.json
    dgam localize RUN FEATURES --out detections.json --set localize.thresholds=[0.2,0.4] --curves curves
    ```

    Parameters
    ----------
    model
        What "dgam fit" or "dgam train" made. Only "dgam fit" leaves models that read videos.
    what
        Video files, folders of them, or .txt lists; or snippet features of the same streams and the same
        extractor as in training.
    out
        The file to write, of the format that its ending says (.json, .csv, .vtt, .srt, .eaf); with --to, a
        folder.
    to
        Formats to write into the folder --out, separated by commas: json (ActivityNet), csv, vtt, srt, elan,
        labelstudio, fiftyone.
    clips
        A folder to cut each segment into as a clip (videos only).
    store
        A feature store to keep the videos' features in, so that they are extracted once only.
        [default: they are forgotten]
    ids
        A video's name in the results: its file name, or its path below the folder given.
    members
        Another run, such as one of another seed (features only); repeat it. What the models say of a snippet
        is averaged.
    set
        A localize setting that differs from the model's, such as localize.nms=soft-gaussian; repeat it.
    videos
        A file of the video ids to localise, one a line. [default: all there are]
    curves
        A folder to save each video's attention and TCAM in, as .npz.
    device
        cpu, cuda, cuda:1 … [default: a GPU if there is one]
    weights
        Where a stream's encoder weights lie now, as rgb=PATH, if not where they lay in training; repeat it.
    skip_bad
        Leave out videos that cannot be read or whose features are defective, use the streams that a video
        has, and list both.
    """
    choice = choice or Choice()
    if not what:
        raise InputError("FEATURES is missing. Name videos or folders of them, or snippet features.")
    if to is not None and out is None:
        raise InputError("--to needs --out: the folder to write into.")
    target = Target.of(out, to) if out is not None else None
    if curves is not None and curves.exists() and not curves.is_dir():
        raise InputError(f"--curves {curves}: is a file; expected a folder.")
    skipped = Skipped()
    if are_videos(what):
        if members:
            raise InputError("--members is for snippet features; videos are localised with one model.")
        if reading is not None and reading != FeatureOptions():
            raise InputError("the options on how features are read do not apply to videos.")
        from dgam.cli.localize_videos import VideoWork

        work = VideoWork(model, set, device, weights, store, curves, clips, choice, target)
        work.run(what, ids, videos, skipped if skip_bad else None)
    else:
        for option, value in (("--clips", clips), ("--store", store), ("--weights", weights or None)):
            if value is not None:
                raise InputError(f"{option} is for videos; {what[0]} is taken as snippet features.")
        if target is None:
            raise InputError("--out is missing. Expected the file to write, such as detections.json.")
        facts = load_run(model)
        source = _open(what[0], facts, reading or FeatureOptions())
        chosen = read_names(videos) if videos is not None else list(source.videos)
        target.refuse(chosen)
        with track("localising", total=len(chosen)) as advance:
            found = dgam.localize(
                facts,
                source,
                members=members,
                videos=chosen,
                overrides=set,
                curves=curves,
                device=device,
                on_problem=skipped if skip_bad else None,
                on_video=lambda video: advance(1),
            )
        kept = {video: choice(own) for video, own in found.videos.items()}
        durations = {video: source.timeline(video).duration for video in kept}
        content = Content(Detections(kept, found.about), durations, classes=facts.classes)
        print(told_of(target.write(content), sum(map(len, kept.values())), len(kept)))
        selection = str(found.about["selection"])
        if "TEST SET" in selection:
            print(f"note: {selection}")
    skipped.summary()


def are_videos(what: Sequence[Path]) -> bool:
    """Whether these are videos, rather than one place of snippet features.

    InputError for a folder that holds both.
    """
    import os

    from dgam.video.listing import LIST_ENDINGS, VIDEO_ENDINGS

    path = what[0]
    if len(what) > 1 or (path.suffix.lower() in VIDEO_ENDINGS | LIST_ENDINGS and not path.is_dir()):
        return True
    if not path.is_dir() or (path / "store.json").is_file():
        return False
    endings = {Path(name).suffix.lower() for _, _, names in os.walk(path) for name in names}
    arrays, pictures = endings & {".npy", ".npz"}, endings & VIDEO_ENDINGS
    if arrays and pictures:
        raise InputError(
            f"{path}: holds both videos ({', '.join(sorted(pictures))}) and features "
            f"({', '.join(sorted(arrays))}). Name the folder of those that are meant."
        )
    return bool(pictures)


def _open(features: Path, facts: Run, reading: FeatureOptions) -> FeatureSource:
    """The features; where their layout has one stream, it is the run's."""
    parts = tuple(dict.fromkeys(part for stream in facts.streams for part in stream.split("+")))
    return (replace(reading, streams=parts) if reading.layout == "single" else reading).open(features)

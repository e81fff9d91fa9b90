"""``dgam localize``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import dgam
from dgam.cli.options import FeatureOptions, Repeatable, Skipped
from dgam.core.errors import InputError
from dgam.core.progress import track
from dgam.core.results import write_detections
from dgam.core.run import load_run
from dgam.features.names import read_names


def localize(
    run: Path,
    features: Path,
    /,
    *,
    out: Path,
    set: Repeatable = (),
    videos: Path | None = None,
    curves: Path | None = None,
    device: str | None = None,
    skip_bad: bool = False,
    reading: FeatureOptions | None = None,
) -> None:
    """Find segments in videos with a trained run.

    Attention above thresholds becomes segments; each is scored for the video's classes against its
    surroundings, the streams' segments are put together, and overlapping ones are thinned. The result is
    ActivityNet's JSON, times in seconds, and says which model and settings made it.

    ```
    dgam localize RUN FEATURES --out detections.json
    dgam localize RUN FEATURES --out detections.json --set localize.thresholds=[0.2,0.4] --curves curves
    ```

    Parameters
    ----------
    run
        What "dgam train" made.
    features
        Features of the same streams and the same extractor as in training.
    out
        The result file to write.
    set
        A localize setting that differs from the run's, such as localize.nms=soft-gaussian; repeat it.
    videos
        A file of the video ids to localise, one a line. [default: all of the features]
    curves
        A folder to save each video's attention and TCAM in, as .npz.
    device
        cpu, cuda, cuda:1 … [default: a GPU if there is one]
    skip_bad
        Leave out videos whose features are defective, use the streams that a video has, and list both.
    """
    if out.is_dir():
        raise InputError(
            f"--out {out}: is a folder; expected the file to write, such as {out / 'detections.json'}."
        )
    facts = load_run(run)
    parts = tuple(dict.fromkeys(part for stream in facts.streams for part in stream.split("+")))
    reading = reading or FeatureOptions()
    source = (replace(reading, streams=parts) if reading.layout == "single" else reading).open(features)
    chosen = read_names(videos) if videos is not None else list(source.videos)
    skipped = Skipped()
    with track("localising", total=len(chosen)) as advance:
        found = dgam.localize(
            facts,
            source,
            videos=chosen,
            overrides=set,
            curves=curves,
            device=device,
            on_problem=skipped if skip_bad else None,
            on_video=lambda video: advance(1),
        )
    write_detections(out, found)
    count = sum(len(detections) for detections in found.videos.values())
    print(f"{out}: {count} detections in {len(found.videos)} videos.")
    if "TEST SET" in facts.selection:
        print(f"note: {facts.selection}")
    skipped.summary()

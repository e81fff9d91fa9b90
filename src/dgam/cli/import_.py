"""``dgam import``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from dgam.cli.options import FeatureOptions, Skipped
from dgam.core.progress import track
from dgam.data.annotations import read_segments
from dgam.features.convert import import_features


def import_(
    source: Path,
    /,
    *,
    out: Path,
    dtype: Literal["float32", "float16"] = "float32",
    durations: Path | None = None,
    skip_bad: bool = False,
    reading: FeatureOptions | None = None,
) -> None:
    """Copy snippet features of any known layout into a feature store.

    A store is a folder with one file for each video and a manifest: streams, dimensions, frame rate, snippet
    length and stride, number of frames, duration, source and checksum. Training and localising read it
    memory-mapped, so it may be larger than memory. Features in a folder per stream can also be used as they
    lie, without a store. An import that was interrupted goes on where it was when called again.

    ```
    dgam import features --out store --fps 25 --snippet 16
    dgam import i3d_joint --layout joint --joint rgb=1024,flow=1024 --out store --dtype float16
    ```

    Parameters
    ----------
    source
        Where the features lie.
    out
        The store to write.
    dtype
        Number format on disk. float16 takes half the space.
    durations
        Annotations (ActivityNet JSON) that tell the videos' durations in seconds.
    skip_bad
        Leave out videos whose features are defective, and list them.
    """
    features = (reading or FeatureOptions()).open(source)
    seconds = None
    if durations is not None:
        annotated = read_segments(durations).videos.items()
        seconds = {name: video.duration for name, video in annotated if video.duration is not None}
    skipped = Skipped()
    with track("importing", total=len(features.videos)) as advance:
        done = import_features(
            features,
            out,
            dtype=dtype,
            durations=seconds,
            on_problem=skipped if skip_bad else None,
            progress=advance,
        )
    streams = ", ".join(f"{name} ({size})" for name, size in features.streams.items())
    print(
        f"{out}: {done.written} videos imported, {done.kept} were there already, {done.left_out} left out; "
        f"streams {streams}."
    )
    skipped.summary()

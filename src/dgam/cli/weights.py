"""``dgam weights get`` and ``dgam weights check``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from cyclopts import App

from dgam.core.errors import InputError
from dgam.core.progress import track
from dgam.encoders import kinetics_sample
from dgam.encoders.download import download
from dgam.encoders.i3d import I3D
from dgam.encoders.published import (
    GITHUB_RAW,
    SAMPLES,
    WEIGHTS,
    PublishedFile,
    Source,
    find_weights,
    weights_folder,
)
from dgam.encoders.weights import load_i3d, weights_digest

weights = App(name="weights", help="Download the published I3D weights, and check weights.")


@weights.command
def get(
    *,
    source: Source = "kinetics-i3d",
    streams: Literal["rgb", "flow", "rgb,flow"] = "rgb,flow",
    samples: bool = False,
    out: Path | None = None,
    mirror: str = GITHUB_RAW,
) -> None:
    """Download the published I3D weights, about 50 MB a stream.

    A file is accepted only if its git blob id is the published one. What a cut connection leaves behind is
    kept, and the same command goes on from there.

    Parameters
    ----------
    source
        Whose files: DeepMind's TensorFlow checkpoints (kinetics-i3d), or their conversion to PyTorch.
    streams
        Which streams' weights.
    samples
        Also the sample clip of kinetics-i3d, which "weights check" compares scores on.
    out
        The folder to write to. [default: dgam/weights in the user's cache folder, where "extract" looks]
    mirror
        Another server with the same paths below it.
    """
    folder = out or weights_folder()
    wanted = streams.split(",")
    files: list[PublishedFile] = [file for stream in wanted for file in WEIGHTS[source][stream]]
    if samples:
        files += [SAMPLES[stream] for stream in wanted]
    for file in files:
        _bring(f"{mirror.rstrip('/')}/{file.address}", folder / file.path, file)


@weights.command
def check(
    *,
    rgb: Path | None = None,
    flow: Path | None = None,
    sample_rgb: Path | None = None,
    sample_flow: Path | None = None,
    folder: Path | None = None,
) -> None:
    """Check that weights are whole and fit I3D, and compare their scores of the sample clip with the
    published ones.

    Without --rgb and --flow, both streams' weights are looked for where "weights get" puts them. The sample
    clip's arrays come from "weights get --samples", or are named here. The exit code is 0 if all agrees, 2
    otherwise.

    Parameters
    ----------
    rgb
        RGB weights: a TensorFlow checkpoint's prefix, a .pt or a .safetensors file.
    flow
        Flow weights, likewise.
    sample_rgb
        v_CricketShot_g04_c01_rgb.npy of kinetics-i3d.
    sample_flow
        v_CricketShot_g04_c01_flow.npy of kinetics-i3d.
    folder
        Where to look for what is not named. [default: dgam/weights in the user's cache folder]
    """
    place = folder or weights_folder()
    named = {"rgb": rgb, "flow": flow}
    paths = {stream: path for stream, path in named.items() if path is not None}
    if not paths:
        paths = {stream: find_weights(stream, place) for stream in named}
    scores: dict[str, kinetics_sample.Scores] = {}
    for stream, path in paths.items():
        network = load_i3d(path, stream)
        print(f"{stream}: {path}: {_describe(network)}")
        sample = {"rgb": sample_rgb, "flow": sample_flow}[stream] or place / SAMPLES[stream].path
        if sample.exists():
            scores[stream] = kinetics_sample.score(network, kinetics_sample.read_sample(sample, stream))
        elif {"rgb": sample_rgb, "flow": sample_flow}[stream] is not None:
            raise InputError(f"{sample}: no such file.")
        else:
            print(f"{stream}: no sample clip to compare scores on; 'dgam weights get --samples' brings it.")
    _compare(scores)


def _bring(url: str, target: Path, file: PublishedFile) -> None:
    with track(target.name) as advance:
        last = 0

        def report(have: int, total: int | None) -> None:
            nonlocal last
            of = f" of {total / 1e6:.1f}" if total is not None else ""
            advance(have - last, MB=f"{have / 1e6:.1f}{of}")
            last = have

        fetched = download(url, target, file.blob, report=report)
    print(f"{target}: {'fetched' if fetched else 'already there'}, git blob id {file.blob} as published")


def _describe(network: I3D) -> str:
    count = sum(tensor.numel() for tensor in network.state_dict().values())
    return f"{count:,} numbers, {network.Logits.out_features} classes, SHA-256 {weights_digest(network)}"


def _compare(scores: dict[str, kinetics_sample.Scores]) -> None:
    """Print published numbers and ours side by side; InputError if any differ."""
    if len(scores) == 2:
        scores = scores | {"joint": np.add(scores["rgb"], scores["flow"])}
    rows = [row for which, values in scores.items() for row in kinetics_sample.compare(which, values)]
    if not rows:
        return
    width = max(len(row.what) for row in rows)
    print(f"{'sample clip':{width}}  {'published':>12}  {'ours':>12}")
    for row in rows:
        mark = "" if row.agrees else "  differs"
        print(f"{row.what:{width}}  {row.published:12.6f}  {row.ours:12.6f}{mark}")
    wrong = [row.what for row in rows if not row.agrees]
    if wrong:
        raise InputError(
            f"{len(wrong)} of {len(rows)} numbers differ from the published ones by more than "
            f"{kinetics_sample.TOLERANCE}: {'; '.join(wrong)}. Either these are other weights, or the sample "
            f"is another clip; 'dgam weights get --samples' brings the published ones."
        )

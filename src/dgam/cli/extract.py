"""``dgam extract``."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from cyclopts import Parameter

from dgam.cli.options import Repeatable
from dgam.core.errors import InputError
from dgam.encoders.encoder import EncoderOptions
from dgam.extraction.extract import extract as run_extraction
from dgam.extraction.extract import report_file
from dgam.extraction.worker import ExtractSettings
from dgam.video.framing import FrameSettings


@Parameter(name="*", group="Pictures")
@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """How videos become pictures and snippets."""

    fps: str = "25"
    """Frames a second after resampling by timestamps, as 25, 29.97 or 30000/1001."""
    snippet: int = 16
    """Frames in a snippet."""
    stride: int | None = None
    """Frames from one snippet's start to the next one's. [default: as --snippet]"""
    short_side: int | None = None
    """Pixels of the shorter side after resizing. [default: what the encoder asks for; I3D: 256]"""
    size: str | None = None
    """Exact size instead, as 340x256, whatever the aspect ratio."""
    crop: int | None = None
    """Side of the square cut from the middle. [default: what the encoder asks for; I3D: 224]"""
    interpolation: Literal["bilinear", "bicubic", "area", "nearest"] = "bilinear"
    """How pixels are interpolated when resizing."""
    pixel_aspect: Literal["ignore", "apply"] = "ignore"
    """Whether non-square pixels are made square. The usual features ignore them."""
    damage: Literal["refuse", "conceal"] = "refuse"
    """Whether a damaged or cut-off file is bad, or is extracted as far as it can be decoded."""

    def settings(self) -> FrameSettings:
        """The frame settings. InputError where one is not usable."""
        try:
            fps = Fraction(self.fps)
        except (ValueError, ZeroDivisionError):
            raise InputError(
                f"--fps {self.fps}: expected a number such as 25, 29.97 or 30000/1001."
            ) from None
        return FrameSettings(
            fps=fps,
            size=self._size(),
            interpolation=self.interpolation,
            pixel_aspect=self.pixel_aspect,
            damage=self.damage,
        )

    def _size(self) -> tuple[int, int] | None:
        if self.size is None:
            return None
        width, _, height = self.size.lower().partition("x")
        if not (width.isdecimal() and height.isdecimal()):
            raise InputError(f"--size {self.size}: expected width x height in pixels, as 340x256.")
        return int(width), int(height)


@Parameter(name="*", group="Encoder and flow")
@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """What the encoder and the optical flow are told."""

    weights: Repeatable = ()
    """Weights of a stream, as rgb=PATH (a checkpoint prefix, .pt or .safetensors); repeat it.
    [default: where "dgam weights get" puts them]"""
    device: str = "auto"
    """Where the network and the flow run: auto, cpu, cuda, cuda:1."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the network."""
    batch: int | None = None
    """Snippets that go through the network together. [default: the encoder's choice]"""
    seed: int = 0
    """Seed of encoders with random weights."""
    flow: Literal["auto", "llvm", "triton", "torch", "opencv"] = "auto"
    """Which TV-L1: compiled for the CPU, kernels for a GPU (a trial), on PyTorch, or OpenCV's own. auto: llvm
    on a CPU, torch on a GPU."""
    flow_set: Repeatable = ()
    """A parameter of TV-L1, by OpenCV's name, such as epsilon=0.05 or warps=3; repeat it."""
    flow_bound: float = 20.0
    """Flow beyond ± this many pixels is clipped."""
    unquantised_flow: bool = False
    """Keep flow as it is, instead of rounding it to 256 levels as the usual features do."""

    def parameters(self) -> dict[str, float | int | str]:
        """Parameters of the flow. InputError for a malformed one."""
        found: dict[str, float | int | str] = {}
        for given in self.flow_set:
            name, equals, text = given.partition("=")
            if not equals or not name or not text:
                raise InputError(f"--flow-set {given}: expected a name and a value, as epsilon=0.05.")
            found[name] = _number(text)
        return found

    def options(self, pictures: PictureOptions, threads: int | None) -> EncoderOptions:
        """What the encoder is told. InputError for malformed weights."""
        paths: dict[str, str] = {}
        for given in self.weights:
            stream, equals, path = given.partition("=")
            if not equals or not stream or not path:
                raise InputError(
                    f"--weights {given}: expected a stream and its file, as rgb=rgb_imagenet.pt."
                )
            paths[stream] = path
        return EncoderOptions(
            weights=paths,
            device=self.device,
            precision=self.precision,
            batch=self.batch,
            short_side=pictures.short_side,
            crop=pictures.crop,
            flow_bound=self.flow_bound,
            quantise_flow=not self.unquantised_flow,
            seed=self.seed,
            threads=threads,
        )


def extract(
    *videos: Path,
    out: Path | None = None,
    streams: str = "rgb,flow",
    encoder: str = "i3d",
    skip_bad: bool = False,
    workers: int = 1,
    threads: int | None = None,
    engine: Literal["local", "ray"] = "local",
    ids: Literal["name", "path"] = "name",
    dtype: Literal["float32", "float16"] = "float32",
    report: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
    show: Path | None = None,
    pictures: PictureOptions | None = None,
    network: NetworkOptions | None = None,
) -> None:
    """Extract snippet features of videos into a feature store.

    Videos are decoded at 25 frames a second by their timestamps, resized, cut into snippets of 16 frames,
    and each snippet goes through the encoder, once for RGB and once for optical flow. Videos that the store
    already holds, made from the same file, are passed over, so an interrupted call goes on where it was when
    made again. A store holds features of one kind: other settings need another store.

    ```
    dgam extract videos/ --out features
    dgam extract a.mp4 b.mkv list.txt --streams rgb --out features --skip-bad
    dgam extract --show a.mp4 --out a.png
    ```

    Parameters
    ----------
    videos
        Video files, folders of them, or .txt files with a path a line.
    out
        The store to write; with --show, the picture (.png or .svg).
    streams
        Streams to extract, separated by commas. RGB alone needs no optical flow.
    encoder
        Name of the encoder: i3d, i3d-random (for trials without weights), tflite, torch-export, onnx,
        openvino, an installed one, or one of your own as file.py:function.
    skip_bad
        Go on after a video that cannot be extracted, and list it in the report.
    workers
        Worker processes. Each holds the networks in memory.
    threads
        CPU threads of each worker. [default: all cores, shared out]
    engine
        Where the work is done: on this machine, or on a Ray cluster whose nodes see the same files.
    ids
        A video's name in the store: its file name, or its path below the folder given.
    dtype
        Number format on disk. float16 takes half the space.
    report
        Where the report goes, as JSON. [default: OUT.report.json]
    as_json
        Print the report as JSON instead of a table.
    show
        Only draw a picture of this video: sampled frames, their flow, and where snippets lie in time.
    """
    pictures, network = pictures or PictureOptions(), network or NetworkOptions()
    if threads is not None and threads < 1:
        raise InputError(f"--threads must be at least 1, got {threads}.")
    settings = ExtractSettings(
        streams=tuple(name.strip() for name in streams.split(",") if name.strip()),
        encoder=encoder,
        options=network.options(pictures, threads),
        frames=pictures.settings(),
        length=pictures.snippet,
        stride=pictures.stride if pictures.stride is not None else pictures.snippet,
        flow=network.flow,
        flow_parameters=network.parameters(),
        dtype=dtype,
        threads=threads or 0,
    )
    if show is not None:
        if videos:
            raise InputError("--show draws one video; give no others.")
        _show(show, out if out is not None else Path(f"{show.stem}.png"), settings)
        return
    if not videos:
        raise InputError("no videos were given: name files, folders, or .txt lists of them.")
    if out is None:
        raise InputError("--out is missing: the folder of the store to write.")
    told = run_extraction(
        videos, out, settings, workers=workers, skip_bad=skip_bad, ids=ids, report=report, engine=engine
    )
    if as_json:
        print(json.dumps(told.to_json(), ensure_ascii=False))
        for one in told.videos:
            if one.status == "failed":
                print(f"left out: {one.message}", file=sys.stderr)
    else:
        print(told.table())
        print(f"report: {report_file(out, report)}")


def _number(text: str) -> float | int | str:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _show(video: Path, picture: Path, settings: ExtractSettings) -> None:
    from dgam.extraction.show import sample_video
    from dgam.report.flowview import draw_samples
    from dgam.report.plots import save_figure

    sampled = sample_video(video, settings)
    samples, fps = sampled.samples, float(settings.frames.fps)
    figure = draw_samples(
        f"{video.name}: {sampled.seconds:.2f} s, {sampled.frames} frames at {fps:g} fps",
        [sample.picture for sample in samples],
        [sample.flow for sample in samples],
        [sample.frame / fps for sample in samples],
        [sample.snippet for sample in samples],
        sampled.timeline.seconds(np.arange(sampled.timeline.snippets + 1)),
        sampled.seconds,
        sampled.warnings,
    )
    save_figure(picture, figure)
    print(
        f"{picture}: {len(samples)} frames of {sampled.frames} at {fps:g} fps, "
        f"{sampled.timeline.snippets} snippets, {sampled.seconds:.2f} s."
    )

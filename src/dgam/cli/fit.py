"""``dgam fit``."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cyclopts import Parameter

from dgam.cli.extract import NetworkOptions, PictureOptions
from dgam.cli.options import FeatureOptions, Repeatable, SettingOptions
from dgam.core.progress import Advance, track
from dgam.features.layouts import Layout

if TYPE_CHECKING:
    from dgam.core.errors import Problem
    from dgam.extraction.worker import ExtractSettings
    from dgam.fitting.folder import ModelFolder


@Parameter(name="*", group="Encoder")
@dataclass(frozen=True, kw_only=True)
class FitEncoderOptions:
    """What turns videos into features. "dgam extract" has more to set; its store can be given as VIDEOS."""

    encoder: str | None = None
    """Name of the encoder: i3d, i3d-random (for trials without weights), tflite, torch-export, onnx,
    openvino, an installed one, or one of your own as file.py:function. With ready features: the one that made
    them. [default: i3d; with ready features: as their store says]"""
    streams: str | None = None
    """Streams to train, separated by commas; rgb+flow joins two. RGB alone needs no optical flow. [default:
    rgb,flow; with tflite: rgb; with ready features: all]"""
    weights: Repeatable = ()
    """Weights of a stream, as rgb=PATH; repeat it. [default: where "dgam weights get" puts them]"""
    device: str = "auto"
    """Where all networks run: auto, cpu, cuda, cuda:1."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the encoder."""
    flow: Literal["auto", "llvm", "triton", "torch", "opencv"] = "auto"
    """Which optical flow, as for "dgam extract"."""
    workers: int = 1
    """Worker processes that extract. Each holds the encoder in memory."""

    @property
    def chosen(self) -> tuple[str, ...] | None:
        """The streams given; None where none were."""
        if self.streams is None:
            return None
        return tuple(name.strip() for name in self.streams.split(",") if name.strip())

    def network(self) -> NetworkOptions:
        """The options as "dgam extract" takes them."""
        return NetworkOptions(
            weights=self.weights, device=self.device, precision=self.precision, flow=self.flow
        )

    def extraction(self, pictures: PictureOptions) -> ExtractSettings:
        """The settings of an extraction. InputError where they are not usable."""
        from dgam.extraction.worker import ExtractSettings

        name = self.encoder or "i3d"
        streams = self.chosen or (("rgb",) if name == "tflite" else ("rgb", "flow"))
        return ExtractSettings(
            streams=tuple(dict.fromkeys(part for stream in streams for part in stream.split("+"))),
            encoder=name,
            options=self.network().options(pictures, None),
            frames=pictures.settings(),
            length=pictures.snippet,
            stride=pictures.stride if pictures.stride is not None else pictures.snippet,
            flow=self.flow,
        )


@dataclass
class _Bar:
    """One bar over all training, opened when training begins."""

    stack: ExitStack
    advance: Advance | None = None
    shown: float = 0.0

    def __call__(self, what: str, done: float, losses: dict[str, float]) -> None:
        if self.advance is None:
            self.advance = self.stack.enter_context(track("training", total=1.0))
        self.advance(done - self.shown, now=what, loss=losses["total"])
        self.shown = done


def fit(
    videos: Path,
    /,
    labels: Path,
    *,
    out: Path,
    seed: int = 0,
    epochs: int | None = None,
    hold_out: Literal["auto", "folds", "one", "none"] = "auto",
    subset: Repeatable = (),
    features: Path | None = None,
    layout: Layout = "auto",
    skip_bad: bool = False,
    strict: bool = False,
    restart: bool = False,
    encoder: FitEncoderOptions | None = None,
    pictures: PictureOptions | None = None,
    settings: SettingOptions | None = None,
) -> None:
    """Train on your own videos, from a folder of them and a list of what happens in each.

    LABELS is a table with a line for each video: its file name, and the actions in it, parted by `;`. When
    they happen need not be known. Labels and videos are checked against each other, features are extracted
    (and kept beside the model), parts of the videos are held out in turn to see how well it works, and the
    model is trained on all of them. OUT can be given to "dgam localize" and "dgam serve"; its card.md says
    what it was made from and what it is worth. A fit that was interrupted goes on when given again.

    ```
    dgam fit videos/ labels.csv --out model
    dgam fit videos/ labels.csv --out model --encoder tflite --weights rgb=movinet.tflite
    dgam fit FEATURES labels.csv --out model --streams rgb --seed 1
    ```

    Parameters
    ----------
    videos
        A folder of videos, a .txt list of them, or a folder of ready features.
    labels
        A table `video,labels` as spreadsheets save it (CSV), or another format of labels.
    out
        The model folder to write, or to go on with.
    seed
        Of every random draw in training. The same seed on the same machine gives the same bytes.
    epochs
        Passes over the videos. [default: as the settings say; at least 420 steps unless settings are given]
    hold_out
        How videos are held out to judge the model: folds (each of 5 parts in turn: six trainings), one (one
        part only: two trainings), none, or auto (folds below 200 videos, else one).
    subset
        Only videos of this subset of the labels; repeat it for several. [default: all]
    features
        The store for extracted features; what it holds is reused. [default: OUT.features]
    layout
        How ready features lie, as for "dgam train".
    skip_bad
        Leave out videos that cannot be used, and list them.
    strict
        Take warnings for errors.
    restart
        Begin anew where OUT holds an earlier fit.
    """
    from dgam.fitting.fit import FitOptions
    from dgam.fitting.fit import fit as run_fit
    from dgam.fitting.inputs import holds_videos

    encoder, pictures = encoder or FitEncoderOptions(), pictures or PictureOptions()
    settings = settings or SettingOptions()
    if epochs is not None:
        settings = replace(settings, set=(*settings.set, f"train.epochs={epochs}"))
    given = {text.partition("=")[0].strip() for text in settings.set}
    own_schedule = settings.preset or settings.config or given & {"train.epochs", "train.batch"}
    extraction = None
    if encoder.encoder is not None or holds_videos(videos):
        extraction = encoder.extraction(pictures)
    options = FitOptions(
        streams=encoder.chosen,
        config=settings.load(),
        enough_steps=not own_schedule,
        seed=seed,
        hold_out=hold_out,
        subset=subset,
        skip_bad=skip_bad,
        strict=strict,
        restart=restart,
        workers=encoder.workers,
        device=None if encoder.device == "auto" else encoder.device,
        layout=layout,
        grid=FeatureOptions(fps=pictures.fps, snippet=pictures.snippet, stride=pictures.stride).grid(),
        weights=dict(encoder.network().options(pictures, None).weights),
    )
    with ExitStack() as stack:
        model = run_fit(
            videos,
            labels,
            out,
            extraction=extraction,
            store=features,
            options=options,
            on_problem=_tell,
            on_training=_Bar(stack),
        )
    print(summary(model))


def _tell(severity: str, problem: Problem) -> None:
    print(f"{'left out' if severity == 'error' else severity}: {problem}", file=sys.stderr)


def summary(model: ModelFolder) -> str:
    """What a fit came to, in a few lines."""
    card = json.loads((model.path / "card.json").read_text(encoding="utf-8"))
    classes = ", ".join(f"{name} ({count})" for name, count in card["data"]["classes"].items())
    lines = [
        f"{model.path}: {', '.join(model.run.streams)} trained on {model.run.videos} videos; videos of each "
        f"class: {classes}.",
        card["held_out"],
    ]
    scores = model.calibration.scores if model.calibration is not None else {}
    if scores.get("map") is not None:
        lines.append(
            f"Told which actions they hold with mean average precision {scores['map']:.2f} (random orders "
            f"reach {scores['chance']:.2f}, and 95 % of them stay below {scores['chance_95']:.2f}). When "
            "they happen cannot be judged without times."
        )
    if card["simulated"]:
        lines.append("The data are simulated: these scores say nothing about real videos.")
    lines += [f"warning: {text}" for text in card["model_warnings"]]
    lines.append(f"More in {model.path / 'card.md'}. Next: dgam localize {model.path} VIDEO")
    return "\n".join(lines)

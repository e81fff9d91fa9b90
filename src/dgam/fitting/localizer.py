"""A model folder ready to localise: from a video file to detections, with nothing loaded twice."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dgam.core.errors import InputError
from dgam.core.timeline import Timeline
from dgam.core.types import Detection
from dgam.detection.proposals import StreamCurves
from dgam.extraction.lock import sole_writer
from dgam.extraction.worker import ExtractSettings, VideoExtractor
from dgam.features.source import FeatureSource
from dgam.features.store import FeatureStore
from dgam.fitting.folder import ModelFolder, load_model_folder
from dgam.fitting.identity import EncoderIdentity, differences
from dgam.video.listing import VIDEO_ENDINGS, VideoFile

if TYPE_CHECKING:
    from dgam.encoders.encoder import SnippetEncoder
    from dgam.extraction.neighbour_flow import NeighbourFlow

OnProgress = Callable[[str, float], None]
"""Told the stage, "extracting" or "localising", and how much of it is done, from 0 to 1."""


@dataclass(frozen=True)
class LocalizedVideo:
    """What a model found in one video.

    ``duration`` in seconds, None where unknown; ``detections`` best first; ``curves`` by stream;
    ``probabilities`` maps each class to its video-level probability, the mean over the streams (they and the
    background's sum to 1).
    """

    video: str
    duration: float | None
    timeline: Timeline
    detections: tuple[Detection, ...]
    curves: Mapping[str, StreamCurves]
    probabilities: Mapping[str, float]


class Localizer:
    """A model folder with its networks in memory: the detecting ones at once, the encoder when it is first
    needed.

    ``device`` is a torch device for both, by default a GPU if there is one. ``overrides`` change ``localize``
    settings, as "localize.thresholds=[0.3]". ``weights`` says where a stream's encoder weights lie on this
    machine, if not where they lay in training. Not for several threads at once. InputError for a folder that
    is no model.
    """

    def __init__(
        self,
        folder: ModelFolder | str | os.PathLike[str],
        *,
        device: str | None = None,
        overrides: Sequence[str] = (),
        weights: Mapping[str, str | os.PathLike[str]] | None = None,
    ) -> None:
        from dgam.api import load_models
        from dgam.core.config import change_config

        self.folder = folder if isinstance(folder, ModelFolder) else load_model_folder(folder)
        _refuse_other_overrides(overrides)
        config = change_config(self.folder.run.config, overrides)
        self.run = replace(self.folder.run, config=config)
        self.classes: tuple[str, ...] = self.run.classes
        self._device = device
        self._weights = {stream: os.fspath(path) for stream, path in (weights or {}).items()}
        self._models = load_models(self.run, device)
        self._built: tuple[ExtractSettings, SnippetEncoder, NeighbourFlow | None] | None = None

    def features(
        self,
        video: str | os.PathLike[str],
        store: str | os.PathLike[str],
        *,
        video_id: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> tuple[FeatureSource, str]:
        """Extract a video into ``store`` as those that the model was trained on were.

        What is there already, from the same file, is taken. Returns the opened store and the video's id in
        it: ``video_id``, by default the file's name without its ending. Memory does not grow with the video's
        length, apart from its features. What ``on_progress`` raises stops the extraction; the store stays
        good, and the next call begins this video anew. InputError where the encoder cannot be had or is
        another one than in training, where the video cannot be read, and where another extraction is writing
        to the store.
        """
        file = _video_file(Path(video), video_id)
        settings, encoder, flow = self.encoder()
        done = 0.0

        def advance(part: float, frames: int) -> None:
            nonlocal done
            done = min(done + part, 1.0)
            if on_progress is not None:
                on_progress("extracting", done)

        if on_progress is not None:
            on_progress("extracting", 0.0)
        path = Path(store)
        with sole_writer(path):
            report = VideoExtractor(path, settings, encoder=encoder, flow=flow).extract(file, advance)
        if report.status == "failed":
            raise InputError(report.message)
        if on_progress is not None:
            on_progress("extracting", 1.0)
        return FeatureStore(path), file.video

    def localize(self, features: FeatureSource, video: str) -> LocalizedVideo:
        """Detections of a video whose features are there. InputError where the model's streams are missing or
        of another dimension, or the features hold NaN."""
        from dgam.detection.localize import localize_videos
        from dgam.detection.scoring import mean_probabilities

        if video not in features.videos:
            raise InputError(f"{features.name}: has no video {video!r}.")
        curves: dict[str, StreamCurves] = {}
        found = localize_videos(
            self._models,
            features,
            [video],
            self.classes,
            on_video=lambda _, own: curves.update(own),
        )
        detections, timeline = found.videos[video], features.timeline(video)
        probabilities = mean_probabilities(curves).tolist()
        return LocalizedVideo(
            video=video,
            duration=timeline.duration,
            timeline=timeline,
            detections=tuple(detections),
            curves=curves,
            probabilities=dict(zip(self.classes, probabilities, strict=True)),
        )

    def localize_file(
        self,
        video: str | os.PathLike[str],
        store: str | os.PathLike[str] | None = None,
        *,
        video_id: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> LocalizedVideo:
        """Extract and localise a video file. Without ``store`` its features are kept for this call only."""
        place = tempfile.TemporaryDirectory(prefix="dgam-") if store is None else nullcontext(store)
        with place as folder:
            source, name = self.features(video, Path(folder), video_id=video_id, on_progress=on_progress)
            if on_progress is not None:
                on_progress("localising", 0.0)
            found = self.localize(source, name)
        if on_progress is not None:
            on_progress("localising", 1.0)
        return found

    def encoder(self) -> tuple[ExtractSettings, SnippetEncoder, NeighbourFlow | None]:
        """Settings, encoder and flow, built when first asked for; InputError unless they are those of
        training."""
        if self._built is None:
            identity = self.folder.encoder
            if identity is None:
                raise InputError(
                    f"{self.folder.path}: this model was trained on features of unknown origin (it has no "
                    "encoder.json), so it cannot read videos. Give it features made as those were, or fit it "
                    "again on the videos themselves."
                )
            self._built = build_same(identity, str(self.folder.path), self._device, self._weights)
        return self._built


def build_same(
    identity: EncoderIdentity,
    where: str,
    device: str | None = None,
    weights: Mapping[str, str] | None = None,
) -> tuple[ExtractSettings, SnippetEncoder, NeighbourFlow | None]:
    """Build the encoder (and the optical flow where a stream needs it) that ``identity`` speaks of.

    ``weights`` go before the paths of the identity. InputError where something is missing, or the result
    would not yield the same features, with all that differs; ``where`` names the model.
    """
    options = identity.settings.options
    _refuse_code_of_the_folder(identity, Path(where), {} if weights is None else weights)
    options = replace(
        options, weights={**options.weights, **(weights or {})}, device=device or options.device
    )
    method = identity.recorded.get("flow", {}).get("method", identity.settings.flow)
    settings = replace(identity.settings, options=options, flow=method)
    try:
        encoder, flow = settings.build(), settings.build_flow()
    except InputError as error:
        raise InputError(
            f"{where}: its videos went through the encoder {identity.encoder!r}, which cannot be had here: "
            f"{error}"
        ) from error
    differing = differences(identity.recorded, settings.recorded(encoder, flow))
    if differing:
        raise InputError(
            f"{where}: the encoder {identity.encoder!r} here would make other features than those the model "
            f"was trained on, and its detections would mean nothing. {'; '.join(differing)}. "
            "Bring the same weights and settings (weights in another place: --weights STREAM=PATH), or fit "
            "the model again."
        )
    return settings, encoder, flow


def _refuse_code_of_the_folder(identity: EncoderIdentity, folder: Path, given: Mapping[str, str]) -> None:
    """InputError where the model names a program that could have come with its folder.

    ``fit`` records files of the user's own by absolute paths. A relative one, or one inside the model's
    folder, is somebody else's, and reading a video must not run it. ``given`` is what the user names now.
    """
    file, colon, _ = identity.encoder.rpartition(":")
    programs = [file] if colon and file.endswith(".py") else []
    if identity.encoder == "torch-export":
        weights = identity.settings.options.weights
        programs += [path for stream, path in weights.items() if stream not in given]
    for program in programs:
        if not os.path.isabs(program) or Path(program).resolve().is_relative_to(folder.resolve()):
            raise InputError(
                f"{folder}: its videos went through {program!r}, a program that is a relative path or lies "
                "in the model's own folder, so it may be a stranger's, and it is not run. Put a program that "
                "you trust into a place of its own and fit the model again with it."
            )


def _video_file(path: Path, video_id: str | None) -> VideoFile:
    if not path.is_file():
        what = "is a folder, expected a video file" if path.is_dir() else "there is no such video file"
        raise InputError(f"{path}: {what}.")
    stem = path.stem if path.suffix.lower() in VIDEO_ENDINGS else path.name
    return VideoFile(video_id or stem, str(path), path.stat().st_size)


def _refuse_other_overrides(overrides: Sequence[str]) -> None:
    for text in overrides:
        name = text.partition("=")[0]
        if not (name.startswith("localize.") or ".localize." in name):
            raise InputError(f"--set: {text!r} has no effect after training; only localize.* settings do.")

"""Localise video by video with a run's networks, keeping the curves that detections come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from dgam.core.config import LocalizeSettings, change_config
from dgam.core.errors import InputError
from dgam.core.run import Run
from dgam.core.types import Detection
from dgam.features.source import FeatureSource, dimension

if TYPE_CHECKING:
    from dgam.detection.proposals import StreamCurves


class Localised:
    """A run's networks, loaded once, over the videos of some features.

    ``overrides`` change ``localize`` settings, as "localize.eta=0". ``settings`` are each stream's.
    """

    def __init__(
        self, run: Run, features: FeatureSource, *, overrides: Sequence[str] = (), device: str | None = None
    ) -> None:
        from dgam.api import load_models

        outside = [text for text in overrides if "localize." not in text.partition("=")[0]]
        if outside:
            raise InputError(
                f"--set: {outside[0]!r} has no effect after training; only localize.* settings do."
            )
        _refuse_other_features(run, features)
        self.run = replace(run, config=change_config(run.config, overrides))
        self.features = features
        self._models = load_models(self.run, device)
        self.settings: dict[str, LocalizeSettings] = {s: own.settings for s, own in self._models.items()}

    def video(self, video: str) -> tuple[list[Detection], Mapping[str, StreamCurves]]:
        """A video's detections, best first, and the curves of the streams that it has.

        InputError where the video's features are not usable.
        """
        from dgam.detection.localize import localize_video

        return localize_video(self._models, self.features, video, self.run.classes)


def _refuse_other_features(run: Run, features: FeatureSource) -> None:
    """InputError where the features lack a stream of the run, or have it in another dimension."""
    for stream, expected in run.streams.items():
        missing = [part for part in stream.split("+") if part not in features.streams]
        if missing:
            raise InputError(
                f"{features.name}: has no stream {missing[0]!r}, which the run was trained on. "
                f"It has: {', '.join(features.streams) or 'none'}."
            )
        if (here := dimension(features, stream)) != expected:
            raise InputError(
                f"{features.name}: stream {stream!r} has dimension {here}, the run was trained on dimension "
                f"{expected}. Features must come from the same extractor."
            )

"""What a fit starts from: features of labelled videos, extracted here or ready-made, all checked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from dgam.core.errors import InputError
from dgam.core.timeline import SnippetGrid
from dgam.core.types import VideoLabels
from dgam.data.simulate import MARK
from dgam.encoders.published import find_weights
from dgam.extraction.extract import extract
from dgam.extraction.worker import ExtractSettings
from dgam.features.layouts import Layout, open_features
from dgam.features.source import FeatureSource
from dgam.features.store import FeatureStore
from dgam.fitting.checks import check_files, check_labels, check_snippets
from dgam.fitting.findings import Findings, Tell
from dgam.fitting.identity import EncoderIdentity, identity_of_store, restricted
from dgam.fitting.localizer import build_same
from dgam.fitting.matching import list_videos, match_labels
from dgam.fitting.spreadsheet import read_label_sheet
from dgam.video.listing import VIDEO_ENDINGS, VideoFile

_OTHER_WAYS = (
    "Or take another encoder: --encoder tflite --streams rgb --weights rgb=MOVINET.tflite (needs pip "
    "install 'dgam[tflite]'), one of your own (--encoder file.py:function), or give ready features in place "
    "of the videos."
)


@dataclass(frozen=True)
class Inputs:
    """Checked training data. ``identity`` is None where the features' origin is unknown; ``kind`` says what
    was given; ``left_out`` names videos that could not be used."""

    features: FeatureSource
    labels: VideoLabels
    identity: EncoderIdentity | None
    kind: Literal["videos", "features"]
    source: str
    left_out: tuple[str, ...] = ()
    simulated: bool = False

    def digests(self, streams: Sequence[str]) -> dict[str, str]:
        """A checksum of each labelled video's features in these streams, by video."""
        found = {}
        for video in sorted(self.labels.videos):
            digest = hashlib.sha256()
            for stream in streams:
                if isinstance(self.features, FeatureStore):
                    digest.update(self.features.entry(video).sha256[stream].encode())
                else:
                    array = self.features.read(video, stream)  # (T, d)
                    digest.update(f"{stream} {array.dtype} {array.shape}".encode())
                    digest.update(np.ascontiguousarray(array).tobytes())
            found[video] = digest.hexdigest()[:16]
        return found


@dataclass(frozen=True)
class Strictness:
    """What to do about findings: ``skip_bad`` leaves bad videos out, ``strict`` takes warnings for errors,
    ``tell`` is told of each."""

    tell: Tell
    skip_bad: bool = False
    strict: bool = False


def holds_videos(path: Path) -> bool:
    """Whether a path is a folder with video files in it, at any depth, or a list of videos."""
    if path.is_dir():
        return bool(list_videos(path)) and not (path / "store.json").is_file()
    return path.suffix.lower() in VIDEO_ENDINGS or path.suffix.lower() in (".txt", ".lst")


def read_labels_of(path: Path, subset: Sequence[str], findings: Findings) -> VideoLabels:
    """The labels, of these subsets only where some are named. InputError where none is left."""

    def refuse(problem: object) -> None:
        findings.errors.append(problem)  # type: ignore[arg-type]  # the readers tell Problems

    labels = read_label_sheet(path, refuse, findings.notes.append)
    if subset:
        known = ", ".join(sorted(set(labels.subset_of.values()))) or "none"
        labels = labels.in_subset(*subset)
        labels = VideoLabels(labels.labels)  # the chosen ones' classes, and no subsets to warn about
        if not labels:
            raise InputError(f"{path}: has no video of subset {', '.join(subset)}. Its subsets: {known}.")
    return labels


def from_videos(
    videos: Path,
    labels_path: Path,
    settings: ExtractSettings,
    store: Path,
    manner: Strictness,
    *,
    subset: Sequence[str] = (),
    workers: int = 1,
) -> Inputs:
    """Check labels against video files, then extract those files' features into ``store``, or reuse them.

    InputProblems with everything that is wrong before the first frame is decoded; what only decoding shows
    comes after it, for all videos together.
    """
    findings = Findings()
    labels = read_labels_of(labels_path, subset, findings)
    check_labels(labels, str(labels_path), findings)
    matched, files = match_labels(labels, list_videos(videos), str(labels_path), str(videos), findings)
    check_files(files, settings.grid, str(videos), findings)
    _check_weights(settings, findings)
    left_out = findings.settle(manner.tell, skip_bad=manner.skip_bad, strict=manner.strict)
    files = {video: file for video, file in files.items() if video not in left_out}
    left_out |= _extract([*files.values()], store, settings, workers, manner)
    features = FeatureStore(store)
    kept = _kept(matched, left_out, str(labels_path))
    return Inputs(
        features=features,
        labels=kept,
        identity=EncoderIdentity(settings, features.head.settings),
        kind="videos",
        source=str(videos),
        left_out=tuple(sorted(left_out)),
    )


def from_features(
    path: Path | FeatureSource,
    labels_path: Path,
    manner: Strictness,
    *,
    parts: Sequence[str] | None,
    subset: Sequence[str] = (),
    layout: Layout = "auto",
    grid: SnippetGrid | None = None,
    settings: ExtractSettings | None = None,
    weights: dict[str, str] | None = None,
) -> Inputs:
    """Check labels against ready features. ``parts`` are the streams wanted, by default all.

    ``settings`` say which encoder made the features; it is built and compared as far as possible. Without
    them a store made by ``dgam extract`` tells its encoder itself, ``weights`` being where its weights lie.
    """
    features = (
        path if not isinstance(path, Path) else open_features(path, layout=layout, grid=grid, streams=parts)
    )
    findings = Findings()
    labels = read_labels_of(labels_path, subset, findings)
    check_labels(labels, str(labels_path), findings)
    media = [VideoFile(video, "") for video in features.videos]
    matched, _ = match_labels(labels, media, str(labels_path), features.name, findings)
    streams = tuple(parts or features.streams)
    _check_features(features, matched, streams, findings)
    check_snippets(features, matched, findings)
    left_out = findings.settle(manner.tell, skip_bad=manner.skip_bad, strict=manner.strict)
    return Inputs(
        features=features,
        labels=_kept(matched, left_out, str(labels_path)),
        identity=_identity(features, streams, settings, weights),
        kind="features",
        source=features.name,
        left_out=tuple(sorted(left_out)),
        simulated=_is_simulated(Path(features.name)),
    )


def _extract(
    files: Sequence[VideoFile], store: Path, settings: ExtractSettings, workers: int, manner: Strictness
) -> set[str]:
    """Extract, and settle what went wrong; returns the videos that could not be."""
    if not files:
        return set()
    told = extract([file.path for file in files], store, settings, workers=workers, skip_bad=True)
    findings = Findings()
    for one in told.videos:
        if one.status == "failed":
            where, _, what = one.message.partition(": ")
            findings.error(where, what, one.video)
    return findings.settle(manner.tell, skip_bad=manner.skip_bad, strict=False)


def _check_weights(settings: ExtractSettings, findings: Findings) -> None:
    """Say which ways there are where I3D has no weights, beside all else that is wrong."""
    if settings.encoder != "i3d":
        return
    for stream in settings.streams:
        if stream in ("rgb", "flow") and stream not in settings.options.weights:
            try:
                find_weights(stream)
            except InputError as error:
                findings.error("--encoder i3d", str(error), remedy=_OTHER_WAYS)
                return


def _check_features(
    features: FeatureSource, labels: VideoLabels, streams: Sequence[str], findings: Findings
) -> None:
    from dgam.data.checks import check

    for problem in check(features, streams=streams):
        if problem.video is None or problem.video in labels.labels:
            findings.errors.append(problem)


def _kept(labels: VideoLabels, left_out: set[str], where: str) -> VideoLabels:
    """The labels without what was left out, whose contrast and number are looked at once more."""
    kept = VideoLabels({v: names for v, names in labels.labels.items() if v not in left_out})
    if left_out:
        again = Findings()
        check_labels(kept, f"{where}, without what was left out", again)
        if again.errors:
            again.warnings = []
            again.settle(lambda severity, problem: None, skip_bad=False, strict=False)
    return kept


def _identity(
    features: FeatureSource,
    streams: tuple[str, ...],
    settings: ExtractSettings | None,
    weights: dict[str, str] | None,
) -> EncoderIdentity | None:
    head = features.head.settings if isinstance(features, FeatureStore) else {}
    made_here = "encoder" in head and "snippet" in head
    if settings is not None:
        settings = replace(settings, streams=streams)
    if settings is None:
        return identity_of_store(head, streams, weights) if made_here else None
    if made_here:
        identity = EncoderIdentity(settings, restricted(head, streams))
        build_same(identity, features.name)
        return identity
    encoder = settings.build()
    for stream in streams:
        if encoder.streams[stream] != features.streams[stream]:
            raise InputError(
                f"--encoder {settings.encoder}: its stream {stream!r} has {encoder.streams[stream]} numbers "
                f"a snippet, {features.name} has {features.streams[stream]}. It did not make these features."
            )
    return EncoderIdentity(settings, settings.recorded(encoder, settings.build_flow()))


def _is_simulated(path: Path) -> bool:
    """Whether features lie in what ``dgam simulate`` wrote."""
    for folder in (path, path.parent):
        readme = folder / "README.txt"
        if os.path.isfile(readme) and readme.read_bytes().startswith(MARK.encode()):
            return True
    return False

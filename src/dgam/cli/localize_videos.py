"""What ``dgam localize`` does with video files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dgam.cli.options import Skipped
from dgam.cli.outputs import Choice, Target, refuse_unwritable, show, told_of
from dgam.core.errors import InputError, InputProblems, Problem
from dgam.core.progress import track
from dgam.core.types import Detection, Detections
from dgam.exports.content import Content
from dgam.exports.text import one_line
from dgam.features.arrays import as_problem
from dgam.features.names import file_stem, read_names
from dgam.video.container import VideoInfo, probe
from dgam.video.listing import VideoFile, find_videos

if TYPE_CHECKING:
    from dgam.fitting.localizer import LocalizedVideo, Localizer


@dataclass
class VideoWork:
    """One call: what is asked for, and what is found so far."""

    model: Path
    overrides: Sequence[str]
    device: str | None
    weights: Sequence[str]
    store: Path | None
    curves: Path | None
    clips: Path | None
    choice: Choice
    target: Target | None
    found: dict[str, tuple[Detection, ...]] = field(default_factory=dict)
    durations: dict[str, float | None] = field(default_factory=dict)
    cut: int = 0

    def run(
        self,
        what: Sequence[Path],
        ids: Literal["name", "path"],
        chosen: Path | None,
        skipped: Skipped | None,
    ) -> None:
        """Localise the videos one by one, print each one's segments, and write the files.

        All that can be checked cheaply is checked before the first video. A video that then turns out bad
        ends the run, unless ``skipped`` takes it; what was found until then, or until an interruption, is
        written all the same.
        """
        files = _chosen(find_videos(what, ids).videos, chosen)
        if self.target is not None:
            self.target.refuse([file.video for file in files])
        for option, folder in (("--clips", self.clips), ("--store", self.store), ("--curves", self.curves)):
            if folder is not None:
                refuse_unwritable(option, folder)
        headers = _headers(files, skipped)
        localizer = self._localizer()
        failure: InputError | None = None
        try:
            for number, file in enumerate(files, start=1):
                if file.video in headers:
                    try:
                        self._one(localizer, file, f"{number} of {len(files)}" if len(files) > 1 else "")
                    except InputError as error:
                        if skipped is None:
                            failure = error
                            break
                        skipped(as_problem(error, file.path, file.video))
        finally:
            told = self._write(localizer, files, headers)
        if failure is not None:
            if len(files) == 1:
                raise failure
            done = f"{len(self.found)} of {len(files)} videos were finished before it" + (
                f" and are in {self.target.path}" if told and self.target is not None else ""
            )
            raise InputError(f"{failure} {done}. Go on without it with --skip-bad.")
        if not self.found:
            raise InputError("no video could be localised; see above.")
        for line in [*told, *self._advice(localizer)]:
            print(line)
        if "TEST SET" in localizer.run.selection:
            print(f"note: {localizer.run.selection}")

    def _advice(self, localizer: Localizer) -> list[str]:
        """Which segments the calibrated threshold would keep, unless a threshold is given."""
        calibration = localizer.folder.calibration
        least = calibration.score_threshold if calibration is not None else None
        scores = [one.score for found in self.found.values() for one in found]
        if least is None or self.choice.min_score is not None or not scores:
            return []
        kept = sum(score >= least for score in scores)
        return [
            f"{kept} of {len(scores)} segments score at least {least:.3g}, the threshold that the model's "
            f"calibration found: --min-score {least:.3g}"
        ]

    def _localizer(self) -> Localizer:
        from dgam.fitting.localizer import Localizer

        localizer = Localizer(
            self.model, device=self.device, overrides=self.overrides, weights=given_weights(self.weights)
        )
        # An encoder that cannot be had, or a store of other features, is no fault of the first video.
        settings, encoder, flow = localizer.encoder()
        if self.store is not None and self.store.exists():
            from dgam.extraction.worker import VideoExtractor

            VideoExtractor(self.store, settings, encoder=encoder, flow=flow)
        return localizer

    def _one(self, localizer: Localizer, file: VideoFile, place: str) -> None:
        shown = {"extracting": 0.0, "localising": 95.0}
        moved = 0.0
        name = one_line(file.video).replace("[", "\\[")  # the bar would take it for markup
        with track(f"{name} {place}".rstrip(), total=100) as advance:

            def progress(stage: str, part: float) -> None:
                nonlocal moved
                width = 95.0 if stage == "extracting" else 5.0
                at = shown[stage] + width * part
                advance(max(0.0, at - moved), stage=stage)
                moved = max(moved, at)

            result = localizer.localize_file(file.path, self.store, video_id=file.video, on_progress=progress)
        kept = self.choice(result.detections)
        self.found[file.video], self.durations[file.video] = kept, result.duration
        if self.curves is not None:
            self._save_curves(self.curves, result, localizer.classes)
        show(file.video, result.duration, kept, self.choice.top)
        if self.clips is not None and kept:
            from dgam.exports.clips import cut_clips

            self.cut += len(cut_clips(Path(file.path), kept, self.clips, name=file.video))

    def _save_curves(self, folder: Path, result: LocalizedVideo, classes: Sequence[str]) -> None:
        from dgam.api import save_curves

        save_curves(folder / f"{file_stem(result.video)}.npz", result.curves, classes)

    def _write(
        self, localizer: Localizer, files: Sequence[VideoFile], headers: Mapping[str, VideoInfo]
    ) -> list[str]:
        """Write the files of what is found; lines that tell of it."""
        from dgam.api import about_run

        lines = []
        if self.target is not None and self.found:
            made_by = about_run(localizer.run, f"Videos, through the model {self.model}")
            media = {file.video: str(Path(file.path).absolute()) for file in files}
            rates = {video: float(info.rate) for video, info in headers.items() if info.rate}
            detections = Detections(self.found, made_by)
            content = Content(detections, self.durations, media, rates, localizer.classes)
            count = sum(map(len, self.found.values()))
            lines.append(told_of(self.target.write(content), count, len(self.found)))
        if self.clips is not None:
            lines.append(f"{self.clips}: {self.cut} clips.")
        return lines


def given_weights(given: Sequence[str]) -> dict[str, str]:
    """``--weights`` as stream to path. InputError for a malformed one."""
    paths: dict[str, str] = {}
    for text in given:
        stream, equals, path = text.partition("=")
        if not equals or not stream or not path:
            raise InputError(f"--weights {text}: expected a stream and its file, as rgb=rgb_imagenet.pt.")
        paths[stream] = path
    return paths


def _chosen(files: Sequence[VideoFile], names: Path | None) -> list[VideoFile]:
    """The videos whose ids the file ``names`` lists, in its order; all without it."""
    if names is None:
        return list(files)
    known = {file.video: file for file in files}
    wanted = read_names(names)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise InputError(f"--videos {names}: there is no video {unknown[0]!r} ({len(unknown)} such in all).")
    return [known[name] for name in wanted]


def _headers(files: Sequence[VideoFile], skipped: Skipped | None) -> dict[str, VideoInfo]:
    """What the videos' headers say. Files that are no videos are all told of before any work."""
    headers: dict[str, VideoInfo] = {}
    problems: list[Problem] = []
    for file in files:
        try:
            headers[file.video] = probe(file.path)
        except InputError as error:
            if len(files) == 1:
                raise
            problems.append(as_problem(error, file.path, file.video))
    if problems and skipped is None:
        raise InputProblems("Some videos cannot be read (--skip-bad goes on without them):", problems)
    for problem in problems:
        if skipped is not None:
            skipped(problem)
    return headers

"""From video files to a feature store."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from dgam.core.errors import InputError
from dgam.core.files import write_json
from dgam.core.progress import Advance, track
from dgam.extraction.lock import sole_writer
from dgam.extraction.pool import extract_in_processes, use_threads
from dgam.extraction.report import ExtractReport, VideoReport
from dgam.extraction.worker import ExtractSettings, VideoExtractor
from dgam.video.listing import VideoFile, find_videos


def extract(
    videos: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    settings: ExtractSettings | None = None,
    *,
    workers: int = 1,
    skip_bad: bool = False,
    ids: Literal["name", "path"] = "name",
    report: str | os.PathLike[str] | None = None,
    engine: Literal["local", "ray"] = "local",
) -> ExtractReport:
    """Extract features of videos (files, folders, lists) into the feature store ``out``.

    Videos stored already from the same file and with the same settings are left as they are, so an
    interrupted call is simply made again. A bad video ends the run with an InputError; with ``skip_bad`` it
    becomes a line of the report, which also goes to the JSON file ``report``, by default ``OUT.report.json``.
    InputError for bad arguments, a store of other settings, and one that another extraction is writing to.
    """
    start = time.perf_counter()
    if workers < 1:
        raise InputError(f"--workers must be at least 1, got {workers}.")
    settings = settings or ExtractSettings()
    if settings.threads:
        use_threads(settings.threads)
    elif workers > 1:
        settings = replace(settings, threads=max(1, (os.cpu_count() or 1) // workers))
    store = Path(out)
    found = find_videos(videos, ids)
    extractor = VideoExtractor(store, settings)  # bad settings, or a store of others, show before any work
    done: list[VideoReport] = []
    with sole_writer(store), track("extracting", len(found.videos)) as bar:
        advance = _Progress(found.videos, bar)
        reports: Generator[VideoReport]
        if engine == "ray":
            from dgam.extraction.ray_engine import extract_on_ray

            reports = extract_on_ray(found.videos, store, settings, advance)
        elif workers == 1:
            reports = _here(found.videos, extractor, advance)
        else:
            reports = extract_in_processes(found.videos, store, settings, workers, advance)
        with closing(reports):
            for one in reports:
                done.append(one)
                advance.finish(one)
                if one.status == "failed" and not skip_bad:
                    break
    done.sort(key=lambda one: one.video)
    told = ExtractReport(tuple(done), extractor.recorded, time.perf_counter() - start, workers, found.ignored)
    write_json(report_file(store, report), told.to_json())
    failed = [one for one in done if one.status == "failed"]
    if failed and not skip_bad:
        raise InputError(
            f"{failed[0].message} {len(done) - len(failed)} of {len(found.videos)} videos are stored and "
            "stay so. Go on without it with --skip-bad."
        )
    return told


def report_file(store: Path, report: str | os.PathLike[str] | None = None) -> Path:
    """Where a run's report goes: beside the store, whose bytes hold no times."""
    return Path(report) if report is not None else store.with_name(f"{store.name}.report.json")


def _here(
    files: Sequence[VideoFile], extractor: VideoExtractor, advance: Callable[[VideoFile, float, int], None]
) -> Generator[VideoReport]:
    """One video after the other in this process."""
    for file in files:
        yield extractor.extract(file, partial(advance, file))


class _Progress:
    """Moves one bar over all videos, each weighing what its file does, and says how fast it goes."""

    def __init__(self, files: Sequence[VideoFile], bar: Advance) -> None:
        self._bar = bar
        size = max(1, sum(file.size for file in files))
        self._weight = {file.video: file.size * len(files) / size for file in files}
        self._shown: dict[str, float] = {}
        self._open = set(self._weight)
        self._moved = 0.0
        self._frames = 0
        self._start = time.perf_counter()

    def __call__(self, file: VideoFile, part: float, frames: int) -> None:
        self._frames += frames
        self._move(file.video, self._shown.get(file.video, 0.0) + part, part * self._weight[file.video])

    def finish(self, done: VideoReport) -> None:
        """The video is done, whatever its header promised."""
        self._open.discard(done.video)
        rest = (1.0 - self._shown.get(done.video, 0.0)) * self._weight[done.video]
        # The last video takes the bar to its end exactly, in spite of rounding.
        self._move(done.video, 1.0, rest if self._open else len(self._weight) - self._moved)

    def _move(self, video: str, shown: float, step: float) -> None:
        self._shown[video] = shown
        self._moved += step
        rate = self._frames / (time.perf_counter() - self._start)
        self._bar(step, fps=f"{rate:.1f}", video=video)

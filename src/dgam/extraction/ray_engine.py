"""Extraction spread over a Ray cluster, into a store that every node can reach.

Each video is one Ray task. A task whose node or process dies is run again elsewhere; since a video enters the
store in one piece and always with the same bytes, running it twice does no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import lru_cache
from pathlib import Path

from dgam.core.cluster import failure_of, ray_cluster
from dgam.extraction.pool import use_threads
from dgam.extraction.report import VideoReport
from dgam.extraction.worker import ExtractSettings, VideoExtractor
from dgam.video.listing import VideoFile

RETRIES = 3


def extract_on_ray(
    files: Sequence[VideoFile],
    out: Path,
    settings: ExtractSettings,
    advance: Callable[[VideoFile, float, int], None],
) -> Generator[VideoReport]:
    """Reports in the order in which videos are done; the largest files go first.

    Joins the cluster that RAY_ADDRESS names, or one running on this machine, or starts one here. Every video
    takes ``settings.threads`` CPUs (at least 1), and a GPU where the cluster has some and the encoder's
    device is not "cpu". InputError where the package ray is missing.
    """
    with ray_cluster() as ray:
        gpus = 1 if settings.options.device != "cpu" and ray.cluster_resources().get("GPU", 0) >= 1 else 0
        task = ray.remote(num_cpus=max(1, settings.threads), num_gpus=gpus, max_retries=RETRIES)(_extract_one)
        ordered = sorted(files, key=lambda file: (-file.size, file.video))
        running = {task.remote(file, str(out.absolute()), settings): file for file in ordered}
        while running:
            ready, _ = ray.wait([*running], num_returns=1)
            file = running.pop(ready[0])
            try:
                report = ray.get(ready[0])
            except ray.exceptions.RayError as error:
                report = VideoReport(
                    file.video,
                    file.path,
                    "failed",
                    message=f"{file.path}: its Ray task failed for good: {failure_of(error)}",
                )
            advance(file, 0.0, report.frames if report.status == "extracted" else 0)
            yield report


@lru_cache(maxsize=1)
def _held() -> dict[str, VideoExtractor]:
    """The process' extractor, kept between tasks because its network is slow to build."""
    return {}


def _extract_one(file: VideoFile, out: str, settings: ExtractSettings) -> VideoReport:
    held, key = _held(), f"{out} {settings!r}"
    if key not in held:
        use_threads(settings.threads)
        held.clear()
        held[key] = VideoExtractor(out, settings)
    return held[key].extract(file)

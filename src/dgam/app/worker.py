"""A worker process: takes one job after the other from the queue until its server is gone.

    python -m dgam.app.worker NAME MODEL DATA      (lines on standard input wake it; its end ends the worker)

Whatever happens to a video happens here: a codec that crashes or eats the memory takes this process down, not
the server, which queues the job again.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dgam.app.folders import DataFolder
from dgam.app.queue import Job, JobQueue
from dgam.core.errors import InputError

if TYPE_CHECKING:
    from dgam.fitting.folder import ModelFolder
    from dgam.fitting.localizer import Localizer

NAP = 2.0
"""Seconds between looks at the queue when nobody wakes the worker."""
BETWEEN_REPORTS = 0.25
SHARES = {"extracting": (0.0, 0.9), "localising": (0.9, 0.95), "preview": (0.95, 1.0)}
"""Which stretch of a job's progress each stage fills."""
BAD_MODEL = 3


class Unwanted(Exception):
    """The job was cancelled or removed while it ran."""


class Reporter:
    """Told of stages and fractions, tells the queue now and then; raises :class:`Unwanted` to stop."""

    def __init__(self, queue: JobQueue, job: str, worker: str) -> None:
        self._queue, self._job, self._worker = queue, job, worker
        self._told, self._stage = 0.0, ""

    def __call__(self, stage: str, fraction: float) -> None:
        """``stage`` as in the API, ``fraction`` of it that is done, 0 to 1."""
        now = time.monotonic()
        if stage == self._stage and now - self._told < BETWEEN_REPORTS:
            return
        self._told, self._stage = now, stage
        first, last = SHARES[stage]
        progress = first + (last - first) * min(max(fraction, 0.0), 1.0)
        if not self._queue.report(self._job, self._worker, stage, progress):
            raise Unwanted


def work_once(localizer: Localizer, queue: JobQueue, data: DataFolder, worker: str) -> bool:
    """Do one job, if one waits. Bad videos and faults of ours fail the job, and are told in its message."""
    job = queue.claim(worker)
    if job is None:
        return False
    model = localizer.folder
    try:
        duration, note = _localize(localizer, queue, data, job, worker)
        queue.finish(job.id, worker, "done", duration=duration, message=_for_people(note, job, data, model))
    except Unwanted:
        pass
    except InputError as error:
        queue.finish(job.id, worker, "failed", message=_for_people(str(error), job, data, model))
    except OSError as error:
        traceback.print_exc()
        queue.finish(job.id, worker, "failed", message=f"The system refused: {error.strerror or error}.")
    except Exception as error:
        traceback.print_exc()
        told = f"A fault of dgam itself, not of your video: {type(error).__name__}: {error}"
        queue.finish(job.id, worker, "failed", message=_for_people(told, job, data, model))
    data.remove(data.job(job.id) / "features")
    for removed in queue.let_go(worker):
        data.remove(data.job(removed))
    return True


def _localize(
    localizer: Localizer, queue: JobQueue, data: DataFolder, job: Job, worker: str
) -> tuple[float, str]:
    """Leave a result in the job's folder; its duration in seconds, and what else there is to say."""
    from dgam.app.preview import make_preview
    from dgam.app.results import save_result

    folder, report = data.job(job.id), Reporter(queue, job.id, worker)
    video = folder / job.video  # an absolute path stays what it is
    report("extracting", 0.0)
    for left in [*folder.glob(".*.part"), *folder.glob("preview.part.*")]:  # of a worker that was killed
        left.unlink()
    found = localizer.localize_file(video, folder / "features", video_id="video", on_progress=report)
    settings = {stream: localizer.run.config.for_stream(stream).localize for stream in found.curves}
    duration = save_result(folder, found, localizer.classes, settings)
    if not job.media:
        try:
            make_preview(video, folder, lambda fraction: report("preview", fraction))
        except InputError as error:
            return duration, f"No copy that browsers can play: {error}"
    return duration, ""


def _for_people(message: str, job: Job, data: DataFolder, model: ModelFolder) -> str:
    """A message without the server's paths, which say nothing to whoever uploaded the video."""
    paths = dict.fromkeys((data.job(job.id) / job.video, data.job(job.id), data.path), job.name)
    for path, name in {**paths, model.path: "the model"}.items():
        message = message.replace(str(path.resolve()), name).replace(str(path), name)
    if model.encoder is not None:
        encoder = model.encoder.encoder
        message = message.replace(encoder, encoder.rpartition("/")[2])
    return message[:2000]


def work(name: str, model: Path, data: DataFolder, wait: Callable[[], None]) -> None:
    """Work for ever; ``wait`` returns when there may be something to do."""
    from dgam.fitting.localizer import Localizer

    with data.worker():
        queue = JobQueue(data.queue)
        localizer = Localizer(model)
        while True:
            if not work_once(localizer, queue, data, name):
                wait()


def _end_with_server(awake: threading.Event) -> None:
    """Standard input is a pipe from the server, which closes however the server ends."""
    while os.read(sys.stdin.fileno(), 4096):  # sys.stdin itself would be locked when Python ends
        awake.set()
    os._exit(0)


def main(name: str, model: str, data: str) -> int:
    """The process: 0 when its server is gone, BAD_MODEL where the model cannot be used."""
    awake = threading.Event()
    threading.Thread(target=_end_with_server, args=(awake,), daemon=True).start()
    with contextlib.suppress(OSError, AttributeError):
        os.nice(5)  # the page stays quick while a video is worked on
    with contextlib.suppress(OSError):  # where memory runs out, this process should go before the server
        Path("/proc/self/oom_score_adj").write_text("500")

    def wait() -> None:
        awake.wait(NAP)
        awake.clear()

    try:
        work(name, Path(model), DataFolder(Path(data)), wait)
    except InputError as error:
        print(f"dgam serve: the worker cannot start: {error}", file=sys.stderr)
        return BAD_MODEL
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))

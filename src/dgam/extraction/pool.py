"""Worker processes: each takes one video at a time; one that dies costs a retry, not the run."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from dgam.core.errors import InputError
from dgam.extraction.lock import worker as show_at_work
from dgam.extraction.report import VideoReport
from dgam.extraction.worker import ExtractSettings, VideoExtractor
from dgam.video.listing import VideoFile

TRIES = 2
"""How often a video may take its worker down with it before it counts as failed."""

Advance = Callable[[VideoFile, float, int], None]


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    file: VideoFile | None = None


def extract_in_processes(
    files: Sequence[VideoFile], out: Path, settings: ExtractSettings, workers: int, advance: Advance
) -> Generator[VideoReport]:
    """Reports in the order in which videos are done; the largest files go first.

    Closing the generator ends the workers. A worker that dies (killed for memory, a crashing decoder) is
    replaced. InputError where a worker cannot start, OSError where the store cannot be written.
    """
    waiting = deque(sorted(files, key=lambda file: (-file.size, file.video)))
    tries: dict[str, int] = {}
    crew = [_hire(out, settings) for _ in range(min(workers, len(files)))]
    try:
        for one in crew:
            _give(one, waiting)
        while any(one.file is not None for one in crew):
            for ready in wait([one.pipe for one in crew if one.file is not None]):
                one = next(one for one in crew if one.pipe is ready)
                file = one.file
                assert file is not None
                try:
                    message = one.pipe.recv()
                except (EOFError, ConnectionResetError):
                    one.process.join()
                    code = one.process.exitcode
                    crew.remove(one)
                    tries[file.video] = tries.get(file.video, 0) + 1
                    if tries[file.video] < TRIES:
                        waiting.appendleft(file)
                    else:
                        yield VideoReport(file.video, file.path, "failed", message=_death(file, code))
                    if waiting:
                        crew.append(_hire(out, settings))
                        _give(crew[-1], waiting)
                    continue
                if isinstance(message, InputError | OSError):
                    raise message
                if isinstance(message, VideoReport):
                    one.file = None
                    _give(one, waiting)
                    yield message
                else:
                    advance(file, *message)
    finally:
        for one in crew:
            one.process.terminate()
        for one in crew:
            one.process.join()
            one.pipe.close()


def _hire(out: Path, settings: ExtractSettings) -> _Worker:
    context = multiprocessing.get_context("spawn")  # a forked copy of torch's and FFmpeg's threads would hang
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, out, settings), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _give(one: _Worker, waiting: deque[VideoFile]) -> None:
    if waiting:
        one.file = waiting.popleft()
        one.pipe.send(one.file)


def _death(file: VideoFile, code: int | None) -> str:
    how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"
    hint = " Memory may have run out: try fewer --workers." if code == -signal.SIGKILL else ""
    return f"{file.path}: its worker process {how}, {TRIES} times.{hint}"


def _work(pipe: Connection, out: Path, settings: ExtractSettings) -> None:
    """A worker process: one video after the other, until the pipe or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()
    use_threads(settings.threads)
    try:
        with show_at_work(out):
            extractor = VideoExtractor(out, settings)
            while True:
                file = pipe.recv()
                report = extractor.extract(file, lambda part, frames: pipe.send((part, frames)))
                pipe.send(report)
    except (EOFError, BrokenPipeError):
        return
    except (InputError, OSError) as error:  # such as a full disk: not the video's fault
        pipe.send(error)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def use_threads(threads: int) -> None:
    """Let this process' networks and flow use so many CPU threads; 0 leaves the default."""
    if not threads:
        return
    os.environ["OMP_NUM_THREADS"] = str(threads)  # what torch goes by when it is imported later
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)

"""Worker processes: each takes one task at a time; one that dies costs a retry, not the others' work."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from dgam.core.errors import InputError, Problem
from dgam.core.progress import Advance
from dgam.experiments.cache import RunCache
from dgam.experiments.source import MEASURING, refuse_other_source, source_of
from dgam.experiments.tasks import Task, Tell, attempt, size, stepwise

TRIES = 2
"""How often a task may take its worker down with it before it counts as failed."""
TELL_SECONDS = 0.5


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    task: Task | None = None
    told: Tell = lambda fraction: None


def run_in_processes(
    tasks: Sequence[Task], cache: RunCache, jobs: int, patient: bool, advance: Advance
) -> Iterator[tuple[Task, str | Problem]]:
    """Tasks and what became of them, in the order in which they end. Closing the iterator ends the workers.

    Each worker has its share of the cores. OSError where a worker could not write, InputError where dgam was
    changed since this process began, RuntimeError with the worker's traceback for a fault of ours.
    """
    waiting = deque(tasks)
    tries: dict[str, int] = {}
    crew: list[_Worker] = []
    threads = max(1, (os.cpu_count() or 1) // jobs)

    def give(one: _Worker) -> None:
        one.task = waiting.popleft() if waiting else None
        if one.task is not None:
            one.told = stepwise(advance, one.task.title, size(one.task))
            one.pipe.send(one.task)

    try:
        for _ in range(min(jobs, len(tasks))):
            crew.append(_hire(cache, patient, threads))
            give(crew[-1])
        while any(one.task is not None for one in crew):
            for ready in wait([one.pipe for one in crew if one.task is not None]):
                one = next(one for one in crew if one.pipe is ready)
                task = one.task
                assert task is not None
                try:
                    message = one.pipe.recv()
                except (EOFError, ConnectionResetError):
                    one.process.join()
                    crew.remove(one)
                    tries[task.key] = tries.get(task.key, 0) + 1
                    if tries[task.key] < TRIES:
                        waiting.appendleft(task)
                    else:
                        yield task, _death(task, one.process.exitcode)
                    if waiting:
                        crew.append(_hire(cache, patient, threads))
                        give(crew[-1])
                    continue
                if isinstance(message, float):
                    one.told(message)
                elif isinstance(message, BaseException):
                    raise message
                else:
                    if message != "busy":
                        one.told(1.0)
                    give(one)
                    yield task, message
    finally:
        for one in crew:
            one.process.terminate()
        for one in crew:
            one.process.join()
            one.pipe.close()


def _hire(cache: RunCache, patient: bool, threads: int) -> _Worker:
    context = multiprocessing.get_context("spawn")  # a forked copy of torch's threads would hang
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_work, args=(theirs, cache.root, source_of(*MEASURING), patient, threads), daemon=True
    )
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _death(task: Task, code: int | None) -> Problem:
    how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"
    hint = "Memory may have run out: try fewer --jobs." if code == -signal.SIGKILL else ""
    return Problem(task.title, f"its worker process {how}, {TRIES} times.", remedy=hint)


def _work(pipe: Connection, root: os.PathLike[str], source: str, patient: bool, threads: int) -> None:
    """A worker process: one task after the other, until the pipe or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = str(threads)  # what torch goes by when it is imported
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    cache = RunCache(root)
    while True:
        try:
            task: Task = pipe.recv()
        except EOFError:
            return
        last = time.monotonic()

        def tell(fraction: float) -> None:
            nonlocal last
            if time.monotonic() - last >= TELL_SECONDS:
                last = time.monotonic()
                pipe.send(float(fraction))

        try:
            refuse_other_source(source)
            said: object = attempt(task, cache, patient, tell)
        except InputError as error:
            said = InputError(str(error))  # not a subclass, which may not survive the pipe
        except OSError as error:  # such as a full disk: not the task's fault
            said = error
        except Exception as error:
            said = RuntimeError(
                f"{task.title}: {type(error).__name__}: {error}\n"
                f"In its worker process:\n{traceback.format_exc()}"
            )
        try:
            pipe.send(said)
        except BrokenPipeError:
            return


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)

"""Keeps the worker processes alive, and takes jobs from those that died or do not let go."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from dgam.app.folders import DataFolder, new_id
from dgam.app.queue import JobQueue
from dgam.app.worker import BAD_MODEL

LOOK = 0.25
GRACE = 5.0
"""Seconds that a worker has to let go of a cancelled job before it is killed."""
LONGEST_PAUSE = 60.0


@dataclass
class _Post:
    """A place for one worker, and who holds it. ``quick`` counts deaths soon after the start."""

    process: subprocess.Popen[bytes] | None = None
    name: str = ""
    started: float = 0.0
    next_start: float = 0.0
    quick: int = 0


@dataclass
class Supervisor:
    """Starts ``workers`` processes and watches them in a thread. :meth:`wake` tells them of a new job."""

    model: Path
    data: DataFolder
    queue: JobQueue
    workers: int = 1
    _posts: list[_Post] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the workers."""
        self._posts = [_Post() for _ in range(self.workers)]
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the workers; what they were at is queued again."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        for post in self._posts:
            if post.process is not None:
                post.process.kill()
        for post in self._posts:
            if post.process is not None:
                post.process.wait()

    def wake(self) -> None:
        """Tell idle workers that there is something to do."""
        for post in self._posts:
            pipe = post.process.stdin if post.process is not None else None
            if pipe is not None:
                try:
                    pipe.write(b"\n")
                    pipe.flush()
                except OSError:
                    continue  # it died; the thread sees to it

    def _watch(self) -> None:
        while not self._stop.is_set():
            for post in self._posts:
                self._see_to(post)
            self._stop.wait(LOOK)

    def _see_to(self, post: _Post) -> None:
        now = time.monotonic()
        if post.process is None:
            if now >= post.next_start:
                self._hire(post)
            return
        code = post.process.poll()
        if code is None:
            if self.queue.clinging(post.name, GRACE):
                post.process.kill()
            return
        if post.process.stdin is not None:
            post.process.stdin.close()
        if code == BAD_MODEL:
            self.queue.tell_waiting("The worker cannot load the model; the server's log says why.")
        for removed in self.queue.after_death(post.name, _death(code)):
            self.data.remove(self.data.job(removed))
        # One that dies at once, for want of memory or a sound model, is not started again without a pause.
        post.quick = post.quick + 1 if now - post.started < 20 else 0
        post.next_start = now + (min(LONGEST_PAUSE, 2.0**post.quick) if post.quick > 1 else 0.0)
        post.process = None

    def _hire(self, post: _Post) -> None:
        post.name, post.started = new_id(), time.monotonic()
        command = [sys.executable, "-m", "dgam.app.worker", post.name, str(self.model), str(self.data.path)]
        post.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is the server's to handle
        )


def _death(code: int) -> str:
    how = f"was killed by signal {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    hint = " Memory may have run out." if code == -signal.SIGKILL else ""
    return (
        f"The process that worked on this video {how}, twice; the video may be damaged.{hint} Re-encode it, "
        "for example with: ffmpeg -i IN -c:v libx264 OUT.mp4"
    )

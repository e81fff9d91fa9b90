"""What the tests of the server share: a model, the application in this process, and a real server process."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.types import ASGIApp

from dgam.app.folders import DataFolder
from dgam.app.queue import JobQueue
from dgam.app.server import create_app
from dgam.app.service import Service, open_service
from dgam.app.settings import ServeSettings, VideoLimits
from dgam.app.worker import work_once
from tiny_model import make_model, write_clip

API = "/api/v1"
SMALL_LIMITS = VideoLimits(pixels=1_000_000, seconds=60.0, frames=4000, cpu_seconds=5)


@cache
def shared_model() -> Path:
    """The tiny model, made once for all tests of this process; its videos are beside it."""
    folder = Path(tempfile.mkdtemp(prefix="dgam-test-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return make_model(folder)


@cache
def localizer() -> Any:
    """The tiny model, loaded."""
    from dgam.fitting.localizer import Localizer

    return Localizer(shared_model(), device="cpu")


@dataclass
class Site:
    """The application in this process, with its folders; :meth:`work` does what a worker process does."""

    service: Service
    client: httpx.Client
    woken: list[int] = field(default_factory=list)

    @property
    def data(self) -> DataFolder:
        return self.service.data

    def submit(self, path: Path, name: str | None = None) -> httpx.Response:
        """Upload a file."""
        return self.client.post(f"{API}/jobs", files={"file": (name or path.name, path.read_bytes())})

    def work(self) -> int:
        """Do all jobs that wait; how many there were."""
        count = 0
        while work_once(localizer(), self.service.queue, self.data, "w"):
            count += 1
        return count

    def done(self, path: Path, name: str | None = None) -> str:
        """Upload a file and localise it; the job's id."""
        job: str = self.submit(path, name).json()["id"]
        self.work()
        assert self.client.get(f"{API}/jobs/{job}").json()["state"] == "done"
        return job

    def left(self) -> list[str]:
        """Files and folders of uploads and jobs on the disk."""
        kinds = ("incoming", "jobs", "trash")
        return [str(path) for kind in kinds for path in (self.data.path / kind).rglob("*")]


@contextmanager
def live(app: ASGIApp) -> Iterator[httpx.Client]:
    """Serve an application in a thread, on a free port of this machine, and give a client of it."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="error", lifespan="off", ws="none", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@contextmanager
def live_site(folder: Path, **settings: Any) -> Iterator[Site]:
    """A site that keeps its data in ``folder``."""
    data = DataFolder(folder / "data")
    data.prepare()
    given = {"limits": SMALL_LIMITS, "max_upload": 300_000, "reserve": 0, **settings}
    chosen = ServeSettings(model=shared_model(), data=data.path, **given)
    service = open_service(chosen, data, JobQueue(data.queue))
    with live(create_app(service)) as client:
        site = Site(service, client)
        service.wake = lambda: site.woken.append(1)
        yield site


@cache
def clip(seconds: float = 4.0, colour: str = "red", codec: str = "libx264", ending: str = ".mp4") -> Path:
    """A clip, made once."""
    name = f"{colour}-{seconds:g}-{codec}{ending}"
    return write_clip(shared_model().parent / "clips" / name, seconds, colour, codec=codec)


@dataclass
class Running:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    address: str
    data: Path

    def client(self, **options: Any) -> httpx.Client:
        """A client of its API."""
        return httpx.Client(base_url=f"{self.address}{API}", timeout=60, trust_env=False, **options)

    def workers(self) -> list[int]:
        """Process ids of its workers."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if b"dgam.app.worker" in words and str(self.data).encode() in words:
                    found.append(int(entry.name))
        return found


@contextmanager
def running(
    data: Path,
    *options: str,
    slow: float = 0.0,
    model: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """``dgam serve`` on a free port; ``slow`` is how many seconds the encoder takes for a snippet."""
    command = [sys.executable, "-m", "dgam", "serve", str(model or shared_model())]
    command += ["--data", str(data), "--port", "0", *options]
    tests = str(Path(__file__).parent)
    own = {
        "PYTHONPATH": tests,
        "TINY_MODEL_SECONDS": str(slow),
        "OMP_NUM_THREADS": "1",
        **(environment or {}),
    }
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **own})
    try:
        assert process.stdout is not None
        first = process.stdout.readline().strip()
        assert first.startswith("http://"), first
        yield Running(process, first.partition("/?")[0], data)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        finally:
            process.kill()
            process.communicate()


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait for a condition to hold, and return what it gave."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("waited in vain")

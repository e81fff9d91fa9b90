"""``dgam serve``'s life: lock the folder, take up what was left, start workers and web server, end both."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import signal
import socket
import sqlite3
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from dgam.app.folders import DataFolder
from dgam.app.queue import JobQueue
from dgam.app.server import create_app
from dgam.app.service import open_model, open_service
from dgam.app.settings import ServeSettings
from dgam.app.supervisor import Supervisor
from dgam.core.errors import InputError


def default_data(model: Path) -> Path:
    """Where a model's jobs are kept if nothing else is said: its own folder in the user's state folder."""
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    place = model.resolve()
    return home / "dgam" / "serve" / f"{place.name}-{hashlib.sha256(str(place).encode()).hexdigest()[:8]}"


def make_token() -> str:
    """A token that nobody guesses."""
    return secrets.token_urlsafe(24)


def open_queue(data: DataFolder) -> JobQueue:
    """The folder's queue. InputError where its file is damaged."""
    try:
        return JobQueue(data.queue)
    except sqlite3.DatabaseError as error:
        raise InputError(
            f"{data.queue}: is not a job queue that this version of dgam reads ({error}). Move it away, or "
            "take another --data."
        ) from error


def serve(
    settings: ServeSettings,
    *,
    open_page: bool = False,
    on_ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve until interrupted. ``on_ready`` is told the page's address, with the token if there is one.

    InputError for a model that cannot read videos, a port that is taken, and a folder that another server
    uses.
    """
    open_model(settings.model)  # before anything is made for one that is no use
    data = DataFolder(settings.data)
    data.prepare()
    listener = _listen(settings)
    with listener, data.sole_server():
        queue = open_queue(data)
        queue.after_restart()
        data.sweep({job.id for job in queue.newest()})
        service = open_service(settings, data, queue)
        supervisor = Supervisor(settings.model.absolute(), data, queue, settings.workers)
        service.wake = supervisor.wake
        config = uvicorn.Config(
            create_app(service),
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            lifespan="off",
            timeout_graceful_shutdown=3,
            backlog=512,
        )
        server = uvicorn.Server(config)
        service.closing = lambda: server.should_exit
        supervisor.start()
        try:
            address = _address(settings, listener.getsockname()[1])
            if settings.token is not None:
                address += f"/?token={settings.token}"
            on_ready(address)
            if open_page:
                threading.Timer(0.5, webbrowser.open, [address]).start()
            with contextlib.suppress(KeyboardInterrupt), _ends_when_told():
                server.run(sockets=[listener])
        finally:
            supervisor.stop()
            queue.after_restart()


@contextmanager
def _ends_when_told() -> Iterator[None]:
    """SIGTERM ends the server as Ctrl-C does: uvicorn closes, then raises the signal again."""

    def told(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, told)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _listen(settings: ServeSettings) -> socket.socket:
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            if sys.platform != "win32":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place)
            listener.listen(512)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise InputError(
            f"--host {settings.host} --port {settings.port}: cannot listen there: {error.strerror}. Is "
            "another server running? '--port 0' takes any free port."
        ) from error
    return listener


def _address(settings: ServeSettings, port: int) -> str:
    host = settings.host if settings.host not in ("0.0.0.0", "::", "") else socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

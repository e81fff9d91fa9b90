"""Where the server keeps things, and the locks that let one server and its workers alone write there.

DATA/queue.sqlite           the jobs
DATA/incoming/<id>/         an upload that is not a job yet
DATA/jobs/<id>/             video.<ending>, preview.mp4, features/, result.json, curves.npz, correction.json
DATA/trash/                 what is being deleted
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from dgam.core.errors import InputError
from dgam.core.locks import file_lock

ID_PATTERN = "^[0-9a-f]{24}$"
PATIENCE = 30.0
"""Seconds that a new server waits for the workers of a killed one to end."""


class DataFolder:
    """The server's folder. Nothing in it is named by a client: names are random, or fixed here."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.queue = path / "queue.sqlite"

    def prepare(self) -> None:
        """Make the folders, for this user only. InputError where that cannot be."""
        try:
            for folder in (self.path, self.path / "jobs", self.path / "incoming", self.path / "trash"):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--data {self.path}: cannot be used: {error.strerror}.") from error

    def job(self, job: str) -> Path:
        """The folder of a job."""
        return self.path / "jobs" / job

    def new_incoming(self) -> Path:
        """A new, empty folder for an upload; its name becomes the job's id."""
        folder = self.path / "incoming" / new_id()
        folder.mkdir(mode=0o700)
        return folder

    def adopt(self, incoming: Path) -> str:
        """Make an upload's folder that of a job, and return the job's id."""
        os.rename(incoming, self.job(incoming.name))
        return incoming.name

    def remove(self, folder: Path) -> None:
        """Remove a folder with all that is in it, also while somebody writes there; a missing one is fine."""
        away = self.path / "trash" / new_id()
        with contextlib.suppress(FileNotFoundError):
            os.rename(folder, away)
        shutil.rmtree(away, ignore_errors=True)

    def sweep(self, jobs: Collection[str]) -> None:
        """Remove what a killed server left: uploads that were under way, folders of no job, the trash."""
        for kind in ("incoming", "trash", "jobs"):
            for left in list((self.path / kind).iterdir()):
                if kind != "jobs" or left.name not in jobs:
                    self.remove(left) if kind != "trash" else shutil.rmtree(left, ignore_errors=True)

    def free_bytes(self) -> int:
        """Space left on the disk."""
        return shutil.disk_usage(self.path).free

    @contextmanager
    def sole_server(self) -> Iterator[None]:
        """Hold the folder for this server. InputError where another one, or a worker that will not end, has
        it."""
        with _locked(self.path / ".server.lock", False, 0.0, "another dgam serve is using this folder"):
            what = "a worker of a killed server is still at work here"
            with _locked(self.path / ".workers.lock", False, PATIENCE, what):
                pass
            yield

    @contextmanager
    def worker(self) -> Iterator[None]:
        """Show that a worker process is at work here."""
        with _locked(self.path / ".workers.lock", True, PATIENCE, "a server is starting here"):
            yield


def new_id() -> str:
    """A random name: 24 hex digits that nobody guesses."""
    return secrets.token_hex(12)


@contextmanager
def _locked(path: Path, shared: bool, patience: float, what: str) -> Iterator[None]:
    with file_lock(path, shared=shared, patience=patience) as mine:
        if not mine:
            raise InputError(f"--data {path.parent}: {what}. Stop it, or take another folder.")
        yield

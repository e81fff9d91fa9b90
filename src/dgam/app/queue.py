"""The job queue: one SQLite table that server and workers share, and that outlives both.

A job is queued, running, done, failed or cancelled; a running one has the name of its worker. A cancelled or
removed one keeps that name until the worker has let go of it. Every change is one transaction (WAL, flushed
to the disk), so a kill at any moment leaves a state that the next start can go on from.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

FORMAT = 1
CRASHES = 2
"""How often a job may take its worker down with it before it counts as failed."""
ENDED = ("done", "failed", "cancelled")

_TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  video TEXT NOT NULL,
  media TEXT NOT NULL,
  size INTEGER NOT NULL,
  state TEXT NOT NULL DEFAULT 'queued',
  stage TEXT NOT NULL DEFAULT '',
  progress REAL NOT NULL DEFAULT 0,
  message TEXT NOT NULL DEFAULT '',
  duration REAL,
  created REAL NOT NULL,
  finished REAL,
  worker TEXT,
  crashes INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, number);
"""
_COLUMNS = (
    "id, name, video, media, size, state, stage, progress, message, duration, created, finished, "
    "worker, crashes"
)


@dataclass(frozen=True)
class Job:
    """A row of the queue.

    ``name`` is for display only; ``video`` the file's name in the job's folder, or the absolute path of a
    video that lies elsewhere; ``media`` its type where a browser can play it, else ""; ``size`` the bytes
    kept here for it; ``duration`` in seconds; ``created`` and ``finished`` in seconds since 1970.
    """

    id: str
    name: str
    video: str
    media: str
    size: int
    state: str
    stage: str
    progress: float
    message: str
    duration: float | None
    created: float
    finished: float | None
    worker: str | None
    crashes: int


class JobQueue:
    """The queue in the file ``path``. Safe to use from several threads and processes at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as db:
            db.execute("PRAGMA journal_mode=WAL")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, FORMAT):
                raise sqlite3.DatabaseError(f"format {version}, this version of dgam reads {FORMAT}")
            for statement in _TABLE.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version={FORMAT}")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection for one transaction, which starts here and ends with the block."""
        db = sqlite3.connect(self.path, timeout=60.0, isolation_level=None)
        try:
            db.execute("PRAGMA synchronous=FULL")
            yield db
        finally:
            db.close()

    def add(self, job: str, name: str, video: str, media: str, size: int, duration: float | None) -> Job:
        """Queue a job. sqlite3.IntegrityError where its id is taken."""
        with self._open() as db:
            row = db.execute(
                "INSERT INTO jobs (id, name, video, media, size, duration, created) "
                f"VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING {_COLUMNS}",
                (job, name, video, media, size, duration, time.time()),
            ).fetchone()
        return Job(*row)

    def get(self, job: str) -> Job | None:
        """A job, or None where there is none (any more)."""
        with self._open() as db:
            row = db.execute(
                f"SELECT {_COLUMNS} FROM jobs WHERE id = ? AND state != 'removed'", (job,)
            ).fetchone()
        return Job(*row) if row else None

    def newest(self, limit: int = -1) -> list[Job]:
        """Jobs, newest first; all of them unless limited."""
        with self._open() as db:
            rows = db.execute(
                f"SELECT {_COLUMNS} FROM jobs WHERE state != 'removed' ORDER BY number DESC LIMIT ?", (limit,)
            ).fetchall()
        return [Job(*row) for row in rows]

    def total_size(self) -> int:
        """Bytes of all uploads kept."""
        with self._open() as db:
            return int(
                db.execute("SELECT coalesce(sum(size), 0) FROM jobs WHERE state != 'removed'").fetchone()[0]
            )

    def tell_waiting(self, message: str) -> None:
        """Say to queued jobs why nothing happens; it goes away when they start."""
        self._changed("UPDATE jobs SET message = ? WHERE state = 'queued'", (message,))

    def _changed(self, statement: str, values: tuple[object, ...]) -> bool:
        with self._open() as db:
            return db.execute(statement, values).rowcount > 0

    def claim(self, worker: str) -> Job | None:
        """The oldest queued job, now this worker's; None where none waits. No two workers get the same."""
        with self._open() as db:
            row = db.execute(
                "UPDATE jobs SET state = 'running', worker = ?, stage = '', progress = 0, message = '' "
                "WHERE number = (SELECT number FROM jobs WHERE state = 'queued' ORDER BY number LIMIT 1) "
                f"RETURNING {_COLUMNS}",
                (worker,),
            ).fetchone()
        return Job(*row) if row else None

    def report(self, job: str, worker: str, stage: str, progress: float) -> bool:
        """Tell how far a job is. False where it is no longer wanted from this worker."""
        return self._changed(
            "UPDATE jobs SET stage = ?, progress = ? WHERE id = ? AND worker = ? AND state = 'running'",
            (stage, progress, job, worker),
        )

    def finish(
        self, job: str, worker: str, state: str, *, message: str = "", duration: float | None = None
    ) -> bool:
        """End a running job as done or failed, and let go of it. False where it is no longer wanted."""
        return self._changed(
            "UPDATE jobs SET state = ?, message = ?, duration = coalesce(?, duration), finished = ?, "
            "stage = '', progress = CASE ? WHEN 'done' THEN 1 ELSE progress END, worker = NULL "
            "WHERE id = ? AND worker = ? AND state = 'running'",
            (state, message, duration, time.time(), state, job, worker),
        )

    def cancel(self, job: str) -> bool:
        """Stop a job that is queued or running; its video stays. False where it had ended, or is unknown."""
        return self._changed(
            "UPDATE jobs SET state = 'cancelled', stage = '', message = 'Cancelled.', finished = ? "
            "WHERE id = ? AND state IN ('queued', 'running')",
            (time.time(), job),
        )

    def remove(self, job: str) -> bool:
        """Forget a job; a worker that has it lets go of it first. False where it is unknown."""
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            found = db.execute(
                "UPDATE jobs SET state = 'removed', finished = ? WHERE id = ? AND state != 'removed'",
                (time.time(), job),
            ).rowcount
            db.execute("DELETE FROM jobs WHERE id = ? AND worker IS NULL", (job,))
            db.execute("COMMIT")
        return found == 1

    def let_go(self, worker: str) -> list[str]:
        """End this worker's hold on cancelled and removed jobs. Returns the removed ones, now forgotten."""
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            gone = db.execute(
                "DELETE FROM jobs WHERE worker = ? AND state = 'removed' RETURNING id", (worker,)
            ).fetchall()
            db.execute("UPDATE jobs SET worker = NULL WHERE worker = ? AND state != 'running'", (worker,))
            db.execute("COMMIT")
        return [row[0] for row in gone]

    def after_death(self, worker: str, how: str) -> list[str]:
        """What a worker that died was at is queued again, or failed if it died of it before too.

        Returns the removed jobs that it held, now forgotten."""
        with self._open() as db:
            db.execute(
                "UPDATE jobs SET crashes = crashes + 1, worker = NULL, stage = '', "
                "state = CASE WHEN crashes + 1 < ? THEN 'queued' ELSE 'failed' END, "
                "finished = CASE WHEN crashes + 1 < ? THEN NULL ELSE ? END, "
                "message = CASE WHEN crashes + 1 < ? THEN '' ELSE ? END "
                "WHERE worker = ? AND state = 'running'",
                (CRASHES, CRASHES, time.time(), CRASHES, how, worker),
            )
        return self.let_go(worker)

    def after_restart(self) -> int:
        """No worker is alive: running jobs are queued again, removed ones forgotten. How many had been
        running."""
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            db.execute("DELETE FROM jobs WHERE state = 'removed'")
            again = db.execute(
                "UPDATE jobs SET state = 'queued', stage = '', progress = 0 WHERE state = 'running'"
            ).rowcount
            db.execute("UPDATE jobs SET worker = NULL")
            db.execute("COMMIT")
        return again

    def clinging(self, worker: str, seconds: float) -> bool:
        """Whether the worker holds a job that was cancelled or removed so many seconds ago."""
        with self._open() as db:
            row = db.execute(
                "SELECT 1 FROM jobs WHERE worker = ? AND state IN ('cancelled', 'removed') AND finished < ?",
                (worker, time.time() - seconds),
            ).fetchone()
        return row is not None

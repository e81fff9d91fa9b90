"""The job queue: its states, and that nothing is lost or done twice when many use it or somebody dies."""

from __future__ import annotations

import multiprocessing
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dgam.app.folders import DataFolder, new_id
from dgam.app.queue import CRASHES, JobQueue
from dgam.app.serving import open_queue
from dgam.core.errors import InputError


@pytest.fixture
def queue(tmp_path: Path) -> JobQueue:
    return JobQueue(tmp_path / "queue.sqlite")


def add(queue: JobQueue, name: str = "a.mp4") -> str:
    return queue.add(new_id(), name, "video.mp4", "video/mp4", 10, 1.0).id


def state(queue: JobQueue, job: str) -> str | None:
    found = queue.get(job)
    return found.state if found is not None else None


def test_a_job_goes_from_queued_to_done(queue: JobQueue) -> None:
    first, second = add(queue, "first"), add(queue, "second")
    assert [job.name for job in queue.newest()] == ["second", "first"]
    assert [job.name for job in queue.newest(1)] == ["second"]
    claimed = queue.claim("w")
    assert claimed is not None
    assert (claimed.id, claimed.state, claimed.worker) == (first, "running", "w")
    assert queue.report(first, "w", "extracting", 0.25)
    told = queue.get(first)
    assert told is not None
    assert (told.stage, told.progress) == ("extracting", 0.25)
    assert not queue.report(first, "another", "extracting", 0.5)
    assert queue.finish(first, "w", "done", duration=7.5)
    told = queue.get(first)
    assert told is not None
    assert (told.state, told.stage, told.progress, told.duration, told.worker) == ("done", "", 1.0, 7.5, None)
    assert told.finished is not None
    assert told.finished >= told.created
    assert state(queue, second) == "queued"
    assert not queue.finish(first, "w", "failed")


def test_cancelling(queue: JobQueue) -> None:
    waiting, running = add(queue), add(queue)
    assert queue.cancel(waiting)
    claimed = queue.claim("w")
    assert claimed is not None
    assert claimed.id == running
    assert queue.cancel(running)
    assert not queue.cancel(running)
    assert not queue.report(running, "w", "extracting", 0.5)
    assert not queue.finish(running, "w", "done")
    assert queue.clinging("w", 0.0)
    assert not queue.clinging("w", 60.0)
    assert queue.let_go("w") == []
    assert not queue.clinging("w", 0.0)
    assert (state(queue, waiting), state(queue, running)) == ("cancelled", "cancelled")
    assert queue.claim("w") is None


def test_removing_waits_for_the_worker_but_hides_the_job_at_once(queue: JobQueue) -> None:
    running, waiting = add(queue), add(queue)
    queue.claim("w")
    assert queue.remove(running)
    assert queue.remove(waiting)
    assert queue.newest() == []
    assert queue.total_size() == 0
    assert not queue.remove(running)
    assert not queue.remove("f" * 24)
    assert not queue.finish(running, "w", "done")
    assert queue.let_go("w") == [running]
    with sqlite3.connect(queue.path) as db:
        assert db.execute("SELECT count(*) FROM jobs").fetchone() == (0,)
    db.close()


def test_a_job_that_kills_its_workers_fails_in_the_end(queue: JobQueue) -> None:
    job = add(queue)
    for attempt in range(CRASHES):
        assert state(queue, job) == "queued"
        queue.claim(f"w{attempt}")
        assert queue.after_death(f"w{attempt}", "killed by signal SIGSEGV") == []
    found = queue.get(job)
    assert found is not None
    assert (found.state, found.message) == ("failed", "killed by signal SIGSEGV")


def test_a_restart_takes_up_what_was_running_and_counts_it_against_nobody(queue: JobQueue) -> None:
    job, gone = add(queue), add(queue)
    for _ in range(CRASHES + 3):
        queue.claim("w")
        assert JobQueue(queue.path).after_restart() == 1
    assert queue.claim("w2")
    assert queue.claim("w2")
    queue.remove(gone)
    assert queue.after_restart() == 1
    assert state(queue, job) == "queued"
    assert [one.id for one in queue.newest()] == [job]


def submit_and_claim(path: str, name: str, count: int, sent: object) -> None:
    """A process that adds jobs and claims as many, and tells which it got."""
    queue = JobQueue(Path(path))
    got = []
    for number in range(count):
        queue.add(new_id(), f"{name}-{number}", "video.mp4", "", 1, None)
        job = queue.claim(name)
        assert job is not None
        got.append(job.id)
        queue.report(job.id, name, "extracting", 0.5)
        queue.finish(job.id, name, "done")
    sent.put(got)  # type: ignore[attr-defined]  # a queue


def test_processes_and_threads_at_once_lose_nothing_and_share_nothing(queue: JobQueue) -> None:
    context = multiprocessing.get_context("spawn")
    sent = context.Queue()
    crew = [
        context.Process(target=submit_and_claim, args=(str(queue.path), f"p{i}", 25, sent)) for i in range(3)
    ]
    for process in crew:
        process.start()
    added: list[str] = []
    threads = [threading.Thread(target=lambda: added.extend(add(queue) for _ in range(25))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    got = [job for _ in crew for job in sent.get(timeout=60)]
    for process in crew:
        process.join()
    assert len(got) == len(set(got)) == 75
    assert len(added) == len(set(added)) == 100
    jobs = queue.newest()
    assert len(jobs) == 175
    assert {job.id for job in jobs if job.state == "done"} == set(got)
    assert {job.state for job in jobs} == {"done", "queued"}


def test_a_writer_that_is_killed_leaves_a_sound_queue(queue: JobQueue) -> None:
    job = add(queue)
    script = (
        "import sqlite3, os, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "db.execute('BEGIN IMMEDIATE'); db.execute(\"UPDATE jobs SET state = 'done'\"); "
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(queue.path)], check=False, timeout=60)
    assert state(queue, job) == "queued"
    assert queue.claim("w") is not None


def test_a_damaged_queue_is_told_of(tmp_path: Path) -> None:
    data = DataFolder(tmp_path)
    data.queue.write_bytes(b"no database at all" * 100)
    with pytest.raises(InputError, match=r"queue\.sqlite: is not a job queue"):
        open_queue(data)
    data.queue.unlink()
    with sqlite3.connect(data.queue) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(InputError, match="format 99"):
        open_queue(data)


def test_one_server_alone_has_a_folder(tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "data")
    data.prepare()
    with data.sole_server(), pytest.raises(InputError, match="another dgam serve"), data.sole_server():
        pass
    with data.sole_server():
        pass


def test_the_sweep_keeps_jobs_and_nothing_else(tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "data")
    data.prepare()
    kept, orphan, upload = new_id(), new_id(), data.new_incoming()
    (upload / "upload.part").write_bytes(b"x")
    for job in (kept, orphan):
        data.job(job).mkdir()
        (data.job(job) / "video.mp4").write_bytes(b"x")
    (data.path / "trash" / "old").mkdir()
    data.sweep({kept})
    left = {path.relative_to(data.path).as_posix() for path in data.path.rglob("*")}
    assert left == {"jobs", "incoming", "trash", f"jobs/{kept}", f"jobs/{kept}/video.mp4"}

"""``dgam serve`` as processes: nobody's job is lost when many come at once, or when somebody is killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from dgam.app.queue import JobQueue
from serve_site import clip, running, shared_model, until


def job_of(client: httpx.Client, job: str) -> dict[str, Any]:
    answer = client.get(f"/jobs/{job}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def submit(client: httpx.Client, path: Path) -> str:
    answer = client.post("/jobs", files={"file": (path.name, path.read_bytes())})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def in_mid_job(client: httpx.Client, job: str) -> bool:
    facts = job_of(client, job)
    assert facts["state"] in ("queued", "running")
    return bool(facts["state"] == "running" and facts["progress"] > 0.05)


def ended(client: httpx.Client, job: str) -> dict[str, Any]:
    return dict(until(lambda: (found := job_of(client, job))["finished"] and found))


@pytest.mark.slow
def test_fifty_clients_at_once_lose_no_job(tmp_path: Path) -> None:
    """Each sends a video of its own and polls until it is done; every result is that of its own video."""
    kinds = [clip(2.0 + index % 3, ("red", "blue")[index % 2]) for index in range(6)]
    with running(tmp_path / "data") as server, server.client() as client:

        def visit(index: int) -> tuple[str, str, float]:
            with server.client() as own:
                job = submit(own, kinds[index % 6])
                facts = ended(own, job)
                assert (facts["state"], facts["message"]) == ("done", "")
                return job, facts["name"], own.get(f"/jobs/{job}/result").json()["duration"]

        with ThreadPoolExecutor(50) as pool:
            found = list(pool.map(visit, range(50)))
        assert len({job for job, _, _ in found}) == 50
        for index, (_, name, duration) in enumerate(found):
            assert (name, duration) == (kinds[index % 6].name, 2.0 + index % 3)
        assert len(client.get("/jobs").json()["jobs"]) == 50
        assert list((server.data / "incoming").iterdir()) == []


@pytest.mark.parametrize(
    "victim",
    [pytest.param("worker", marks=pytest.mark.slow), "server", pytest.param("both", marks=pytest.mark.slow)],
)
def test_kill_9_in_mid_job(tmp_path: Path, victim: str) -> None:
    """With the worker killed the server goes on; with the server killed the next one does."""
    data = tmp_path / "data"
    with running(data, slow=0.15) as server, server.client() as client:
        first, second = submit(client, clip(12.0)), submit(client, clip(2.0, "blue"))
        until(lambda: in_mid_job(client, first))
        (worker,) = server.workers()
        if victim in ("worker", "both"):
            os.kill(worker, signal.SIGKILL)
        if victim in ("server", "both"):
            server.process.kill()
            server.process.wait()
            until(lambda: not server.workers())  # a worker does not outlive its server
            jobs = {job.id: job.state for job in JobQueue(data / "queue.sqlite").newest()}
            assert set(jobs) == {first, second}
            assert "done" not in jobs.values()
        else:
            _both_end_well(client, first, second)
            assert worker not in server.workers()
            return
    with running(data) as server, server.client() as client:
        _both_end_well(client, first, second)
        assert not list(data.rglob("*.part"))


def _both_end_well(client: httpx.Client, first: str, second: str) -> None:
    for job, duration, label in ((first, 12.0, "red"), (second, 2.0, "blue")):
        facts = ended(client, job)
        assert (facts["state"], facts["message"]) == ("done", "")
        result = client.get(f"/jobs/{job}/result").json()
        assert result["duration"] == duration
        assert result["detections"][0]["label"] == label


@pytest.mark.slow
def test_a_server_told_to_end_lets_the_next_one_go_on(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(data, slow=0.15) as server, server.client() as client:
        job = submit(client, clip(12.0))
        until(lambda: in_mid_job(client, job))
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(20) == 0
        assert server.workers() == []
        (left,) = JobQueue(data / "queue.sqlite").newest()
        assert (left.state, left.crashes) == ("queued", 0)
    with running(data) as server, server.client() as client:
        assert ended(client, job)["state"] == "done"


@pytest.mark.slow
def test_cancelling_and_deleting_in_mid_job(tmp_path: Path) -> None:
    with running(tmp_path / "data", slow=0.15) as server, server.client() as client:
        jobs = [submit(client, clip(12.0)) for _ in range(2)]
        until(lambda: in_mid_job(client, jobs[0]))
        began = time.monotonic()
        assert client.post(f"/jobs/{jobs[0]}/cancel").json()["state"] == "cancelled"
        until(lambda: in_mid_job(client, jobs[1]))  # the worker is free again
        assert client.delete(f"/jobs/{jobs[1]}").status_code == 204
        assert client.get(f"/jobs/{jobs[1]}").status_code == 404
        last = submit(client, clip(2.0))
        assert ended(client, last)["state"] == "done"
        assert time.monotonic() - began < 30
        assert job_of(client, jobs[0])["state"] == "cancelled"
        folders = {path.name for path in (server.data / "jobs").iterdir()}
        assert folders == {jobs[0], last}
        assert {path.name for path in (server.data / "jobs" / jobs[0]).iterdir()} == {"video.mp4"}
        assert client.get(f"/jobs/{jobs[0]}/result").status_code == 409


@pytest.mark.slow
def test_a_worker_that_does_not_let_go_is_killed(tmp_path: Path) -> None:
    """One snippet takes a minute here, so the worker hears nothing of the cancellation."""
    told = {"TINY_MODEL_TOUCHES": str(tmp_path / "begun")}
    with (
        running(tmp_path / "data", slow=60.0, environment=told) as server,
        server.client() as client,
    ):
        job = submit(client, clip(2.0))
        until((tmp_path / "begun").exists)
        (stuck,) = server.workers()
        assert client.delete(f"/jobs/{job}").status_code == 204
        until(lambda: stuck not in server.workers() and server.workers(), 40)
        assert list((server.data / "jobs").iterdir()) == []


@pytest.mark.slow
def test_a_video_that_kills_its_worker_fails_and_the_next_one_goes_on(tmp_path: Path) -> None:
    """The encoder dies, as a codec might, of a video of 3 seconds."""
    told = {"TINY_MODEL_DIES_AT": "4"}
    with running(tmp_path / "data", environment=told) as server, server.client() as client:
        bad, good = submit(client, clip(3.0)), submit(client, clip(2.0))
        facts = ended(client, bad)
        assert facts["state"] == "failed"
        assert "was killed by signal SIGKILL, twice" in facts["message"]
        assert ended(client, good)["state"] == "done"
        assert client.get("/health").json() == {"status": "ok"}


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_told_of(tmp_path: Path) -> None:
    """It was sound when the server started; then its weights were lost."""
    model = tmp_path / "model"
    shutil.copytree(shared_model(), model)
    (model / "rgb" / "model.safetensors").unlink()
    with running(tmp_path / "data", model=model) as server, server.client() as client:
        job = submit(client, clip(2.0))
        told = until(lambda: job_of(client, job)["message"])
        assert told == "The worker cannot load the model; the server's log says why."
        assert job_of(client, job)["state"] == "queued"
        shutil.copy(shared_model() / "rgb" / "model.safetensors", model / "rgb")
        assert ended(client, job)["state"] == "done"


@pytest.mark.slow
def test_two_workers_share_the_queue(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--workers", "2", slow=0.15) as server, server.client() as client:
        jobs = [submit(client, clip(6.0)) for _ in range(4)]
        until(lambda: len(server.workers()) == 2)
        until(lambda: sum(job_of(client, job)["state"] == "running" for job in jobs) == 2)
        assert [ended(client, job)["state"] for job in jobs] == ["done"] * 4


@pytest.mark.slow
def test_the_page_is_told_over_events_as_the_job_goes_on(tmp_path: Path) -> None:
    with running(tmp_path / "data", slow=0.1) as server, server.client() as client:
        job = submit(client, clip(12.0))
        with client.stream("GET", "/events", params={"job": job}) as stream:
            told = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: ")]
        states = list(dict.fromkeys(one["state"] for one in told))
        assert states[-2:] == ["running", "done"]
        progress = [one["progress"] for one in told]
        assert progress == sorted(progress)
        assert any(0 < part < 0.9 for part in progress)
        assert {one["stage"] for one in told} >= {"extracting", ""}


@pytest.mark.slow
def test_the_examples_of_the_documentation_run(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "docs" / "serve.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    if shutil.which("curl") is None or shutil.which("bash") is None:
        pytest.skip("there is no curl, or no bash, on this machine")
    with running(tmp_path / "data") as server:
        own = {"SERVER": server.address, "VIDEO": str(clip(4.0)), "PATH": os.environ["PATH"]}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", example],
            cwd=tmp_path,
            env=own,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert list((server.data / "jobs").iterdir()) == []
    assert json.loads((tmp_path / "result.json").read_text())["detections"][0]["label"] == "red"
    assert (tmp_path / "segments.vtt").read_text().startswith("WEBVTT")
    assert (tmp_path / "labels.csv").read_text() == "video,labels\nred-4-libx264,pour\n"

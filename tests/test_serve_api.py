"""The HTTP API on real jobs: from a video to detections, explanations, corrections and files."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

import dgam
from coded_videos import write_video
from dgam.app.corrections import video_of
from dgam.app.worker import work_once
from dgam.exports.formats import FORMATS
from dgam.fitting.localizer import Localizer
from serve_site import API, Site, clip, live_site, localizer, shared_model


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with live_site(tmp_path_factory.mktemp("api"), videos=shared_model().parent / "videos") as site:
        yield site


@pytest.fixture(scope="module")
def job(site: Site) -> str:
    return site.done(clip(6.0))


def test_the_model(site: Site) -> None:
    model = site.client.get(f"{API}/model").json()
    assert model["classes"] == ["blue", "red"]
    assert model["streams"] == ["rgb"]
    assert model["encoder"] == "tiny_model.py:brightness"
    assert model["snippet_seconds"] == 0.64
    assert model["card"] == "# A model for tests\n"
    assert model["formats"] == list(FORMATS)
    assert model["limits"]["max_bytes"] == 300_000
    assert ".mp4" in model["limits"]["suffixes"]


def test_a_job_is_what_the_model_says_of_the_video(site: Site, job: str, tmp_path: Path) -> None:
    found = site.client.get(f"{API}/jobs/{job}/result").json()
    direct = localizer().localize_file(clip(6.0), tmp_path / "store")
    assert found["detections"] == [
        {"start": d.start, "end": d.end, "label": d.label, "score": d.score} for d in direct.detections
    ]
    assert found["detections"][0]["label"] == "red"
    assert (found["id"], found["name"], found["duration"]) == (job, "red-6-libx264.mp4", 6.0)
    assert found["probabilities"] == dict(direct.probabilities)
    scores = [one["score"] for one in found["detections"]]
    assert found["score_range"] == {"min": min(scores), "max": max(scores)}
    curves, own = found["curves"]["rgb"], direct.curves["rgb"]
    assert len(curves["times"]) == len(curves["attention"]) == len(curves["classes"]["red"]) == 9
    assert np.allclose(curves["times"], (np.arange(9) + 0.5) * 0.64, atol=1e-4)
    assert np.allclose(curves["attention"], own.attention, atol=1e-4)
    assert np.allclose(curves["classes"]["red"], 1 / (1 + np.exp(-own.tcam[:, 1])), atol=1e-4)
    assert found["correction"] is None
    facts = site.client.get(f"{API}/jobs/{job}").json()
    assert (facts["state"], facts["progress"], facts["message"]) == ("done", 1.0, "")
    assert not (site.data.job(job) / "features").exists()


def test_explanations(site: Site, job: str) -> None:
    best = site.client.get(f"{API}/jobs/{job}/result").json()["detections"][0]
    why = site.client.get(f"{API}/jobs/{job}/explanations/0").json()
    assert (why["label"], why["start"], why["final"]) == (best["label"], best["start"], best["score"])
    assert why["score"] == pytest.approx(
        why["inner"] - why["eta"] * (why["left"] + why["right"]) + why["video"]
    )
    assert "Without the subtraction" in " ".join(why["words"])
    assert site.client.get(f"{API}/jobs/{job}/explanations/999").status_code == 404
    assert site.client.get(f"{API}/jobs/{job}/explanations/-1").status_code == 422


def test_media(site: Site, job: str) -> None:
    whole = site.client.get(f"{API}/jobs/{job}/media")
    assert (whole.status_code, whole.headers["content-type"]) == (200, "video/mp4")
    assert whole.content == clip(6.0).read_bytes()
    part = site.client.get(f"{API}/jobs/{job}/media", headers={"range": "bytes=-100"})
    assert (part.status_code, part.content) == (206, whole.content[-100:])
    assert site.client.head(f"{API}/jobs/{job}/media").headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize("rotation", [0, 90])
def test_what_browsers_cannot_play_gets_a_copy_that_they_can(
    site: Site, tmp_path: Path, rotation: int
) -> None:
    ending = "mov" if rotation else "avi"  # MPEG-4 part 2; AVI knows no rotation
    video = write_video(tmp_path / f"old.{ending}", range(75), rotation=rotation, width=96, height=48)
    job = site.submit(video).json()["id"]
    assert site.client.get(f"{API}/jobs/{job}/media").status_code == 404
    site.work()
    assert site.client.get(f"{API}/jobs/{job}").json()["state"] == "done"
    answer = site.client.get(f"{API}/jobs/{job}/media")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4")
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(answer.content)
    with av.open(str(copy)) as container:
        stream = container.streams.video[0]
        frames = [frame.time for frame in container.decode(stream)]
        assert stream.codec_context.name == "h264"
        shape = (stream.width, stream.height)
        assert shape == ((360, 720) if rotation else (720, 360))
    assert np.allclose(frames, np.arange(75) / 25)


@pytest.mark.parametrize("format", list(FORMATS))
def test_exports(site: Site, job: str, format: str, tmp_path: Path) -> None:
    answer = site.client.get(f"{API}/jobs/{job}/export/{format}")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(FORMATS[format].media_type)
    place = answer.headers["content-disposition"]
    assert place.startswith('attachment; filename="red-6-libx264')
    assert f'{FORMATS[format].suffix}"; ' in place
    assert "red" in answer.text
    if format == "json":
        (tmp_path / "d.json").write_bytes(answer.content)
        read = dgam.read_detections(tmp_path / "d.json").videos["red-6-libx264"]
        found = site.client.get(f"{API}/jobs/{job}/result").json()["detections"]
        assert [vars(one) for one in read] == found


def test_exports_of_some_detections_and_of_the_correction(site: Site, job: str) -> None:
    url = f"{API}/jobs/{job}/export/json"

    def segments(**query: object) -> list[dict[str, object]]:
        # For mypy: JSON.
        (found,) = site.client.get(url, params=query).json()["results"].values()  # type: ignore[arg-type]
        return list(found)

    every = segments()
    best = max(one["score"] for one in every)  # type: ignore[type-var]  # JSON
    assert [one["score"] for one in segments(threshold=best)] == [best]
    assert segments(threshold=best + 1) == []  # type: ignore[operator]  # JSON
    assert segments(min_seconds=100) == []
    assert site.client.get(url, params={"source": "correction"}).status_code == 404
    value = {"labels": [], "segments": [{"start": 1, "end": 2, "label": "new, odd & «x»"}]}
    assert site.client.put(f"{API}/jobs/{job}/correction", json=value).status_code == 200
    (one,) = segments(source="correction")
    assert (one["label"], one["segment"]) == ("new, odd & «x»", [1.0, 2.0])
    assert segments(source="correction", min_seconds=1.5) == []
    assert site.client.delete(f"{API}/jobs/{job}/correction").status_code == 204


def test_corrections_are_kept_and_come_out_as_labels(site: Site, tmp_path: Path) -> None:
    first, second = site.done(clip(), "a.mp4"), site.done(clip(), "b, with «signs».mp4")
    again = site.done(clip(), "a.mp4")
    for name, labels in ((first, ["red"]), (second, []), (again, [" blue ", "blue"])):
        segments = [{"start": 2.0, "end": 4.04, "label": "walk"}, {"start": 0.5, "end": 1, "label": "red"}]
        value = {"labels": labels, "segments": segments if name == again else []}
        answer = site.client.put(f"{API}/jobs/{name}/correction", json=value)
        assert answer.status_code == 200
    assert answer.json() == {
        "labels": ["blue", "red", "walk"],
        "segments": [
            {"start": 0.5, "end": 1.0, "label": "red"},
            {"start": 2.0, "end": 4.0, "label": "walk"},
        ],
    }
    result = site.client.get(f"{API}/jobs/{again}/result").json()
    assert result["correction"] == answer.json()
    table = site.client.get(f"{API}/corrections")
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    path = tmp_path / "labels.csv"
    path.write_bytes(table.content)
    assert dict(dgam.read_labels(path).labels) == {"a": ("blue", "red", "walk"), "b, with «signs»": ()}
    assert next(csv.reader(table.text.splitlines())) == ["video", "labels"]
    for name in (first, second, again):
        assert site.client.delete(f"{API}/jobs/{name}/correction").status_code == 204
    assert site.client.get(f"{API}/corrections").text == "video,labels\n"


@pytest.mark.parametrize(
    ("segment", "words"),
    [
        ({"start": -1, "end": 2, "label": "red"}, "segments.0.start"),
        ({"start": 1, "end": 7, "label": "red"}, "reaches beyond the video, which lasts 6.000 s"),
        ({"start": 2, "end": 2, "label": "red"}, "has no length"),
        ({"start": 3, "end": 2, "label": "red"}, "has no length"),
        ({"start": 1, "end": 2, "label": ""}, "segments.0.label"),
        ({"start": 1, "end": 2, "label": "   "}, "is empty"),
        ({"start": 1, "end": 2, "label": "a;b"}, "no semicolon"),
        ({"start": 1, "end": 2, "label": "a\nb"}, "line break"),
        ({"start": 1, "end": 2, "label": "x" * 101}, "segments.0.label"),
        ({"start": 1, "end": 2, "label": "red", "score": 1}, "segments.0.score"),
        ({"start": "1s", "end": 2, "label": "red"}, "segments.0.start"),
        ({"start": 1, "label": "red"}, "segments.0.end"),
    ],
)
def test_corrections_that_are_refused(site: Site, job: str, segment: dict[str, object], words: str) -> None:
    value = {"labels": [], "segments": [segment]}
    answer = site.client.put(f"{API}/jobs/{job}/correction", json=value)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]
    assert not (site.data.job(job) / "correction.json").exists()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"labels": [NaN], "segments": []}', b"null"])
def test_corrections_that_are_no_json(site: Site, job: str, body: bytes) -> None:
    kind = {"content-type": "application/json"}
    answer = site.client.put(f"{API}/jobs/{job}/correction", content=body, headers=kind)
    assert answer.status_code in (400, 422)
    assert answer.json()["detail"]


def test_a_body_is_bounded(site: Site, job: str) -> None:
    """Only an upload, which goes to disk, may be large; all else is held in memory."""
    url, kind = f"{API}/jobs/{job}/correction", {"content-type": "application/json"}
    large = site.client.put(
        url, content=b'{"labels": [' + b" " * (9 << 20) + b'], "segments": []}', headers=kind
    )
    assert large.status_code == 413
    chunked = site.client.put(url, content=iter([b'{"labels": [], "segments": []}']), headers=kind)
    assert chunked.status_code == 411
    most = {"labels": [], "segments": [{"start": 0, "end": 1, "label": "ä" * 100}] * 10_000}
    assert site.client.put(url, json=most).status_code == 200
    most["segments"].append({"start": 0, "end": 1, "label": "red"})
    assert site.client.put(url, json=most).status_code == 422
    assert site.client.delete(url).status_code == 204


def test_the_folder(site: Site) -> None:
    videos = site.client.get(f"{API}/videos").json()["videos"]
    assert [one["name"] for one in videos] == [f"v{index}.mp4" for index in range(6)]
    answer = site.client.post(f"{API}/jobs/from-folder", json={"video": videos[1]["id"]})
    assert answer.status_code == 202
    job = answer.json()["id"]
    site.work()
    found = site.client.get(f"{API}/jobs/{job}/result").json()
    assert (found["name"], found["detections"][0]["label"]) == ("v1.mp4", "blue")
    source = shared_model().parent / "videos" / "v1.mp4"
    assert site.client.get(f"{API}/jobs/{job}/media").content == source.read_bytes()
    assert site.client.delete(f"{API}/jobs/{job}").status_code == 204
    assert source.is_file()
    for other in ({"video": "0" * 24}, {"video": "../../etc/passwd"}, {"video": str(source)}, {}):
        assert site.client.post(f"{API}/jobs/from-folder", json=other).status_code in (404, 422)


def test_the_folder_shows_videos_only_and_follows_no_link_to_a_folder(tmp_path: Path) -> None:
    folder, secret = tmp_path / "videos", tmp_path / "secret"
    for path in (
        folder / "a b" / "ü.mp4",
        folder / ".hidden.mp4",
        folder / ".git" / "x.mp4",
        secret / "s.mp4",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(clip().read_bytes())
    (folder / "notes.txt").write_text("x")
    (folder / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (folder / "link").symlink_to(secret)
    (folder / "bad.mp4").write_text("#EXTM3U\nfile:///etc/passwd\n")
    with live_site(tmp_path, videos=folder) as site:
        videos = site.client.get(f"{API}/videos").json()["videos"]
        assert [one["name"] for one in videos] == ["a b/ü.mp4", "bad.mp4"]
        bad = site.client.post(f"{API}/jobs/from-folder", json={"video": videos[1]["id"]})
        assert bad.status_code == 422
        assert "no video that can be read" in bad.json()["detail"]
        assert site.left() == []
        (folder / "a b" / "ü.mp4").unlink()
        gone = site.client.post(f"{API}/jobs/from-folder", json={"video": videos[0]["id"]})
        assert gone.status_code == 404


def test_deleting_removes_everything(site: Site) -> None:
    job = site.done(clip())
    site.client.put(f"{API}/jobs/{job}/correction", json={"labels": ["red"], "segments": []})
    assert site.client.delete(f"{API}/jobs/{job}").status_code == 204
    assert not [path for path in site.left() if job in path]
    for path in ("", "/result", "/media", "/explanations/0", "/export/csv"):
        assert site.client.get(f"{API}/jobs/{job}{path}").status_code == 404
    assert site.client.delete(f"{API}/jobs/{job}").status_code == 404
    assert job not in site.client.get(f"{API}/corrections").text


def test_jobs_that_are_not_done(site: Site) -> None:
    site.woken.clear()
    job = site.submit(clip()).json()["id"]
    assert site.woken == [1]
    for path in ("/result", "/explanations/0", "/export/csv"):
        answer = site.client.get(f"{API}/jobs/{job}{path}")
        assert (answer.status_code, "the job is queued" in answer.json()["detail"]) == (409, True)
    assert site.client.get(f"{API}/jobs/{job}/media").status_code == 200  # it can be watched already
    assert site.client.post(f"{API}/jobs/{job}/cancel").json()["state"] == "cancelled"
    assert site.client.post(f"{API}/jobs/{job}/cancel").status_code == 409
    assert site.work() == 0
    assert site.client.get(f"{API}/jobs/{job}/result").status_code == 409
    site.client.delete(f"{API}/jobs/{job}")


def test_a_video_that_breaks_while_it_waits_fails_with_a_reason_and_without_a_path(site: Site) -> None:
    job = site.submit(clip(5.0)).json()["id"]
    path = site.data.job(job) / "video.mp4"
    path.write_bytes(path.read_bytes()[:3000])
    site.work()
    facts = site.client.get(f"{API}/jobs/{job}").json()
    assert facts["state"] == "failed"
    assert facts["message"].startswith("red-5-libx264.mp4: is no video that FFmpeg can read")
    assert str(site.data.path) not in facts["message"]
    site.client.delete(f"{API}/jobs/{job}")


def test_events(site: Site, job: str) -> None:
    answer = site.client.get(f"{API}/events", params={"job": job})
    assert answer.headers["content-type"].startswith("text/event-stream")
    (line,) = answer.text.strip().split("\n")
    assert json.loads(line.removeprefix("data: "))["state"] == "done"
    waiting = site.submit(clip()).json()["id"]
    with site.client.stream("GET", f"{API}/events", params={"job": waiting}) as stream:
        lines = stream.iter_lines()
        assert '"state": "queued"' in next(lines)
        site.service.queue.cancel(waiting)
        assert '"state": "cancelled"' in " ".join(lines)
    site.client.delete(f"{API}/jobs/{waiting}")


def test_the_list_is_newest_first(site: Site) -> None:
    made = [site.submit(clip(), f"{name}.mp4").json()["id"] for name in "abc"]
    listed = [one["id"] for one in site.client.get(f"{API}/jobs").json()["jobs"]]
    assert listed[:3] == made[::-1]
    few = site.client.get(f"{API}/jobs", params={"limit": 2}).json()["jobs"]
    assert [one["id"] for one in few] == made[:0:-1]
    for job in made:
        site.client.delete(f"{API}/jobs/{job}")


def test_video_ids_are_those_of_a_listed_folder() -> None:
    assert video_of("a.b.mp4") == "a.b"
    assert video_of("a.MKV") == "a"
    assert video_of("notes") == "notes"
    assert video_of("v1.0") == "v1.0"
    assert video_of(".mp4") == ".mp4"


def test_the_server_itself_never_loads_torch(tmp_path: Path) -> None:
    """Its memory and its start are for the page; only workers hold networks."""
    script = (
        "import sys\nfrom pathlib import Path\nfrom dgam.app.server import create_app\n"
        "from dgam.app.serving import DataFolder, ServeSettings, open_queue, open_service\n"
        "model, data = Path(sys.argv[1]), DataFolder(Path(sys.argv[2]))\ndata.prepare()\n"
        "create_app(open_service(ServeSettings(model=model, data=data.path), data, open_queue(data)))\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(shared_model()), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "False\n"


def test_the_description_has_examples_and_errors(site: Site) -> None:
    described = site.client.get(f"{API}/openapi.json").json()
    assert described["info"]["title"] == "dgam"
    for path, methods in described["paths"].items():
        assert path.startswith(API)
        for method in methods.values():
            assert len(method["description"]) > 10
            assert "403" in method["responses"]
    assert "ValidationError" not in json.dumps(described)


def test_a_model_that_no_longer_fits_is_told_without_its_place(site: Site, tmp_path: Path) -> None:
    model = tmp_path / "private" / "model"
    shutil.copytree(shared_model(), model)
    identity = json.loads((model / "encoder.json").read_text())
    identity["recorded"]["encoder"]["name"] = "another"
    (model / "encoder.json").write_text(json.dumps(identity))
    job = site.submit(clip(6.0)).json()["id"]
    assert work_once(Localizer(model, device="cpu"), site.service.queue, site.data, "w")
    facts = site.client.get(f"{API}/jobs/{job}").json()
    assert facts["state"] == "failed"
    assert "the model" in facts["message"]
    assert "tiny_model.py:brightness" in facts["message"]
    assert str(tmp_path) not in facts["message"]
    assert str(Path(__file__).parent) not in facts["message"]
    site.client.delete(f"{API}/jobs/{job}")

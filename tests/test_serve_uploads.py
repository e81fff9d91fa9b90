"""Uploads that are no videos, or worse: each is answered with a clear 4xx and nothing of it stays."""

from __future__ import annotations

import io
import re
import socket
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coded_videos import write_sound, write_video
from dgam.app.probe import Refused, probe_apart
from dgam.app.sniff import KINDS, sniff
from dgam.app.uploads import LONGEST_NAME, display_name
from serve_site import API, SMALL_LIMITS, Site, clip, live_site, until

SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
HTML = b"<!DOCTYPE html><script>fetch('/api/v1/jobs')</script>"
FTYP = b"\x00\x00\x00\x1cftypisom\x00\x00\x02\x00isomiso2mp41\x00\x00\x00\x00"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with live_site(tmp_path_factory.mktemp("uploads")) as site:
        yield site


@pytest.fixture(autouse=True)
def nothing_stays(site: Site) -> Iterator[None]:
    """After each test no trace of an upload is on the disk or in the queue, save for jobs that it removes."""
    yield
    jobs, left = site.service.queue.newest(), site.left()
    for job in jobs:  # so that the next test is not blamed for this one
        site.client.delete(f"{API}/jobs/{job.id}")
    assert (jobs, left, site.service.receiving) == ([], [], 0)


def refused(answer: httpx.Response, status: int, words: str) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    assert re.search(words, answer.json()["detail"])


def zip_bomb() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("video.mp4", bytes(10_000_000))
    return packed.getvalue()


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"", 422, "is empty"),
        (SVG, 415, "no video file of a known kind, whatever its name says"),
        (HTML, 415, "no video file of a known kind"),
        (b"\n \n" + HTML, 415, "no video file of a known kind"),
        (b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", 415, "no video file"),
        (b"ffconcat version 1.0\nfile '/etc/passwd'\n", 415, "no video file"),
        (b"MThd\x00\x00", 415, "no video file"),
        (zip_bomb(), 415, "no video file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), 415, "no video file"),
        (bytes(5000), 415, "no video file"),
        (FTYP + HTML, 422, "no video that can be read|no moving picture"),
        (FTYP + bytes(5000), 422, "no video that can be read|no moving picture"),
        (b"\x1a\x45\xdf\xa3" + b"\xff" * 5000, 422, "no video that can be read"),
        (b"RIFF\xff\xff\xff\x7fAVI " + b"\xff" * 5000, 422, "no video that can be read|no moving picture"),
        (b"\x47" + (b"\xff" * 187 + b"\x47") * 20, 422, "no video that can be read|no moving picture"),
        (b"OggS\x00" + bytes(5000), 422, "no video that can be read|no moving picture"),
    ],
)
@pytest.mark.parametrize("name", ["video.mp4"])
def test_no_video_whatever_its_name(site: Site, content: bytes, status: int, words: str, name: str) -> None:
    answer = site.client.post(f"{API}/jobs", files={"file": (name, content, "video/mp4")})
    refused(answer, status, words)


def test_sound_alone(site: Site, tmp_path: Path) -> None:
    refused(site.submit(write_sound(tmp_path / "tone.mp4")), 422, "no moving picture, only audio")


@pytest.mark.parametrize("kept", [0.3, 0.7])
@pytest.mark.parametrize("kind", ["mp4", "faststart", "avi"])
def test_cut_off(site: Site, tmp_path: Path, kept: float, kind: str) -> None:
    """A plain MP4's index is at its end; with faststart, and in AVI, the header tells what is missing."""
    ending = "avi" if kind == "avi" else "mp4"
    muxing = {"movflags": "faststart"} if kind == "faststart" else {}
    whole = write_video(tmp_path / f"whole.{ending}", range(250), container_options=muxing).read_bytes()
    cut = tmp_path / f"cut.{ending}"
    cut.write_bytes(whole[: int(kept * len(whole))])
    refused(site.submit(cut), 422, "can be read|ends after .* header promises|No picture")


def jpeg_bomb(path: Path) -> Path:
    """A few kilobytes: an AVI of 32×32 pixels whose JPEG pictures claim to be 65,500×65,500."""
    write_video(path, range(3), width=32, height=32, codec="mjpeg", pixels="yuvj420p")
    content = bytearray(path.read_bytes())
    for found in re.finditer(rb"\xff\xc0\x00\x11\x08", bytes(content)):
        content[found.end() : found.end() + 4] = struct.pack(">HH", 65500, 65500)
    path.write_bytes(content)
    return path


def test_bombs(site: Site, tmp_path: Path) -> None:
    large = write_video(tmp_path / "large.mp4", range(2), width=1280, height=1024, codec="libx264")
    assert large.stat().st_size < 100_000
    refused(site.submit(large), 422, r"1280×1024 pixels; at most 1 million")
    bomb = jpeg_bomb(tmp_path / "bomb.avi")
    assert bomb.stat().st_size < 20_000
    refused(site.submit(bomb), 422, "pixels|No picture|can be read|too much memory|broke the decoder")
    long = write_video(tmp_path / "long.mp4", [0, 25 * 36000], codec="libx264")
    assert long.stat().st_size < 20_000
    refused(site.submit(long), 422, r"lasts 10\.0 hours")
    long = write_video(tmp_path / "long.mkv", [0, 1, 3_600_000], Fraction(1, 1000), codec="libx264")
    refused(site.submit(long), 422, r"lasts 1\.0 hours")


def test_the_probe_has_bounds_of_its_own(tmp_path: Path) -> None:
    video = write_video(tmp_path / "many.mp4", range(200), codec="libx264")
    with pytest.raises(Refused, match="more than 100 frames"):
        probe_apart(video, replace(SMALL_LIMITS, frames=100))
    with pytest.raises(Refused, match="needed more than 5 s of processor time or 32 MiB of memory"):
        probe_apart(video, replace(SMALL_LIMITS, memory=32 << 20))
    assert probe_apart(video, SMALL_LIMITS).frames == 200


NAMES = {
    "../../../etc/cron.d/evil.mp4": "evil.mp4",
    "..\\..\\windows\\evil.mp4": "evil.mp4",
    "/etc/passwd": "passwd",
    "a/b/../..": "video",
    ".htaccess": "htaccess",
    "=cmd|' /C calc'!A0.mp4": "cmd_' C calc'!A0.mp4",
    "x" * 5000 + ".mp4": "x" * (LONGEST_NAME - 9) + ".mp4",
    "\u202egpj.mp4": "gpj.mp4",
    "<script>.mp4": "_script_.mp4",
    "": "video",
    "Großmutter beim Äpfelschälen.mp4": "Großmutter beim Äpfelschälen.mp4",
}


@pytest.mark.parametrize("name", [name for name in NAMES if "/ C" not in name and len(name) < 4000 and name])
def test_a_name_is_for_show_only(site: Site, name: str) -> None:
    answer = site.client.post(f"{API}/jobs", files={"file": (name, clip().read_bytes())})
    assert answer.status_code == 202
    job = answer.json()
    assert job["name"] == display_name(name)
    below = [path.removeprefix(str(site.data.path)) for path in site.left()]
    assert below == [f"/jobs/{job['id']}", f"/jobs/{job['id']}/video.mp4"]
    assert site.client.delete(f"{API}/jobs/{job['id']}").status_code == 204


@pytest.mark.parametrize(("name", "shown"), [pair for pair in NAMES.items() if " /C" not in pair[0]])
def test_names_shown(name: str, shown: str) -> None:
    assert display_name(name) == shown


@given(st.text(max_size=300))
def test_any_name_can_be_shown_and_be_a_file(name: str) -> None:
    shown = display_name(name)
    assert 1 <= len(shown) <= LONGEST_NAME
    assert not re.search(r"[/\\\x00-\x1f\x7f\u202a-\u202e\u2066-\u2069]", shown)
    assert shown[0] not in ".=+-@ "
    assert shown == shown.strip()
    assert display_name(shown) == shown


def test_too_large_with_and_without_a_length(site: Site) -> None:
    body = FTYP + bytes(400_000)
    refused(site.client.post(f"{API}/jobs", files={"file": ("a.mp4", body)}), 413, "larger than 293 KiB")
    boundary = "b" * 20
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'.encode()

    def chunks() -> Iterator[bytes]:
        yield head
        for _ in range(40):
            yield FTYP + bytes(10_000)
        yield f"\r\n--{boundary}--\r\n".encode()

    kind = {"content-type": f"multipart/form-data; boundary={boundary}"}
    refused(site.client.post(f"{API}/jobs", content=chunks(), headers=kind), 413, "larger than 293 KiB")


def test_a_lie_about_the_length_is_no_way_in(site: Site) -> None:
    """More than was announced: the server reads what was announced, which is no whole form."""
    host, port = site.client.base_url.host, site.client.base_url.port
    body = part("file", "a.mp4", clip().read_bytes()) + b"--B--\r\n"
    with socket.create_connection((host, port), timeout=20) as line:
        line.sendall(request_head(host, port, len(body) // 2) + body)
        assert line.recv(100).startswith(b"HTTP/1.1 400 ")


def part(name: str, filename: str | None, content: bytes) -> bytes:
    file = f'; filename="{filename}"' if filename is not None else ""
    return f'--B\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content + b"\r\n"


def request_head(host: str, port: int | None, length: int) -> bytes:
    return (
        f"POST {API}/jobs HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {length}\r\n"
        "Content-Type: multipart/form-data; boundary=B\r\n\r\n"
    ).encode()


@pytest.mark.parametrize(
    ("kind", "body", "status", "words"),
    [
        ("application/json", b'{"file": "x"}', 415, "Expected a form"),
        ("video/mp4", FTYP, 415, "Expected a form"),
        ("multipart/form-data", b"--B--\r\n", 415, "with a boundary"),
        ("multipart/form-data; boundary=" + "b" * 300, b"", 415, "with a boundary"),
        ("multipart/form-data; boundary=B", b"", 400, "broke off"),
        ("multipart/form-data; boundary=B", b"nonsense", 400, "malformed"),
        ("multipart/form-data; boundary=B", part("file", "a.mp4", FTYP), 400, "broke off"),
        ("multipart/form-data; boundary=B", b"--B--\r\n", 422, "no file"),
        ("multipart/form-data; boundary=B", part("video", "a.mp4", FTYP) + b"--B--\r\n", 422, "no file"),
        ("multipart/form-data; boundary=B", part("file", None, FTYP) + b"--B--\r\n", 422, "no file name"),
        ("multipart/form-data; boundary=B", 2 * part("file", "a", FTYP) + b"--B--\r\n", 422, "more than one"),
        ("multipart/form-data; boundary=B", 99 * part("x", None, b"1") + b"--B--\r\n", 422, "8 fields"),
        ("multipart/form-data; boundary=B", part("x", None, bytes(99_999)) + b"--B--", 413, "other fields"),
        ("multipart/form-data; boundary=B", b"--B\r\nX: " + b"y" * 50_000 + b"\r\n\r\n", 400, "malformed"),
        ("multipart/form-data; boundary=B", b"--B\r\n" + b"X: y\r\n" * 50 + b"\r\n", 400, "malformed"),
    ],
)
def test_forms_that_are_none(site: Site, kind: str, body: bytes, status: int, words: str) -> None:
    answer = site.client.post(f"{API}/jobs", content=body, headers={"content-type": kind})
    refused(answer, status, words)


def test_a_client_that_goes_away_leaves_nothing(site: Site) -> None:
    host, port = site.client.base_url.host, site.client.base_url.port
    with socket.create_connection((host, port), timeout=20) as line:
        line.sendall(request_head(host, port, 250_000) + part("file", "a.mp4", FTYP + bytes(100_000)))
        until(lambda: site.left())
    until(lambda: not site.left())


def test_an_upload_that_stands_still_is_given_up(tmp_path: Path) -> None:
    with live_site(tmp_path, silence=0.3) as site:
        host, port = site.client.base_url.host, site.client.base_url.port
        with socket.create_connection((host, port), timeout=20) as line:
            line.sendall(request_head(host, port, 250_000) + part("file", "a.mp4", FTYP))
            assert line.recv(100).startswith(b"HTTP/1.1 408 ")
        assert site.left() == []


def test_room(tmp_path: Path) -> None:
    size = clip().stat().st_size
    with live_site(tmp_path / "quota", quota=2 * size - 1) as site:
        assert site.submit(clip()).status_code == 202
        refused(site.submit(clip()), 507, "in all. Delete some first")
        (job,) = site.service.queue.newest()
        site.client.delete(f"{API}/jobs/{job.id}")
        assert site.submit(clip()).status_code == 202
    with live_site(tmp_path / "disk", reserve=1 << 60) as site:
        refused(site.submit(clip()), 507, "disk is full")
        assert site.left() == []


def test_kinds_are_told_by_content(tmp_path: Path) -> None:
    codecs = {".mp4": "libx264", ".webm": "libvpx", ".mkv": "libx264", ".avi": "mpeg4", ".ts": "mpeg2video"}
    codecs |= {".mpg": "mpeg2video", ".flv": "flv", ".wmv": "wmv2"}
    known = {kind.ending for kind in KINDS}
    for ending, codec in codecs.items():
        path = write_video(tmp_path / f"a{ending}", range(50), codec=codec)
        kind = sniff(path.read_bytes())
        assert kind is not None
        assert kind.ending == ending
        assert ending in known
        found = probe_apart(path, SMALL_LIMITS)
        assert (found.width, found.height, found.frames) == (128, 64, 50)
        assert found.duration == pytest.approx(2.0, abs=0.05)
        assert found.media == {".mp4": "video/mp4", ".webm": "video/webm"}.get(ending, "")

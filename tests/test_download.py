"""Downloads that resume, and take the right content only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dgam.core.errors import InputError
from dgam.encoders.download import blob_id, download
from file_server import Server

CONTENT = np.random.default_rng(0).bytes(900_000)


def git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server({"/a/file.bin": CONTENT}).running() as running:
        yield running


def test_blob_id_is_gits(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"hello\n")
    assert blob_id(tmp_path / "x") == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object


def test_a_download_reports_and_is_not_repeated(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    target = tmp_path / "deep" / "file.bin"
    fetched = download(
        f"{server.url}/a/file.bin",
        target,
        git_blob(CONTENT),
        report=lambda have, total: seen.append((have, total)),
    )
    assert fetched
    assert target.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert not download(f"{server.url}/a/file.bin", target, git_blob(CONTENT))
    assert server.ranges == [None]
    assert [path.name for path in target.parent.iterdir()] == ["file.bin"]


def test_a_cut_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.cut_after = [300_000, 250_000]
    target = tmp_path / "file.bin"
    assert download(f"{server.url}/a/file.bin", target, git_blob(CONTENT), pause=0.01)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-", "bytes=550000-"]


def test_a_download_given_up_is_taken_up_by_the_next_call(server: Server, tmp_path: Path) -> None:
    server.cut_after = [300_000]
    target = tmp_path / "file.bin"
    with pytest.raises(InputError, match=r"broke off .* 300,000 bytes are kept"):
        download(f"{server.url}/a/file.bin", target, git_blob(CONTENT), attempts=1)
    assert not target.exists()
    assert download(f"{server.url}/a/file.bin", target, git_blob(CONTENT))
    assert target.read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=300000-"


def test_a_server_without_ranges_sends_all_again(server: Server, tmp_path: Path) -> None:
    server.cut_after, server.ignore_ranges = [300_000], True
    target = tmp_path / "file.bin"
    assert download(f"{server.url}/a/file.bin", target, git_blob(CONTENT), pause=0.01)
    assert target.read_bytes() == CONTENT


def test_wrong_content_is_refused_and_not_left_in_place(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    with pytest.raises(InputError, match=f"not the published file .git blob id {git_blob(CONTENT)}"):
        download(f"{server.url}/a/file.bin", target, git_blob(b"something else"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("left", [CONTENT[:1000][::-1], CONTENT + b"more", CONTENT])
def test_what_another_download_left_does_no_harm(server: Server, tmp_path: Path, left: bytes) -> None:
    (tmp_path / "file.bin.part").write_bytes(left)
    assert download(f"{server.url}/a/file.bin", tmp_path / "file.bin", git_blob(CONTENT))
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert not (tmp_path / "file.bin.part").exists()


def test_a_damaged_file_in_place_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(CONTENT[:-1] + b"?")
    assert download(f"{server.url}/a/file.bin", tmp_path / "file.bin", git_blob(CONTENT))
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_server_that_refuses_is_quoted(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the server answers 404"):
        download(f"{server.url}/other", tmp_path / "x", git_blob(CONTENT))
    assert len(server.ranges) == 1  # what is not there is not asked for again
    server.status = 503
    with pytest.raises(InputError, match="the server answers 503"):
        download(f"{server.url}/a/file.bin", tmp_path / "x", git_blob(CONTENT), attempts=3, pause=0.01)
    assert len(server.ranges) == 4
    with pytest.raises(InputError, match="only http and https"):
        download("file:///etc/passwd", tmp_path / "x", git_blob(CONTENT))


def test_nobody_there_is_said(tmp_path: Path) -> None:
    with Server({}).running() as gone:
        url = gone.url
    with pytest.raises(InputError, match=r"broke off .* 0 bytes are kept"):
        download(f"{url}/x", tmp_path / "x", git_blob(b""), attempts=2, pause=0.01)

"""Ranges of a file: what a player asks for when it seeks, and what nobody should get away with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dgam.app.media import Part, Unsatisfiable, file_response, parse_range
from serve_site import live

CONTENT = bytes(range(256)) * 4  # 1024 bytes


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    path = tmp_path / "a.mp4"
    path.write_bytes(CONTENT)

    def media(request: Request) -> Response:
        return file_response(request, path, "video/mp4")

    with live(Starlette(routes=[Route("/", media, methods=["GET", "HEAD"])])) as client:
        yield client


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-", 0, 1023),
        ("bytes=100-199", 100, 199),
        ("bytes=1000-5000", 1000, 1023),
        ("bytes=-10", 1014, 1023),
        ("bytes=-5000", 0, 1023),
        ("Bytes = 5 - 6", 5, 6),
    ],
)
def test_a_part(client: httpx.Client, header: str, first: int, last: int) -> None:
    answer = client.get("/", headers={"range": header})
    assert answer.status_code == 206
    assert answer.content == CONTENT[first : last + 1]
    assert answer.headers["content-range"] == f"bytes {first}-{last}/1024"
    assert answer.headers["content-length"] == str(last + 1 - first)
    assert answer.headers["content-type"] == "video/mp4"


@pytest.mark.parametrize(
    "header", ["bytes=5-4", "bytes=", "bytes=-", "bytes=a-b", "seconds=0-1", "bytes=0-1,5-9", "bytes=--5", ""]
)
def test_what_is_no_single_range_gets_the_whole(client: httpx.Client, header: str) -> None:
    answer = client.get("/", headers={"range": header})
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["accept-ranges"] == "bytes"
    assert "content-range" not in answer.headers


@pytest.mark.parametrize("header", ["bytes=1024-", "bytes=99999-100000", "bytes=-0"])
def test_beyond_the_end(client: httpx.Client, header: str) -> None:
    answer = client.get("/", headers={"range": header})
    assert (answer.status_code, answer.content) == (416, b"")
    assert answer.headers["content-range"] == "bytes */1024"


def test_head_and_caching(client: httpx.Client, tmp_path: Path) -> None:
    whole = client.head("/")
    assert (whole.status_code, whole.content, whole.headers["content-length"]) == (200, b"", "1024")
    part = client.head("/", headers={"range": "bytes=0-9"})
    assert (part.status_code, part.headers["content-length"]) == (206, "10")
    etag = whole.headers["etag"]
    again = client.get("/", headers={"if-none-match": f'"x", {etag}'})
    assert (again.status_code, again.content) == (304, b"")
    same = client.get("/", headers={"range": "bytes=0-9", "if-range": etag})
    assert same.status_code == 206
    (tmp_path / "a.mp4").write_bytes(CONTENT + b"!")
    changed = client.get("/", headers={"range": "bytes=0-9", "if-range": etag})
    assert (changed.status_code, len(changed.content)) == (200, 1025)


@given(st.text(max_size=40), st.integers(0, 2000))
def test_any_header_is_a_part_of_the_file_or_none(header: str, size: int) -> None:
    for text in (header, f"bytes={header}"):
        try:
            part = parse_range(text, size)
        except Unsatisfiable:
            continue
        assert part is None or 0 <= part.first <= part.last < size


@given(st.integers(1, 2000), st.data())
def test_a_range_inside_is_itself(size: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, size - 1))
    last = data.draw(st.integers(first, size - 1))
    assert parse_range(f"bytes={first}-{last}", size) == Part(first, last)
    assert parse_range(f"bytes=-{size - first}", size) == Part(first, size - 1)

"""What the tests of the page share: a video with several actions, Chromium, and a page that is watched."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest

from serve_site import until

TOKEN = "a-token-for-tests"
FLASHES = ((3, 6, 0, 220), (9, 11, 0, 150), (11.5, 14, 2, 220), (15, 16.5, 0, 220), (18, 21, 2, 140))
SECONDS = 24.0
_QUIET = ("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync")
_NAMES = ("chromium", "chromium-browser", "google-chrome")
EXPECTED_REFUSAL = "Failed to load resource"


def write_flashes(path: Path) -> Path:
    """A dark video of 24 s with red and blue stretches of several strengths, which every browser plays."""
    with av.open(f"file:{path}", "w") as container:
        stream = container.add_stream("libvpx", rate=25, options={"deadline": "realtime", "cpu-used": "8"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        stream.codec_context.gop_size = 25
        for number in range(round(25 * SECONDS)):
            picture = np.full((32, 32, 3), 20, np.uint8)
            for start, end, colour, strength in FLASHES:
                if start <= number / 25 < end:
                    picture[..., colour] = strength
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@cache
def chromium_path() -> str:
    """Where Chromium is; the test is skipped where there is none."""
    named = os.environ.get("CHROMIUM")
    found = named or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if found is None:
        pytest.skip("no Chromium on this machine; name one in CHROMIUM")
    return found


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser without a window."""
    sync_api = pytest.importorskip("playwright.sync_api")
    path = chromium_path()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", *_QUIET]
        )
        with contextlib.closing(browser):
            yield browser


@dataclass
class Watched:
    """A page with all that it complained of and asked for."""

    page: Any
    address: str
    complaints: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    refusals: int = 0

    def watch(self) -> None:
        """Listen to the console, to errors, and to what is requested."""

        def told(message: Any) -> None:
            if message.type == "error" and message.text.startswith(EXPECTED_REFUSAL):
                self.refusals += 1
            elif message.type in ("error", "warning"):
                self.complaints.append(message.text)

        def asked(request: Any) -> None:
            if not request.url.startswith((self.address, f"blob:{self.address}")):
                self.foreign.append(request.url)

        self.page.on("console", told)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", asked)

    def open(self, hash: str = "") -> Any:
        """Open the page as its owner does, with the token in the address."""
        self.page.goto(f"{self.address}/?token={TOKEN}{hash}")
        return self.page

    def show(self, job: str, more: str = "") -> Any:
        """Open a job that is done."""
        self.open(f"#job={job}{more}")
        self.page.wait_for_selector(".seg-bar")
        eventually(self.page, "document.querySelector('video').readyState >= 2")
        return self.page

    def position(self) -> float:
        """Where the playhead says it is, in seconds."""
        return float(self.page.locator(".playhead-knob").get_attribute("aria-valuenow"))


@contextmanager
def watched(browser: Any, address: str, **options: Any) -> Iterator[Watched]:
    """A fresh page. At its end: no complaint, no request to anywhere else."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    context.set_default_timeout(15000)
    found = Watched(context.new_page(), address)
    found.watch()
    try:
        yield found
        assert found.complaints == []
        assert found.foreign == []
    finally:
        context.close()


def eventually(page: Any, expression: str, arg: Any = None, seconds: float = 15.0) -> None:
    """Wait until a JavaScript expression (or function of ``arg``) holds.

    Playwright's own ``wait_for_function`` would evaluate text inside the page, which its content
    policy forbids.
    """
    end = time.monotonic() + seconds
    while not page.evaluate(expression, arg):
        assert time.monotonic() < end, f"waited in vain for {expression}"
        page.wait_for_timeout(30)


def x_of(page: Any, seconds: float) -> tuple[float, float]:
    """A point of the ruler at a second, in pixels of the window, when all of the video is shown."""
    place = page.locator(".ruler-track").bounding_box()
    return place["x"] + seconds / SECONDS * place["width"], place["y"] + 10


def localised(client: httpx.Client, video: Path, name: str) -> str:
    """Submit a video by the API and wait for its result; the job's id."""
    answer = client.post("/jobs", files={"file": (name, video.read_bytes())})
    job: str = answer.json()["id"]
    until(lambda: client.get(f"/jobs/{job}").json()["state"] == "done")
    return job

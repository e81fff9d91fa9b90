"""Fixtures of the page's tests: a server, a localised video, a browser, and a watched page for each test.

One server and one browser serve all tests of a module.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from browser_page import TOKEN, Watched, chromium, chromium_path, localised, watched, write_flashes
from serve_site import Running, running


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flashes(tmp_path_factory.mktemp("page") / "flashes.webm")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, video: Path) -> Iterator[Running]:
    chromium_path()
    pytest.importorskip("playwright.sync_api")
    options = ("--token", TOKEN, "--videos", str(video.parent))
    with running(tmp_path_factory.mktemp("serve"), *options, slow=0.05) as found:
        yield found


@pytest.fixture(scope="module")
def api(server: Running) -> Iterator[httpx.Client]:
    with server.client(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        yield client


@pytest.fixture(scope="module")
def browser(server: Running) -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def job(api: httpx.Client, video: Path) -> str:
    return localised(api, video, "flashes.webm")


@pytest.fixture
def clean(api: httpx.Client, job: str) -> Iterator[None]:
    """Without a correction before and after."""
    yield
    api.delete(f"/jobs/{job}/correction")


@pytest.fixture
def own(browser: Any, server: Running) -> Iterator[Watched]:
    with watched(browser, server.address) as found:
        yield found


@pytest.fixture
def done(own: Watched, job: str) -> Any:
    return own.show(job)

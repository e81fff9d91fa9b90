"""The documentation site: built without a warning, without anything from elsewhere, its links leading on."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import dgam
from dgam.cli.app import COMMANDS

pytest.importorskip("sphinx")

DOCS = Path(__file__).resolve().parents[1] / "docs"
CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Page(HTMLParser):
    """What a page of HTML fetches by itself, what it links to, and the places that can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.places |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a":
            self.links += [given["href"]] if "href" in given else []
        elif tag == "link":
            links = self.links if given.get("rel") in ("index", "search", "next", "prev") else self.fetched
            links.append(given["href"])
        else:
            self.fetched += [given[name] for name in ("src", "srcset", "data", "poster") if name in given]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", str(out / "doctrees")]
    built = subprocess.run([*command, str(DOCS), str(out / "html")], capture_output=True, text=True)
    assert (built.returncode, built.stderr) == (0, ""), built.stderr
    return out / "html"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    found = {
        str(path.relative_to(site)): Page(path.read_text("utf-8"))
        for path in sorted(site.rglob("*.html"))
        if "_static" not in path.parts
    }
    assert len(found) > 25
    return found


def test_every_page_is_there_and_none_is_hidden(site: Path) -> None:
    for page in DOCS.rglob("*.md"):
        if "runs" not in page.parts:
            assert (site / page.relative_to(DOCS)).with_suffix(".html").is_file()
            assert "orphan" not in page.read_text("utf-8")[:200]  # -W refuses a page in no list of contents


def test_nothing_is_fetched_from_elsewhere(site: Path, pages: dict[str, Page]) -> None:
    fetched = {(name, address) for name, page in pages.items() for address in page.fetched}
    assert len(fetched) > len(pages)
    for name, address in fetched:
        parts = urlsplit(address)
        assert (parts.scheme, parts.netloc) == ("", ""), (name, address)
        assert (site / name).parent.joinpath(unquote(parts.path)).is_file(), (name, address)
    for sheet in site.rglob("*.css"):
        for address in re.findall(r"(?:url\(|@import)\s*['\"]?([^'\")]+)", sheet.read_text("utf-8")):
            assert address.startswith(("data:", "#")) or not urlsplit(address).netloc, (sheet, address)


def test_links_within_the_site_lead_somewhere(site: Path, pages: dict[str, Page]) -> None:
    broken = []
    for name, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (site / name).parent.joinpath(unquote(parts.path)) if parts.path else site / name
            other = pages.get(str(target.resolve().relative_to(site.resolve())))
            place = unquote(parts.fragment)
            if not target.is_file() or (other and place and place not in other.places):
                broken.append((name, link))
    assert broken == []


def test_the_interface_is_complete(pages: dict[str, Page]) -> None:
    told = pages["api.html"].places
    assert {f"dgam.{name}" for name in dgam.__all__ if name != "__version__"} <= told
    assert {f"dgam-{name}" for name in COMMANDS} | {"dgam-weights-get"} <= pages["commands.html"].places
    assert {"model", "loss", "train", "localize"} <= pages["settings.html"].places


def test_formulas_are_mathml(site: Path) -> None:
    text = (site / "maths.html").read_text("utf-8")
    assert text.count("<math") > 30
    assert "$$" not in text
    assert "\\frac" not in re.sub(r"<[^>]*>", "", text)


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    sync_api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip("there is no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.mark.slow
def test_in_a_browser(browser: object, site: Path, pages: dict[str, Page]) -> None:
    """Every page on a narrow screen: no request to a network, no fault in a script, no sideways scrolling."""
    # For mypy: given as an object.
    view = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")  # type: ignore[attr-defined]
    wrong: list[str] = []
    view.on("pageerror", lambda error: wrong.append(str(error)))
    view.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    view.on(
        "request",
        lambda request: None if request.url.startswith(("file:", "data:")) else wrong.append(request.url),
    )
    for name in pages:
        view.goto((site / name).as_uri())
        if view.evaluate("document.documentElement.scrollWidth") > 390:
            wrong.append(f"{name} is wider than the screen")
    assert wrong == []
    view.goto(f"{(site / 'search.html').as_uri()}?q=attention")
    view.locator("#search-results li").first.wait_for(timeout=20_000)
    view.close()
    assert [address for address in wrong if address.startswith("http")] == []

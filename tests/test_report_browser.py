"""The report in a real browser: sorting, filtering, links, dark, print, narrow, keyboard, accessibility."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tiny_data
from browser_page import chromium, eventually
from dgam.core.types import Detections
from dgam.evaluation import Protocol
from dgam.page.collect import Asked, collect
from dgam.page.render import render


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    run = tiny_data.train(folder / "run", config=tiny_data.settings(base=tiny_data.LEARNS))
    rules = Protocol("activitynet").changed(subsets=("test",))
    asked = Asked(name="ours", protocol=rules, compare={"nothing": Detections({})})
    content, _ = collect(
        run, tiny_data.features(), asked, truth=tiny_data.truth(), simulated="simulated data (by hand)"
    )
    path = folder / "report.html"
    path.write_text(render(content), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    """The report, opened from its file; nothing may be fetched and nothing may go wrong in its script."""
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: wrong.append(request.url) if request.url.startswith("http") else None)
    page.goto(report.as_uri())
    yield page
    page.close()
    assert wrong == []


def order(page: Any) -> Any:
    """The videos shown, top to bottom."""
    return page.eval_on_selector_all("article", "all => all.filter(a => !a.hidden).map(a => a.id)")


def open_all(page: Any) -> None:
    page.eval_on_selector_all("details", "all => all.forEach(d => d.open = true)")


def test_a_click_sorts_table_and_videos(page: Any) -> None:
    assert order(page) == [f"video-v{n}" for n in range(5)]
    length = page.locator("#video-index thead th").nth(2)
    length.get_by_role("button").click()
    assert length.get_attribute("aria-sort") == "descending"  # numbers: the greatest first
    assert order(page) == [f"video-v{n}" for n in (4, 3, 2, 1, 0)]
    assert "video-index=2d" in page.evaluate("location.hash")
    length.get_by_role("button").click()
    assert length.get_attribute("aria-sort") == "ascending"
    rows = page.locator("#video-index tbody th").all_text_contents()
    assert rows == [f"v{n}" for n in range(5)]
    page.locator("#map thead button").first.click()
    assert page.locator("#map tbody th").all_text_contents() == ["nothing", "ours"]


def test_the_filter_hides_videos_and_stays_in_the_address(page: Any) -> None:
    box = page.get_by_label("Show videos whose name or classes contain")
    box.fill("V2")
    assert order(page) == ["video-v2"]
    assert page.locator("#video-index tbody tr:visible").count() == 1
    assert page.locator("#filter-count").text_content() == "1 of 5 videos"
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    assert order(page) == ["video-v2"]
    assert page.locator("#filter").input_value() == "V2"
    box.press("Enter")  # submits nothing
    assert page.locator("#filter").input_value() == "V2"
    box.fill("")
    assert len(order(page)) == 5


def test_links_lead_to_videos_and_keep_the_state(page: Any, report: Path) -> None:
    page.locator("#video-index thead button").nth(2).click()
    page.locator("#video-index tbody a", has_text="v3").click()
    assert re.fullmatch(r"#video-v3\?video-index=2d", page.evaluate("location.hash"))
    assert page.evaluate("document.activeElement.id") == "video-v3"
    assert -5 <= page.locator("#video-v3").bounding_box()["y"] <= 200
    page.goto("about:blank")
    page.goto(f"{report.as_uri()}#video-v4")
    assert page.locator("#video-v4 h3").bounding_box()["y"] < 900
    page.goto("about:blank")
    page.goto(f"{report.as_uri()}#video-v4?filter=v1")  # the linked video wins over the filter
    assert "video-v4" in order(page)


def test_nonsense_in_the_address_does_no_harm(page: Any, report: Path) -> None:
    for fragment in ("nowhere?video-index=99d&map=x", "?filter=%3Cb%3E", "%", "a?b?c"):
        page.goto("about:blank")
        page.goto(f"{report.as_uri()}#{fragment}")
        assert page.locator("article").count() == 5


def test_it_works_from_the_keyboard(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.locator("#class-ap thead button").nth(1).focus()
    page.keyboard.press("Enter")
    assert page.locator("#class-ap thead th").nth(1).get_attribute("aria-sort") == "descending"
    page.locator("#video-v0 details.why summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#video-v0 details.why").first.get_attribute("open") is not None
    assert page.locator("#video-v0 table.sum").first.is_visible()


def test_the_cursor_tells_the_time(page: Any) -> None:
    timeline = page.locator("#video-v4 .timeline")
    timeline.scroll_into_view_if_needed()
    ticks = page.locator("#video-v4 .ticks").bounding_box()
    page.mouse.move(ticks["x"] + ticks["width"] / 2, ticks["y"] - 20)
    duration = float(timeline.get_attribute("data-duration"))
    eventually(page, "document.querySelector('#video-v4 .cursor').textContent")
    told = page.locator("#video-v4 .cursor").text_content()
    assert float(told.split()[0]) == pytest.approx(duration / 2, abs=0.2)


@pytest.mark.parametrize("width", [320, 390, 768])
def test_nothing_reaches_beyond_a_narrow_screen(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    open_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_and_light(page: Any) -> None:
    def brightness() -> list[int]:
        """Of background and text, each the sum of its three channels."""
        style = "getComputedStyle(document.body)"
        colours = page.evaluate(f"[{style}.backgroundColor, {style}.color]")
        return [sum(map(int, re.findall(r"\d+", colour))) for colour in colours]

    page.emulate_media(color_scheme="light")
    background, text = brightness()
    assert (background, text < 150) == (765, True)
    page.emulate_media(color_scheme="dark")
    background, text = brightness()
    assert background < 120 < 600 < text


def test_print(page: Any) -> None:
    page.emulate_media(color_scheme="dark")
    pdf = page.pdf(format="A4")
    assert pdf[:5] == b"%PDF-"
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 3
    page.emulate_media(media="print")
    assert page.locator("nav").is_hidden()
    assert page.locator(".filter").is_hidden()
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(255, 255, 255)"  # also where the screen is dark
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#video-v0 details.why[open]").count() == 1
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("#video-v0 details.why[open]").count() == 0


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 390)])
def test_accessibility(page: Any, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    open_all(page)
    violations = axe.Axe().run(page).response["violations"]
    told = [(found["id"], node["target"]) for found in violations for node in found["nodes"][:3]]
    assert told == []

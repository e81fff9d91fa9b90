"""The page of ``dgam serve`` for everybody: by keyboard, on a phone, in light and dark, with axe."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from browser_page import Watched, watched
from serve_site import Running

pytest_plugins = ["page_fixtures"]

DOCS = Path(__file__).resolve().parents[1] / "docs" / "webpage.md"
AXE_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
BARS = ".seg-bar:not(.context)"
SMALL_TARGETS = """() => {
    const kinds = 'button, select, .button, input[type=range], summary, .check, .seg label, .handle';
    return [...document.querySelectorAll(kinds)]
        .filter(node => node.checkVisibility() && !node.matches('.seg-bar'))
        .filter(node => node.getBoundingClientRect().height < 43.5)
        .map(node => node.outerHTML.slice(0, 120));
}"""


def test_everything_by_keyboard(own: Watched, api: httpx.Client, job: str, clean: None) -> None:
    page = own.open()
    page.wait_for_selector(f'a[href="#job={job}"]')
    press = page.keyboard.press
    focus = "document.activeElement"

    def tab_to(condition: str, most: int = 60) -> None:
        for _ in range(most):
            press("Tab")
            if page.evaluate(f"{focus}.matches({json.dumps(condition)})"):
                outline = page.evaluate(f"getComputedStyle({focus}).outlineStyle")
                assert outline != "none", condition  # the focus is to be seen
                return
        raise AssertionError(f"the Tab key does not reach {condition}")

    tab_to(f'a[href="#job={job}"]')
    press("Enter")
    page.wait_for_selector(".seg-bar")
    tab_to(".playhead-knob")
    press("ArrowRight")
    press("Shift+ArrowRight")
    assert own.position() == pytest.approx(6.0, abs=0.05)
    tab_to(".seg-bar")
    first = page.evaluate(f"{focus}.getAttribute('aria-label')")
    press("ArrowRight")
    assert page.evaluate(f"{focus}.getAttribute('aria-label')") != first
    press("w")
    page.wait_for_selector(".waterfall")
    press("Escape")
    press("e")
    page.get_by_role("button", name="Start with nothing").focus()
    press("Enter")
    page.locator(".playhead-knob").focus()
    press("Home")
    for _ in range(4):
        press("ArrowRight")
    press("a")  # 4 to 6 s
    assert page.evaluate(f"{focus}.classList.contains('seg-bar')")
    press("Tab")
    for _ in range(3):
        press("ArrowLeft")  # the start, 0.1 s each
    press("Tab")
    press("Shift+ArrowRight")  # the end, 1 s
    press("Control+s")
    page.locator(".save-status", has_text=re.compile("^Saved$")).wait_for()
    kept = api.get(f"/jobs/{job}/result").json()["correction"]["segments"]
    assert [(one["start"], one["end"]) for one in kept] == [(3.7, 7.0)]
    press("Control+z")
    press("Control+z")
    press("Control+z")
    assert page.locator(".seg-bar").count() == 0
    press("Control+Shift+z")
    assert page.locator(".seg-bar").count() == 1
    page.locator(".seg-bar").focus()
    press("Delete")
    assert page.locator(".seg-bar").count() == 0
    page.get_by_label("Least score").focus()
    press("e")
    assert page.locator(BARS).count() == 8


def test_shortcuts_are_those_of_the_docs(done: Any) -> None:
    page = done
    page.keyboard.press("?")
    shown = page.evaluate("""() => [...document.querySelectorAll('#shortcuts .keys > div')].map(row => [
        [...row.querySelectorAll('kbd')].map(key => key.textContent).join(' '),
        row.querySelector('dd').textContent])""")
    told = re.findall(r"^\| (`.+?) \| (.+?) \|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert [[keys.replace("`", ""), what] for keys, what in told] == shown
    page.get_by_label("Single-key shortcuts").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("e")
    assert page.locator(".editor").is_hidden()


def test_narrow(browser: Any, server: Running, job: str) -> None:
    with watched(browser, server.address, **PHONE) as own:
        page = own.open()
        page.wait_for_selector(".job-link")
        for view in ("list", "job", "why", "correction"):
            if view == "job":
                page.locator(f'a[href="#job={job}"]').tap()
                page.wait_for_selector(".seg-bar")
            if view == "why":
                page.locator(".segments tbody tr").first.get_by_role("button", name="Why").tap()
                page.wait_for_selector(".waterfall")
            if view == "correction":
                page.get_by_text("Correction", exact=True).first.tap()
                page.get_by_role("button", name="Start from").tap()
                page.locator(".segments tbody tr").first.tap()
                page.wait_for_selector(".handle")
            assert page.evaluate("document.documentElement.scrollWidth") == 390, view
            small = page.evaluate(SMALL_TARGETS)
            assert small == [], view


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Any, server: Running, job: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()

    def check(page: Any, view: str) -> None:
        found = axe.run(page, options={"runOnly": AXE_RULES, "resultTypes": ["violations"]}).response
        assert [(view, one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == []
        assert len(found["passes"]) > 20  # it did look

    with watched(browser, server.address, color_scheme=scheme, reduced_motion="reduce") as own:
        page = own.open()
        page.wait_for_selector(".job-link")
        check(page, "list")
        page = own.show(job)
        page.locator(".segments tbody tr").nth(2).get_by_role("button", name="Why").click()
        page.wait_for_selector(".waterfall")
        check(page, "why")
        page.keyboard.press("e")
        page.get_by_role("button", name="Start from").click()
        page.locator(".seg-bar").nth(1).click()
        check(page, "correction")
        page.keyboard.press("?")
        check(page, "shortcuts")


def test_light_dark_and_calm(browser: Any, server: Running, job: str) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    with watched(browser, server.address, color_scheme="dark", reduced_motion="reduce") as own:
        page = own.show(job)
        dark = page.evaluate(ground)
        assert sum(map(int, re.findall(r"\d+", dark))) < 150
        page.keyboard.press("t")  # light
        light = page.evaluate(ground)
        assert sum(map(int, re.findall(r"\d+", light))) > 600
        page.reload()
        assert page.evaluate(ground) == light
        page.keyboard.press("t")  # dark
        page.keyboard.press("t")  # as the system
        assert page.evaluate(ground) == dark
        moving = "n => parseFloat(getComputedStyle(n).transitionDuration) > 0"
        assert page.evaluate(f"[...document.querySelectorAll('*')].filter({moving}).length") == 0

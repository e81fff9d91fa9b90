"""The page of ``dgam serve`` in a real browser, with a real server and a real, tiny model behind it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from browser_page import Watched, eventually, x_of

pytest_plugins = ["page_fixtures"]

BARS = ".seg-bar:not(.context)"
SET = "(node, value) => { node.value = value; node.dispatchEvent(new Event('input')); }"


def test_upload_progress_and_result(own: Watched, api: httpx.Client, video: Path) -> None:
    page = own.open()
    page.evaluate("""() => {  // every figure that is shown, so that none is missed
        window.seen = [];
        const look = () => {
            const bar = document.querySelector('#progress:not([hidden]) [role=progressbar]');
            const stage = document.getElementById('stage').textContent;
            if (bar) seen.push([stage, Number(bar.getAttribute('aria-valuenow'))]);
        };
        const all = {subtree: true, childList: true, attributes: true, characterData: true};
        new MutationObserver(look).observe(document.body, all);
    }""")
    page.set_input_files(
        "#file", {"name": "mine.webm", "mimeType": "video/webm", "buffer": video.read_bytes()}
    )
    page.wait_for_selector(".seg-bar", timeout=60000)
    seen = page.evaluate("seen")
    shares = [share for stage, share in seen if stage == "Extracting snippet features"]
    assert any(0 < share < 100 for share in shares)
    assert shares == sorted(shares)
    assert page.locator("#job-name").text_content() == "mine.webm"
    made = api.get("/jobs").json()["jobs"][0]
    assert made["name"] == "mine.webm"
    eventually(page, "id => location.hash.includes(`job=${id}`)", made["id"])
    page.locator("#job-actions").get_by_role("button", name="Delete").click()
    page.keyboard.press("Enter")  # the focus is on what keeps it
    assert api.get(f"/jobs/{made['id']}").status_code == 200
    page.locator("#job-actions").get_by_role("button", name="Delete").click()
    page.locator("#confirm").get_by_role("button", name="Delete").click()
    page.wait_for_selector("#welcome:not([hidden])")
    assert api.get(f"/jobs/{made['id']}").status_code == 404


def test_drop_queue_and_cancel(own: Watched, api: httpx.Client, video: Path, job: str) -> None:
    page = own.open()
    page.wait_for_selector("#limits:not(:empty)")
    before = len(api.get("/jobs").json()["jobs"])
    page.locator("#folder summary").click()
    page.locator("#folder-list button").click()  # keeps the worker busy
    page.wait_for_selector("#progress:not([hidden])")
    data = page.evaluate_handle(
        """bytes => { const held = new DataTransfer();
        const data = new Uint8Array(bytes);
        for (const name of ['a.webm', 'b.webm']) held.items.add(new File([data], name));
        return held; }""",
        list(video.read_bytes()),
    )
    page.dispatch_event("#main", "dragenter", {"dataTransfer": data})
    page.locator("#drop-veil").wait_for()
    page.dispatch_event("#main", "drop", {"dataTransfer": data})
    assert page.locator("#drop-veil").is_hidden()
    page.get_by_role("link", name="b.webm").click()
    page.get_by_text(re.compile(r"Waiting: number \d in line")).wait_for()
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("heading", name="Cancelled").wait_for()
    states = {one["name"]: one["state"] for one in api.get("/jobs").json()["jobs"]}
    assert states["b.webm"] == "cancelled"
    assert len(api.get("/jobs").json()["jobs"]) == before + 3
    for one in api.get("/jobs").json()["jobs"]:
        if one["id"] != job:
            api.delete(f"/jobs/{one['id']}")
    page.get_by_text("No such video").wait_for()  # deleted elsewhere: said, not shown for ever


def test_refused_files_say_why(own: Watched) -> None:
    page = own.open()
    page.wait_for_selector("#limits:not(:empty)")
    page.set_input_files("#file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"hello"})
    page.locator("#upload-errors").get_by_text("notes.txt: not a video").wait_for()
    page.set_input_files("#file", {"name": "page.mp4", "mimeType": "video/mp4", "buffer": b"<html>no</html>"})
    page.get_by_text("page.mp4:").wait_for()
    page.get_by_role("button", name="Dismiss").click()
    assert page.locator("#upload-errors").text_content() == ""
    assert own.refusals == 1  # the browser's own word on the server's 415


def test_seek_scrub_play_and_link(own: Watched, done: Any, job: str) -> None:
    page = done
    page.mouse.click(*x_of(page, 12.0))
    assert own.position() == pytest.approx(12.0, abs=0.1)
    eventually(page, "Math.abs(document.querySelector('video').currentTime - 12) < 0.1")
    page.mouse.move(*x_of(page, 5.0))
    page.mouse.down()
    page.mouse.move(*x_of(page, 7.0), steps=4)
    page.mouse.move(*x_of(page, 8.0))
    page.mouse.up()
    assert own.position() == pytest.approx(8.0, abs=0.1)
    eventually(page, "Math.abs(Number(new URLSearchParams(location.hash.slice(1)).get('t')) - 8) < 0.1")
    page.keyboard.press("k")
    eventually(page, "document.querySelector('video').currentTime > 8.4")
    head, time = page.evaluate("""() => {
        const left = name => document.querySelector(name).getBoundingClientRect().left;
        return [left('.playhead') - left('.ruler-track'), document.querySelector('video').currentTime];
    }""")
    assert head / page.locator(".ruler-track").bounding_box()["width"] * 24 == pytest.approx(time, abs=0.2)
    page.keyboard.press("k")
    own.show(job, "&t=12.34")
    assert own.position() == pytest.approx(12.34, abs=0.01)


def test_a_row_plays_its_segment(own: Watched, done: Any, api: httpx.Client, job: str) -> None:
    page = done
    best = api.get(f"/jobs/{job}/result").json()["detections"][0]
    page.get_by_label("Speed").select_option("4")
    page.locator(".segments tbody tr").first.click()
    eventually(page, "start => document.querySelector('video').currentTime > start + 0.3", best["start"])
    eventually(page, "document.querySelector('video').paused")
    knob = "Number(document.querySelector('.playhead-knob').getAttribute('aria-valuenow'))"
    eventually(page, f"end => Math.abs({knob} - end) < 0.05", best["end"])
    page.locator(".segments th button", has_text="Start").click()
    starts = page.locator(".segments tbody td.col-start").all_text_contents()
    assert starts == sorted(starts)
    assert page.locator(".segments th.col-start").get_attribute("aria-sort") == "ascending"


def test_sliders_act_at_once(done: Any, api: httpx.Client, job: str) -> None:
    page = done
    found = api.get(f"/jobs/{job}/result").json()["detections"]
    assert page.locator(BARS).count() == len(found) == 8
    slider = page.get_by_label("Least score")
    slider.focus()
    for _ in range(6):
        page.keyboard.press("PageUp")
    threshold = float(page.locator("output[for=score-slider]").text_content().replace("−", "-"))
    kept = [one for one in found if one["score"] >= threshold]
    assert 0 < len(kept) < 8
    assert page.locator(BARS).count() == page.locator(".segments tbody tr").count() == len(kept)
    slider.evaluate(SET, 0)
    page.get_by_label("Least length").evaluate(SET, 3)
    long = [one for one in found if one["end"] - one["start"] >= 3]
    assert page.locator(BARS).count() == len(long) == 6
    with page.expect_download() as taken:
        page.locator("[data-format=json]").click()
    value = json.loads(Path(taken.value.path()).read_text())
    assert len(value["results"]["flashes"]) == 6


def test_downloads_are_what_the_api_gives(done: Any, api: httpx.Client, job: str) -> None:
    for name in api.get("/model").json()["formats"]:
        with done.expect_download() as taken:
            done.locator(f"[data-format={name}]").click()
        answer = api.get(f"/jobs/{job}/export/{name}")
        steady = re.compile(rb'DATE="[^"]*"')  # ELAN's time of writing
        assert steady.sub(b"", Path(taken.value.path()).read_bytes()) == steady.sub(b"", answer.content)
        assert f'filename="{taken.value.suggested_filename}"' in answer.headers["content-disposition"]


def test_why(own: Watched, done: Any, api: httpx.Client, job: str) -> None:
    page = done
    page.locator(".segments tbody tr").nth(2).get_by_role("button", name="Why").click()
    page.wait_for_selector(".waterfall")
    told = api.get(f"/jobs/{job}/explanations/2").json()
    page.get_by_text("In sentences").click()
    for sentence in told["words"]:
        page.locator(".why").get_by_text(sentence).wait_for()
    total = page.locator(".waterfall tr", has_text="Score of the segment").locator("td").first.text_content()
    assert float(total.replace("−", "-")) == pytest.approx(told["score"], abs=0.006)
    assert page.locator(".zone.inner").count() == 1
    page.keyboard.press("Escape")
    assert page.locator(".why").is_hidden()
    assert page.locator(".zone").count() == 0
    assert page.evaluate("document.activeElement.classList.contains('seg-bar')")


def test_correct_with_the_mouse(own: Watched, done: Any, api: httpx.Client, job: str, clean: None) -> None:
    page = done
    page.get_by_label("Correction").first.check()
    page.get_by_role("button", name="Start from the 8 detections shown").click()
    best = page.locator(".seg-bar[aria-label^='red, 14.7']")
    best.click()
    handle = page.get_by_role("slider", name="End of red")
    box = handle.bounding_box()
    page.mouse.move(box["x"] + 4, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(x_of(page, 18.0)[0], box["y"] + 10, steps=5)
    page.mouse.move(x_of(page, 19.0)[0], box["y"] + 10)
    page.mouse.up()
    ended = float(handle.get_attribute("aria-valuenow"))
    assert ended == pytest.approx(19.0, abs=0.15)
    page.get_by_role("button", name="Undo").click()  # a whole drag is one step
    assert handle.get_attribute("aria-valuenow") == "16.64"
    page.get_by_role("button", name="Redo").click()
    page.locator("#edit-label").select_option("blue")
    hostile = "<img src=x onerror=alert(1)>"
    page.get_by_label("New label").last.fill(hostile)
    page.get_by_role("button", name="Add label").click()
    page.get_by_role("button", name="Save").click()
    page.locator(".save-status", has_text=re.compile("^Saved$")).wait_for()
    kept = api.get(f"/jobs/{job}/result").json()["correction"]
    changed = [one for one in kept["segments"] if one["start"] == 14.72 and one["end"] == ended]
    assert [one["label"] for one in changed] == ["blue"]
    assert len(kept["segments"]) == 8
    assert sorted(kept["labels"]) == sorted(["blue", "red", hostile])
    page.reload()
    page.wait_for_selector(".seg-bar")
    page.keyboard.press("e")
    assert page.locator(".seg-bar").count() == 8
    assert page.locator(".seg-bar[aria-label^='blue, 14.7 seconds to 1']").filter(has_text="4.").count() == 1
    assert page.get_by_role("checkbox", name=hostile).is_checked()
    assert page.locator("img").count() == 0
    page.locator(".downloads input[value=correction]").check()
    with page.expect_download() as taken:
        page.locator("[data-format=csv]").click()
    answer = api.get(f"/jobs/{job}/export/csv", params={"source": "correction"})
    assert Path(taken.value.path()).read_bytes() == answer.content


def test_video_labels_and_unsaved_changes(
    done: Any, own: Watched, api: httpx.Client, job: str, clean: None
) -> None:
    page = done
    page.keyboard.press("e")
    page.get_by_role("button", name="Start from").click()
    page.get_by_role("checkbox", name="red").click()
    assert page.get_by_role("checkbox", name="red").is_checked()  # segments have it
    page.get_by_text("red has 4 segments here").wait_for()
    page.locator(".seg-bar").first.click()
    page.locator("#edit-start").fill("nonsense")
    page.locator("#edit-start").press("Enter")
    page.get_by_text("“nonsense” is no time").wait_for()
    page.get_by_role("link", name="dgam, all videos").click()
    page.get_by_role("button", name="Stay").click()
    eventually(page, "job => location.hash.includes(job)", job)
    page.locator(".editor").wait_for()
    page.get_by_role("link", name="dgam, all videos").click()
    page.get_by_role("button", name="Leave").click()
    page.wait_for_selector("#welcome:not([hidden])")
    assert api.get(f"/jobs/{job}/result").json()["correction"] is None


def test_zoom(own: Watched, done: Any) -> None:
    page = done
    marks = page.locator(".ruler-marks text").all_text_contents()
    page.mouse.click(*x_of(page, 12.0))
    for _ in range(3):
        page.keyboard.press("+")
    share = "parseFloat(document.querySelector('.overview-window').style.width)"
    eventually(page, f"Math.abs({share} - 100 / 8) < 0.1")  # in per cent; drawn at the next frame
    assert page.locator(".ruler-marks text").first.text_content() != marks[0]
    page.locator(".playhead-knob").press("End")
    assert own.position() == pytest.approx(24.0, abs=0.05)  # and in sight:
    page.locator(".playhead").wait_for()
    page.keyboard.press("0")
    eventually(page, "old => document.querySelector('.ruler-marks text').textContent === old", marks[0])


def test_the_server_goes_and_comes_back(own: Watched, done: Any) -> None:
    own.page.route("**/api/**", lambda route: route.abort())
    own.page.get_by_text("The server does not answer.").wait_for()
    own.page.locator("[data-format=csv]").click()
    own.page.locator(".downloads [role=alert]").get_by_text("does not answer").wait_for()
    own.page.unroute("**/api/**")
    own.page.get_by_text("The server is back.").first.wait_for()

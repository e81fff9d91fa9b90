"""The report page's numbers, names and drawings, read back with lxml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import lxml.html
import numpy as np
import pytest

import dgam
import tiny_data
from dgam.core.run import Run
from dgam.core.types import AnnotatedVideo, Detection, Segment, SegmentAnnotations
from dgam.evaluation import analyse_errors, select
from dgam.page.charts import precision_recall_panels
from dgam.page.collect import Asked, collect
from dgam.page.content import Content
from dgam.page.reduce import instances_found, thin_out
from dgam.page.render import anchors_of, render
from dgam.page.timeline import clock, ticks_of
from tiny_report import RULES, text_of, theirs, values_of

pytest_plugins = ["report_fixtures"]


@pytest.fixture(scope="module")
def page(content: Content) -> lxml.html.HtmlElement:
    return lxml.html.document_fromstring(render(content))


# Numbers.


def test_scores_are_those_of_evaluate(run: Run, page: lxml.html.HtmlElement) -> None:
    own = dgam.evaluate(
        dgam.localize(run, tiny_data.features()), tiny_data.truth(), Asked().tiou, protocol=RULES
    )
    other = dgam.evaluate(theirs(), tiny_data.truth(), Asked().tiou, protocol=RULES)
    assert own.average > other.average > 0
    for row, result in zip(page.xpath("//table[@id='map']/tbody/tr"), (own, other), strict=True):
        assert values_of(row) == pytest.approx([100 * v for v in (*result.map, result.average)], abs=1e-9)
    for row in page.xpath("//table[@id='class-ap']/tbody/tr"):
        label = text_of(row.find("th"))
        at = own.tiou.index(0.5)
        mine, others = own.per_class[label], other.per_class[label]
        assert values_of(row) == pytest.approx(
            [own.counts[own.classes.index(label)], mine[at], np.mean(mine), others[at], np.mean(others)]
        )
    glance = text_of(page.xpath("//dl[@class='glance']")[0])
    assert f"{100 * own.average:.1f} mean mAP at tIoU 0.1–0.9" in glance
    assert f"{100 * own.map[4]:.1f} mAP at tIoU 0.5" in glance


def test_the_detections_are_those_of_localize(run: Run) -> None:
    _, found = collect(run, tiny_data.features(), Asked(), truth=None)
    expected = dgam.localize(run, tiny_data.features())
    assert dict(found.videos) == dict(expected.videos)
    assert found.about == expected.about


def test_error_analysis_and_statistics(run: Run, page: lxml.html.HtmlElement) -> None:
    chosen = select(dgam.localize(run, tiny_data.features()), tiny_data.truth(), RULES)
    counts = analyse_errors(chosen.detections, chosen.ground_truth).counts.sum(axis=0).tolist()
    rows = page.xpath("//table[@id='errors-1']/tbody/tr")
    assert [values_of(row)[0] for row in rows] == counts
    statistics = dgam.statistics(run, tiny_data.features(), tiny_data.truth())
    row = page.xpath("//section[@id='attention']//tbody/tr")[0]
    shown = [cell.text for cell in row.findall("td")]
    assert shown == [f"{statistics[stream].false_activation:.3f}" for stream in ("rgb", "flow")]


def test_the_area_below_a_drawn_curve_is_ap(run: Run) -> None:
    result = dgam.evaluate(dgam.localize(run, tiny_data.features()), tiny_data.truth(), [0.3], protocol=RULES)
    for panel, label in zip(precision_recall_panels({"ours": result}, 0.3), result.classes, strict=True):
        points = re.search(r'd="M([^"]+)"', panel.drawing)
        assert points is not None
        x, y = np.array([pair.split() for pair in points[1].split("L")], dtype=float).T
        area = np.sum(np.diff(x) / 1000 * (1 - y[1:] / 100))  # a staircase: the height at its right end
        assert area == pytest.approx(result.per_class[label][0], abs=0.01)


def test_captions_say_protocol_and_seeds(page: lxml.html.HtmlElement) -> None:
    for place in (
        "//table[@id='map']/caption",
        "//table[@id='class-ap']/caption",
        "//table[@id='video-index']/caption",
    ):
        told = text_of(page.xpath(place)[0])
        assert "Protocol activitynet, subsets=test" in told
        assert "ours: seed 0; theirs: seed 9" in told
    told = text_of(page.xpath("//section[@id='scores']//ul[@class='notes']")[0])
    assert "5 videos" in told
    assert "theirs: videos without a prediction: 4 of 5" in told


def test_what_was_chosen_on_the_test_set_says_so_first(run: Run) -> None:
    chosen = replace(run, selection="CHOSEN ON THE TEST SET: the best by test mAP@0.5 (rgb: epoch 20)")
    other = replace(theirs(), about={"selection": "chosen on the test set: step 100"})
    asked = Asked(name="ours", protocol=RULES, compare={"theirs": other, "clean": theirs()})
    content, _ = collect(chosen, tiny_data.features(), asked, truth=tiny_data.truth())
    page = lxml.html.document_fromstring(render(content))
    banners = [text_of(p) for p in page.xpath("//header[@class='top']//p[contains(@class, 'warning')]")]
    assert [text.split(" was")[0] for text in banners] == ["ours", "theirs"]
    assert "epoch 20" in banners[0]


def test_found_counts_each_instance_once() -> None:
    truth = [Segment(0, 10, "dive"), Segment(20, 30, "dive")]
    twice = [Detection(0, 10, "dive", 3), Detection(1, 10, "dive", 2), Detection(20, 30, "dive", 1)]
    assert instances_found(twice, truth, 0.5) == 1  # the third comes after as many as there are instances
    assert instances_found(twice[1:], truth, 0.5) == 2
    assert instances_found([Detection(0, 10, "jump", 1)], truth, 0.5) == 0
    assert instances_found([], truth, 0.5) == 0


# Videos.


def test_every_video_has_its_timeline_and_anchor(page: lxml.html.HtmlElement, content: Content) -> None:
    assert [a.get("href") for a in page.xpath("//table[@id='video-index']//tbody//a")] == [
        f"#video-v{n}" for n in range(5)
    ]
    for video in content.videos:
        (article,) = page.xpath(f"//article[@id='video-{video.video}']")
        truth = article.xpath(".//div[contains(@class, 'lane truth')]//*[name()='rect']")
        assert len(truth) == len(video.truth)
        lanes = {text_of(lane) for lane in article.xpath(".//span[@class='lane-name']/span[1]")}
        assert {"ground truth", "ours", "theirs", "attention λ", "class activation"} <= lanes
    bar = page.xpath("//article[@id='video-v0']//div[@class='lane truth']//*[name()='rect']")[0]
    timeline = tiny_data.features().timeline("v0")
    start = tiny_data.truth().videos["v0"].segments[0].start
    assert float(bar.get("x")) == pytest.approx(1000 * start / timeline.end, abs=0.1)


def test_explanations_add_up_on_the_page(page: lxml.html.HtmlElement, content: Content) -> None:
    e = content.videos[0].explanations[0]
    why = page.xpath("//article[@id='video-v0']//details[@class='why']")[0]
    assert f"{e.final:.3f}" in text_of(why.find("summary"))
    values = [float(cell.text) for cell in why.xpath(".//table[contains(@class,'sum')]//td[1]")]
    parts = 4 if e.video else 3  # inside, before, after, and the whole video where it weighs
    assert sum(values[:parts]) == pytest.approx(values[parts], abs=0.002)
    assert values[parts] == pytest.approx(e.score, abs=0.0006)
    bars = why.xpath(".//figure//*[name()='rect']")
    assert len(bars) == len(e.snippets)


def test_curves_keep_their_extremes() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(5000)
    values[[77, 4100]] = [2, -1]
    line = thin_out(np.arange(5000.0), values, 100)
    assert len(line.values) <= 100
    assert (line.values.max(), line.values.min()) == (2, -1)
    assert (np.diff(line.seconds) > 0).all()
    assert (line.values == values[line.seconds.astype(int)]).all()


def test_only_the_first_videos_get_a_timeline(run: Run) -> None:
    content, found = collect(
        run, tiny_data.features(), Asked(most=2, protocol=RULES), truth=tiny_data.truth()
    )
    page = lxml.html.document_fromstring(render(content))
    assert len(page.xpath("//article")) == 2
    assert len(page.xpath("//table[@id='video-index']/tbody/tr")) == 5
    assert "The last 3 videos are listed without a timeline" in page.text_content()
    assert len(found.videos) == 5  # scores count all


def test_anchors_are_unique_and_plain() -> None:
    anchors = anchors_of(["a b", "a/b", "a-b", "…", "<x>"])
    assert anchors == {
        "a b": "video-a-b",
        "a/b": "video-a-b-2",
        "a-b": "video-a-b-3",
        "…": "video-unnamed",
        "<x>": "video-x",
    }


@pytest.mark.parametrize(
    ("duration", "last"), [(3.0, "2.5 s"), (59, "50 s"), (254, "3:00"), (7300, "1:30:00")]
)
def test_time_axis(duration: float, last: str) -> None:
    ticks = ticks_of(duration)
    assert (ticks[0].percent, ticks[0].text) == (0, "0 s")
    assert ticks[-1].text == last
    assert len(ticks) <= 9
    assert clock(3725) == "1:02:05"


def test_ambiguous_stretches_are_drawn(run: Run) -> None:
    truth = tiny_data.truth()
    marked = AnnotatedVideo(truth.videos["v0"].segments, "test", None, (Segment(0, 2, "Ambiguous"),))
    videos: Mapping[str, AnnotatedVideo] = {**truth.videos, "v0": marked}
    content, _ = collect(run, tiny_data.features(), Asked(protocol=RULES), truth=SegmentAnnotations(videos))
    page = lxml.html.document_fromstring(render(content))
    lanes = page.xpath("//article[@id='video-v0']//div[@class='lane truth']")
    assert [len(lane.xpath(".//*[name()='rect'][@class='ambiguous']")) for lane in lanes] == [1] * len(lanes)
    assert lanes

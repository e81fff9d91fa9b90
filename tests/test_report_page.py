"""The report page's content: numbers, names, links and what is missing, read back with lxml."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import lxml.html
import numpy as np
import pytest

import dgam
import tiny_data
from dgam.cli import main
from dgam.core.errors import InputError
from dgam.core.run import Run
from dgam.core.types import AnnotatedVideo, Detection, Detections, Segment, SegmentAnnotations
from dgam.evaluation import Protocol, analyse_errors, select
from dgam.features.source import ArrayFeatures
from dgam.page.charts import precision_recall_panels
from dgam.page.collect import Asked, collect
from dgam.page.content import Content
from dgam.page.curves import Localised
from dgam.page.reduce import instances_found, thin_out
from dgam.page.render import anchors_of, render
from dgam.page.timeline import clock, ticks_of
from tiny_commands import simulate, train

RULES = Protocol("activitynet").changed(subsets=("test",))
LEARNT = tiny_data.settings(base=tiny_data.LEARNS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny_data.train(tmp_path_factory.mktemp("page") / "run", config=LEARNT)


@pytest.fixture(scope="module")
def content(run: Run) -> Content:
    """A report of the tiny run beside another system that finds v0's instance alone."""
    asked = Asked(
        name="ours", protocol=RULES, compare={"theirs": theirs()}, sources={"theirs": "theirs.json"}
    )
    return collect(run, tiny_data.features(), asked, truth=tiny_data.truth())[0]


@pytest.fixture(scope="module")
def page(content: Content) -> lxml.html.HtmlElement:
    return lxml.html.document_fromstring(render(content))


def theirs() -> Detections:
    segment = tiny_data.truth().videos["v0"].segments[0]
    found = {"v0": [Detection(segment.start, segment.end, segment.label, 0.7)]}
    return Detections(found, {"selection": "the weights after the last epoch", "dgam": {"seed": 9}})


def values_of(row: lxml.html.HtmlElement) -> list[float]:
    return [float(cell.get("data-v")) for cell in row.findall("td") if cell.get("data-v")]


def text_of(element: lxml.html.HtmlElement) -> str:
    return " ".join(element.text_content().split())


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


# One file, and what may not get out of hand.


def check_self_contained(text: str) -> None:
    """Nothing that a browser would fetch, and no script or style but ours."""
    tree = lxml.html.document_fromstring(text)
    for element in tree.iter():
        for name, value in element.attrib.items():
            assert not name.lower().startswith("on"), (element.tag, name)
            if name in ("href", "src", "srcset", "action", "data", "xlink:href"):
                assert value.startswith(("#", "data:image/jpeg;base64,")), value
    assert len(tree.xpath("//script")) == len(tree.xpath("//style")) == 1
    assert not tree.xpath("//link | //iframe | //object | //embed | //base")
    assert "http" not in tree.xpath("//script")[0].text + tree.xpath("//style")[0].text
    assert "url(" not in tree.xpath("//style")[0].text
    assert "@import" not in tree.xpath("//style")[0].text


def test_the_page_needs_nothing_else(content: Content) -> None:
    check_self_contained(render(content))


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=http://e.invalid onerror=alert(2)>',
    "</style></title><svg onload=alert(3)>",
    "{{ 7*7 }}{% raw %}",
    "'; alert(4); //\u202e",
]


def test_hostile_names_stay_names(tmp_path: Path) -> None:
    names = dict(zip(tiny_data.ACTIONS, HOSTILE, strict=True))
    label = {"dive": "<b>dive</b>\" onclick='x'", "jump": "</script><script>alert(5)</script>"}
    actions = {names[v]: tuple(label[a] for a in own) for v, own in tiny_data.ACTIONS.items()}
    features = ArrayFeatures(tiny_data.arrays(actions))
    run = tiny_data.train(tmp_path / "run", source=features, labels=tiny_data.labels(actions), config=LEARNT)
    run = replace(run, selection="<i>CHOSEN ON THE TEST SET</i>", labels="<u>labels</u>")
    system = '<a href="javascript:alert(6)">'
    asked = Asked(name=HOSTILE[0], protocol=RULES, compare={system: Detections({})}, sources={system: "<x>"})
    content, _ = collect(run, features, asked, truth=tiny_data.truth(actions), simulated="<em>simulated</em>")
    text = render(content)
    check_self_contained(text)
    page = lxml.html.document_fromstring(text)
    shown = [element.text_content() for element in page.xpath("//article//h3")]
    assert sorted(shown) == sorted(HOSTILE)
    assert {text_of(th) for th in page.xpath("//table[@id='class-ap']//tbody//th")} == set(label.values())
    assert not page.xpath("//b[text()='dive'] | //i | //u | //em | //main//img")


# What may be missing.


def test_without_ground_truth(run: Run) -> None:
    content, _ = collect(run, tiny_data.features(), Asked(compare={"theirs": theirs()}))
    page = lxml.html.document_fromstring(render(content))
    assert not page.xpath("//section[@id='scores'] | //section[@id='errors'] | //section[@id='attention']")
    assert not page.xpath("//nav//a[@href='#scores']")
    assert len(page.xpath("//article")) == 5
    assert "No ground truth was given, so there are no scores." in page.text_content()
    assert not page.xpath("//*[contains(@class, 'lane truth')]")
    for link in page.xpath("//nav//a"):
        assert page.xpath(f"//*[@id='{link.get('href')[1:]}']"), link.get("href")


def test_a_system_without_detections(run: Run) -> None:
    asked = Asked(name="ours", protocol=RULES, compare={"nothing": Detections({})})
    content, _ = collect(run, tiny_data.features(), asked, truth=tiny_data.truth())
    page = lxml.html.document_fromstring(render(content))
    rows = page.xpath("//table[@id='map']/tbody/tr")
    assert values_of(rows[1]) == [0.0] * 10
    assert "nothing: seed not told" in page.text_content()


def test_a_run_that_finds_nothing(run: Run) -> None:
    asked = Asked(protocol=RULES, overrides=("localize.min_seconds=1000",))
    content, found = collect(run, tiny_data.features(), asked, truth=tiny_data.truth())
    assert not any(found.videos.values())
    page = lxml.html.document_fromstring(render(content))
    assert values_of(page.xpath("//table[@id='map']/tbody/tr")[0]) == [0.0] * 10
    assert page.xpath("//article[@id='video-v0']//p[text()='No detections.']")
    assert not page.xpath("//details[@class='why']")


def test_one_class_and_one_stream(tmp_path: Path) -> None:
    actions = dict.fromkeys(tiny_data.ACTIONS, ("dive",))
    features = ArrayFeatures(tiny_data.arrays(actions, {"rgb": 5}))
    run = tiny_data.train(tmp_path / "run", source=features, labels=tiny_data.labels(actions), config=LEARNT)
    content, _ = collect(run, features, Asked(protocol=RULES, tiou=(0.3,)), truth=tiny_data.truth(actions))
    page = lxml.html.document_fromstring(render(content))
    (row,) = page.xpath("//table[@id='class-ap']/tbody/tr")
    assert text_of(row.find("th")) == "dive"
    assert content.tiou == 0.3
    assert "mAP at tIoU 0.3" in text_of(page.xpath("//dl[@class='glance']")[0])


def test_videos_of_other_subsets_stay_out(run: Run) -> None:
    truth = tiny_data.truth()
    videos = {**truth.videos, "v1": replace(truth.videos["v1"], subset="train")}
    content, found = collect(
        run, tiny_data.features(), Asked(protocol=RULES), truth=SegmentAnnotations(videos)
    )
    assert [video.video for video in content.videos] == ["v0", "v2", "v3", "v4"]
    assert set(found.videos) == {"v0", "v2", "v3", "v4"}


def test_bad_videos_are_named(run: Run) -> None:
    features = tiny_data.features(tiny_data.broken())
    with pytest.raises(InputError, match="NaN") as caught:
        collect(run, features, Asked())
    for word in ("'v1'", "'v3'", "'v4'"):
        assert word in str(caught.value)
    told: list[Any] = []
    content, _ = collect(run, features, Asked(), on_problem=told.append)
    assert [video.video for video in content.videos] == ["v0", "v2", "v3"]
    assert len(told) == 3


def test_other_features_are_refused(run: Run) -> None:
    wrong = ArrayFeatures({"v0": {"rgb": np.zeros((4, 3)), "flow": np.zeros((4, 4))}})
    with pytest.raises(InputError, match="dimension 3"):
        Localised(run, wrong)
    with pytest.raises(InputError, match="no stream 'flow'"):
        Localised(run, ArrayFeatures({"v0": {"rgb": np.zeros((4, 5))}}))
    with pytest.raises(InputError, match="only localize"):
        Localised(run, tiny_data.features(), overrides=("train.epochs=2",))


def test_what_was_chosen_on_the_test_set_says_so_first(run: Run) -> None:
    chosen = replace(run, selection="CHOSEN ON THE TEST SET: the best by test mAP@0.5 (rgb: epoch 20)")
    other = replace(theirs(), about={"selection": "chosen on the test set: step 100"})
    asked = Asked(name="ours", protocol=RULES, compare={"theirs": other, "clean": theirs()})
    content, _ = collect(chosen, tiny_data.features(), asked, truth=tiny_data.truth())
    page = lxml.html.document_fromstring(render(content))
    banners = [text_of(p) for p in page.xpath("//header[@class='top']//p[contains(@class, 'warning')]")]
    assert [text.split(" was")[0] for text in banners] == ["ours", "theirs"]
    assert "epoch 20" in banners[0]


def test_ambiguous_stretches_are_drawn(run: Run) -> None:
    truth = tiny_data.truth()
    marked = AnnotatedVideo(truth.videos["v0"].segments, "test", None, (Segment(0, 2, "Ambiguous"),))
    videos: Mapping[str, AnnotatedVideo] = {**truth.videos, "v0": marked}
    content, _ = collect(run, tiny_data.features(), Asked(protocol=RULES), truth=SegmentAnnotations(videos))
    page = lxml.html.document_fromstring(render(content))
    lanes = page.xpath("//article[@id='video-v0']//div[@class='lane truth']")
    assert [len(lane.xpath(".//*[name()='rect'][@class='ambiguous']")) for lane in lanes] == [1] * len(lanes)
    assert lanes


# The command.


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("report") / "sim")


@pytest.fixture(scope="module")
def trained(sim: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "run"
    assert train(sim, out) == 0
    return out


def test_the_command_on_simulated_data(
    sim: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["localize", str(trained), str(sim / "test"), "--out", str(tmp_path / "d.json")]) == 0
    call = ["report", str(trained), "--features", str(sim / "test"), "--ground-truth", str(sim / "gt.json")]
    call += ["--subset", "test", "--compare", f"again={tmp_path / 'd.json'}", "--tiou", "0.3,0.5"]
    out = tmp_path / "out" / "r.html"
    assert main([*call, "--out", str(out), "--pictures", str(tmp_path / "pictures")]) == 0
    told = capsys.readouterr().out
    assert f"{out}: 4 videos; " in told
    page = lxml.html.document_fromstring(out.read_text(encoding="utf-8"))
    judge = ["evaluate", str(tmp_path / "d.json"), "--ground-truth", str(sim / "gt.json"), "--subset", "test"]
    assert main([*judge, "--tiou", "0.3,0.5", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    for row in page.xpath("//table[@id='map']/tbody/tr"):
        assert values_of(row) == pytest.approx([100 * v for v in (*result["map"], result["average"])])
    assert "simulated data (dgam simulate, preset default, seed 0)" in text_of(page.xpath("//header")[0])
    for caption in page.xpath("//section//table[@id]/caption[contains(., 'Protocol')]"):
        assert "Simulated data." in text_of(caption)
    assert all("simulated" in text_of(p) for p in page.xpath("//article//p[@class='about']"))
    pictures = {
        path.relative_to(tmp_path / "pictures").as_posix() for path in (tmp_path / "pictures").rglob("*.*")
    }
    assert {
        "losses.png",
        "losses.svg",
        "class-ap.png",
        "videos/test_00000.png",
        "curves/action_000.svg",
    } <= pictures
    assert main([*call, "--out", str(tmp_path / "again.html")]) == 0
    assert (tmp_path / "again.html").read_bytes() == out.read_bytes()  # the same input, the same page


def test_explain_from_the_command_line(
    sim: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["explain", str(trained), str(sim / "test"), "test_00001"]
    assert main([*call, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    first = told["detections"][0]
    found = dgam.localize(trained, dgam.open_features(sim / "test"), videos=["test_00001"]).videos[
        "test_00001"
    ]
    assert (first["start"], first["end"], first["label"], first["score"]) == (
        found[0].start,
        found[0].end,
        found[0].label,
        found[0].score,
    )
    assert first["explanation"]["final"] == found[0].score
    assert main(call) == 0
    told_video = capsys.readouterr().out
    assert f"{found[0].score:.3f}" in told_video
    assert "simulated data" in told_video
    assert main([*call, "--detection", "1", "--out", str(tmp_path / "why.png")]) == 0
    assert "What each snippet gives to the score" in capsys.readouterr().out
    assert (tmp_path / "why.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        (["--compare", "detections.json"], "expected NAME=detections.json"),
        (["--compare", "run={gt}"], "is that of the run itself"),
        (["--compare", "a={d}", "--compare", "a={d}"], "given twice"),
        (["--pictures", "{d}"], "is a file"),
        (["--most", "0"], "must be 1 or more"),
        (["--videos", "{sim}/nowhere"], "is no folder"),
        (["--videos", "{sim}"], "holds no video file"),
        (["--set", "train.epochs=3"], "only localize"),
    ],
)
def test_bad_options_of_report(
    extra: list[str],
    complaint: str,
    sim: Path,
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    empty = tmp_path / "d.json"
    empty.write_text('{"results": {}}')
    given = [text.format(gt=empty, d=empty, sim=sim) for text in extra]
    out = tmp_path / "r.html"
    call = ["report", str(trained), "--features", str(sim / "test"), "--out", str(out), *given]
    assert main(call) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()


def test_bad_calls_of_explain_and_subset_without_truth(
    sim: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["explain", str(trained), str(sim / "test")]
    for extra, complaint in (
        (["nobody"], "has no video 'nobody'. It has: test_00000"),
        (["test_00000", "--detection", "100000"], "numbered from 1"),
        (["test_00000", "--detection", "0"], "numbered from 1"),
        (["test_00000", "--out", str(tmp_path / "x.png")], "--detection 1"),
        (["test_00000", "--detection", "1", "--out", str(tmp_path / "x.gif")], "as .png or .svg"),
    ):
        assert main([*call, *extra]) == 2
        assert complaint in capsys.readouterr().err
    assert main(["report", str(trained), "--features", str(sim / "test"), "--out", str(sim)]) == 2
    assert "is a folder" in capsys.readouterr().err
    assert main(["report", str(trained), "--features", str(sim / "test"), "--subset", "test"]) == 2
    assert "--ground-truth" in capsys.readouterr().err

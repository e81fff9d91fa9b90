"""The report where something is missing or bad: ground truth, detections, classes, videos, streams."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import lxml.html
import numpy as np
import pytest

import tiny_data
from dgam.core.errors import InputError
from dgam.core.run import Run
from dgam.core.types import Detections, SegmentAnnotations
from dgam.features.source import ArrayFeatures
from dgam.page.collect import Asked, collect
from dgam.page.curves import Localised
from dgam.page.render import render
from tiny_report import LEARNT, RULES, text_of, theirs, values_of

pytest_plugins = ["report_fixtures"]


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

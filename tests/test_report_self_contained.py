"""The report page is one file that fetches nothing, whatever the names in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import lxml.html

import tiny_data
from dgam.core.types import Detections
from dgam.features.source import ArrayFeatures
from dgam.page.collect import Asked, collect
from dgam.page.content import Content
from dgam.page.render import render
from tiny_report import LEARNT, RULES, text_of

pytest_plugins = ["report_fixtures"]


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

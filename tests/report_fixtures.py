"""Fixtures of the report's tests: a tiny run and the content of its report, made once a process."""

from __future__ import annotations

import pytest

import tiny_data
from dgam.core.run import Run
from dgam.page.collect import Asked, collect
from dgam.page.content import Content
from tiny_report import LEARNT, RULES, theirs


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny_data.train(tmp_path_factory.mktemp("page") / "run", config=LEARNT)


@pytest.fixture(scope="session")
def content(run: Run) -> Content:
    """A report of the tiny run beside another system that finds v0's instance alone."""
    asked = Asked(
        name="ours", protocol=RULES, compare={"theirs": theirs()}, sources={"theirs": "theirs.json"}
    )
    return collect(run, tiny_data.features(), asked, truth=tiny_data.truth())[0]

"""The HTTP API against its own description, by schemathesis."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS

from serve_site import API, Site, clip, live_site, shared_model


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, str]]:
    """A site of its own, as anything may happen to it, with one job that is done."""
    with live_site(tmp_path_factory.mktemp("fuzz"), videos=shared_model().parent / "videos") as site:
        yield site, site.done(clip())


# What is right by the schema alone may still be no video, or lie beyond the video's end.
_MORE_THAN_SCHEMA = {"POST /jobs", "PUT /jobs/{job}/correction"}
_OPERATIONS = (
    *("GET /health", "GET /model", "GET /videos", "GET /corrections", "GET /jobs", "POST /jobs"),
    *("POST /jobs/from-folder", "GET /jobs/{job}", "DELETE /jobs/{job}", "POST /jobs/{job}/cancel"),
    *("GET /jobs/{job}/result", "GET /jobs/{job}/explanations/{number}", "GET /jobs/{job}/media"),
    *("PUT /jobs/{job}/correction", "DELETE /jobs/{job}/correction", "GET /jobs/{job}/export/{format}"),
    "GET /events",
)


def test_every_operation_is_fuzzed(fuzzed: tuple[Site, str]) -> None:
    paths = fuzzed[0].client.get(f"{API}/openapi.json").json()["paths"]
    listed = {f"{method.upper()} {path.removeprefix(API)}" for path in paths for method in paths[path]}
    assert listed == set(_OPERATIONS)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["right", "wrong"])
@pytest.mark.parametrize("operation", _OPERATIONS)
def test_schemathesis_finds_nothing(fuzzed: tuple[Site, str], operation: str, mode: GenerationMode) -> None:
    """Requests that are right or wrong by the schema, half of the right ones on a job that is there: every
    answer is as described, wrong ones are refused, and none is a fault."""
    site, job = fuzzed
    method, path = operation.split()
    if mode is GenerationMode.NEGATIVE and path in ("/health", "/model", "/videos", "/corrections"):
        return  # they take nothing that could be wrong
    schema = schemathesis.openapi.from_url(f"{str(site.client.base_url).rstrip('/')}{API}/openapi.json")
    there = {"job": job, "number": 0, "format": "csv"} if mode is GenerationMode.POSITIVE else {}
    excluded = [CHECKS.get_one("positive_data_acceptance")] if operation in _MORE_THAN_SCHEMA else []
    statuses: set[int] = set()

    @settings(max_examples=12, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(schema[f"{API}{path}"][method].as_strategy(mode), st.booleans())
    def check(case: schemathesis.Case, known: bool) -> None:
        if known and operation != "DELETE /jobs/{job}":
            case.path_parameters |= {name: there[name] for name in case.path_parameters if name in there}
        response = case.call()
        statuses.add(response.status_code)
        case.validate_response(response, excluded_checks=excluded)

    check()
    if mode is GenerationMode.POSITIVE and "{" in path and method == "GET":
        assert 200 in statuses
    if mode is GenerationMode.NEGATIVE:
        assert statuses & {400, 422}

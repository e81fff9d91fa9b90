"""Explanations: parts that add up, and agreement with what detect_video returns."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from detection_curves import NAMES, PAPER, RELEASE, SEVERAL, grid_of, random_curves
from dgam.core.config import LocalizeSettings
from dgam.core.errors import InputError
from dgam.core.types import Detection
from dgam.detection.proposals import StreamCurves
from dgam.detection.scoring import detect_video
from dgam.explain.context import context_candidates
from dgam.explain.picture import explanation_figure
from dgam.explain.retrace import detections_of, retrace
from dgam.explain.scores import stream_parts, take_apart
from dgam.explain.segments import Explanation, explain_detection, explain_detections
from dgam.report.plots import save_figure

SOFT = {
    "rgb": LocalizeSettings(
        threshold_scale="relative", thresholds=(0.2, 0.4, 0.6, 0.8), nms="soft-gaussian", video_weight=0.3
    ),
    "flow": LocalizeSettings(
        threshold_scale="relative", thresholds=(0.3, 0.5), nms="soft-gaussian", eta=0.6, margin=0.5
    ),
}
LINEAR = {name: own.model_copy(update={"nms": "soft-linear", "nms_tiou": 0.3}) for name, own in SOFT.items()}
UNTHINNED = {name: own.model_copy(update={"nms": "none"}) for name, own in RELEASE.items()}
FUSED = {
    name: own.model_copy(
        update={"fusion": "geometric", "nms": "soft-gaussian", "video_weight": 0.3, "class_share": share}
    )
    for share, (name, own) in zip((0.3, 0.7), PAPER.items(), strict=True)
}
FUSED_TCAM = {
    name: own.model_copy(update={"fusion": "mean", "stream_mix": 0.5}) for name, own in RELEASE.items()
}
ALL = {
    "fused": FUSED,
    "fused tcam": FUSED_TCAM,
    "paper": PAPER,
    "release": RELEASE,
    "several": SEVERAL,
    "soft": SOFT,
    "linear": LINEAR,
    "none": UNTHINNED,
}
Settings = Mapping[str, LocalizeSettings]


def video(seed: int, snippets: int = 40, samples: int | None = None) -> dict[str, StreamCurves]:
    rng = np.random.default_rng(seed)
    return {stream: random_curves(rng, snippets, samples) for stream in ("rgb", "flow")}


def check_sums(e: Explanation, detection: Detection, settings: Settings) -> None:
    """Everything that must add up, to the rounding of float64."""
    assert (e.start, e.end, e.label, e.final) == (
        detection.start,
        detection.end,
        detection.label,
        detection.score,
    )
    near = {"rel": 1e-9, "abs": 1e-12}
    assert e.score == pytest.approx(e.inner - e.eta * e.left - e.eta * e.right + e.video, **near)
    assert e.without_outer == pytest.approx(e.inner + e.video, **near)
    for role, score, factor in (
        ("inner", e.inner, 1.0),
        ("left", e.left, -e.eta),
        ("right", e.right, -e.eta),
    ):
        own = [s for s in e.snippets if s.role == role]
        assert math.fsum(s.contribution for s in own) == pytest.approx(factor * score, **near)
        assert math.fsum(s.weight for s in own) == pytest.approx(1.0 if own else 0.0)
        assert all(s.contribution == factor * s.weight * s.class_score for s in own)
    assert math.fsum(s.contribution for s in e.snippets) + e.video == pytest.approx(e.score, **near)
    assert math.fsum(view.share for view in e.streams if view.share is not None) == pytest.approx(
        e.score, **near
    )
    thinning = e.suppression
    assert thinning.before == pytest.approx(e.score, **near)
    assert thinning.after == e.final
    left = math.prod(decay.factor for decay in thinning.decays)
    assert thinning.after == pytest.approx(thinning.floor + (thinning.before - thinning.floor) * left, **near)
    own_view = {view.stream: view for view in e.streams}[e.stream]
    assert own_view.proposes
    assert own_view.score == pytest.approx(e.score, **near)
    asked = settings.get(e.stream, settings["rgb"])  # fused streams have one set of thresholds
    assert set(own_view.thresholds) <= set(asked.thresholds)
    assert 1 <= e.rank <= e.ranked
    assert e.words()


@pytest.mark.parametrize("name", ALL)
@hypothesis_settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), samples=st.sampled_from([None, 25]))
def test_all_parts_add_up_to_the_detections_score(name: str, seed: int, samples: int | None) -> None:
    settings, curves, timeline = ALL[name], video(seed, samples=samples), grid_of(40)
    found = detect_video(curves, settings, timeline, NAMES)
    assert detections_of(retrace(curves, settings, timeline), settings, NAMES) == found
    chosen = found[:6] + found[-2:]
    explained = explain_detections(curves, chosen, settings, timeline, NAMES)
    for e, detection in zip(explained, chosen, strict=True):
        check_sums(e, detection, settings)


def test_a_score_by_hand() -> None:
    """Attention 1 everywhere in two snippets, logits 5 and 3; before it 2 at λ .5, after it −1 at λ .25."""
    attention = np.array([0.5, 0.5, 1, 1, 0.25, 0.25])
    logits = np.array([[2.0], [2], [5], [3], [-1], [-1]])
    curves = {"rgb": StreamCurves(np.arange(6) + 0.5, attention, logits, logits, np.array([0.9]))}
    settings = {"rgb": LocalizeSettings(thresholds=(0.75,), eta=0.3, margin=0.5)}
    (detection,) = detect_video(curves, settings, grid_of(6), ["dive"])
    e = explain_detection(curves, detection, settings, grid_of(6), ["dive"])
    assert (e.inner, e.left, e.right) == pytest.approx((4.0, 2.0, -1.0))
    assert e.score == pytest.approx(4 - 0.6 + 0.3)
    assert [(s.snippet, s.role) for s in e.snippets] == [
        (1, "left"),
        (2, "inner"),
        (3, "inner"),
        (4, "right"),
    ]
    assert [s.contribution for s in e.snippets] == pytest.approx([-0.6, 2.5, 1.5, 0.3])
    assert [s.attention for s in e.snippets] == [0.5, 1, 1, 0.25]
    assert [(s.role, s.start, s.end) for s in e.stretches] == [
        ("left", pytest.approx(0.64), pytest.approx(1.28)),
        ("inner", pytest.approx(1.28), pytest.approx(2.56)),
        ("right", pytest.approx(2.56), pytest.approx(3.2)),
    ]
    assert e.streams[0].thresholds == (0.75,)
    assert e.streams[0].attention == 1


def test_the_proposing_stream_and_threshold() -> None:
    """rgb alone rises above .5 in snippets 2–3; flow proposes the same stretch only at .2."""
    ones = np.ones((6, 1))
    rgb = StreamCurves(np.arange(6) + 0.5, np.array([0, 0, 0.9, 0.9, 0, 0]), ones, 2 * ones, np.array([0.9]))
    flow = replace(rgb, attention=np.array([0, 0, 0.3, 0.3, 0, 0]), logits=ones)
    settings = {name: LocalizeSettings(thresholds=(0.2, 0.5)) for name in ("rgb", "flow")}
    found = detect_video({"rgb": rgb, "flow": flow}, settings, grid_of(6), ["dive"])
    assert len(found) == 1  # hard NMS keeps rgb's, with the higher score
    e = explain_detection({"rgb": rgb, "flow": flow}, found[0], settings, grid_of(6), ["dive"])
    assert e.stream == "rgb"
    assert {view.stream: view.thresholds for view in e.streams} == {"rgb": (0.2, 0.5), "flow": (0.2,)}
    assert e.suppression.stands_for == {"flow": 1}
    assert "flow proposes the same segment" in e.words()[0]


def test_relative_thresholds_tell_their_level() -> None:
    ones = np.ones((4, 1))
    own = StreamCurves(np.arange(4) + 0.5, np.array([0.2, 0.6, 0.6, 0.2]), ones, ones, np.array([0.9]))
    settings = {"rgb": LocalizeSettings(threshold_scale="relative", thresholds=(0.5,))}
    (detection,) = detect_video({"rgb": own}, settings, grid_of(4), ["dive"])
    e = explain_detection({"rgb": own}, detection, settings, grid_of(4), ["dive"])
    assert e.streams[0].levels == pytest.approx((0.4,))


def test_fused_streams_share_the_score() -> None:
    """With one logit curve twice, shares of the classes are shares of the score."""
    curves, timeline = video(5), grid_of(40)
    curves["flow"] = replace(curves["flow"], logits=curves["rgb"].logits)
    found = detect_video(curves, FUSED, timeline, NAMES)
    e = explain_detection(curves, found[0], FUSED, timeline, NAMES)
    fused, rgb, flow = e.streams
    assert (e.stream, fused.stream, rgb.stream, flow.stream) == ("fused", "fused", "rgb", "flow")
    assert fused.share is None
    assert (rgb.share, flow.share) == pytest.approx((0.3 * e.score, 0.7 * e.score))
    assert "fused attention" in e.words()[0]


def test_a_video_of_one_stream_has_nothing_fused() -> None:
    curves, timeline = {"rgb": video(5)["rgb"]}, grid_of(40)
    found = detect_video(curves, FUSED, timeline, NAMES)
    e = explain_detection(curves, found[0], FUSED, timeline, NAMES)
    assert [view.stream for view in e.streams] == ["rgb"]
    assert e.streams[0].share == pytest.approx(e.score) == pytest.approx(found[0].score)
    assert "fused" not in e.words()[0]


def test_mixed_streams_share_the_score() -> None:
    curves, timeline = video(5), grid_of(40)
    taken = take_apart(curves, "rgb", RELEASE["rgb"], timeline, 1, (4.0, 9.5))
    parts = stream_parts(curves, "rgb", RELEASE["rgb"], timeline, 1, (4.0, 9.5))
    assert sum(parts.values()) == pytest.approx(taken.score, rel=1e-12)
    alone = RELEASE["rgb"].model_copy(update={"stream_mix": 1.0})
    whole = take_apart(curves, "rgb", alone, timeline, 1, (4.0, 9.5)).score
    assert parts["rgb"] == pytest.approx(0.35 * whole)
    assert parts["flow"] != 0


def test_without_the_subtraction_is_what_eta_0_gives() -> None:
    curves, timeline = video(3), grid_of(40)
    found = detect_video(curves, UNTHINNED, timeline, NAMES)
    plain = {name: own.model_copy(update={"eta": 0.0}) for name, own in UNTHINNED.items()}
    scores = {
        (d.start, d.end, d.label, round(d.score, 9)) for d in detect_video(curves, plain, timeline, NAMES)
    }
    for e in explain_detections(curves, found[:10], UNTHINNED, timeline, NAMES):
        assert (e.start, e.end, e.label, round(e.without_outer, 9)) in scores


def test_ranks_count_the_candidates_of_the_class() -> None:
    curves, timeline = video(8), grid_of(40)
    found = detect_video(curves, UNTHINNED, timeline, NAMES)
    same = [d for d in found if d.label == found[0].label]
    explained = explain_detections(curves, same, UNTHINNED, timeline, NAMES)
    assert [e.ranked for e in explained] == [len(same)] * len(same)
    by_score = sorted(e.score for e in explained)[::-1]
    assert all(by_score[e.rank - 1] == pytest.approx(e.score) for e in explained)


def test_foreign_detections_are_refused() -> None:
    curves, timeline = video(1), grid_of(40)
    best = detect_video(curves, PAPER, timeline, NAMES)[0]
    for changed, words in (
        (replace(best, start=best.start + 0.1), "not among what these weights"),
        (replace(best, score=best.score + 1), "has the score"),
        (replace(best, label="nap"), "unknown"),
    ):
        with pytest.raises(InputError, match=words):
            explain_detection(curves, changed, PAPER, timeline, NAMES)


def test_explanations_are_json_values() -> None:
    curves, timeline = video(2), grid_of(40)
    best = detect_video(curves, SOFT, timeline, NAMES)[0]
    e = explain_detection(curves, best, SOFT, timeline, NAMES)
    again = json.loads(json.dumps(e.to_dict(), allow_nan=False))
    assert again["final"] == best.score
    assert {"inner", "left", "right", "eta", "streams", "snippets", "suppression"} <= set(again)
    assert again["streams"][0]["stream"] == "rgb"


def disagreeing() -> dict[str, StreamCurves]:
    """λ high in snippets 2–3 and 6–7, class 0 active in 2–3 and 10–12, class 1 active in 2–3 only."""
    attention, tcam = np.full(14, 0.1), np.full((14, 2), -3.0)
    attention[[2, 3, 6, 7]] = 0.8
    tcam[[2, 3, 10, 11, 12], 0] = 3
    tcam[[2, 3], 1] = 3
    tcam[[6, 7], 1] = -2.9
    own = StreamCurves(np.arange(14) + 0.5, attention, tcam, tcam, np.array([0.5, 0.4]))
    return {"rgb": own}


def test_context_candidates_are_where_the_two_disagree() -> None:
    first, second = context_candidates(disagreeing(), grid_of(14), ["dive", "jump"])
    assert (first.kind, first.label, first.stream) == ("classifier", "dive", "rgb")
    assert (first.start, first.end) == pytest.approx((6.4, 8.32))
    assert (first.attention, first.gap) == pytest.approx((0.1, 1.0))
    assert first.class_score == pytest.approx(1 / (1 + math.exp(-3)))
    assert (second.kind, second.label) == ("attention", "jump")  # the more active of the two
    assert (second.start, second.end) == pytest.approx((3.84, 5.12))
    json.dumps(first.to_dict())
    assert context_candidates(disagreeing(), grid_of(14), ["dive", "jump"], min_snippets=3) == [first]
    assert context_candidates(disagreeing(), grid_of(14), ["dive", "jump"], most=1) == [first]


def test_a_flat_curve_disagrees_with_nothing() -> None:
    own = disagreeing()["rgb"]
    flat = replace(own, attention=np.full(14, 0.3))
    assert context_candidates({"rgb": flat}, grid_of(14), ["dive", "jump"]) == []
    same = replace(own, tcam=np.zeros((14, 2)))
    assert context_candidates({"rgb": same}, grid_of(14), ["dive", "jump"]) == []
    with pytest.raises(ValueError, match="high <= 1"):
        context_candidates({"rgb": own}, grid_of(14), ["dive", "jump"], high=0.2, low=0.3)


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    curves, timeline = video(4), grid_of(40)
    found = detect_video(curves, SOFT, timeline, NAMES)
    e = explain_detection(curves, found[1], SOFT, timeline, NAMES)
    figure = explanation_figure(e, curves, timeline, "v$1$", simulated=True)
    bars = figure.axes[1].patches[: len(e.snippets)]
    assert [bar.get_height() for bar in bars] == [s.contribution for s in e.snippets]
    assert "simulated" in figure.get_suptitle()
    save_figure(tmp_path / "why.svg", figure)
    assert b"v$1$" in (tmp_path / "why.svg").read_bytes() or (tmp_path / "why.svg").stat().st_size > 1000

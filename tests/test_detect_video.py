"""The detections of a whole video: edges, refusals, and properties."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection_curves import NAMES, PAPER, RELEASE, assert_same, constant, grid_of, random_curves
from dgam.core.config import LocalizeSettings
from dgam.core.errors import InputError
from dgam.core.timeline import SnippetGrid, Timeline
from dgam.detection.proposals import StreamCurves
from dgam.detection.scoring import detect_video


@pytest.mark.parametrize("how", [PAPER, RELEASE], ids=["paper", "release"])
@pytest.mark.parametrize("snippets", [1, 2, 30])
def test_attention_0_everywhere_finds_nothing(how: Mapping[str, LocalizeSettings], snippets: int) -> None:
    assert detect_video({"rgb": constant(snippets, 0.0)}, how, grid_of(snippets), NAMES) == []


@pytest.mark.parametrize(("how", "score"), [(PAPER, 7.0), (RELEASE, 1 / (1 + math.exp(-1)))])
@pytest.mark.parametrize("snippets", [1, 2, 30])
def test_attention_1_everywhere_is_the_whole_video(
    how: Mapping[str, LocalizeSettings], score: float, snippets: int
) -> None:
    curves = {name: constant(snippets, 1.0) for name in how}
    (found,) = detect_video(curves, how, grid_of(snippets), NAMES)  # both streams' is one and the same
    assert (found.start, found.end, found.label) == (0.0, pytest.approx(snippets * 0.64), "jump")
    assert found.score == pytest.approx(score)  # no surroundings


def test_no_classes_no_detections() -> None:
    nothing = StreamCurves(np.array([0.5]), np.ones(1), np.zeros((1, 0)), np.zeros((1, 0)), np.zeros(0))
    assert detect_video({"rgb": nothing, "flow": nothing}, PAPER, grid_of(1), ()) == []
    assert detect_video({"rgb": nothing, "flow": nothing}, RELEASE, grid_of(1), ()) == []


def test_no_streams_no_detections() -> None:
    assert detect_video({}, PAPER, grid_of(5), NAMES) == []


def test_segments_are_cut_to_the_video_and_short_ones_left_out() -> None:
    attention = np.array([1.0, 0, 1, 0, 0, 1, 1, 1, 0, 1])
    curves = {"rgb": replace(constant(10, 0.0), attention=attention)}
    timeline = grid_of(10, duration=4.0)  # ends inside snippet 6; snippet 9 lies after the end

    def spans(**change: float) -> list[tuple[float, float]]:
        how = {"rgb": LocalizeSettings(**change)}  # type: ignore[arg-type]  # settings of several types
        found = detect_video(curves, how, timeline, NAMES)
        return sorted((round(d.start, 6), round(d.end, 6)) for d in found)

    assert spans() == [(0.0, 0.64), (1.28, 1.92), (3.2, 4.0)]
    assert spans(min_seconds=0.7) == [(3.2, 4.0)]


def test_the_best_detections_are_kept() -> None:
    curves = {"rgb": random_curves(np.random.default_rng(0), 200)}
    everything = detect_video(curves, PAPER, grid_of(200), NAMES)
    limited = {name: LocalizeSettings(max_detections=3) for name in PAPER}
    assert len(everything) > 3
    assert detect_video(curves, limited, grid_of(200), NAMES) == everything[:3]


def test_streams_must_agree_in_how_they_are_fused() -> None:
    curves = {"rgb": constant(3, 1.0)}
    how = {"rgb": LocalizeSettings(), "flow": LocalizeSettings(nms_tiou=0.4)}
    expected = (
        "localize.nms_tiou differs between streams (rgb: 0.5, flow: 0.4), but their detections are fused. "
        "Set it once, as localize.nms_tiou, and not per stream."
    )
    with pytest.raises(InputError) as caught:
        detect_video(curves, how, grid_of(3), NAMES)
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"curves": {"audio": constant(3, 1.0)}}, "stream 'audio' has no settings; .* rgb, flow"),
        ({"classes": ("a", "b")}, "stream 'rgb' has curves of 4 classes, expected 2"),
        ({"timeline": grid_of(2)}, r"stream 'rgb' was sampled at 0.5 to 2.5, outside the 2 snippets"),
        ({"settings": {}}, "the settings of at least one stream"),
    ],
)
def test_what_does_not_fit_together(change: dict[str, object], message: str) -> None:
    fitting = {
        "curves": {"rgb": constant(3, 1.0)},
        "settings": PAPER,
        "timeline": grid_of(3),
        "classes": NAMES,
    }
    with pytest.raises(ValueError, match=message):
        detect_video(**{**fitting, **change})  # type: ignore[arg-type]  # settings of several types


how_drawn = st.builds(
    LocalizeSettings,
    upsample=st.sampled_from([1, 2, 5]),
    mask_tcam=st.sampled_from([0.0, 0.8]),
    mask_sigma=st.sampled_from([0.0, 1.5]),
    thresholds=st.sampled_from([(0.5,), (0.1, 0.3, 0.7)]),
    threshold_scale=st.sampled_from(["absolute", "relative"]),
    score=st.sampled_from(["pooled", "tcam"]),
    stream_mix=st.sampled_from([0.35, 1.0]),
    margin=st.sampled_from([0.0, 0.25, 2.0]),
    nms=st.sampled_from(["hard", "soft-linear", "soft-gaussian", "none"]),
)
two_streams = st.builds(
    lambda seed, snippets: {
        name: random_curves(np.random.default_rng([seed, i]), snippets) for i, name in enumerate(PAPER)
    },
    st.integers(0, 2**32 - 1),
    st.integers(1, 24),
)


@given(two_streams, how_drawn, st.integers(1, 40), st.integers(1, 40), st.none() | st.floats(0.01, 20))
@settings(deadline=None)
def test_detections_lie_in_the_video_best_first(
    curves: dict[str, StreamCurves], how: LocalizeSettings, length: int, stride: int, duration: float | None
) -> None:
    timeline = Timeline(SnippetGrid(Fraction(25), length, stride), curves["rgb"].attention.size, duration)
    found = detect_video(curves, dict.fromkeys(curves, how), timeline, NAMES)
    assert all(0 <= d.start < d.end <= timeline.end for d in found)
    scores = [d.score for d in found]
    assert scores == sorted(scores, reverse=True)


@given(two_streams, how_drawn, st.integers(2, 4))
@settings(deadline=None)
def test_sampling_snippets_several_times_changes_nothing(
    curves: dict[str, StreamCurves], how: LocalizeSettings, times: int
) -> None:
    def again(c: StreamCurves) -> StreamCurves:
        rows = np.repeat(np.arange(c.attention.size), times)[::-1]  # nor does the order of samples
        return StreamCurves(
            c.positions[rows], c.attention[rows], c.tcam[rows], c.logits[rows], c.probabilities
        )

    timeline, both = grid_of(curves["rgb"].attention.size), dict.fromkeys(curves, how)
    repeated = {name: again(c) for name, c in curves.items()}
    assert detect_video(repeated, both, timeline, NAMES) == detect_video(curves, both, timeline, NAMES)


@given(two_streams, how_drawn)
@settings(deadline=None)
def test_a_reversed_video_has_reversed_detections(
    curves: dict[str, StreamCurves], how: LocalizeSettings
) -> None:
    how = how.model_copy(update={"nms": "none"})  # rounding may turn ties
    snippets = curves["rgb"].attention.size
    back = {name: replace(c, positions=snippets - c.positions) for name, c in curves.items()}
    found = detect_video(curves, dict.fromkeys(curves, how), grid_of(snippets), NAMES)
    mirrored = detect_video(back, dict.fromkeys(curves, how), grid_of(snippets), NAMES)
    end = snippets * 0.64
    expected = sorted((round(end - d.end, 6), round(end - d.start, 6), d.label) for d in mirrored)
    assert sorted((round(d.start, 6), round(d.end, 6), d.label) for d in found) == expected
    np.testing.assert_allclose(sorted(d.score for d in found), sorted(d.score for d in mirrored), atol=1e-9)


@given(two_streams, st.floats(0.05, 1.0))
@settings(deadline=None)
def test_pooled_scores_do_not_depend_on_the_scale_of_attention(
    curves: dict[str, StreamCurves], factor: float
) -> None:
    timeline = grid_of(curves["rgb"].attention.size)
    how = dict.fromkeys(curves, LocalizeSettings(thresholds=(0.5,), threshold_scale="relative", nms="none"))
    scaled = {name: replace(c, attention=c.attention * factor) for name, c in curves.items()}
    found = detect_video(curves, how, timeline, NAMES)
    again = detect_video(scaled, how, timeline, NAMES)
    assert_same(again, [(d.start, d.end, NAMES.index(d.label), d.score) for d in found])

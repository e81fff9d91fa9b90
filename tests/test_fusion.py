"""Streams fused before there are segments."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection_curves import NAMES, constant, grid_of, random_curves
from dgam.core.config import LocalizeSettings
from dgam.core.errors import InputError
from dgam.detection.fusion import LEAST_ATTENTION, fuse_curves
from dgam.detection.scoring import detect_video

GEOMETRIC = LocalizeSettings(fusion="geometric")
MEAN = LocalizeSettings(fusion="mean")


def both(how: LocalizeSettings) -> dict[str, LocalizeSettings]:
    return {"rgb": how, "flow": how}


def test_geometric_attention_needs_both_streams_and_mean_either() -> None:
    rgb = replace(constant(4, 0.0), attention=np.array([1.0, 0.81, 0.5, 0.0]))
    flow = replace(constant(4, 0.0), attention=np.array([1.0, 0.25, 0.0, 0.0]))
    geometric = fuse_curves({"rgb": rgb, "flow": flow}, both(GEOMETRIC))
    np.testing.assert_allclose(geometric.attention, [1, 0.45, (0.5 * LEAST_ATTENTION) ** 0.5, 0], atol=1e-12)
    mean = fuse_curves({"rgb": rgb, "flow": flow}, both(MEAN))
    np.testing.assert_allclose(mean.attention, [1, 0.53, 0.25, 0], atol=1e-12)


def test_shares_weigh_attention_and_classes_each_by_their_own() -> None:
    rng = np.random.default_rng(0)
    rgb, flow = random_curves(rng, 9), random_curves(rng, 9)
    flow = replace(flow, positions=rgb.positions)
    how = {
        "rgb": LocalizeSettings(fusion="mean", attention_share=1, class_share=3),
        "flow": LocalizeSettings(fusion="mean", attention_share=4, class_share=1),
    }
    fused = fuse_curves({"rgb": rgb, "flow": flow}, how)
    np.testing.assert_allclose(fused.attention, 0.2 * rgb.attention + 0.8 * flow.attention)
    for name in ("tcam", "logits", "probabilities"):
        np.testing.assert_allclose(
            getattr(fused, name), 0.75 * getattr(rgb, name) + 0.25 * getattr(flow, name)
        )


def test_streams_sampled_elsewhere_are_read_where_the_first_is() -> None:
    rgb = replace(constant(3, 0.5), positions=np.array([0.5, 1.5, 2.5]))
    flow = replace(constant(2, 0.0), positions=np.array([0.5, 2.5]), attention=np.array([0.0, 1.0]))
    fused = fuse_curves({"rgb": rgb, "flow": flow}, both(MEAN))
    np.testing.assert_allclose(fused.attention, [0.25, 0.5, 0.75])


def test_one_stream_is_itself_under_every_fusion() -> None:
    curves = {"flow": random_curves(np.random.default_rng(1), 60)}
    found = [
        # For mypy: one of the names there are.
        detect_video(curves, both(LocalizeSettings(fusion=how)), grid_of(60), NAMES)  # type: ignore[arg-type]
        for how in ("segments", "geometric", "mean")
    ]
    assert found[0]
    assert found[0] == found[1] == found[2]


@given(st.integers(0, 1000), st.sampled_from(["geometric", "mean"]), st.sampled_from(["pooled", "tcam"]))
@settings(max_examples=30, deadline=None)
def test_equal_streams_fuse_to_what_one_of_them_finds(seed: int, fusion: str, score: str) -> None:
    curves = random_curves(np.random.default_rng(seed), 40)
    how = LocalizeSettings(fusion=fusion, score=score)  # type: ignore[arg-type]  # one of the names there are
    one = detect_video({"rgb": curves}, both(how), grid_of(40), NAMES)
    two = detect_video({"rgb": curves, "flow": curves}, both(how), grid_of(40), NAMES)
    assert [(d.start, d.end, d.label) for d in one] == [(d.start, d.end, d.label) for d in two]
    np.testing.assert_allclose([d.score for d in one], [d.score for d in two], rtol=1e-6)


def test_attention_0_in_all_streams_finds_nothing_even_above_0() -> None:
    how = both(LocalizeSettings(fusion="geometric", thresholds=(0.0,)))
    assert detect_video({"rgb": constant(5, 0.0), "flow": constant(5, 0.0)}, how, grid_of(5), NAMES) == []


def test_class_thresholds_may_differ_and_are_fused_as_probabilities_are() -> None:
    probabilities = {"rgb": [0.6, 0.2, 0.0, 0.0], "flow": [0.6, 0.0, 0.2, 0.0]}
    curves = {
        stream: replace(constant(4, 1.0), probabilities=np.array(own)[: len(NAMES)])
        for stream, own in probabilities.items()
    }

    def labels(rgb: float, flow: float) -> set[str]:
        how = {
            "rgb": LocalizeSettings(fusion="geometric", class_threshold=rgb, class_share=3),
            "flow": LocalizeSettings(fusion="geometric", class_threshold=flow),
        }
        return {d.label for d in detect_video(curves, how, grid_of(4), NAMES)}

    # Class 1 has 0.75 · 0.2 = 0.15; the thresholds fuse to 0.14 and to 0.16.
    assert labels(0.12, 0.2) == set(NAMES[:2])
    assert labels(0.2, 0.04) == {NAMES[0]}


def test_fused_streams_must_agree_in_all_settings_but_their_shares() -> None:
    how = {"rgb": GEOMETRIC, "flow": LocalizeSettings(fusion="geometric", eta=0.5, class_share=2)}
    with pytest.raises(InputError, match=r"localize.eta differs between streams \(rgb: 0.3, flow: 0.5\)"):
        detect_video({"rgb": constant(3, 1.0)}, how, grid_of(3), NAMES)
    how = {"rgb": GEOMETRIC, "flow": LocalizeSettings()}
    with pytest.raises(InputError, match=r"localize\.fusion differs between streams"):
        detect_video({"rgb": constant(3, 1.0)}, how, grid_of(3), NAMES)

"""Simulated features: what they look like, and that each knob moves its own part and no other."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dgam.data.simulate_features import make_features, make_world
from dgam.data.simulate_knobs import build
from dgam.data.simulate_timeline import Script, write_script

QUIET: dict[str, Any] = {
    "wander": 0,
    "unit_noise": 0,
    "style": 0,
    "scene_variation": 0,
    "action_variation": 0,
}


def draw(index: int = 0, seed: int = 0, **knobs: Any) -> tuple[Script, dict[str, NDArray[np.float32]]]:
    """One training video's script and features."""
    chosen = build("default", {"dimension": 24, **knobs})
    script = write_script(chosen, "train", index, seed)
    return script, make_features(chosen, make_world(chosen, seed), script, index, seed)


def touched(script: Script, *kinds: str) -> NDArray[np.bool_]:
    """Snippets that overlap a stretch of these kinds at all, (T,)."""
    edges = script.timeline.seconds(np.arange(script.timeline.snippets + 1))
    hit = np.zeros(script.timeline.snippets, dtype=bool)
    for s in script.stretches:
        if s.kind in kinds:
            hit |= (edges[:-1] < s.end - 1e-9) & (edges[1:] > s.start + 1e-9)
    return hit


def wholly(script: Script, kind: str) -> NDArray[np.bool_]:
    """Snippets that show this kind and nothing else, (T,)."""
    return touched(script, kind) & ~touched(script, *({"action", "context", "background"} - {kind}))


timelines = st.fixed_dictionaries(
    {
        "two_labels": st.sampled_from([0.0, 0.5, 1.0]),
        "instances": st.floats(1, 60),
        "duration_mean": st.floats(3.2, 60),
        "gap_median": st.floats(0.2, 30),
        "context": st.sampled_from([0.0, 0.5, 1.0]),
        "max_snippets": st.integers(15, 300),
    }
)


@settings(max_examples=25, deadline=None)
@given(timelines, st.integers(0, 2**32))
def test_features_of_any_timeline_are_usable(knobs: dict[str, Any], seed: int) -> None:
    script, features = draw(seed=seed, **knobs)
    assert list(features) == ["rgb", "flow"]
    for x in features.values():
        assert x.shape == (script.timeline.snippets, 24)
        assert np.isfinite(x).all()
        assert (x >= 0).all()


def test_features_are_skewed_and_correlated_in_time() -> None:
    videos = [draw(index, dimension=64)[1] for index in range(20)]
    for stream in ("rgb", "flow"):
        x = np.concatenate([video[stream] for video in videos]).astype(np.float64)
        z = (x - x.mean(0)) / x.std(0)
        assert 1.5 < np.median((z**3).mean(0)) < 5  # real: 2.3 to 2.9
        assert 0.2 < (x < 0.1 * x.mean(0)).mean() < 0.6  # real: 0.36 to 0.41
        cuts = np.cumsum([len(video[stream]) for video in videos])[:-1]
        neighbours = np.concatenate([v[1:] * v[:-1] for v in np.split(z, cuts)]).mean()
        assert 0.4 < neighbours < 0.9  # real: 0.63 to 0.82


def test_smoothness_is_the_correlation_between_neighbours() -> None:
    """With every factor at 0 only the wandering is left, seen through the units' logarithm."""
    for smoothness in (0.0, 0.9):
        script, features = draw(
            3, smoothness=smoothness, action=0, scene=0, background=0, style=0, unit_noise=0
        )
        x = np.log(features["rgb"] + 1e-3)
        z = (x - x.mean(0)) / x.std(0)
        assert script.timeline.snippets > 100
        assert np.mean(z[1:] * z[:-1]) == pytest.approx(smoothness, abs=0.12)


@pytest.mark.parametrize(
    ("knob", "value", "kinds"),
    [("action", 6, ["action"]), ("scene", 1, ["action", "context"]), ("background", 1, ["background"])],
)
def test_a_strength_changes_its_own_snippets_and_no_other(knob: str, value: float, kinds: list[str]) -> None:
    script, base = draw(5)
    _, changed = draw(5, **{knob: value})
    moved = np.any(base["flow"] != changed["flow"], axis=1)
    assert np.array_equal(moved, touched(script, *kinds))
    assert 0 < moved.sum() < len(moved)


def test_style_is_the_same_in_all_snippets_of_a_video() -> None:
    script, x = draw(1, **{**QUIET, "style": 4, "scene": 0, "background": 0, "action": 0})
    _, other = draw(2, **{**QUIET, "style": 4, "scene": 0, "background": 0, "action": 0})
    assert script.timeline.snippets > 10
    np.testing.assert_allclose(x["rgb"], np.broadcast_to(x["rgb"][0], x["rgb"].shape), rtol=1e-4, atol=1e-5)
    assert np.abs(x["rgb"][0] - other["rgb"][0]).max() > 0.1


def test_streams_see_what_their_shares_say() -> None:
    _, weak = draw(5, rgb_action=0, action=0)
    _, strong = draw(5, rgb_action=0, action=6)
    assert np.array_equal(weak["rgb"], strong["rgb"])
    assert not np.array_equal(weak["flow"], strong["flow"])
    _, plain = draw(5, flow_scene=0, scene=0, style=0, background=0)
    _, rich = draw(5, flow_scene=0, scene=6, style=6, background=6)
    assert np.array_equal(plain["flow"], rich["flow"])
    assert not np.array_equal(plain["rgb"], rich["rgb"])


def test_a_cut_snippet_mixes_by_the_time_of_its_parts() -> None:
    checked = 0
    for index in range(12):
        script, features = draw(index, **QUIET, phases=0, two_labels=0)
        action, context = wholly(script, "action"), wholly(script, "context")
        other, x = touched(script, "background"), features["flow"]
        for s in script.stretches:
            start = float(script.timeline.position(s.start))
            at = int(start)
            if s.kind != "action" or at < 1 or at + 1 >= len(x) or other[at]:
                continue
            if context[at - 1] and action[at + 1]:
                share = at + 1 - start  # of the snippet that the action fills
                mixed = share * x[at + 1] + (1 - share) * x[at - 1]
                np.testing.assert_allclose(x[at], mixed, rtol=1e-3, atol=1e-5)
                checked += 1
    assert checked > 10


def test_context_shows_the_scene_and_not_the_action() -> None:
    script, features = draw(5, **QUIET, phases=0)
    context, action = wholly(script, "context"), wholly(script, "action")
    for x in features.values():
        assert np.ptp(x[context], axis=0).max() < 1e-4  # one class, one place
        assert np.ptp(x[action], axis=0).max() < 1e-4
    _, idle = draw(5, **QUIET, phases=0, action=0)
    for stream, x in features.items():
        np.testing.assert_allclose(idle[stream][action][0], x[context][0], rtol=1e-3, atol=1e-5)
        assert np.abs(x[action][0] - x[context][0]).max() > 0.1


def test_without_context_the_scene_stops_with_the_action() -> None:
    """What lies next to an instance in RGB, once the action is taken out: the same place, or another."""

    def same_place(context: float) -> float:
        same = []
        for index in range(12):
            knobs: dict[str, Any] = {"context": context, "context_median": 5, "two_labels": 0, "action": 0}
            script, features = draw(index, **QUIET, **knobs)
            inside, around = wholly(script, "action"), np.zeros(script.timeline.snippets, dtype=bool)
            around[:-2] |= inside[2:]
            around[2:] |= inside[:-2]
            around &= ~touched(script, "action")
            if not inside.any():
                continue
            same += list(np.abs(features["rgb"][around] - features["rgb"][inside].mean(0)).max(axis=1) < 1e-3)
        assert len(same) > 20
        return float(np.mean(same))

    assert same_place(1.0) > 0.8
    assert same_place(0.0) == 0


def separability(**knobs: Any) -> float:
    """How well Fisher's discriminant tells action from context in flow, on videos it never saw: AUC."""
    parts: list[list[NDArray[np.float64]]] = [[], [], [], []]
    for index in range(60):
        script, features = draw(index, max_snippets=400, classes=1, two_labels=0, **knobs)
        x = np.log(features["flow"].astype(np.float64) + 0.05)
        half = 2 * (index % 2)
        parts[half].append(x[wholly(script, "action")])
        parts[half + 1].append(x[wholly(script, "context")])
    act, ctx, act_new, ctx_new = (np.concatenate(part) for part in parts)
    line = np.linalg.solve(np.cov(act.T) + np.cov(ctx.T), act.mean(0) - ctx.mean(0))
    return float(np.mean((act_new @ line)[:, None] > (ctx_new @ line)[None, :]))


def test_action_is_told_from_context_by_the_action_alone() -> None:
    assert separability(action=0) == pytest.approx(0.5, abs=0.05)
    assert separability(action=3) > 0.75


def test_shared_action_1_leaves_classes_no_own_part_and_0_nothing_in_common() -> None:
    def alike(share: float) -> float:
        rows = []
        for index in (0, 1):
            _, x = draw(
                index, **QUIET, shared_action=share, phases=0, scene=0, classes=20, latent=256, two_labels=0
            )
            script, idle = draw(
                index, **QUIET, action=0, phases=0, scene=0, classes=20, latent=256, two_labels=0
            )
            inside = wholly(script, "action")
            rows.append((x["flow"] - idle["flow"])[inside].mean(0))
        return float(np.corrcoef(rows)[0, 1])

    assert alike(1.0) > 0.999
    assert abs(alike(0.0)) < 0.6 < alike(0.8)


def test_phases_and_variations_vanish_at_0() -> None:
    def range_inside(**knobs: float) -> float:
        script, features = draw(5, **{**QUIET, "phases": 0, **knobs})
        return float(np.ptp(features["flow"][wholly(script, "action")], axis=0).max())

    assert range_inside() < 1e-4
    assert range_inside(phases=0.5) > 0.1
    assert range_inside(action_variation=0.5) > 0.1

    def place(index: int, **knobs: float) -> NDArray[np.float32]:
        script, features = draw(index, **{**QUIET, "two_labels": 0, **knobs})
        return features["rgb"][wholly(script, "context")][0]

    np.testing.assert_allclose(place(5), place(25), rtol=1e-4, atol=1e-5)  # both of class 5
    assert np.abs(place(5, scene_variation=0.5) - place(25, scene_variation=0.5)).max() > 0.1


def test_other_scene_shows_absent_classes_only() -> None:
    knobs: dict[str, Any] = {**QUIET, "classes": 3, "two_labels": 0, "action": 0, "scene": 6, "background": 6}
    look = {}
    for index in range(3):
        script, features = draw(index, **knobs)
        look[index] = features["rgb"][wholly(script, "context")][0]
    script, features = draw(6, **knobs, other_scene=1)  # class 0
    background = features["rgb"][wholly(script, "background")]
    edges = script.timeline.position([s.start for s in script.stretches])
    within_a_shot = np.ones(script.timeline.snippets, dtype=bool)
    within_a_shot[np.unique(np.clip(edges, 0, script.timeline.snippets - 1).astype(int))] = False
    background = features["rgb"][wholly(script, "background") & within_a_shot]
    which = np.argmin([np.abs(background - look[c]).max(1) for c in range(3)], axis=0)
    assert set(which.tolist()) == {1, 2}
    assert all(np.abs(row - look[c]).max() < 1e-3 for row, c in zip(background, which, strict=True))


def test_train_and_test_share_the_world() -> None:
    knobs = build("default", {**QUIET, "dimension": 24, "two_labels": 0, "phases": 0})
    world = make_world(knobs, 0)
    rows = []
    for subset in ("train", "test"):
        script = write_script(knobs, subset, 5, 0)
        rows.append(make_features(knobs, world, script, 5, 0)["flow"][wholly(script, "action")][0])
    np.testing.assert_allclose(rows[0], rows[1], rtol=1e-4, atol=1e-5)


def test_noise_depends_on_seed_subset_and_number() -> None:
    knobs = build("default", {"dimension": 24})
    world, script = make_world(knobs, 0), write_script(knobs, "train", 0, 0)
    other = dataclasses.replace(script, subset="test")
    made = [
        make_features(knobs, world, *rest)["rgb"] for rest in ((script, 0, 0), (script, 0, 1), (script, 1, 0))
    ]
    made.append(make_features(knobs, world, other, 0, 0)["rgb"])
    assert all(not np.isclose(a, b).any() for a, b in itertools.combinations([x[0] for x in made], 2))
    assert np.array_equal(made[0], make_features(knobs, world, script, 0, 0)["rgb"])

"""Optical flow of our implementations beside OpenCV's, and beside the motion that was simulated."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dgam.flow.tvl1 import FlowSettings, flow, grey, quantise
from flow_pairs import OURS, Array, moved

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "real"
# Video and the first frame of a pair; still scenes, a horse race, surf, people near and far.
PAIRS = (
    ("ucf_clips/videos/v_HorseRace_g01_c01.avi", 40),
    ("ucf_clips/videos/v_Archery_g07_c06.avi", 40),
    ("ucf_clips/videos/v_Surfing_g16_c03.avi", 40),
    ("ucf_clips/videos/v_BasketballDunk_g08_c04.avi", 43),
    ("fir/videos/20200626_155946_mlx90640_01_light_none.mp4", 40),
    ("gmdcsa24/videos/S4_Fall_02.mp4", 40),
)


@pytest.fixture(scope="module")
def cv2() -> ModuleType:
    module = pytest.importorskip("cv2")
    if not hasattr(module, "optflow"):
        pytest.skip("this OpenCV comes without its contributed modules")
    return module  # type: ignore[no-any-return]  # cv2 has no types here


@pytest.fixture(scope="module")
def reference(cv2: ModuleType) -> FlowSettings:
    """Default settings, with the way of reading between pixels that the installed OpenCV has."""
    return FlowSettings(subpixel="exact" if int(cv2.__version__.split(".")[0]) >= 5 else "1/32")


@pytest.fixture(scope="module")
def real() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Six pairs of neighbouring frames as RGB, (6, 144, 192, 3) each."""
    av = pytest.importorskip("av")
    if not REAL.is_dir():
        pytest.skip("the shared real videos are not here")
    first, second = [], []
    for name, start in PAIRS:
        with av.open(str(REAL / name)) as video:
            frames = list(itertools.islice(video.decode(video=0), start, start + 2))
        rgb = [frame.reformat(192, 144, "rgb24").to_ndarray() for frame in frames]
        first.append(rgb[0])
        second.append(rgb[1])
    return np.stack(first), np.stack(second)


def distances(ours: Array, theirs: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean end-point difference of each pair within ± 20 px; share of levels at most one apart (B, 2)."""
    inside = [np.clip(motion, -20, 20) for motion in (ours, theirs)]
    apart = np.sqrt(((inside[0] - inside[1]) ** 2).sum(axis=1)).mean(axis=(1, 2))  # (B,)
    levels = [quantise(motion).astype(int) for motion in (ours, theirs)]
    return apart, (np.abs(levels[0] - levels[1]) <= 1).mean(axis=(2, 3))


@pytest.mark.parametrize("method", OURS)
def test_real_pairs_match_opencv(
    method: str, real: tuple[NDArray[np.uint8], NDArray[np.uint8]], reference: FlowSettings
) -> None:
    chosen = slice(None) if method == "llvm" else slice(0, None, 3)
    first, second = (images[chosen] for images in real)
    apart, near = distances(
        flow(first, second, reference, method=method), flow(first, second, method="opencv")
    )
    assert apart.max() < 0.05
    assert (near.mean(axis=0) >= 0.995).all()
    # OpenCV beside itself with a millionth of a grey level of noise falls below 99.5 % on some pairs.
    assert near.min() >= 0.985


@pytest.mark.parametrize("method", OURS)
@pytest.mark.parametrize("shift", [(2.3, -1.7), (-6.0, 3.5)])
def test_simulated_motion_is_found_as_opencv_finds_it(
    method: str, shift: tuple[float, float], reference: FlowSettings
) -> None:
    images = moved(shift)
    ours = flow(*images, reference, method=method)
    apart, near = distances(ours, flow(*images, method="opencv"))
    assert apart.max() < 0.05
    assert near.min() >= 0.995


@pytest.mark.parametrize("method", OURS)
def test_simulated_motion_is_the_right_one(method: str) -> None:
    found = flow(*moved((2.3, -1.7)), method=method)[0]
    inner = found[:, 16:-16, 16:-16]
    np.testing.assert_allclose(np.median(inner, axis=(1, 2)), [2.3, -1.7], atol=0.05)
    assert np.abs(inner - np.array([2.3, -1.7])[:, None, None]).mean() < 0.15


VARIED = [
    ("median 3", {"median_filtering": 3}, OURS),
    ("no median", {"median_filtering": 1, "outer_iterations": 3}, OURS),
    ("coarser pyramid", {"scale_step": 0.5, "nscales": 3, "warps": 3}, OURS),
    (
        "other weights",
        {"tau": 0.2, "lambda_": 0.1, "theta": 0.25, "epsilon": 0.02, "inner_iterations": 7},
        OURS,
    ),
    ("brightness change", {"gamma": 0.1}, ("torch",)),
]


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        pytest.param(method, changes, id=f"{method}: {name}")
        for name, changes, methods in VARIED
        for method in methods
    ],
)
def test_every_parameter_means_what_it_means_in_opencv(
    method: str, changes: dict[str, float], reference: FlowSettings
) -> None:
    # Few warps, because each one lets rounding errors grow (docs/flow.md).
    usual = FlowSettings(warps=2, subpixel=reference.subpixel)
    settings = replace(usual, **changes)  # type: ignore[arg-type]  # settings of several types
    before, after = moved((1.6, 0.7), (64, 80))
    images = before, (0.92 * after + 15).astype(np.float32)  # the light changes too
    theirs = flow(*images, settings, method="opencv")
    apart, near = distances(flow(*images, settings, method=method), theirs)
    assert apart.max() < 0.01
    assert near.min() >= 0.995
    assert np.abs(flow(*images, usual, method="opencv") - theirs).mean() > 1e-3, "the setting changes nothing"


@pytest.mark.parametrize("method", OURS)
def test_initial_flow_is_used_as_opencv_uses_it(method: str, reference: FlowSettings) -> None:
    images = moved((9.0, -8.0), (64, 80))
    start = np.empty((1, 2, 64, 80), np.float32)
    start[:, 0], start[:, 1] = 8.5, -8.2
    settings = FlowSettings(nscales=2, warps=2, subpixel=reference.subpixel)
    ours = flow(*images, settings, method=method, initial=start)
    apart, near = distances(ours, flow(*images, settings, method="opencv", initial=start))
    assert apart.max() < 0.02
    assert near.min() >= 0.995
    assert np.abs(np.median(ours[0], axis=(1, 2)) - [9, -8]).max() < 0.1
    assert np.abs(np.median(flow(*images, settings, method=method)[0], axis=(1, 2)) - [9, -8]).max() > 1


@pytest.mark.parametrize("method", OURS)
@pytest.mark.parametrize("size", [(3, 3), (5, 7), (17, 16), (33, 47)])
def test_small_and_odd_sizes_match_opencv(
    method: str, size: tuple[int, int], reference: FlowSettings
) -> None:
    images = moved((0.8, 0.4), size)
    apart, _ = distances(flow(*images, reference, method=method), flow(*images, method="opencv"))
    assert apart.max() < 0.01


@pytest.mark.parametrize("subpixel", ["exact", "1/32"])
def test_our_methods_agree(subpixel: str) -> None:
    images = moved((1.6, 0.7), (64, 80))
    settings = FlowSettings(warps=2, subpixel=subpixel)  # more warps let rounding errors grow
    apart, near = distances(*(flow(*images, settings, method=method) for method in OURS))
    assert apart.max() < 0.005
    assert near.min() >= 0.995


def test_subpixel_grid_changes_the_flow() -> None:
    exact, rounded = (flow(*moved((1.6, 0.7)), FlowSettings(subpixel=way)) for way in ("exact", "1/32"))
    assert 0 < np.abs(exact - rounded).mean() < 0.03


def test_grey_is_opencvs(cv2: ModuleType) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (2, 300, 200, 3), np.uint8)
    expected = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in rgb])
    np.testing.assert_array_equal(grey(rgb), expected)
    np.testing.assert_array_equal(grey(torch.from_numpy(rgb)).numpy(), expected)

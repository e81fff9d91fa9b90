"""Optical flow: our implementations beside OpenCV's, and what each of them must keep whatever the batch."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dgam.core.errors import InputError
from dgam.flow import batched, native
from dgam.flow import tvl1 as flow_module
from dgam.flow.median import MIDDLE, SELECT_MEDIAN, SORT_COLUMN, compare
from dgam.flow.pyramid import pyramid_sizes
from dgam.flow.tvl1 import FlowSettings, choose_method, flow, grey, quantise, scale_to_unit

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
OURS = ("llvm", "torch")
QUICK = FlowSettings(
    nscales=3, warps=2, inner_iterations=9, outer_iterations=2
)  # most pairs stop at the last
LONGER = FlowSettings(nscales=3, warps=2, outer_iterations=3)  # most pairs stop before the last
Array = NDArray[np.float32]


@pytest.fixture(scope="module")
def cv2() -> ModuleType:
    module = pytest.importorskip("cv2")
    if not hasattr(module, "optflow"):
        pytest.skip("this OpenCV comes without its contributed modules")
    return module  # type: ignore[no-any-return]


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


def moved(
    shift: tuple[float, float], size: tuple[int, int] = (96, 120), seed: int = 0
) -> tuple[Array, Array]:
    """A random picture and the same moved by ``shift`` (right, down), each (1, H, W), 0…255. Simulated."""
    rng = np.random.default_rng(seed)
    waves = rng.uniform(0.03, 0.35, (24, 2)) * rng.choice([-1, 1], (24, 2))
    phases, heights = rng.uniform(0, 2 * np.pi, 24), rng.uniform(0.3, 1, 24)
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float64)

    def picture(dx: float, dy: float) -> Array:
        angles = np.multiply.outer(waves[:, 0], x - dx) + np.multiply.outer(waves[:, 1], y - dy)  # (24, H, W)
        total = np.tensordot(heights, np.sin(angles + phases[:, None, None]), 1)  # (H, W)
        return (127 + 100 * total / np.abs(heights).sum() * 2).clip(0, 255).astype(np.float32)[None]

    return picture(0, 0), picture(*shift)


def uneven(count: int, size: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pairs that need few iterations to all of them: little motion, then more, then noise. Simulated."""
    rng = np.random.default_rng(3)
    pairs = [moved((0.7 * i, -0.4 * i), size, seed=i) for i in range(count)]
    first, second = (np.concatenate(images) for images in zip(*pairs, strict=True))
    second[-1] += rng.normal(0, 25, size)
    return first.round().astype(np.uint8), second.clip(0, 255).round().astype(np.uint8)


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
    settings = replace(usual, **changes)  # type: ignore[arg-type]
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


@pytest.mark.parametrize("settings", [QUICK, LONGER], ids=["quick", "longer"])
@pytest.mark.parametrize("method", OURS)
def test_a_pair_is_the_same_to_the_bit_in_any_batch(method: str, settings: FlowSettings) -> None:
    first, second = uneven(5, (40, 52))
    together = flow(first, second, settings, method=method, threads=1)
    for index in range(5):
        alone = flow(first[index : index + 1], second[index : index + 1], settings, method=method)
        np.testing.assert_array_equal(alone[0], together[index])
    np.testing.assert_array_equal(flow(first[::-1], second[::-1], settings, method=method)[::-1], together)


def test_threads_do_not_change_a_bit() -> None:
    first, second = uneven(5, (40, 52))
    alone = flow(first, second, QUICK, method="llvm", threads=1)
    np.testing.assert_array_equal(flow(first, second, QUICK, method="llvm", threads=4), alone)
    before = torch.get_num_threads()
    results = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            results.append(flow(first, second, QUICK, method="torch"))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*results)


def test_sweeps_of_several_iterations_equal_single_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Iterations following each other down the image, and sweeps taken back, give what single ones give."""
    first, second = uneven(3, (40, 52))
    settings = FlowSettings(warps=2)
    usual = flow(first, second, settings, method="llvm")
    monkeypatch.setattr(native, "BLOCK", 1)
    np.testing.assert_array_equal(flow(first, second, settings, method="llvm"), usual)


@pytest.mark.parametrize("lanes", [4, 8])
def test_narrower_processors_give_nearly_the_same(lanes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images = moved((1.6, 0.7), (49, 67))
    usual = flow(*images, method="llvm")
    kernels = native.library(lanes)
    monkeypatch.setattr(native, "library", lambda: kernels)
    assert np.abs(flow(*images, method="llvm") - usual).mean() < 1e-3


@pytest.mark.parametrize("settings", [QUICK, LONGER], ids=["quick", "longer"])
def test_looking_seldom_at_which_pairs_stopped_changes_nothing(
    settings: FlowSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU pairs that have stopped are held still until the next look; here on the CPU."""
    first, second = uneven(4, (40, 52))
    usual = flow(first, second, settings, method="torch")
    monkeypatch.setattr(batched, "iterations_between_looks", lambda device: 8)
    np.testing.assert_array_equal(flow(first, second, settings, method="torch"), usual)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # from within torch.compile
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_compiled_steps_give_what_plain_ones_give() -> None:
    images = [torch.from_numpy(image) for image in moved((1.6, 0.7), (40, 52))]
    sizes = pyramid_sizes(40, 52, 2, 0.8)
    settings = FlowSettings(nscales=2, warps=2)
    compiled = batched.solve(images[0], images[1], None, sizes, settings, compiled=True)
    usual = flow(images[0], images[1], settings, method="torch")
    assert (compiled - usual).abs().mean() < 1e-4


def test_failing_compiler_is_said_and_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> object:
        def run(*_: object) -> None:
            raise RuntimeError("no working compiler")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    batched._step_for.cache_clear()
    images = [torch.from_numpy(image) for image in moved((1.6, 0.7), (40, 52))]
    sizes = pyramid_sizes(40, 52, 3, 0.8)
    with pytest.warns(UserWarning, match="torch.compile failed \\(no working compiler\\)"):
        compiled = batched.solve(*images, None, sizes, QUICK, compiled=True)  # type: ignore[arg-type,misc]
    batched._step_for.cache_clear()
    torch.testing.assert_close(compiled, flow(*images, QUICK, method="torch"), rtol=0, atol=0)


@pytest.mark.parametrize("size", [3, 5])
def test_comparisons_find_the_median_of_all_zeros_and_ones(size: int) -> None:
    """By the zero-one principle, a list that is right on these is right on all numbers."""
    ones = np.array(list(itertools.product(range(size + 1), repeat=size)))  # (n, column): ones in each column
    values: list[NDArray[np.bool_]] = [
        ones[:, column] >= size - row for row in range(size) for column in range(size)
    ]
    compare(values, SELECT_MEDIAN[size], np.logical_and, np.logical_or)
    np.testing.assert_array_equal(values[MIDDLE], ones.sum(axis=1) > size * size // 2)
    column = [np.array(bits) for bits in zip(*itertools.product([0, 1], repeat=size), strict=True)]
    compare(column, SORT_COLUMN[size], np.minimum, np.maximum)
    assert (np.diff(np.stack(column), axis=0) >= 0).all()


@pytest.mark.parametrize("size", [3, 5])
def test_median_filter_repeats_the_edges(size: int) -> None:
    image = np.random.default_rng(0).normal(size=(2, 9, 14)).astype(np.float32)
    reach = size // 2
    padded = np.pad(image, ((0, 0), (reach, reach), (reach, reach)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    expected = np.median(windows, axis=(3, 4))
    ours = batched.median_filter(torch.from_numpy(image), size)
    np.testing.assert_array_equal(ours.numpy(), expected)


def test_pyramid_leaves_out_levels_below_sixteen_pixels() -> None:
    assert pyramid_sizes(256, 340, 5, 0.8) == [(256, 340), (205, 272), (164, 218), (131, 174), (105, 139)]
    assert pyramid_sizes(20, 300, 5, 0.8) == [(20, 300), (16, 240)]
    assert pyramid_sizes(5, 7, 5, 0.8) == [(5, 7)]


def test_grey_is_opencvs(cv2: ModuleType) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (2, 300, 200, 3), np.uint8)
    expected = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in rgb])
    np.testing.assert_array_equal(grey(rgb), expected)
    np.testing.assert_array_equal(grey(torch.from_numpy(rgb)).numpy(), expected)


def test_grey_of_primaries() -> None:
    """0.299, 0.587 and 0.114 of 255, rounded (ITU-R BT.601)."""
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]], np.uint8)
    np.testing.assert_array_equal(grey(colours), [76, 150, 29, 255])


def test_quantise_and_scale_to_unit() -> None:
    motion = np.array([-99, -20, -19.9, 0, 10, 20, 99], np.float32)
    levels = quantise(motion)
    np.testing.assert_array_equal(levels, [0, 0, 1, 128, 191, 255, 255])
    np.testing.assert_array_equal(quantise(torch.from_numpy(motion)).numpy(), levels)
    np.testing.assert_array_equal(quantise(motion, bound=40), [0, 64, 64, 128, 159, 191, 255])
    for kind in (levels, torch.from_numpy(levels)):
        unit = np.asarray(scale_to_unit(kind))
        np.testing.assert_allclose(unit, np.asarray(levels) / 127.5 - 1, atol=1e-6)
    for exact in (motion, torch.from_numpy(motion)):
        np.testing.assert_allclose(np.asarray(scale_to_unit(exact)), motion.clip(-20, 20) / 20, rtol=1e-6)


@pytest.mark.parametrize("method", OURS)
def test_kind_of_images_is_kept(method: str) -> None:
    first, second = uneven(2, (24, 20))
    rgb = [np.repeat(images[..., None], 3, axis=-1) for images in (first, second)]
    from_arrays = flow(rgb[0], rgb[1], QUICK, method=method)
    assert isinstance(from_arrays, np.ndarray)
    assert from_arrays.dtype == np.float32
    assert from_arrays.shape == (2, 2, 24, 20)
    from_tensors = flow(torch.from_numpy(first), torch.from_numpy(second), QUICK, method=method)
    assert isinstance(from_tensors, torch.Tensor)
    np.testing.assert_array_equal(from_tensors.numpy(), from_arrays)
    assert flow(first[:0], second[:0], QUICK, method=method).shape == (0, 2, 24, 20)


def test_all_wrong_settings_are_named_at_once() -> None:
    with pytest.raises(InputError) as caught:
        FlowSettings(tau=0, nscales=0, scale_step=1, median_filtering=4, subpixel="half", gamma=-1)
    assert str(caught.value) == (
        "flow settings: tau must be positive, got 0; nscales must be at least 1, got 0; "
        "gamma must not be negative, got -1; scale_step must lie from 0.1 to below 1, got 1; "
        "median_filtering must be 0, 1, 3 or 5, got 4; "
        'subpixel must be "exact" or "1/32", got \'half\'.'
    )


IMAGES = np.zeros((2, 24, 20), np.uint8)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (IMAGES, IMAGES[:1], "two batches of the same shape"),
        (IMAGES[:, :2], IMAGES[:, :2], "at least 3 × 3 pixels, got 2 × 20"),
        (IMAGES[0], IMAGES[0], r"previous: flow wants uint8 RGB"),
        (IMAGES.astype(np.int32), IMAGES, "previous: flow wants uint8 RGB"),
        (IMAGES, IMAGES * np.float32("nan"), "following: images hold values that are not finite"),
    ],
)
def test_images_that_cannot_be(first: NDArray[np.uint8], second: NDArray[np.uint8], message: str) -> None:
    with pytest.raises(InputError, match=message):
        flow(first, second)


def test_methods_that_are_not_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        InputError, match="unknown flow method 'farneback'; there are auto, llvm, torch, opencv"
    ):
        choose_method("farneback")
    with pytest.raises(InputError, match="runs on the CPU only; for cuda choose torch"):
        choose_method("llvm", "cuda")
    with pytest.raises(InputError, match="no brightness change; choose torch"):
        choose_method("llvm", gamma=0.1)
    assert choose_method() == "llvm"
    assert choose_method(gamma=0.1) == "torch"
    assert choose_method(device="cuda") == "torch"
    monkeypatch.setattr(flow_module, "find_spec", lambda name: None)
    assert choose_method() == "torch"
    with pytest.raises(InputError, match="pip install llvmlite"):
        choose_method("llvm")
    with pytest.raises(InputError, match="pip install opencv-contrib-python-headless"):
        choose_method("opencv")


def test_initial_flow_of_wrong_shape() -> None:
    shapes: Sequence[tuple[int, ...]] = [(2, 24, 20), (2, 2, 20, 24)]
    for shape in shapes:
        with pytest.raises(InputError, match="initial flow must be"):
            flow(IMAGES, IMAGES, initial=np.zeros(shape, np.float32))  # type: ignore[arg-type]

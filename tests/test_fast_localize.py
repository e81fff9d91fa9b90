"""Localising quickly finds what localising plainly finds: the same detections, with the same scores."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dgam.api import load_models
from dgam.core.config import load_config
from dgam.core.run import load_run
from dgam.detection import nms
from dgam.detection.localize import localize_videos, stream_curves
from dgam.detection.nms import suppress
from dgam.features.arrays import all_finite
from dgam.features.npy import parse_header, read_header
from dgam.features.store import FeatureStore
from dgam.model.networks import DGAM, ModelShape

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from plain_localize import plain_curves, plain_localize
from simulated_store import Shape, make

TINY = Shape("tiny", 12, 5, 40, 0.8, 120, 5, 4, dimension=16)
PRESETS = ("thumos14", "default", "release-thumos14", "release-activitynet12")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fast")
    make(path, TINY, load_config("thumos14"))
    return path


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("more", [(), ("localize.t_max=30", "localize.class_threshold=0.02")])
def test_detections_are_those_of_the_plain_path(folder: Path, preset: str, more: tuple[str, ...]) -> None:
    run, store = load_run(folder / "run"), FeatureStore(folder / "store")
    config = load_config(preset, overrides=more)
    models = {
        stream: type(own)(own.model, config.for_stream(stream).localize)
        for stream, own in load_models(run, "cpu").items()
    }
    plain = plain_localize(models, store, store.videos, run.classes)
    found = localize_videos(models, store, store.videos, run.classes)
    assert {video: list(own) for video, own in found.videos.items()} == plain
    assert sum(map(len, plain.values())) > 12


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("normalise", ["none", "root", "l2"])
def test_curves_are_those_of_the_plain_path(bias: bool, normalise: str) -> None:
    shape = ModelShape(
        9, 4, attention_hidden=6, cvae_hidden=3, latent=2, classifier_bias=bias, normalise=normalise
    )
    model = DGAM(shape, torch.Generator().manual_seed(0)).eval()
    x = np.random.default_rng(0).normal(size=(23, 9)).astype(np.float32)
    settings = load_config("thumos14").localize
    fast, plain = stream_curves(model, x, settings), plain_curves(model, x, settings)
    for name in ("positions", "attention", "tcam"):
        assert np.array_equal(getattr(fast, name), getattr(plain, name))
    np.testing.assert_allclose(fast.logits, plain.logits, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(fast.probabilities, plain.probabilities, rtol=1e-5)
    assert fast.probabilities.sum() < 1


def test_no_attention_at_all_leaves_the_bias_to_decide() -> None:
    model = DGAM(
        ModelShape(9, 4, attention_hidden=6, cvae_hidden=3, latent=2), torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        model.attention.output.bias.fill_(-1e4)
    x = np.random.default_rng(0).random((5, 9), dtype=np.float32)
    settings = load_config("thumos14").localize
    fast, plain = stream_curves(model, x, settings), plain_curves(model, x, settings)
    assert fast.attention.max() == 0
    np.testing.assert_allclose(fast.probabilities, plain.probabilities, rtol=1e-6)


@pytest.mark.parametrize("method", ["soft-linear", "soft-gaussian"])
@given(count=st.integers(0, 40), seed=st.integers(0, 99))
def test_all_overlaps_at_once_or_one_after_the_other(method: nms.Method, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    start = rng.integers(0, 20, count) / 2
    segments = np.column_stack([start, start + rng.integers(0, 6, count)])
    scores = np.round(rng.normal(size=count), 1)
    whole = suppress(segments, scores, method, 0.3, 0.4)
    limit, nms._AT_ONCE = nms._AT_ONCE, 0
    try:
        single = suppress(segments, scores, method, 0.3, 0.4)
    finally:
        nms._AT_ONCE = limit
    assert all(np.array_equal(a, b) for a, b in zip(whole, single, strict=True))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@given(seed=st.integers(0, 99), bad=st.sampled_from([None, np.nan, np.inf, -np.inf]))
def test_a_single_value_that_is_not_finite_is_seen(dtype: type, seed: int, bad: float | None) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(int(rng.integers(0, 9)), int(rng.integers(1, 5)))).astype(dtype)
    if x.size and seed % 2:
        x[rng.integers(len(x)), 0] = np.finfo(dtype).max  # its square is not finite, it is
    if bad is not None and x.size:
        x[rng.integers(len(x)), rng.integers(x.shape[1])] = bad
    expected = bool(np.isfinite(x).all())
    assert all_finite(x) == expected
    assert all_finite(np.asfortranarray(x)) == expected
    assert all_finite(x[::2, 1:] if x.shape[1] > 1 else x) == bool(
        np.isfinite(x[::2, 1:] if x.shape[1] > 1 else x).all()
    )


def test_the_usual_head_of_a_file_is_read_as_any_other(tmp_path: Path) -> None:
    """Heads that go past Python's parser give what it gives."""
    path = tmp_path / "x.npy"
    for shape, dtype in (
        ((3, 4), "<f4"),
        ((0, 7), "<f2"),
        ((5, 1), ">f8"),
        ((2,), "<f4"),
        ((2, 2, 2), "<f4"),
    ):
        for order in (False, True):
            head = {"descr": dtype, "fortran_order": order, "shape": shape}
            with path.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, head)
                file.write(bytes(int(np.prod(shape)) * np.dtype(dtype).itemsize))
            found = read_header(path)
            assert (found.shape, found.dtype, found.fortran_order) == (shape, np.dtype(dtype), order)
            assert np.load(path).shape == shape
    usual = path.read_bytes()
    spaced = usual.replace(b"'descr': ", b"'descr' :", 1)
    path.write_bytes(spaced)
    with path.open("rb") as file:
        assert parse_header(file, "x").shape == (2, 2, 2)

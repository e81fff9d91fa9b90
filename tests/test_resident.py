"""Features on the device or read from the store: the same batches, the same models, to the last bit."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from dgam.core.config import Config, load_config
from dgam.core.errors import InputError
from dgam.core.timeline import SnippetGrid
from dgam.core.types import VideoLabels
from dgam.data.dataset import SnippetDataset
from dgam.features.source import ArrayFeatures, FeatureSource
from dgam.features.store import FeatureStore
from dgam.features.writer import StoreWriter
from dgam.training.checkpoint import load_tensors
from dgam.training.engine import Batch
from dgam.training.feed import Feed, ahead
from dgam.training.resident import Resident, Scaled, Streamed, free_memory, place_features
from dgam.training.trainer import new_model, train_stream

CPU = torch.device("cpu")
SMALL = (
    "train.snippets=7",
    "train.batch=4",
    "train.epochs=4",
    "train.checkpoint_every=2",
    "loss.warmup_epochs=2",
    "model.attention_hidden=8",
    "model.cvae_hidden=8",
    "model.latent=4",
)
NORMALISE = ("none", "l2", "scale", "root", "standard")


def config(*overrides: str) -> Config:
    return load_config("thumos14", overrides=(*SMALL, *overrides)).for_stream("rgb")


def arrays() -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    found = {}
    for index in range(10):
        length = int(rng.integers(1, 20))
        found[f"v{index}"] = {
            name: rng.normal(size=(length, d)).astype(np.float32) for name, d in (("rgb", 5), ("flow", 3))
        }
    return found


def labels() -> VideoLabels:
    return VideoLabels({f"v{i}": ("a", "b")[: 1 + i % 2] if i % 3 else ("b",) for i in range(10)})


def dataset(source: FeatureSource, stream: str = "rgb", seed: int = 0) -> SnippetDataset:
    return SnippetDataset(source, labels(), stream, snippets=7, seed=seed)


@pytest.fixture(scope="module", params=["float32", "float16"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    path = tmp_path_factory.mktemp("resident") / "store"
    writer = StoreWriter(path, {"rgb": 5, "flow": 3}, dtype=request.param)
    for video, streams in arrays().items():
        writer.add(video, streams, grid=SnippetGrid())
    return FeatureStore(path)


def batches_of(
    data: SnippetDataset, own: Config, kind: type[Resident] | type[Streamed], epochs: int = 3
) -> list[Batch]:
    precision = torch.bfloat16 if own.train.precision == "bfloat16" else torch.float32
    features = kind([Scaled(data, new_model(data, own, 0).requires_grad_(False))], precision, CPU)
    feed = Feed([data], [own.train], features, CPU)
    with closing(feed.batches(0, epochs)) as batches:
        found = [Batch(batch.x.clone(), batch.labels.clone(), batch.scaled) for batch in batches]
    assert len(found) == epochs * feed.steps
    return found


@pytest.mark.parametrize("normalise", NORMALISE)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_batches_are_the_samples_scaled(store: FeatureStore, normalise: str, precision: str) -> None:
    """Resident and streamed batches against the data set's own plain samples: same rows, same bits."""
    data = dataset(store)
    own = config(f"model.normalise={normalise}", f"train.precision={precision}", "train.resample_every=2")
    model = new_model(data, own, 0)
    plain = [
        (data.sample(videos, epoch // 2), epoch) for epoch in range(3) for videos in data.batches(epoch, 4)
    ]
    for kind in (Resident, Streamed):
        found = batches_of(data, own, kind)
        assert len(found) == len(plain)
        for batch, ((x, y), _) in zip(found, plain, strict=True):
            assert batch.scaled
            assert batch.x.shape == (1, len(y), 7, 5)
            expected = model.scaled(torch.from_numpy(x)).to(batch.x.dtype)
            assert torch.equal(batch.x[0], expected)
            assert torch.equal(batch.labels[0], torch.from_numpy(y))
    assert batch.x.dtype == getattr(torch, precision)


@pytest.mark.parametrize("stream", ["rgb", "rgb+flow"])
@pytest.mark.parametrize("normalise", ["none", "l2", "root"])
def test_streamed_training_gives_the_same_bytes(
    store: FeatureStore, tmp_path: Path, normalise: str, stream: str
) -> None:
    for name, gib in (("kept", 1.0), ("read", 0.0)):
        own = config(f"model.normalise={normalise}", f"train.resident_gib={gib}")
        train_stream(dataset(store, stream), own, tmp_path / name, seed=0)
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "kept" / name).read_bytes() == (tmp_path / "read" / name).read_bytes()
    weights = load_tensors(tmp_path / "kept" / "model.safetensors")[0]
    other = config(f"model.normalise={normalise}", "train.epochs=5")
    train_stream(dataset(store, stream), other, tmp_path / "other", seed=0)
    trained_on = load_tensors(tmp_path / "other" / "model.safetensors")[0]
    name = "attention.hidden.weight"
    assert not torch.equal(weights[name], trained_on[name]), "the comparison can fail"


def test_a_run_may_change_from_resident_to_streamed(store: FeatureStore, tmp_path: Path) -> None:
    """The limit is no part of what a checkpoint must agree in."""

    class Stop(Exception):
        pass

    def stop(epoch: int, _: dict[str, float]) -> None:
        if epoch == 3:
            raise Stop

    train_stream(dataset(store), config("train.resident_gib=1"), tmp_path / "whole", seed=0)
    with pytest.raises(Stop):
        train_stream(dataset(store), config("train.resident_gib=1"), tmp_path / "cut", seed=0, on_epoch=stop)
    train_stream(dataset(store), config("train.resident_gib=0"), tmp_path / "cut", seed=0)
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_what_is_resident_is_decided_by_size() -> None:
    data = dataset(ArrayFeatures(arrays()))
    scaled = [Scaled(data, new_model(data, config(), 0))]
    size = int(data.lengths.sum()) * 5 * 4
    for precision, bytes_needed in ((torch.float32, size), (torch.bfloat16, size / 2)):
        exactly, less = bytes_needed / (1 << 30), (bytes_needed - 1) / (1 << 30)
        assert isinstance(place_features(scaled, precision, CPU, exactly), Resident)
        assert isinstance(place_features(scaled, precision, CPU, less), Streamed)
    assert isinstance(place_features(scaled, torch.float32, CPU, None), Resident), "it is but a kilobyte"


def test_free_memory_is_what_the_machine_has() -> None:
    free = free_memory(CPU)
    assert 1 << 20 < free < 1 << 50
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        total = int(meminfo.read_text().split("MemTotal:")[1].split()[0]) << 10
        assert free < total


def test_equal_content_is_kept_once() -> None:
    source = ArrayFeatures(arrays())
    own = config()
    seeds = [dataset(source, seed=seed) for seed in range(3)]
    sets = [Scaled(data, new_model(data, own, 0)) for data in seeds]
    other = dataset(ArrayFeatures(arrays()))
    snippets = int(seeds[0].lengths.sum())
    assert len(Resident(sets, torch.float32, CPU).snippets) == snippets
    sets.append(Scaled(other, new_model(other, own, 0)))
    assert len(Resident(sets, torch.float32, CPU).snippets) == 2 * snippets
    standard = config("model.normalise=standard")
    sets.append(Scaled(seeds[0], new_model(seeds[0], standard, 0)))
    assert len(Resident(sets, torch.float32, CPU).snippets) == 3 * snippets


def test_members_of_a_feed_draw_for_themselves() -> None:
    source = ArrayFeatures(arrays())
    own = config()
    seeds = [dataset(source, seed=seed) for seed in (4, 9)]
    sets = [Scaled(data, new_model(data, own, 0).requires_grad_(False)) for data in seeds]
    for features in (Resident(sets, torch.float32, CPU), Streamed(sets, torch.float32, CPU)):
        feed = Feed(seeds, [own.train, own.train], features, CPU)
        with closing(feed.batches(2, 3)) as batches:
            batch = next(batches)
            for member, data in enumerate(seeds):
                x, y = data.sample(data.batches(2, 4)[0], 2)
                assert torch.equal(batch.x[member], torch.from_numpy(x))
                assert torch.equal(batch.labels[member], torch.from_numpy(y))
        swapped = Feed(seeds[1:], [own.train], features.only([1]), CPU)
        with closing(swapped.batches(2, 3)) as batches:
            x, _ = seeds[1].sample(seeds[1].batches(2, 4)[0], 2)
            assert torch.equal(next(batches).x[0], torch.from_numpy(x))


# Made ahead in a thread.


def test_items_made_ahead_come_in_order_and_no_further_than_asked() -> None:
    made = []

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    with closing(ahead(items(), 2)) as found:
        assert list(islice(found, 3)) == [0, 1, 2]
        deadline = time.monotonic() + 5
        while len(made) < 5 and time.monotonic() < deadline:
            time.sleep(0.001)
    assert made == [0, 1, 2, 3, 4]
    assert list(ahead(iter(range(7)), 2)) == list(range(7))
    assert list(ahead(iter(()), 2)) == []


def test_an_error_made_ahead_is_raised_where_its_item_would_have_been() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise InputError("unreadable")

    found = ahead(items(), 2)
    assert next(found) == 1
    with pytest.raises(InputError, match="unreadable"):
        next(found)
    names = {thread.name for thread in threading.enumerate()}
    assert not any(name.startswith("batches") for name in names), "the thread has ended"


def test_features_that_go_missing_while_streaming_are_named(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path / "store", {"rgb": 5})
    for video, streams in arrays().items():
        writer.add(video, {"rgb": streams["rgb"]}, grid=SnippetGrid())
    data = dataset(FeatureStore(tmp_path / "store"))
    (tmp_path / "store" / "rgb" / "v3.npy").unlink()
    with pytest.raises(InputError, match=r"v3\.npy"):
        train_stream(data, config("train.resident_gib=0"), tmp_path / "out", seed=0)

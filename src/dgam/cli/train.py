"""``dgam train``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import dgam
from dgam.cli.options import FeatureOptions, Repeatable, SettingOptions, Skipped, only_subset
from dgam.core.errors import InputError
from dgam.core.progress import track
from dgam.core.types import SegmentAnnotations
from dgam.data.annotations import read_labels, read_segments
from dgam.features.source import FeatureSource


def train(
    features: Path,
    /,
    *,
    labels: Path,
    out: Path,
    subset: Repeatable = (),
    seed: int = 0,
    restart: bool = False,
    device: str | None = None,
    tensorboard: bool = False,
    test_features: Path | None = None,
    test_ground_truth: Path | None = None,
    skip_bad: bool = False,
    settings: SettingOptions | None = None,
    reading: FeatureOptions | None = None,
) -> None:
    """Train on video labels, one model for each stream.

    All that is learned from is which actions each video contains; segments in the file of labels are not
    read. A run that was interrupted goes on where its last checkpoint was when the same command is given
    again, and ends with the same weights as if it had not been. The run folder holds the weights,
    `run.json`, and `metrics.jsonl` for each stream.

    ```
    dgam train FEATURES --labels labels.csv --subset train --out RUN --seed 0
    dgam train FEATURES --labels labels.csv --out RUN --preset thumos14 --set train.epochs=200
    dgam train FEATURES --labels labels.csv --out RUN --streams rgb+flow
    ```

    Parameters
    ----------
    features
        A store, or features of any known layout. `--streams rgb+flow` joins two streams into one input.
    labels
        Video labels: a CSV `video,labels` with `;` between labels, ActivityNet JSON, or another known format.
    out
        The run folder to write, or to go on with.
    subset
        Only the labels of this subset; repeat it for several. [default: all]
    seed
        Of every random draw. The same seed on the same machine gives the same weights, bit for bit.
    restart
        Begin anew where the run folder holds an earlier training.
    device
        cpu, cuda, cuda:1 … [default: a GPU if there is one]
    tensorboard
        Also write the losses for TensorBoard (needs `pip install 'dgam[tensorboard]'`).
    test_features
        With train.select=test-map only: features of the test videos.
    test_ground_truth
        With train.select=test-map only: segments by which the weights are chosen. The result says so.
    skip_bad
        Leave out videos whose features or labels are defective, and list them.
    """
    settings, reading = settings or SettingOptions(), reading or FeatureOptions()
    config = settings.load()
    parts = tuple(dict.fromkeys(part for stream in reading.streams for part in stream.split("+")))
    source = replace(reading, streams=parts).open(features)
    skipped = Skipped()
    on_problem = skipped if skip_bad else None
    chosen = read_labels(labels, trusted_pickle=reading.trusted_pickle, on_problem=on_problem)
    chosen = only_subset(chosen, subset, labels)
    test = _test_data(test_features, test_ground_truth, reading, parts)
    streams = reading.streams or tuple(source.streams)
    began, left = time.monotonic(), config.train.epochs * len(streams)
    with (
        track("training", total=left) as advance,
        _board(out, tensorboard) as log,
    ):

        def on_epoch(stream: str, epoch: int, losses: dict[str, float]) -> None:
            nonlocal left
            left -= 1
            advance(1, stream=stream, epoch=epoch, loss=losses["total"])
            log(stream, epoch, losses)

        run = dgam.train(
            source,
            chosen,
            out,
            config=config,
            seed=seed,
            streams=streams,
            device=device,
            restart=restart,
            test=test,
            labels_from=str(labels),
            on_problem=on_problem,
            on_epoch=on_epoch,
        )
        advance(left)  # a stream may end before its last epoch, or go on from a checkpoint
    print(
        f"{out}: trained {', '.join(run.streams)} on {run.videos} videos, {len(run.classes)} classes, "
        f"in {time.monotonic() - began:.0f} s; {run.selection}."
    )
    skipped.summary()


def _test_data(
    features: Path | None, truth: Path | None, reading: FeatureOptions, parts: tuple[str, ...]
) -> tuple[FeatureSource, SegmentAnnotations] | None:
    if features is None and truth is None:
        return None
    if features is None or truth is None:
        raise InputError("--test-features and --test-ground-truth belong together; give both or none.")
    return replace(reading, streams=parts).open(features), read_segments(truth)


@contextmanager
def _board(out: Path, wanted: bool) -> Iterator[Callable[[str, int, dict[str, float]], None]]:
    """A function that logs losses for TensorBoard, or does nothing."""
    if not wanted:
        yield lambda stream, epoch, losses: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError(
            "--tensorboard needs the tensorboard package: pip install 'dgam[tensorboard]'."
        ) from None
    with SummaryWriter(str(out / "tensorboard")) as writer:

        def log(stream: str, epoch: int, losses: dict[str, float]) -> None:
            for name, value in losses.items():
                writer.add_scalar(f"{stream}/{name}", value, epoch)

        yield log

"""From features and video labels to run folders: one training, or many at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from dgam.core.config import Config, load_config
from dgam.core.errors import InputError, InputProblems, Problem
from dgam.core.files import clear_unfinished
from dgam.core.locks import file_lock
from dgam.core.run import RUN_FILE, Run
from dgam.core.types import SegmentAnnotations, VideoLabels
from dgam.data.checks import check
from dgam.data.dataset import SnippetDataset
from dgam.detection.localize import StreamModel, localize_videos
from dgam.evaluation import evaluate
from dgam.features.source import FeatureSource, read_stream
from dgam.model.losses import foreground_loss, label_targets, pool
from dgam.model.networks import DGAM
from dgam.training.many import Member, refuse_shared_folders
from dgam.training.many import train_many as train_members
from dgam.training.precision import settled
from dgam.training.trainer import STREAM_FILES, Trained, train_stream

_HELD_OUT = 3  # keeps the draw of held-out videos apart from other draws of the same seed

Test = tuple[FeatureSource, SegmentAnnotations]
T = TypeVar("T")


def train(
    features: FeatureSource,
    labels: VideoLabels,
    out: str | os.PathLike[str],
    *,
    config: Config | None = None,
    seed: int = 0,
    streams: Sequence[str] | None = None,
    device: str | None = None,
    restart: bool = False,
    test: Test | None = None,
    labels_from: str = "",
    on_problem: Callable[[Problem], None] | None = None,
    on_epoch: Callable[[str, int, dict[str, float]], None] | None = None,
) -> Run:
    """Train one model per stream on video labels, and leave a run folder.

    ``streams`` are those of the features by default; "rgb+flow" joins two into one model's input. A run that
    was interrupted goes on from its newest checkpoint; ``restart`` begins anew. ``device`` is a torch device,
    by default a GPU if there is one. ``test`` is used only where ``config.train.select`` is "test-map", which
    chooses the weights by the test annotations as DGAM's authors did; the run then says so.

    Defective videos are raised together as InputProblems before training starts; with ``on_problem`` each is
    told and left out. ``on_epoch`` is told (stream, epoch, losses). Raises InputError for anything else that
    is not usable, and where another process is training into this folder.
    """
    device = usable_device(device)
    order = _Order.checked(features, labels, out, settled(config or load_config(), device), seed, streams)
    if (test is None) != (order.config.train.select != "test-map"):
        raise InputError(
            "train.select=test-map needs the test features and annotations, and only it does. "
            "Give --test-features and --test-ground-truth with it, or leave all three out."
        )
    with (order := order.usable(on_problem)).held(restart):
        members = {stream: order.member(stream, test) for stream in order.streams}
        streams = tuple(members)

        def tell(place: int, epoch: int, losses: dict[str, float]) -> None:
            if on_epoch is not None:
                on_epoch(streams[place], epoch, losses)

        if _side_by_side(device):
            found = train_members(list(members.values()), device=device, on_epoch=tell)
            return order.finish(dict(zip(streams, found, strict=True)), labels_from)
        trained = {}
        for place, (stream, member) in enumerate(members.items()):
            trained[stream] = train_stream(
                member.dataset,
                member.config,
                member.out,
                seed=seed,
                device=device,
                validate=member.validate,
                on_epoch=partial(tell, place),
            )
        return order.finish(trained, labels_from)


def train_many(
    features: FeatureSource | Sequence[FeatureSource],
    labels: VideoLabels | Sequence[VideoLabels],
    outs: Sequence[str | os.PathLike[str]],
    configs: Config | Sequence[Config],
    seeds: int | Sequence[int],
    *,
    streams: Sequence[str] | None = None,
    device: str | None = None,
    restart: bool = False,
    at_once: int | None = None,
    labels_from: str = "",
    on_problem: Callable[[Problem], None] | None = None,
    on_epoch: Callable[[int, str, int, dict[str, float]], None] | None = None,
) -> list[Run]:
    """Train several runs at once, those of equal shape as one batched model, and leave their run folders.

    ``outs`` says how many runs there are and where they go. ``features``, ``labels``, ``configs`` and
    ``seeds`` are one for all of them, or one for each. Every run is what :func:`train` would have made of it,
    up to rounding, and can be resumed by either; ``docs/many.md`` says which runs share a model and what
    that saves. ``at_once`` limits how many do, by default as many as fit into memory.

    ``on_epoch`` is told (number of the run, stream, epoch, losses); the rest is as in :func:`train`, but for
    ``train.select=test-map``, which is refused. Raises InputError as :func:`train` does; where a run's loss
    stops being finite, once the other runs of its stream are finished.
    """
    device, count = usable_device(device), len(outs)
    each = (
        _each("features", features, count),
        _each("labels", labels, count),
        outs,
        [settled(config, device) for config in _each("configs", configs, count)],
        _each("seeds", seeds, count),
    )
    orders = [_Order.checked(*own, streams) for own in zip(*each, strict=True)]
    refuse_shared_folders([order.folder for order in orders])
    if any(order.config.train.select == "test-map" for order in orders):
        raise InputError(
            "train.select=test-map: choosing by the test set is for dgam.train, one run at a time."
        )
    known: dict[object, VideoLabels] = {}
    for number, order in enumerate(orders):
        key = id(order.features), id(order.labels), order.streams
        if key not in known:
            known[key] = order.usable(on_problem).labels
        orders[number] = order.with_labels(known[key])
    trained: list[dict[str, Trained]] = [{} for _ in orders]
    with ExitStack() as stack:
        for order in orders:
            stack.enter_context(order.held(restart))
        wanted = [(number, stream) for number, order in enumerate(orders) for stream in order.streams]
        for turn in [wanted] if _side_by_side(device) else _by_stream(wanted):

            def tell(place: int, epoch: int, losses: dict[str, float]) -> None:
                if on_epoch is not None:
                    on_epoch(*turn[place], epoch, losses)  # noqa: B023 - called within this turn

            members = [orders[number].member(stream, None) for number, stream in turn]
            found = train_members(members, device=device, at_once=at_once, on_epoch=tell)
            for (number, stream), own in zip(turn, found, strict=True):
                trained[number][stream] = own
        return [order.finish(own, labels_from) for order, own in zip(orders, trained, strict=True)]


@dataclass(frozen=True)
class _Order:
    """One run that is asked for."""

    features: FeatureSource
    labels: VideoLabels
    folder: Path
    config: Config
    seed: int
    streams: tuple[str, ...]

    @classmethod
    def checked(
        cls,
        features: FeatureSource,
        labels: VideoLabels,
        out: str | os.PathLike[str],
        config: Config,
        seed: int,
        streams: Sequence[str] | None,
    ) -> _Order:
        """InputError for what can be seen to be wrong without looking at the features."""
        folder = Path(out)
        if seed < 0:
            raise InputError(f"--seed: must be a whole number from 0 on, got {seed}.")
        if folder.exists() and not folder.is_dir():
            raise InputError(
                f"--out {folder}: is a file; expected the run folder to write, or to go on with."
            )
        chosen = tuple(streams or features.streams)
        _refuse_unknown_streams(features, chosen, config)
        return cls(features, labels, folder, config, seed, chosen)

    def usable(self, on_problem: Callable[[Problem], None] | None) -> _Order:
        """Without videos that cannot be trained on; without ``on_problem`` such videos are raised."""
        return self.with_labels(_usable(self.features, self.labels, self.streams, on_problem))

    def with_labels(self, labels: VideoLabels) -> _Order:
        return _Order(self.features, labels, self.folder, self.config, self.seed, self.streams)

    @property
    def files(self) -> list[Path]:
        """What training itself writes: a folder named after a stream may also hold that stream's features."""
        of_streams = (f"{stream}/{name}" for stream in self.streams for name in STREAM_FILES)
        return [self.folder / name for name in (RUN_FILE, *of_streams)]

    @contextmanager
    def held(self, restart: bool) -> Iterator[None]:
        """Keep other processes from training into the folder; clear what a killed one left half-written,
        and with ``restart`` all that earlier ones wrote."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with file_lock(self.folder / ".train.lock") as mine:
            if not mine:
                raise InputError(
                    f"--out {self.folder}: another process is training into this folder. "
                    "Wait for it to end, or give another folder."
                )
            for file in self.files:
                clear_unfinished(file)
                if restart:
                    file.unlink(missing_ok=True)
            yield

    def member(self, stream: str, test: Test | None) -> Member:
        """One stream's training."""
        own = self.config.for_stream(stream)
        training, held_out = split(self.labels, own, self.seed)
        dataset = SnippetDataset(self.features, training, stream, snippets=own.train.snippets, seed=self.seed)
        validate = None
        if own.train.select == "held-out":
            validate = _by_classification(self.features, held_out, stream)
        elif test is not None:
            validate = _by_test_map(test, stream, own, self.labels.classes)
        return Member(dataset, own, self.folder / stream, self.seed, validate)

    def finish(self, trained: Mapping[str, Trained], labels_from: str) -> Run:
        """Write ``run.json``."""
        epochs = ", ".join(f"{stream}: epoch {own.epoch}" for stream, own in trained.items())
        run = Run(
            path=self.folder,
            seed=self.seed,
            classes=self.labels.classes,
            streams={s: sum(self.features.streams[part] for part in s.split("+")) for s in self.streams},
            config=self.config,
            selection=f"{_SELECTION[self.config.train.select]} ({epochs})",
            videos=len(self.labels),
            labels=labels_from,
        )
        run.save()
        return run


_SELECTION = {
    "last": "the weights after the last epoch",
    "held-out": "the best by video classification on held-out training videos",
    "test-map": "CHOSEN ON THE TEST SET: the best by test mAP@0.5, as DGAM's authors did; not comparable "
    "with models chosen without test annotations",
}


def _each(name: str, value: T | Sequence[T], count: int) -> Sequence[T]:
    """One value for each run; InputError where there are more or fewer."""
    if not isinstance(value, Sequence):
        return [value] * count
    if len(value) != count:
        raise InputError(
            f"{name}: got {len(value)} for {count} run folders; give one for all, or one for each."
        )
    return value


def _side_by_side(device: str) -> bool:
    """Whether streams of equal shape are trained as one batched model: a GPU is not filled by one. On a CPU
    one stream's features after the other's need less memory."""
    return torch.device(device).type == "cuda"


def _by_stream(wanted: Sequence[tuple[int, str]]) -> list[list[tuple[int, str]]]:
    """Runs and streams in turns of one stream each."""
    turns: dict[str, list[tuple[int, str]]] = {}
    for number, stream in wanted:
        turns.setdefault(stream, []).append((number, stream))
    return list(turns.values())


def default_device() -> str:
    """A GPU if there is one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def usable_device(name: str | None) -> str:
    """A torch device by name, by default :func:`default_device`. InputError where it cannot be used."""
    name = name or default_device()
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"--device {name}: cannot be used here. Take cpu, or a GPU that is there, as cuda or cuda:1."
        ) from error
    return name


def _usable(
    features: FeatureSource,
    labels: VideoLabels,
    streams: Sequence[str],
    on_problem: Callable[[Problem], None] | None,
) -> VideoLabels:
    """The labels without videos that cannot be trained on; without ``on_problem`` such videos are raised."""
    parts = list(dict.fromkeys(part for stream in streams for part in stream.split("+")))
    found = check(features, labels, streams=parts, unlabelled=False)
    problems = [p for p in found if p.video is None or p.video in labels.labels]
    if not problems:
        return labels
    if on_problem is None or any(p.video is None for p in problems):
        heading = "The training data are not usable (--skip-bad leaves such videos out):"
        raise InputProblems(heading, problems)
    for problem in problems:
        on_problem(problem)
    bad = {p.video for p in problems}
    kept = labels.only(video for video in labels.videos if video not in bad)
    if not kept.videos:
        raise InputProblems("No usable video is left:", problems)
    return kept


def _refuse_unknown_streams(features: FeatureSource, streams: Sequence[str], config: Config) -> None:
    for stream in streams:
        for part in stream.split("+"):
            if part not in features.streams:
                known = ", ".join(features.streams) or "none"
                raise InputError(f"--streams: {features.name} has no stream {part!r}. It has: {known}.")
    if not streams:
        raise InputError(f"{features.name}: has no stream to train on.")
    # Presets have settings for rgb and flow, which not all features have; any other name must be meant.
    for stream in sorted(set(config.streams) - {"rgb", "flow", *streams}):
        raise InputError(
            f"streams.{stream}: there is no such stream in this training; it has {', '.join(streams)}."
        )


def split(labels: VideoLabels, config: Config, seed: int) -> tuple[VideoLabels, VideoLabels]:
    """Videos to train on and videos held out (none unless the selection asks for them)."""
    if config.train.select != "held-out":
        return labels, labels.only([])
    count = max(1, round(config.train.held_out * len(labels)))
    if count >= len(labels):
        raise InputError(
            f"train.held_out={config.train.held_out} leaves none of {len(labels)} videos to train on."
        )
    order = np.random.default_rng([seed, _HELD_OUT]).permutation(len(labels))
    apart = {labels.videos[index] for index in order[:count]}
    return labels.only(v for v in labels.videos if v not in apart), labels.only(
        v for v in labels.videos if v in apart
    )


def _by_classification(
    features: FeatureSource, held_out: VideoLabels, stream: str
) -> Callable[[DGAM], float]:
    """Mean log-likelihood of the held-out videos' labels, from all of their snippets."""
    column = {name: index for index, name in enumerate(held_out.classes)}

    def score(model: DGAM) -> float:
        device = next(model.parameters()).device
        total = 0.0
        for video, names in held_out.labels.items():
            x = torch.from_numpy(np.array(read_stream(features, video, stream), dtype=np.float32)).to(device)
            labels = torch.zeros(1, len(column), device=device)
            labels[0, [column[name] for name in names]] = 1
            scaled = model.scaled(x.unsqueeze(0))  # (1, T, d)
            logits = model.classifier(pool(scaled, model.attention(scaled)))  # (1, C + 1)
            total -= float(foreground_loss(logits, label_targets(labels)))
        return total / len(held_out)

    return score


def _by_test_map(
    test: tuple[FeatureSource, SegmentAnnotations], stream: str, config: Config, classes: tuple[str, ...]
) -> Callable[[DGAM], float]:
    features, truth = test
    parts = stream.split("+")
    videos = [video for video in truth.videos if all(features.has(video, part) for part in parts)]
    if not videos:
        raise InputError(
            f"--test-features: {features.name} has stream {stream!r} for none of the {len(truth.videos)} "
            f"videos of {truth.source or 'the test annotations'}. Are both of the same data set?"
        )
    # Videos of other subsets, or without features, would count as misses.
    truth = SegmentAnnotations({video: truth.videos[video] for video in videos}, truth.classes, truth.source)

    def score(model: DGAM) -> float:
        found = localize_videos({stream: StreamModel(model, config.localize)}, features, videos, classes)
        return evaluate(found, truth, [0.5]).map[0]

    return score

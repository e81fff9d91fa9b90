"""The two kinds of work in an experiment: to train one stream of one model, and to measure a set of runs.

A task is plain data that can be sent to another process. It knows its key, whether it was done, and how to do
it; :func:`attempt` does it once, however many processes try.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from dgam.core.config import Config, LocalizeSettings
from dgam.core.errors import InputError, Problem
from dgam.core.progress import Advance
from dgam.core.types import Detection, Detections, SegmentAnnotations
from dgam.evaluation import evaluate, select
from dgam.experiments.cache import RunCache
from dgam.experiments.data import DataSpec
from dgam.features.source import FeatureSource

if TYPE_CHECKING:
    from dgam.core.run import Run
    from dgam.detection.localize import StreamModel
    from dgam.detection.proposals import StreamCurves
    from dgam.model.networks import DGAM

Tell = Callable[[float], None]
"""Told how much of a task is done, from 0 to 1."""


class Task(Protocol):
    """What a runner needs to know of a piece of work."""

    @property
    def key(self) -> str: ...

    @property
    def title(self) -> str: ...

    def done(self, cache: RunCache) -> bool: ...

    def work(self, cache: RunCache, tell: Tell) -> None: ...


def attempt(task: Task, cache: RunCache, wait: bool, tell: Tell) -> str | Problem:
    """Do a task unless it was done: "done", "busy" where another process is at it and ``wait`` is false, or
    what is wrong with its input."""
    with cache.claim(task.key, wait=wait) as mine:
        if not mine:
            return "busy"
        if not task.done(cache):
            try:
                task.work(cache, tell)
            except InputError as error:
                return Problem(task.title, str(error))
    return "done"


def stepwise(advance: Advance, title: str, count: int = 1) -> Callable[[float], None]:
    """From "so much of it is done" to steps of a progress bar, where the whole counts ``count`` steps."""
    before = 0.0

    def tell(fraction: float) -> None:
        nonlocal before
        advance(count * max(fraction - before, 0.0), now=title)
        before = max(before, fraction)

    return tell


def size(task: Task) -> int:
    """How many pieces of work a task is: that of a group is its members'."""
    return len(getattr(task, "members", (task,)))


@dataclass(frozen=True)
class Training:
    """Train one stream with its own settings (``Config.for_stream``) and one seed.

    ``without`` are training videos left out, ``about`` is what the key was made of.
    """

    key: str
    title: str
    data: DataSpec
    stream: str
    seed: int
    config: Config
    device: str | None = None
    without: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def done(self, cache: RunCache) -> bool:
        return cache.run_facts(self.key) is not None

    def work(self, cache: RunCache, tell: Tell) -> None:
        """Train, or go on from the checkpoint that a killed training left."""
        from dgam.api import train

        features, labels = self.data.read_training(self.without)
        epochs = self.config.train.epochs
        began = time.monotonic()
        run = train(
            features,
            labels,
            cache.run_folder(self.key),
            config=self.config,
            seed=self.seed,
            streams=[self.stream],
            device=self.device,
            test=self.data.read_test() if self.config.train.select == "test-map" else None,
            labels_from=self.data.labels,
            on_epoch=lambda stream, epoch, losses: tell(epoch / epochs),
        )
        self.finish(cache, run, time.monotonic() - began)

    def finish(self, cache: RunCache, run: Run, seconds: float, together: int = 1) -> None:
        """Note a training as finished; ``together`` is how many were trained as one, in ``seconds``."""
        import torch

        # A finished run is never gone on with; its checkpoint is thrice the size of its weights.
        (run.folder(self.stream) / "checkpoint.safetensors").unlink(missing_ok=True)
        facts = {
            "about": dict(self.about),
            "seconds": round(seconds / together, 3),
            "together": together,
            "device": self.device or ("cuda" if torch.cuda.is_available() else "cpu"),
            "torch": torch.__version__,
            "selection": run.selection,
            "videos": run.videos,
        }
        cache.finish_run(self.key, facts)


@dataclass(frozen=True)
class Part:
    """One stream of what is measured: the runs that give attention and classifier, and how to localise."""

    attention: str
    classifier: str
    settings: LocalizeSettings


@dataclass(frozen=True)
class Measurement:
    """Localise the test videos with finished runs, and evaluate.

    ``systems`` are the sets of streams that are fused and evaluated, each below ``parts``. ``videos`` limits
    the test videos to these; None: all that the data's protocol chooses.
    """

    key: str
    title: str
    data: DataSpec
    parts: Mapping[str, Part] = field(hash=False)
    systems: tuple[tuple[str, ...], ...]
    tiou: tuple[float, ...]
    device: str | None = None
    videos: tuple[str, ...] | None = None
    lenient: bool = False

    def done(self, cache: RunCache) -> bool:
        return cache.result(self.key) is not None

    def work(self, cache: RunCache, tell: Tell) -> None:
        """Keep mAP of every system, and table 2's statistics of every stream whose modules are one run's."""
        from dgam.api import statistics

        features, truth = self.data.read_test()
        truth = self._chosen(truth)
        keys = {key for part in self.parts.values() for key in (part.attention, part.classifier)}
        runs = {key: _load(cache, key, self.device) for key in sorted(keys)}
        found, problems = self._localize(runs, features, truth, tell)
        attention = {
            stream: statistics(runs[part.attention].run, features, truth, device=self.device)[
                stream
            ].to_dict()
            for stream, part in self.parts.items()
            if part.attention == part.classifier
        }
        # That weights were chosen, unless they are the last epoch's, belongs beside every number.
        chosen = {own.run.selection for own in runs.values() if own.run.config.train.select != "last"}
        about = {"selection": "; ".join(sorted(chosen))} if chosen else {}
        maps = {
            name_of(system): evaluate(
                Detections(found[system], about), truth, self.tiou, self.data.protocol
            ).to_dict()
            for system in self.systems
        }
        missing = sum(video not in set(features.videos) for video in truth.videos)
        cache.keep_result(
            self.key, {"map": maps, "attention": attention, "missing": missing, "problems": problems}
        )

    def _chosen(self, truth: SegmentAnnotations) -> SegmentAnnotations:
        """The ground truth that the protocol evaluates, or those of its videos that are asked for."""
        chosen = select(Detections({}), truth, self.data.protocol).ground_truth
        if self.videos is None:
            return chosen
        kept = {video: chosen.videos[video] for video in self.videos}
        return SegmentAnnotations(kept, chosen.classes, chosen.source)

    def _localize(
        self, runs: Mapping[str, _Loaded], features: FeatureSource, truth: SegmentAnnotations, tell: Tell
    ) -> tuple[dict[tuple[str, ...], Mapping[str, Sequence[Detection]]], list[str]]:
        """Detections of every system by video, and what was wrong with videos; each stream runs once."""
        from dgam.detection.localize import StreamModel, localize_videos
        from dgam.detection.scoring import detect_video

        streams: dict[str, StreamModel] = {}
        for stream, part in self.parts.items():
            model = exchange(
                runs[part.attention].models[stream].model, runs[part.classifier].models[stream].model
            )
            streams[stream] = StreamModel(model, part.settings)
        classes = next(iter(runs.values())).run.classes
        present = set(features.videos)
        videos = [video for video in truth.videos if video in present]
        if not videos:
            raise InputError(
                f"{features.name}: has none of the {len(truth.videos)} videos of {truth.source}."
            )
        everything = tuple(self.parts)
        others = [system for system in self.systems if set(system) != set(everything)]
        found: dict[tuple[str, ...], dict[str, Sequence[Detection]]] = {system: {} for system in others}
        finished = 0

        def on_video(video: str, curves: Mapping[str, StreamCurves]) -> None:
            nonlocal finished
            for system in others:
                own = {stream: curves[stream] for stream in system if stream in curves}
                settings = {stream: streams[stream].settings for stream in own}
                timeline = features.timeline(video)
                found[system][video] = detect_video(own, settings, timeline, classes) if own else ()
            finished += 1
            tell(finished / len(videos))

        problems: list[str] = []
        on_problem = (lambda problem: problems.append(str(problem))) if self.lenient else None
        fused = localize_videos(streams, features, videos, classes, on_problem=on_problem, on_video=on_video)
        of_all = {system: fused.videos for system in self.systems if system not in others}
        return {**found, **of_all}, problems


@dataclass(frozen=True)
class _Loaded:
    """A finished run and its models."""

    run: Run
    models: Mapping[str, StreamModel]


def _load(cache: RunCache, key: str, device: str | None) -> _Loaded:
    from dgam.api import load_models
    from dgam.core.run import load_run

    folder = cache.run_folder(key)
    try:
        run = load_run(folder)
        return _Loaded(run, load_models(run, device))
    except InputError as error:
        raise InputError(f"{error} Or remove {folder}, and it is trained again.") from error


def exchange(attention: DGAM, classifier: DGAM) -> DGAM:
    """A model with one model's attention and the other's classifier, as table 1 puts them together.

    InputError where the two do not scale features alike, since a module knows its own scale only.
    """
    import torch

    if attention is classifier:
        return attention
    same = attention.shape.normalise == classifier.shape.normalise
    if not same or any(
        not torch.equal(getattr(attention, name), getattr(classifier, name)) for name in ("shift", "scale")
    ):
        raise InputError("modules of models that scale features differently cannot be exchanged.")
    mixed = copy.deepcopy(classifier)
    mixed.attention = attention.attention
    return mixed


def name_of(system: tuple[str, ...]) -> str:
    """What tables call a set of streams: "rgb", or "rgb and flow" where their detections are fused."""
    return " and ".join(system)

"""Several trainings of a stream side by side as one model with a leading axis: seeds, r, β, γ, ablations."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from dgam.core.config import Config
from dgam.core.errors import InputError
from dgam.data.dataset import SnippetDataset
from dgam.training.engine import Batch
from dgam.training.ensemble_engine import EnsembleEngine
from dgam.training.feed import Feed
from dgam.training.members import FORM
from dgam.training.precision import settled
from dgam.training.record import Diverged, Record, Trained, Validate
from dgam.training.resident import Resident, Scaled, Streamed, free_memory, place_features
from dgam.training.trainer import (
    Scaling,
    judged,
    measure_scaling,
    new_generator,
    new_model,
    precision_of,
    shape_of,
    stream_seed,
)

OnMemberEpoch = Callable[[int, int, dict[str, float]], None]

# What members that are trained side by side may differ in; all else of train.* must be equal.
_OWN = {
    "lr",
    "cvae_lr",
    "resample_every",
    "select",
    "held_out",
    "select_every",
    "checkpoint_every",
    "log_every",
}


@dataclass(frozen=True)
class Member:
    """One of many trainings: what :func:`dgam.training.trainer.train_stream` takes."""

    dataset: SnippetDataset
    config: Config
    out: Path
    seed: int
    validate: Validate | None = None


@dataclass(frozen=True)
class _Running:
    """A member under way: its folder, its model as it was made, and its state where it last stopped."""

    member: Member
    record: Record
    scaled: Scaled
    state: Mapping[str, Tensor] | None


def train_many(
    members: Sequence[Member],
    *,
    device: str = "cpu",
    at_once: int | None = None,
    on_epoch: OnMemberEpoch | None = None,
) -> list[Trained]:
    """Train all members, and leave in each one's folder what ``train_stream`` leaves there.

    Members of equal shapes (see :func:`alike`) are trained as one batched model, at most ``at_once`` of them,
    by default as many as fit into the device's memory; the rest by turns. Each has its own seed, numbers and
    data, draws the very snippets and noise that it would draw alone, and comes to the same weights up to
    float32 rounding, whoever trains beside it. Features that members share are kept once. A checkpoint is
    the member's own: members that were stopped at different epochs are brought level and go on together,
    and ``train_stream`` can go on from them.

    ``on_epoch`` is told (number of the member, epoch, losses). Returns what each came to, in order. Raises
    InputError for two members with one folder and for a checkpoint of another training; one whose loss stops
    being finite is left where it is, the others are finished, and then it is raised.
    """
    refuse_shared_folders([member.out for member in members])
    members = [replace(member, config=settled(member.config, device)) for member in members]
    for member in members:
        _record(member).resume()  # one of another training must not be found after hours of work on others
    on, results, failures = torch.device(device), dict[int, Trained](), list[str]()
    for numbers in alike(members):
        started = _begin({number: members[number] for number in numbers})
        group = _Group(started, on, on_epoch)
        largest = at_once or _fitting(members[numbers[0]], on)
        for start in range(0, len(numbers), largest):
            results.update(group.train(numbers[start : start + largest]))
        failures += group.failures
    if failures:
        heading = f"{len(failures)} of {len(members)} trainings came to nothing, the others are finished:"
        raise InputError("\n  ".join([heading, *failures]))
    return [results[number] for number in range(len(members))]


def alike(members: Sequence[Member]) -> list[list[int]]:
    """The members' numbers in groups that can be one batched model.

    Within a group these agree: the number of videos, feature dimension, classes; the networks' sizes, scaling
    of features and bias; all of ``train`` but learning rates, sampling, selection and logging; whether γ1 is
    0; and the form of the losses (``members.FORM``).
    """
    groups: dict[object, list[int]] = {}
    for number, member in enumerate(members):
        data, config = member.dataset, member.config
        key = (
            (len(data), data.dimension, data.classes),
            config.model.model_copy(update={"r": 0.0, "attention_start": "random"}).model_dump_json(),
            config.train.model_dump_json(exclude=_OWN),
            config.loss.gamma1 > 0,
            tuple(getattr(config.loss, name) for name in FORM),
        )
        groups.setdefault(key, []).append(number)
    return list(groups.values())


class _Group:
    """Members of one group, with the features that they share."""

    def __init__(
        self, started: Mapping[int, _Running], device: torch.device, on_epoch: OnMemberEpoch | None
    ) -> None:
        self.failures: list[str] = []
        self._running = dict(started)
        self._device = device
        self._on_epoch = on_epoch
        self._place = {number: place for place, number in enumerate(started)}
        first = next(iter(started.values()))
        self._features: Resident | Streamed | None = None
        if not all(running.record.done for running in started.values()):
            self._features = place_features(
                [running.scaled for running in started.values()],
                precision_of(first.member.config),
                device,
                first.member.config.train.resident_gib,
            )

    def train(self, numbers: Sequence[int]) -> dict[int, Trained]:
        """Train these members side by side; what came of those that did not fail."""
        epochs = self._running[numbers[0]].member.config.train.epochs
        left = list(numbers)
        while under_way := [number for number in left if not self._running[number].record.done]:
            at = {number: self._running[number].record.epoch for number in under_way}
            # Those that are behind go first, until they are where others stopped.
            front = [number for number in under_way if at[number] == min(at.values())]
            until = min([epoch for epoch in at.values() if epoch > min(at.values())] + [epochs])
            dead = self._advance(front, until)
            left = [number for number in left if number not in dead]
        return {number: self._finish(self._running[number]) for number in left}

    def _advance(self, numbers: Sequence[int], until: int) -> set[int]:
        """Train members that are at the same epoch up to epoch ``until``, or until one of them fails or has
        been trained enough; those that failed."""
        running = [self._running[number] for number in numbers]
        engine = self._engine(running)
        assert self._features is not None, "only where there is something left to train"
        features = self._features.only([self._place[number] for number in numbers])
        settings = [one.member.config.train for one in running]
        feed = Feed([one.member.dataset for one in running], settings, features, self._device)
        dead: set[int] = set()
        epoch = running[0].record.epoch
        with closing(feed.batches(epoch, until)) as batches:
            while epoch < until and not dead and not any(one.record.done for one in running):
                found = _epoch(engine, batches, feed.steps, epoch)
                for place, (number, metrics) in enumerate(zip(numbers, found, strict=True)):
                    if not self._note(number, engine, place, metrics):
                        dead.add(number)
                epoch += 1
        for place, number in enumerate(numbers):
            self._running[number] = replace(self._running[number], state=engine.member_state(place))
        return dead

    def _note(self, number: int, engine: EnsembleEngine, place: int, metrics: dict[str, float]) -> bool:
        """Enter a member's epoch into its folder; False where it failed."""
        one = self._running[number]
        validate, shape = one.member.validate, one.scaled.model.shape

        def score() -> float:
            assert validate is not None
            return judged(validate, shape, engine.weights(place), self._device)

        try:
            one.record.add(
                metrics,
                lambda: engine.member_state(place),
                lambda: engine.weights(place),
                score if validate is not None else None,
            )
        except Diverged as error:
            self.failures.append(f"{one.member.out}: {error}")
            return False
        if self._on_epoch is not None:
            self._on_epoch(number, one.record.epoch, one.record.metrics)
        return True

    def _engine(self, running: Sequence[_Running]) -> EnsembleEngine:
        """The members' models side by side, each in its last state."""
        engine = EnsembleEngine(
            [copy.deepcopy(one.scaled.model).requires_grad_(True).to(self._device) for one in running],
            [one.member.config for one in running],
            [new_generator(_seed(one.member), self._device) for one in running],
        )
        for place, one in enumerate(running):
            if one.state is not None:
                one.record.restore(one.state, partial(engine.restore_member, place))
        return engine

    def _finish(self, running: _Running) -> Trained:
        return running.record.finish(self._engine([running]).weights(0))


def _begin(members: Mapping[int, Member]) -> dict[int, _Running]:
    """Every member's model and folder; features that members share are measured once."""
    measured: dict[object, Scaling | None] = {}
    started = {}
    for number, member in members.items():
        data, how = member.dataset, member.config.model.normalise
        content = (id(data.features), data.stream, data.videos, how)
        if content not in measured:
            measured[content] = measure_scaling(data, how)
        model = new_model(data, member.config, _seed(member), measured[content])
        record = _record(member)
        started[number] = _Running(member, record, Scaled(data, model.requires_grad_(False)), record.resume())
    return started


def _record(member: Member) -> Record:
    shape = shape_of(member.dataset, member.config)
    return Record(member.out, member.dataset, member.config, member.seed, shape)


def _epoch(
    engine: EnsembleEngine, batches: Iterator[Batch], steps: int, epoch: int
) -> list[dict[str, float]]:
    """Mean losses of one epoch, of each member."""
    names: tuple[str, ...] = ()
    total: Tensor | float = 0.0
    for batch in islice(batches, steps):
        terms = engine.step(batch, epoch)
        names, total = tuple(terms), total + torch.stack(list(terms.values()))  # (losses, E)
    each = torch.as_tensor(total).T.tolist()  # (E, losses)
    return [{name: value / steps for name, value in zip(names, own, strict=True)} for own in each]


def _seed(member: Member) -> int:
    return stream_seed(member.seed, member.dataset.stream)


def _fitting(member: Member, device: torch.device) -> int:
    """How many such members fit into half of the free memory side by side; at least one."""
    model, snippets = member.config.model, member.config.train.batch * member.config.train.snippets
    attention = model.attention_hidden * model.attention_kernel
    units = attention + 2 * model.cvae_hidden + model.latent + len(member.dataset.classes)
    # What a step keeps of each snippet, in float32: features and their copy, and units with their gradients.
    size = snippets * 4 * (2 * member.dataset.dimension + 6 * units * member.config.loss.samples)
    return max(1, int(free_memory(device) / 2 / size))


def refuse_shared_folders(folders: Sequence[Path]) -> None:
    """InputError where two trainings were to go to one folder."""
    seen: dict[Path, int] = {}
    for number, folder in enumerate(folders):
        place = folder.resolve()
        if place in seen:
            raise InputError(
                f"{folder}: is the folder of trainings {seen[place]} and {number}. Each needs its own."
            )
        seen[place] = number

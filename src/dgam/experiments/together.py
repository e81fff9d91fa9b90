"""Trainings of equal shape, put together so that they run as one batched model."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from dgam.experiments.cache import RunCache, digest_of
from dgam.experiments.tasks import Task, Tell, Training


@dataclass(frozen=True)
class TrainingGroup:
    """Several trainings as one task. Each is finished by itself, under its own key."""

    members: tuple[Training, ...]

    @property
    def key(self) -> str:
        return "group-" + digest_of([member.key for member in self.members])

    @property
    def title(self) -> str:
        return f"{len(self.members)} models together, {self.members[0].stream}"

    @property
    def device(self) -> str | None:
        """Where all of them are trained."""
        return self.members[0].device

    def done(self, cache: RunCache) -> bool:
        return all(member.done(cache) for member in self.members)

    def work(self, cache: RunCache, tell: Tell) -> None:
        """Train those members that are neither finished nor another process's; the others are left.

        InputError where one of them fails, once the others are finished.
        """
        with ExitStack() as held:
            mine = []
            for member in self.members:
                claimed = held.enter_context(cache.claim(member.key, wait=False))
                if claimed and not member.done(cache):
                    mine.append(member)
            if mine:
                _train(mine, cache, tell)


def _train(trainings: Sequence[Training], cache: RunCache, tell: Tell) -> None:
    """Train, and finish each; where one fails, the others' checkpoints are at their last epoch."""
    from dgam.api import train_many

    opened = {training.data: training.data.read_training(training.without) for training in trainings}
    whole, trained = sum(training.config.train.epochs for training in trainings), 0

    def on_epoch(number: int, stream: str, epoch: int, losses: dict[str, float]) -> None:
        nonlocal trained
        trained += 1
        tell(trained / whole)

    began = time.monotonic()
    runs = train_many(
        [opened[training.data][0] for training in trainings],
        [opened[training.data][1] for training in trainings],
        [cache.run_folder(training.key) for training in trainings],
        [training.config for training in trainings],
        [training.seed for training in trainings],
        streams=[trainings[0].stream],
        device=trainings[0].device,
        on_epoch=on_epoch,
    )
    seconds = time.monotonic() - began
    for training, run in zip(trainings, runs, strict=True):
        own = replace(run, labels=training.data.labels)
        own.save()
        training.finish(cache, own, seconds, len(trainings))


def gather(trainings: Sequence[Training], most: int) -> list[Task]:
    """The trainings in groups of at most ``most`` that may run as one model; lone ones as they are."""
    alike: dict[str, list[Training]] = {}
    for training in trainings:
        alike.setdefault(_form(training), []).append(training)
    return list(_cut(alike.values(), most))


def _cut(groups: Iterable[list[Training]], most: int) -> Iterator[Task]:
    for group in groups:
        for start in range(0, len(group), most):
            part = tuple(group[start : start + most])
            yield part[0] if len(part) == 1 else TrainingGroup(part)


def _form(training: Training) -> str:
    """Equal for trainings that may differ in numbers, seeds and data only."""
    config = training.config
    return digest_of(
        {
            "stream": training.stream,
            "device": training.device,
            "model": config.model.model_dump(mode="json", exclude={"r"}),
            "generative": config.loss.gamma1 > 0,
            "train": config.train.model_dump(mode="json", exclude={"lr", "cvae_lr"}),
            # to choose weights asks for looks of one's own, so such trainings stay alone
            "alone": None if config.train.select == "last" else training.key,
        }
    )

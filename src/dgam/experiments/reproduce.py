"""The whole of an experiment: plan, do the work, collect, write; or several experiments that share work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dgam.core.errors import InputProblems
from dgam.experiments.cache import RunCache
from dgam.experiments.cost import training_seconds
from dgam.experiments.data import DataSpec, Identities, describe
from dgam.experiments.outcome import Outcome, collect
from dgam.experiments.page import write_report
from dgam.experiments.plan import Plan, Request, make_plan
from dgam.experiments.runner import Spread, carry_out
from dgam.experiments.spec import Experiment
from dgam.experiments.tasks import Measurement, Training
from dgam.features.source import dimension


@dataclass(frozen=True)
class Work:
    """What experiments need together: each training once, how many are finished, and what the rest will cost
    on two CPU cores."""

    plans: tuple[Plan, ...]
    trainings: tuple[Training, ...]
    finished: int
    seconds: float


def prepare(experiments: Sequence[Experiment], requests: Sequence[Request], cache: RunCache) -> Work:
    """Plan experiments, each with its request. InputError where one does not fit its data."""
    left_out = {data: videos for request in requests for data, videos in request.left_out.items()}
    identities = Identities(left_out)
    plans = tuple(
        make_plan(experiment, request, identities)
        for experiment, request in zip(experiments, requests, strict=True)
    )
    trainings = {task.key: task for plan in plans for task in plan.trainings}
    left = [task for task in trainings.values() if not task.done(cache)]
    sizes: dict[tuple[DataSpec, str], tuple[int, int]] = {}
    for task in left:
        if (task.data, task.stream) not in sizes:
            features, labels = task.data.read_training(task.without)
            sizes[task.data, task.stream] = len(labels), dimension(features, task.stream)
    seconds = sum(training_seconds(task.config, *sizes[task.data, task.stream]) for task in left)
    return Work(plans, tuple(trainings.values()), len(trainings) - len(left), seconds)


def reproduce(
    work: Work,
    cache: RunCache,
    spread: Spread,
    out: Path,
    command: Callable[[str], str],
) -> list[tuple[Outcome, dict[str, Path]]]:
    """Train what is not trained, measure what is not measured, and write each experiment's files to ``out``.

    ``command`` gives the command line that makes an experiment again, by its name. Raises InputProblems, once
    everything else is finished, that lists what could not be trained or measured.
    """
    failed = carry_out(work.trainings, cache, spread, "training")
    measurements: dict[str, Measurement] = {}
    for plan in work.plans:
        for task in plan.measurements.values():
            measurements.setdefault(task.key, task)
    ready = [task for task in measurements.values() if _trained(task, cache)]
    failed += carry_out(ready, cache, spread, "measuring")
    if failed:
        raise InputProblems("Some runs failed; all others are finished and kept:", failed)
    done = []
    for plan in work.plans:
        outcome = collect(plan, cache, describe(plan.request.data, plan.request.seeds))
        done.append((outcome, write_report(out, outcome, command(plan.experiment.name))))
    return done


def _trained(task: Measurement, cache: RunCache) -> bool:
    keys = {key for part in task.parts.values() for key in (part.attention, part.classifier)}
    return all(cache.run_facts(key) is not None for key in keys)

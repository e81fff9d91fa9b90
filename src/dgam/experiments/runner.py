"""Do the work of a plan: here, in several processes, or on a Ray cluster; each piece once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from dgam.core.errors import InputError, Problem
from dgam.core.progress import Advance, track
from dgam.experiments.cache import RunCache
from dgam.experiments.tasks import Task, Training, attempt, size, stepwise
from dgam.experiments.together import gather

Engine = Literal["local", "processes", "ray"]
GROUP = 16
"""How many models are trained together at most."""
Finished = tuple[Task, str | Problem]
"""A task and what :func:`dgam.experiments.tasks.attempt` said of it."""


@dataclass(frozen=True)
class Spread:
    """Where the work is done. ``jobs`` worker processes under "processes"; ``together`` trains models of
    equal shape on the same data as one batched model, at most that many at once (0: each by itself)."""

    engine: Engine = "local"
    jobs: int = 1
    together: int = 0


def carry_out(tasks: Sequence[Task], cache: RunCache, spread: Spread, description: str) -> list[Problem]:
    """Do all tasks that are not done yet, and return what failed; the others are finished all the same.

    A task that another process is at is waited for at the end, and not done twice. InputError where the
    engine cannot work at all.
    """
    left = [task for task in {task.key: task for task in tasks}.values() if not task.done(cache)]
    if not left:
        return []
    first: Sequence[Task] = left
    if spread.together > 1:
        trainings = [task for task in left if isinstance(task, Training)]
        rest = [task for task in left if not isinstance(task, Training)]
        first = [*gather(trainings, spread.together), *rest]
    problems: dict[str, Problem] = {}
    with track(description, total=len(left)) as advance:
        for task, said in _engine(first, cache, spread, False, advance):
            if isinstance(said, Problem) and size(task) == 1:
                problems[task.key] = said
        # What another process was at, and the members of a group that failed, of which only one may be bad.
        again = [task for task in left if task.key not in problems and not task.done(cache)]
        for task, said in _engine(again, cache, spread, True, advance) if again else ():
            if isinstance(said, Problem):
                problems[task.key] = said
    return list(problems.values())


def _engine(
    tasks: Sequence[Task], cache: RunCache, spread: Spread, wait: bool, advance: Advance
) -> Iterator[Finished]:
    if spread.engine == "ray":
        from dgam.experiments.ray_runner import run_on_ray

        return run_on_ray(tasks, cache, wait, advance)
    if spread.engine == "processes":
        from dgam.experiments.pool import run_in_processes

        return run_in_processes(tasks, cache, spread.jobs, wait, advance)
    return _run_here(tasks, cache, wait, advance)


def _run_here(tasks: Sequence[Task], cache: RunCache, wait: bool, advance: Advance) -> Iterator[Finished]:
    for task in tasks:
        step = stepwise(advance, task.title, size(task))
        said = attempt(task, cache, wait, step)
        if said != "busy":
            step(1.0)
        yield task, said


def refuse_spread(spread: Spread) -> None:
    """InputError for a spread that makes no sense."""
    if spread.jobs < 1:
        raise InputError(f"--jobs: must be a whole number from 1 on, got {spread.jobs}.")
    if spread.jobs > 1 and spread.engine != "processes":
        raise InputError(f"--jobs {spread.jobs} needs --engine processes, got --engine {spread.engine}.")

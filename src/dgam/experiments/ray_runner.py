"""Tasks spread over a Ray cluster, into a cache that every node can reach.

A task whose node or process dies is run again elsewhere and goes on from its checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dgam.core.cluster import failure_of, ray_cluster
from dgam.core.errors import InputError, Problem
from dgam.core.progress import Advance
from dgam.experiments.cache import RunCache
from dgam.experiments.source import MEASURING, refuse_other_source, source_of
from dgam.experiments.tasks import Task, attempt, size

RETRIES = 3


def run_on_ray(
    tasks: Sequence[Task], cache: RunCache, patient: bool, advance: Advance
) -> Iterator[tuple[Task, str | Problem]]:
    """Tasks and what became of them, in the order in which they end.

    Joins the cluster that RAY_ADDRESS names, or one running on this machine, or starts one here. Every task
    takes one CPU, and a GPU where the cluster has some and the device is not "cpu". InputError where the
    package ray is missing, and where a node has another dgam.
    """
    with ray_cluster() as ray:
        gpu = ray.cluster_resources().get("GPU", 0) >= 1
        running = {}
        for task in tasks:
            wanted = 1 if gpu and getattr(task, "device", None) != "cpu" else 0
            remote = ray.remote(num_cpus=1, num_gpus=wanted, max_retries=RETRIES)(_attempt_one)
            running[remote.remote(task, str(cache.root), source_of(*MEASURING), patient)] = task
        while running:
            ready, _ = ray.wait([*running], num_returns=1)
            task = running.pop(ready[0])
            try:
                said = ray.get(ready[0])
            except ray.exceptions.RayTaskError as error:
                raise error.cause if isinstance(error.cause, InputError | OSError) else error from None
            except ray.exceptions.RayError as error:
                said = Problem(task.title, f"its Ray task failed for good: {failure_of(error)}")
            if said != "busy":
                advance(size(task), now=task.title)
            yield task, said


def _attempt_one(task: Task, root: str, source: str, patient: bool) -> str | Problem:
    import torch

    refuse_other_source(source)
    torch.set_num_threads(1)  # one CPU is what the task was given
    return attempt(task, RunCache(root), patient, lambda fraction: None)

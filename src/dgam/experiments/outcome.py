"""What an experiment came to: values by row and seed, their mean and spread, differences between rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dgam.core.errors import InputError
from dgam.experiments.cache import RunCache
from dgam.experiments.plan import Plan
from dgam.experiments.spec import MEAN, STATISTICS, Row
from dgam.experiments.tasks import name_of

Values = tuple[float, ...]


@dataclass(frozen=True)
class Series:
    """One row's values by column, a value for each seed; mAP in percent. ``published`` is the paper's."""

    name: str
    streams: str
    values: Mapping[str, Values]
    published: Mapping[str, float]


@dataclass(frozen=True)
class Block:
    """The rows of one table. ``streams`` names the streams that all rows share; "" where they differ."""

    streams: str
    rows: tuple[Series, ...]


@dataclass(frozen=True)
class Outcome:
    """All that a report of an experiment needs.

    ``blocks``: the paper's table first, then, where asked for, the same for each stream. ``protocol`` are
    remarks on what was evaluated, ``seconds`` what the trainings took, each counted once.
    """

    plan: Plan
    columns: tuple[str, ...]
    seeds: tuple[int, ...]
    blocks: tuple[Block, ...]
    protocol: tuple[str, ...]
    data: str
    simulated: bool
    seconds: float
    trained: tuple[Mapping[str, Any], ...]


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and standard deviation with n - 1 in the denominator; None for a single value.

    >>> mean_and_deviation([1.0, 3.0])
    (2.0, 1.4142135623730951)
    """
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def differences(row: Series, baseline: Series, column: str) -> Values:
    """Row minus baseline, seed by seed: what both share, the data above all, cancels."""
    return tuple(a - b for a, b in zip(row.values[column], baseline.values[column], strict=True))


def collect(plan: Plan, cache: RunCache, data: tuple[str, bool]) -> Outcome:
    """Read what the finished work of a plan left. ``data`` is its name and whether it is simulated."""
    experiment, seeds = plan.experiment, plan.request.seeds
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for place, measurement in plan.measurements.items():
        value = cache.result(measurement.key)
        if value is None:
            raise InputError(f"{measurement.title}: was not measured.")
        found[place] = value

    def series(row: Row, system: tuple[str, ...], published: bool) -> Series:
        name = name_of(system)
        by_seed = [_columns(plan, found[row.name, seed], name) for seed in seeds]
        return Series(
            row.name,
            name,
            {column: tuple(one[column] for one in by_seed) for column in experiment.columns},
            experiment.published.get(row.name, {}) if published else {},
        )

    blocks = []
    if experiment.measure == "map":
        shared = {row.streams for row in plan.rows}
        name = name_of(plan.rows[0].streams) if len(shared) == 1 else ""
        blocks.append(Block(name, tuple(series(row, row.streams, True) for row in plan.rows)))
    if experiment.measure == "attention" or (experiment.each_stream and len(plan.streams) > 1):
        told = experiment.measure == "attention"
        blocks += [
            Block(stream, tuple(series(row, (stream,), told) for row in plan.rows)) for stream in plan.streams
        ]
    trained = [
        {"title": task.title, "key": task.key, **(cache.run_facts(task.key) or {})} for task in plan.trainings
    ]
    return Outcome(
        plan=plan,
        columns=experiment.columns,
        seeds=seeds,
        blocks=tuple(blocks),
        protocol=tuple(_remarks(plan, found)),
        data=data[0],
        simulated=data[1],
        seconds=math.fsum(float(facts.get("seconds", 0)) for facts in trained),
        trained=tuple(trained),
    )


def _columns(plan: Plan, value: Mapping[str, Any], system: str) -> dict[str, float]:
    """A measurement's numbers by column: mAP in percent at the experiment's tIoU, or table 2's ratios."""
    if plan.experiment.measure == "attention":
        return {name: float(value["attention"][system][name]) for name in STATISTICS}
    result = value["map"][system]
    at = {f"{tiou:g}": 100 * score for tiou, score in zip(result["tiou"], result["map"], strict=True)}
    chosen = {f"{tiou:g}": at[f"{tiou:g}"] for tiou in plan.experiment.tiou}
    return {**chosen, MEAN: math.fsum(chosen.values()) / len(chosen)}


def _remarks(plan: Plan, found: Mapping[tuple[str, int], Mapping[str, Any]]) -> list[str]:
    """The protocol with what it evaluated, its remarks once each, and what was wrong with test videos."""
    sizes: dict[str, list[tuple[int, int]]] = {}
    told: dict[str, None] = {}
    for (_, seed), value in found.items():
        where = f" (seed {seed})" if plan.request.data.per_seed else ""
        result = value["map"][name_of(plan.streams)]
        protocol = result["protocol"]
        sizes.setdefault(protocol["name"], []).append((result["videos"], result["instances"]))
        notes = [note for note in protocol["notes"] if not note.startswith("videos without")]
        told.update(dict.fromkeys(f"{note[:1].upper()}{note[1:]}" for note in notes))
        if value["missing"]:
            told[f"{value['missing']} test videos have no features and count as missed{where}."] = None
        if value["problems"]:
            count, first = len(value["problems"]), value["problems"][0]
            told[f"{count} defects of test videos were let pass{where}: {first}"] = None
    protocols = [
        f"Protocol {name}: {_range([v for v, _ in pairs])} videos, {_range([i for _, i in pairs])} instances."
        for name, pairs in sizes.items()
    ]
    return [*protocols, *told]


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"

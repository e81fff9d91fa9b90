"""Options that ``dgam reproduce`` and ``dgam search`` share: which data, where the work is done."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml
from cyclopts import Parameter

from dgam.cli.options import FeatureOptions, Repeatable, SettingOptions
from dgam.core.errors import InputError, InputProblems, Problem
from dgam.evaluation import Protocol, named_protocol
from dgam.experiments.cache import RunCache
from dgam.experiments.data import (
    SIMULATION_PRESET,
    SIMULATION_SETTINGS,
    DataSpec,
    defective,
    in_folder,
    refuse_missing,
    simulated_data,
)
from dgam.experiments.plan import Request
from dgam.experiments.runner import GROUP, Spread, refuse_spread

SIMULATED = "sim"


@Parameter(name="*", group="Data")
@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """What is trained and tested on. {seed} in any path becomes the seed of the run."""

    data: str | None = None
    """A folder with train/, test/, labels.csv and gt.json, as "dgam simulate" writes them; or sim: the
    simulated benchmark at reduced size, a new one for each seed."""
    features: str | None = None
    """Features to train on, where they are not in such a folder."""
    test_features: str | None = None
    """Features to test on. [default: those of --features]"""
    labels: str | None = None
    """Video labels: a CSV, ActivityNet JSON, or another known format."""
    subset: Repeatable = ()
    """Train only on this subset of the labels; repeat it for several. [default: all]"""
    ground_truth: str | None = None
    """Segments to evaluate against."""
    test_subset: Repeatable = ()
    """Evaluate only this subset of the ground truth. [default: the protocol's]"""
    protocol: str | None = None
    """A named protocol of evaluation. [default: the experiment's; of a folder: activitynet]"""
    data_name: str | None = None
    """What to call the data in tables. [default: its path]"""
    knob: Repeatable = ()
    """With --data sim: a knob of the simulation, such as train=50; repeat it."""
    skip_bad: bool = False
    """Leave out training videos that are defective, and list them; use what test videos have."""

    def spec(self, protocol: str, seeds: Sequence[int], cache: RunCache, reading: FeatureOptions) -> DataSpec:
        """The data of an experiment whose own protocol is ``protocol``; simulated where they are not yet."""
        mine = (self.features, self.test_features, self.labels, self.ground_truth)
        if self.data is not None and any(mine):
            raise InputError("--data stands for a whole folder; leave it out, or --features and the like.")
        if self.knob and self.data != SIMULATED:
            raise InputError("--knob is for --data sim only.")
        if self.data is None and not (self.features and self.labels and self.ground_truth):
            raise InputError(
                "no data: give --data sim, --data with a folder, or --features, --labels and --ground-truth."
            )
        rules = self._protocol("activitynet" if self.data is not None else protocol)
        if self.data == SIMULATED:
            return simulated_data(cache, seeds, rules, dict(map(_knob, self.knob)))
        if self.data is not None:
            spec = replace(in_folder(self.data, rules, self.data_name or ""), opener=reading.open)
        else:
            spec = DataSpec(
                name=self.data_name or str(self.features),
                training=str(self.features),
                test=self.test_features or str(self.features),
                labels=str(self.labels),
                truth=str(self.ground_truth),
                protocol=rules,
                subsets=self.subset,
                opener=reading.open,
            )
        refuse_missing(spec, seeds)
        return spec

    def _protocol(self, default: str) -> Protocol:
        rules = named_protocol(self.protocol or default)
        return rules.changed(subsets=self.test_subset) if self.test_subset else rules


@Parameter(name="*", group="Work")
@dataclass(frozen=True, kw_only=True)
class WorkOptions:
    """Where the work is done. Finished runs are kept below --cache and never done twice."""

    out: Path = Path("reproduce")
    """Folder for the pages and tables."""
    cache: Path | None = None
    """Folder of finished runs, which experiments share. [default: OUT/runs]"""
    engine: Literal["local", "processes", "ray"] | None = None
    """local: in this process; processes: in several; ray: on a Ray cluster (pip install 'dgam[ray]').
    [default: local, or processes where --jobs is given]"""
    jobs: int = 1
    """How many processes work at once."""
    together: bool = False
    """Train models of equal shape on the same data as one batched model."""
    device: str | None = None
    """cpu, cuda, cuda:1 … [default: a GPU if there is one]"""

    def open_cache(self) -> RunCache:
        """The cache of finished runs."""
        if self.out.exists() and not self.out.is_dir():
            raise InputError(f"--out {self.out}: is a file; expected a folder.")
        return RunCache(self.cache or self.out / "runs")

    def spread(self) -> Spread:
        """Where the work is done. InputError where engine and jobs do not fit."""
        engine = self.engine or ("processes" if self.jobs > 1 else "local")
        spread = Spread(engine, self.jobs, GROUP if self.together else 0)
        refuse_spread(spread)
        return spread


def make_request(
    protocol: str,
    streams: Sequence[str],
    seeds: tuple[int, ...],
    where: DataOptions,
    work: WorkOptions,
    settings: SettingOptions,
    reading: FeatureOptions,
) -> Request:
    """What is asked for, for an experiment with its own ``protocol`` and ``streams``; simulates data that are
    not there yet."""
    parts = tuple(dict.fromkeys(part for stream in reading.streams for part in stream.split("+")))
    data = where.spec(protocol, seeds, work.open_cache(), replace(reading, streams=parts))
    preset, overrides = settings.preset, settings.set
    if where.data == SIMULATED and preset is None and settings.config is None:
        preset, overrides = SIMULATION_PRESET, (*SIMULATION_SETTINGS, *overrides)
    return Request(
        data=data,
        seeds=seeds,
        preset=preset,
        file=settings.config,
        overrides=overrides,
        streams=reading.streams,
        device=work.device,
        lenient=where.skip_bad,
        left_out=_left_out(data, seeds, reading.streams or streams) if where.skip_bad else {},
    )


def told(
    where: DataOptions, seeds: str, work: WorkOptions, settings: SettingOptions, reading: FeatureOptions
) -> list[str]:
    """The options that matter for what comes out, as arguments of a command line."""
    places = replace(work, engine=None, jobs=1, device=None)
    return [
        *arguments(where, DataOptions()),
        "--seeds",
        seeds,
        *arguments(settings, SettingOptions()),
        *arguments(reading, FeatureOptions()),
        *arguments(places, WorkOptions()),
    ]


def read_seeds(text: str) -> tuple[int, ...]:
    """``5`` as 0 to 4, ``3,4,7`` as it is."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    count = "," not in text
    if not parts or not all(part.isdecimal() for part in parts) or (count and int(parts[0]) < 1):
        raise InputError(f"--seeds: expected how many, as 5, or a list, as 3,4,7; got {text!r}.")
    if count:
        return tuple(range(int(parts[0])))
    return tuple(dict.fromkeys(map(int, parts)))


def _knob(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip().isidentifier():
        raise InputError(f"--knob: {text!r} is not of the form knob=value, such as train=50.")
    return name.strip(), yaml.safe_load(value)


def _left_out(
    data: DataSpec, seeds: Sequence[int], streams: Sequence[str]
) -> Mapping[DataSpec, tuple[str, ...]]:
    """Defective training videos of each seed's data, listed on standard error."""
    found = {}
    for own in dict.fromkeys(data.at(seed) for seed in seeds):
        bad = defective(own, streams)
        found[own] = tuple(sorted(bad))
        for why in bad.values():
            print(f"left out: {why}", file=sys.stderr)
        if len(bad) == len(own.read_training()[1]):
            raise InputProblems("No usable video is left:", [Problem(own.training, "all are defective.")])
    return found


def arguments(given: Any, default: Any) -> Iterator[str]:
    """Options of a dataclass that differ from the default, as command-line arguments."""
    for name, value in vars(given).items():
        if value == getattr(default, name):
            continue
        option = f"--{name.replace('_', '-')}"
        for item in value if isinstance(value, tuple) else (value,):
            yield from [option] if item is True else [option, str(item)]

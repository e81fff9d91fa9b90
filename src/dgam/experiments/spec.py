"""An experiment as its YAML file says it: what is trained, what is measured, what the paper found.

The files of the paper's own experiments lie in ``dgam/experiments/tables``; a user's file has the same form.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from dgam.core.config import Config, change_config, load_config
from dgam.core.errors import InputError, InputProblems, Problem
from dgam.core.origins import Origin, explain, nearest_of, read_file, read_yaml
from dgam.evaluation import named_protocol, parse_tiou

STATISTICS = ("false_activation", "omission", "filtered", "recovered")
"""Columns of an experiment that measures attention: table 2's four ratios."""
MEAN = "mean"
"""The column of the mean over all tIoU thresholds."""


def _text_keys(value: Any) -> Any:
    """YAML reads 16: as a number; names of models and rows are text."""
    return {as_text(key): item for key, item in value.items()} if isinstance(value, Mapping) else value


def as_text(value: Any) -> Any:
    """A number of YAML as text; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return str(value) if isinstance(value, int) else f"{value:.12g}"


Columns = Annotated[dict[str, float], BeforeValidator(_text_keys)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RowFile(_Part):
    """A row that is not simply a trained model: modules of two models, or only some of the streams."""

    model: str = ""
    attention: str = ""
    classifier: str = ""
    streams: tuple[str, ...] = ()


class VaryFile(_Part):
    """One setting at several values, each a model of its own."""

    setting: str = ""
    symbol: str = ""
    values: Annotated[tuple[float | int | str, ...], Field(min_length=1)] = ("",)


class ExperimentFile(_Part):
    """The keys of an experiment's file."""

    title: str = ""
    paper: str = ""
    published_on: str = ""
    preset: str = "default"
    set: dict[str, Any] = {}
    protocol: str = "activitynet"
    measure: Literal["map", "attention"] = "map"
    tiou: Annotated[str, BeforeValidator(as_text)] = "0.1:0.7:0.1"
    streams: Annotated[tuple[str, ...], Field(min_length=1)] = ("rgb", "flow")
    each_stream: bool = True
    models: Annotated[dict[str, dict[str, Any]], BeforeValidator(_text_keys)] = {}
    vary: VaryFile | None = None
    rows: Annotated[dict[str, RowFile], BeforeValidator(_text_keys)] = {}
    baseline: Annotated[str, BeforeValidator(as_text)] = ""
    published: Annotated[dict[str, Columns], BeforeValidator(_text_keys)] = {}
    others: dict[str, Columns] = {}
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """A row of the table: which model gives the attention, which the classifier, in which streams."""

    name: str
    attention: str
    classifier: str
    streams: tuple[str, ...]


@dataclass(frozen=True)
class Experiment:
    """An experiment that was read and checked.

    ``models`` maps a model's name to the settings by which it differs from the preset, as dotted names;
    ``rows`` says what is measured. ``columns`` are tIoU thresholds as text and "mean", or table 2's ratios.
    ``published`` maps a row to the paper's numbers by column, ``others`` other methods' names to theirs: mAP
    in percent, ratios as they are. ``axis`` is (symbol, values) where one setting varies, else None.
    """

    name: str
    title: str
    paper: str
    published_on: str
    preset: str
    overrides: tuple[str, ...]
    protocol: str
    measure: Literal["map", "attention"]
    tiou: tuple[float, ...]
    columns: tuple[str, ...]
    streams: tuple[str, ...]
    each_stream: bool
    models: Mapping[str, tuple[str, ...]]
    rows: tuple[Row, ...]
    baseline: str
    published: Mapping[str, Mapping[str, float]]
    others: Mapping[str, Mapping[str, float]]
    axis: tuple[str, tuple[Any, ...]] | None
    notes: tuple[str, ...]
    text: str

    def config(self, model: str, base: Config) -> Config:
        """A model's settings: its own on top of ``base``, which is the preset with the user's changes."""
        return change_config(base, self.models[model])

    def base(
        self, preset: str | None = None, file: Path | None = None, overrides: Sequence[str] = ()
    ) -> Config:
        """The settings that all models share; what the user gives goes on top of what the file says."""
        chosen = preset or (self.preset if file is None else None)
        own = self.overrides if preset in (None, self.preset) else ()
        return load_config(chosen, file, (*own, *overrides))


def experiment_names() -> tuple[str, ...]:
    """The paper's experiments, tables first."""
    folder = resources.files("dgam") / "experiments" / "tables"
    names = [file.name[:-5] for file in folder.iterdir() if file.name.endswith(".yaml")]
    return tuple(sorted(names, key=lambda name: (not name.startswith("table"), name)))


def read_experiment(name: str) -> Experiment:
    """Read one of the paper's experiments by name, or a file by path.

    Raises InputProblems that lists every defect: unknown keys and settings with the nearest known one, values
    out of range, rows of models that are not there, published numbers of rows or columns that are not there.
    """
    problems: list[Problem] = []
    if name in experiment_names():
        text = (resources.files("dgam") / "experiments" / "tables" / f"{name}.yaml").read_text("utf-8")
        origin = Origin(f"{name}: ", read_yaml(text, name, problems))
    elif name.endswith((".yaml", ".yml")) or "/" in name or Path(name).exists():
        origin = read_file(Path(name), problems)
        text = "" if problems else Path(name).read_text(encoding="utf-8")
    else:
        hint = nearest_of(name, (*experiment_names(), "all"))
        raise InputError(f"there is no experiment {name!r}. {hint} A file of your own ends in .yaml.")
    file = None
    try:
        file = ExperimentFile.model_validate(origin.values)
    except ValidationError as error:
        problems.extend(explain(error, ExperimentFile, (), (origin,)))
    if file is not None and not problems:
        experiment = _build(Path(name).stem, file, text, origin.name.removesuffix(": "), problems)
        if not problems and experiment is not None:
            return experiment
    raise InputProblems("The experiment is not usable:", problems)


def _build(
    name: str, file: ExperimentFile, text: str, where: str, problems: list[Problem]
) -> Experiment | None:
    def complain(key: str, what: str, remedy: str = "") -> None:
        problems.append(Problem(f"{where}: {key}", what, remedy=remedy))

    models = dict(_models(file, complain))
    tiou = _thresholds(file, complain)
    columns = STATISTICS if file.measure == "attention" else tuple(f"{value:g}" for value in tiou)
    if file.measure == "map" and len(tiou) > 1:
        columns = (*columns, MEAN)
    try:
        named_protocol(file.protocol)
    except InputError as error:
        complain("protocol", str(error).removeprefix("--protocol: "))
    rows = tuple(_rows(file, models, complain))
    known = [row.name for row in rows]
    if file.baseline and file.baseline not in known:
        complain("baseline", f"{file.baseline!r} is no row.", nearest_of(file.baseline, known))
    for row, numbers in file.published.items():
        if row not in known:
            complain(f"published.{row}", "is no row.", nearest_of(row, known))
        _check_columns(f"published.{row}", numbers, columns, complain)
    for method, numbers in file.others.items():
        _check_columns(f"others.{method}", numbers, columns, complain)
    overrides = tuple(as_overrides(file.set))
    experiment = Experiment(
        name=name,
        title=file.title or name,
        paper=" ".join(file.paper.split()),
        published_on=file.published_on,
        preset=file.preset,
        overrides=overrides,
        protocol=file.protocol,
        measure=file.measure,
        tiou=tiou,
        columns=columns,
        streams=file.streams,
        each_stream=file.each_stream,
        models={model: tuple(as_overrides(own)) for model, own in models.items()},
        rows=rows,
        baseline=file.baseline,
        published=file.published,
        others=file.others,
        axis=(file.vary.symbol or file.vary.setting, file.vary.values) if file.vary else None,
        notes=file.notes,
        text=text,
    )
    _check_settings(experiment, where, problems)
    return experiment


def as_overrides(settings: Mapping[str, Any]) -> list[str]:
    """Settings by dotted name, as the overrides that :func:`dgam.core.config.load_config` takes."""
    return [f"{key}={json.dumps(value, default=str)}" for key, value in settings.items()]


def _models(file: ExperimentFile, complain: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from file.models.items()
    if file.vary is not None:
        if not file.vary.setting:
            complain("vary.setting", "is missing: which setting varies, such as loss.beta?")
        for value in file.vary.values if file.vary.setting else ():
            yield str(as_text(value)), {file.vary.setting: value}
        if file.models:
            complain("vary", "stands beside 'models'.", "Leave one of them out.")
    elif not file.models:
        complain("models", "is missing: which models are trained, as NAME: {loss.gamma1: 0}?")


def _thresholds(file: ExperimentFile, complain: Any) -> tuple[float, ...]:
    try:
        return parse_tiou(file.tiou)
    except InputError as error:
        complain("tiou", str(error).removeprefix("--tiou: "))
        return ()


def _rows(file: ExperimentFile, models: Mapping[str, Any], complain: Any) -> Iterator[Row]:
    for name in models if not file.rows else ():
        yield Row(name, name, name, file.streams)
    for name, row in file.rows.items():
        given = (row.model,) if row.model else (row.attention, row.classifier)
        if (row.model and (row.attention or row.classifier)) or not all(given):
            complain(f"rows.{name}", "needs either 'model', or both 'attention' and 'classifier'.")
            continue
        for model in given:
            if model not in models:
                complain(f"rows.{name}", f"there is no model {model!r}.", nearest_of(model, list(models)))
        for stream in row.streams:
            if stream not in file.streams:
                complain(f"rows.{name}.streams", f"{stream!r} is none of {', '.join(file.streams)}.")
        if file.measure == "attention" and given[0] != given[-1]:
            complain(f"rows.{name}", "measure: attention is of one model, not of two models' modules.")
        yield Row(name, given[0], given[-1], row.streams or file.streams)


def _check_columns(key: str, numbers: Mapping[str, float], columns: Sequence[str], complain: Any) -> None:
    for column in numbers:
        if columns and column not in columns:
            complain(f"{key}.{column}", "is no column.", nearest_of(column, columns))


def _check_settings(experiment: Experiment, where: str, problems: list[Problem]) -> None:
    """Whether every model's settings exist and are in range, on top of the experiment's preset."""
    try:
        base = load_config(experiment.preset, None, experiment.overrides)
    except InputProblems as error:
        problems.extend(renamed(error, where, "set"))
        return
    for model in experiment.models:
        try:
            experiment.config(model, base)
        except InputProblems as error:
            problems.extend(renamed(error, where, "vary" if experiment.axis else f"models.{model}"))


def renamed(error: InputProblems, where: str, key: str) -> Iterator[Problem]:
    """The same problems, told of the experiment's file in place of the command line."""
    for problem in error.problems:
        if problem.where.startswith("--preset"):
            yield replace(problem, where=f"{where}: preset")
        else:
            setting = problem.where.removeprefix("--set").strip()
            yield replace(problem, where=f"{where}: {key}" + (f": {setting}" if setting else ""))

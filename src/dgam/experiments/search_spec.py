"""A search as its YAML file says it: which settings, in which ranges, judged by what."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from dgam.core.config import Config, load_config
from dgam.core.errors import InputError, InputProblems, Problem
from dgam.core.origins import Origin, explain, nearest_of, read_file, read_yaml
from dgam.evaluation import named_protocol, parse_tiou
from dgam.experiments.spec import as_overrides, as_text, renamed

Complain = Callable[[str, str], None]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RangeFile(_Part):
    """Where a setting may lie: between low and high, or among choices."""

    low: float | None = None
    high: float | None = None
    step: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()


class SearchFile(_Part):
    """The keys of a search's file."""

    title: str = ""
    preset: str = "default"
    set: dict[str, Any] = {}
    streams: Annotated[tuple[str, ...], Field(min_length=1)] = ("rgb", "flow")
    protocol: str = "activitynet"
    tiou: Annotated[str, BeforeValidator(as_text)] = "0.5"
    trials: Annotated[int, Field(ge=1)] = 40
    startup: Annotated[int, Field(ge=1)] = 10
    seeds: Annotated[int, Field(ge=1)] = 2
    seed: Annotated[int, Field(ge=0)] = 0
    space: dict[str, RangeFile] = {}


@dataclass(frozen=True)
class Range:
    """A setting's range: ``choices``, or ``low`` to ``high`` (inclusive), ``whole`` numbers or not."""

    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    whole: bool = False
    choices: tuple[Any, ...] = ()

    def __str__(self) -> str:
        if self.choices:
            return ", ".join(json.dumps(choice, ensure_ascii=False) for choice in self.choices)
        more = f", in steps of {self.step:g}" if self.step else ""
        return f"{self.low:g} to {self.high:g}{more}{', on a logarithmic scale' if self.log else ''}"


@dataclass(frozen=True)
class Search:
    """A search that was read and checked.

    Trials are judged by the mean over ``tiou`` and over the first ``seeds`` seeds of the mAP of all
    ``streams`` fused. The first ``startup`` trials are drawn at random; ``seed`` is that of the sampler.
    """

    name: str
    title: str
    preset: str
    overrides: tuple[str, ...]
    streams: tuple[str, ...]
    protocol: str
    tiou: tuple[float, ...]
    trials: int
    startup: int
    seeds: int
    seed: int
    space: Mapping[str, Range] = field(hash=False)
    text: str = ""

    @property
    def objective(self) -> str:
        """What trials are judged by, in words."""
        if len(self.tiou) == 1:
            return f"mAP@{self.tiou[0]:g}"
        return f"mean mAP over tIoU {self.tiou[0]:g} to {self.tiou[-1]:g}"


def search_names() -> tuple[str, ...]:
    """The searches that come with the package."""
    folder = resources.files("dgam") / "experiments" / "searches"
    return tuple(sorted(file.name[:-5] for file in folder.iterdir() if file.name.endswith(".yaml")))


def read_search(name: str) -> Search:
    """Read a search of the package by name, or a file by path. InputProblems that lists every defect."""
    problems: list[Problem] = []
    if name in search_names():
        text = (resources.files("dgam") / "experiments" / "searches" / f"{name}.yaml").read_text("utf-8")
        origin = Origin(f"{name}: ", read_yaml(text, name, problems))
    elif name.endswith((".yaml", ".yml")) or "/" in name or Path(name).exists():
        origin = read_file(Path(name), problems)
        text = "" if problems else Path(name).read_text(encoding="utf-8")
    else:
        hint = nearest_of(name, search_names())
        raise InputError(f"there is no search {name!r}. {hint} A file of your own ends in .yaml.")
    file = None
    try:
        file = SearchFile.model_validate(origin.values)
    except ValidationError as error:
        problems.extend(explain(error, SearchFile, (), (origin,)))
    if file is not None and not problems:
        search = _build(Path(name).stem, file, text, origin.name.removesuffix(": "), problems)
        if not problems:
            return search
    raise InputProblems("The search is not usable:", problems)


def _build(name: str, file: SearchFile, text: str, where: str, problems: list[Problem]) -> Search:
    def complain(key: str, what: str) -> None:
        problems.append(Problem(f"{where}: {key}", what))

    tiou: tuple[float, ...] = ()
    try:
        tiou = parse_tiou(file.tiou)
        named_protocol(file.protocol)
    except InputError as error:
        complain(*str(error).removeprefix("--").split(": ", 1))
    if not file.space:
        complain("space", "is missing: which settings are searched, as loss.beta: {low: 0.1, high: 10}?")
    overrides = tuple(as_overrides(file.set))
    space: dict[str, Range] = {}
    try:
        base = load_config(file.preset, None, overrides)
    except InputProblems as error:
        problems.extend(renamed(error, where, "set"))
    else:
        for setting, given in file.space.items():
            found = _range(setting, given, base, where, problems, complain)
            if found is not None:
                space[setting] = found
    return Search(
        name=name,
        title=file.title or name,
        preset=file.preset,
        overrides=overrides,
        streams=file.streams,
        protocol=file.protocol,
        tiou=tiou,
        trials=file.trials,
        startup=file.startup,
        seeds=file.seeds,
        seed=file.seed,
        space=space,
        text=text,
    )


def _range(
    setting: str, given: RangeFile, base: Config, where: str, problems: list[Problem], complain: Complain
) -> Range | None:
    """A setting's range, once both of its ends, or all of its choices, are values that the setting takes."""
    from dgam.core.config import change_config

    key = f"space.{setting}"
    ends = (given.low, given.high)
    if bool(given.choices) == (None not in ends) or (given.choices and ends != (None, None)):
        complain(key, "needs either 'choices', or both 'low' and 'high'.")
        return None
    for value in given.choices or ends:
        try:
            change_config(base, as_overrides({setting: _tidy(value)}))
        except InputProblems as error:
            problems.extend(renamed(error, where, "space"))
            return None
    if given.choices:
        return Range(choices=given.choices)
    low, high = float(given.low or 0), float(given.high or 0)
    whole = "integer" in set(_kinds(setting))
    if low >= high:
        complain(key, f"low must lie below high, got {low:g} and {high:g}.")
    elif given.log and (low <= 0 or given.step):
        complain(key, "a logarithmic range needs low above 0 and no step.")
    elif given.step is not None and given.step <= 0:
        complain(key, f"step must lie above 0, got {given.step:g}.")
    elif whole and not all(float(n).is_integer() for n in (low, high, given.step or 1)):
        complain(key, "is a whole number, so low, high and step must be, too.")
    return Range(low, high, given.step, given.log, whole)


def _tidy(value: Any) -> Any:
    """A whole number as such: YAML's 20 was read as 20.0, which no setting of whole numbers takes."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _kinds(setting: str) -> Iterator[str]:
    """What JSON types a setting takes, from where it is declared."""
    section, name = setting.split(".")[-2:]
    about = getattr(Config(), section).model_json_schema()["properties"][name]
    for choice in about.get("anyOf", [about]):
        yield str(choice.get("type"))

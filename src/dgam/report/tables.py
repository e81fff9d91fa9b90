"""Tables of results, as text, Markdown, CSV or for a rich console.

Evaluations are taken as the JSON objects that ``dgam evaluate --json`` prints (``Evaluation.to_dict()``), so
a table can be made of files as well as of fresh results. Percent, one decimal.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dgam.core.errors import InputError

if TYPE_CHECKING:
    import rich.table

Result = Mapping[str, Any]
"""An evaluation as a JSON object, with at least tiou, map, average, per_class, protocol, videos,
instances."""
Runs = Mapping[str, Result | Sequence[Result]]
"""System name to its evaluation, or to one evaluation per seed."""


@dataclass(frozen=True)
class Number:
    """A value, and its standard deviation over seeds where there are several (n - 1 in the denominator)."""

    value: float | None
    spread: float | None = None
    decimals: int = 1
    sign: bool = False

    def __str__(self) -> str:
        if self.value is None or not math.isfinite(self.value):
            return "–"
        text = f"{self.value:{'+' if self.sign else ''}.{self.decimals}f}"
        return text if self.spread is None else f"{text} ± {self.spread:.{self.decimals}f}"


Cell = str | Number


@dataclass(frozen=True)
class Table:
    """A titled table. The first column holds names, ``notes`` say what the numbers rest on."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row has {len(row)} cells, the table {len(self.columns)} columns: {row}")

    def text(self) -> str:
        """Aligned plain text."""
        cells = [[str(cell) for cell in row] for row in (self.columns, *self.rows)]
        first, *others = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = []
        for name, *values in cells:
            padded = [value.rjust(width) for value, width in zip(values, others, strict=True)]
            lines.append("  ".join([name.ljust(first), *padded]).rstrip())
        rule = "─" * max(map(len, lines))
        return "\n".join([self.title, rule, lines[0], rule, *lines[1:], rule, *self.notes])

    def markdown(self) -> str:
        """A Markdown table under its title in bold, the notes below."""
        cells = [[str(cell).replace("|", "\\|") for cell in row] for row in (self.columns, *self.rows)]
        lines = ["| " + " | ".join(row) + " |" for row in cells]
        lines.insert(1, "|" + "|".join(["---"] + ["---:"] * (len(self.columns) - 1)) + "|")
        notes = ["", *(f"{note}  " for note in self.notes[:-1]), *self.notes[-1:]] if self.notes else []
        return "\n".join([f"**{self.title}**", "", *lines, *notes]) + "\n"

    def csv(self) -> str:
        """CSV with all digits; a column with deviations is followed by one named "… std". No title, no
        notes."""
        spread = [
            # isinstance narrows row[i] for the reader; the type checker does not narrow an index.
            # mypy does not see that isinstance holds for the same row[i].
            any(isinstance(row[i], Number) and row[i].spread is not None for row in self.rows)  # type: ignore[union-attr]
            for i in range(len(self.columns))
        ]
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(
            [n for name, s in zip(self.columns, spread, strict=True) for n in (name, f"{name} std")[: 1 + s]]
        )
        for row in self.rows:
            writer.writerow([v for cell, s in zip(row, spread, strict=True) for v in _plain(cell)[: 1 + s]])
        return out.getvalue()

    def rich(self) -> rich.table.Table:
        """For ``rich.console.Console.print``."""
        from rich.box import SIMPLE_HEAD
        from rich.markup import escape
        from rich.table import Table as RichTable

        table = RichTable(
            title=escape(self.title),
            caption=escape("\n".join(self.notes)) or None,
            title_justify="left",
            caption_justify="left",
            box=SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        for index, name in enumerate(self.columns):
            table.add_column(escape(name), justify="right" if index else "left")
        for row in self.rows:  # a deviation goes below its value, or nine thresholds need 120 characters
            table.add_row(*(escape(str(cell).replace(" ± ", "\n±")) for cell in row))
        return table


def map_table(systems: Runs, title: str = "mAP (%)", *, simulated: bool = False) -> Table:
    """mAP at each tIoU and its mean, a row per system; mean ± deviation where a system has several seeds.

    The notes name the protocol of each. InputError where tIoU thresholds differ between results.
    """
    runs = _runs(systems)
    tiou = _common_tiou(runs)
    several = any(len(results) > 1 for results in runs.values())
    columns = [
        "",
        *(f"@{value:g}" for value in tiou),
        f"mean {_range(tiou)}",
        *(["seeds"] if several else []),
    ]
    rows: list[tuple[Cell, ...]] = []
    for name, results in runs.items():
        cells: list[Cell] = [
            _number([100 * result["map"][index] for result in results]) for index in range(len(tiou))
        ]
        cells.append(_number([100 * result["average"] for result in results]))
        rows.append((name, *cells, *([str(len(results))] if several else [])))
    return Table(_title(title, simulated), tuple(columns), tuple(rows), _protocol_notes(runs))


def class_table(
    systems: Runs, tiou: float = 0.5, title: str = "AP per class (%)", *, simulated: bool = False
) -> Table:
    """AP of each class at one tIoU, a column per system. Classes as in the first result; "–" where one
    lacks."""
    runs = _runs(systems)
    index = _index_of(_common_tiou(runs), tiou)
    classes = dict.fromkeys(
        name for results in runs.values() for result in results for name in result["per_class"]
    )
    rows: list[tuple[Cell, ...]] = []
    for label in classes:
        values = [
            [r["per_class"][label][index] * 100 for r in rs if label in r["per_class"]]
            for rs in runs.values()
        ]
        rows.append((label, *(_number(some) for some in values)))
    rows.append(("mean", *(_number([100 * r["map"][index] for r in rs]) for rs in runs.values())))
    heading = f"{_title(title, simulated)} at tIoU {tiou:g}"
    return Table(heading, ("class", *runs), tuple(rows), _protocol_notes(runs))


def statistics_table(
    systems: Mapping[str, Result | Sequence[Result]],
    title: str = "Attention over ground truth",
    *,
    simulated: bool = False,
) -> Table:
    """The statistics of the paper's table 2, a column per system.

    Takes ``AttentionStatistics.to_dict()``, or one per seed.
    """
    runs = _runs(systems)
    names = {
        "false_activation": "|att − gt| / |gt|  ↓",
        "omission": "|gt − att| / |gt|  ↓",
        "filtered": "|(cls − gt) ∩ ¬att| / |gt|  ↑",
        "recovered": "|(att ∩ gt) − cls| / |gt|  ↑",
    }
    rows: list[tuple[Cell, ...]] = [
        (shown, *(_number([result[key] for result in results], decimals=3) for results in runs.values()))
        for key, shown in names.items()
    ]
    said = [
        (
            name,
            f"t* = {result['threshold']:g}; {result['videos']:,} videos, {result['snippets']:,} snippets, "
            f"|gt| = {result['truth_snippets']:,}",
        )
        for name, results in runs.items()
        for result in results
    ]
    notes = (*_each_once(said, set(runs)), "↓ lower is better, ↑ higher is better")
    return Table(_title(title, simulated), ("", *runs), tuple(rows), notes)


def error_table(analysis: Result, title: str = "Kinds of predictions", *, simulated: bool = False) -> Table:
    """The analysis of false positives: ``ErrorAnalysis.to_dict()``, a row per kind."""
    rows: list[tuple[Cell, ...]] = [
        (
            kind["kind"],
            Number(kind["count"], decimals=0),
            Number(100 * kind["share"]),
            Number(None if kind["gain"] is None else 100 * kind["gain"], sign=True),
        )
        for kind in analysis["kinds"]
    ]
    notes = (
        f"top {analysis['factor']}·G predictions of each class with G instances; "
        f"their mAP is {100 * analysis['map']:.1f}",
        f"localisation and confusion: tIoU from {analysis['min_tiou']:g} to {analysis['tiou']:g}",
    )
    heading = f"{_title(title, simulated)} at tIoU {analysis['tiou']:g}"
    return Table(heading, ("", "count", "share %", "mAP gained without"), tuple(rows), notes)


def _runs(systems: Runs) -> dict[str, list[Result]]:
    runs = {name: [some] if isinstance(some, Mapping) else list(some) for name, some in systems.items()}
    empty = [name for name, results in runs.items() if not results]
    if empty or not runs:
        raise InputError(
            f"a table needs at least one result for each system; there is none for {empty or 'any'}."
        )
    return runs


def _common_tiou(runs: Mapping[str, Sequence[Result]]) -> tuple[float, ...]:
    found = {tuple(result["tiou"]): name for name, results in runs.items() for result in results}
    if len(found) > 1:
        listed = "; ".join(f"{name}: {', '.join(map(str, tiou))}" for tiou, name in found.items())
        raise InputError(f"results at different tIoU thresholds do not go into one table: {listed}.")
    return next(iter(found))


def _index_of(tiou: Sequence[float], wanted: float) -> int:
    for index, value in enumerate(tiou):
        if abs(value - wanted) < 1e-9:
            return index
    raise InputError(
        f"tIoU {wanted:g} was not evaluated; thresholds are: {', '.join(f'{v:g}' for v in tiou)}."
    )


def _number(values: Sequence[float], decimals: int = 1) -> Number:
    if not values:
        return Number(None, None, decimals)
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Number(mean, None, decimals)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return Number(mean, math.sqrt(variance), decimals)


def _protocol_notes(runs: Mapping[str, Sequence[Result]]) -> tuple[str, ...]:
    """The protocols that occur, with their remarks."""
    said = []
    for name, results in runs.items():
        for result in results:
            protocol = result.get("protocol") or {}
            title = protocol if isinstance(protocol, str) else protocol.get("name", "")
            size = f"{result['videos']:,} videos, {result['instances']:,} instances"
            said.append((name, f"protocol {title}: {size}" if title else size))
            if isinstance(protocol, Mapping):
                said.extend((name, note) for note in protocol.get("notes", ()))
    return _each_once(said, set(runs))


def _each_once(said: Sequence[tuple[str, str]], everyone: set[str]) -> tuple[str, ...]:
    """Lines without repeats; one that does not hold for every system is led by the systems' names."""
    systems: dict[str, dict[str, None]] = {}
    for name, line in said:
        systems.setdefault(line, {})[name] = None
    return tuple(
        line if set(names) == everyone else f"{', '.join(names)}: {line}" for line, names in systems.items()
    )


def _title(title: str, simulated: bool) -> str:
    return f"Simulated data: {title}" if simulated else title


def _range(tiou: Sequence[float]) -> str:
    return f"{tiou[0]:g}–{tiou[-1]:g}" if len(tiou) > 1 else f"{tiou[0]:g}"


def _plain(cell: Cell) -> tuple[object, object]:
    if isinstance(cell, str):
        return cell, ""
    return ("" if cell.value is None else cell.value), ("" if cell.spread is None else cell.spread)

"""An experiment's outcome as tables: text, Markdown, LaTeX, CSV and JSON, ours beside the paper's."""

from __future__ import annotations

import csv
import io
import platform
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dgam
from dgam.experiments.outcome import Block, Outcome, Series, differences, mean_and_deviation
from dgam.experiments.spec import MEAN, STATISTICS
from dgam.report.tables import Cell, Number, Table

HEADINGS = {
    "false_activation": "|att − gt| / |gt| ↓",
    "omission": "|gt − att| / |gt| ↓",
    "filtered": "|(cls − gt) ∩ ¬att| / |gt| ↑",
    "recovered": "|(att ∩ gt) − cls| / |gt| ↑",
}
PAPER = "paper"


def tables(outcome: Outcome) -> list[Table]:
    """The paper's table with ours beside it, the same for each stream, and differences to the baseline."""
    return [*main_tables(outcome), *paired_tables(outcome)]


def main_tables(outcome: Outcome) -> list[Table]:
    """The paper's table with ours beside it, then the same for each stream by itself."""
    return [_main(outcome, block) for block in outcome.blocks]


def paired_tables(outcome: Outcome) -> list[Table]:
    """Differences to the baseline's row, seed by seed; none where there is no baseline."""
    found = [_paired(outcome, block) for block in outcome.blocks]
    return [table for table in found if table is not None]


def heading(column: str) -> str:
    """What a column is called in a table."""
    return column if column == MEAN else HEADINGS.get(column, f"@{column}")


def shown_name(outcome: Outcome, name: str) -> str:
    """What a row is called: its name, or "β = 0.1" where one setting varies."""
    axis = outcome.plan.experiment.axis
    return f"{axis[0]} = {name}" if axis else name


def _main(outcome: Outcome, block: Block) -> Table:
    rows: list[tuple[Cell, ...]] = []
    narrow = len(outcome.columns) == 1
    published = any(series.published for series in block.rows)
    for series in block.rows:
        name = shown_name(outcome, series.name)
        ours = [_number(outcome, series.values[column]) for column in outcome.columns]
        theirs = _published(outcome, series.published)
        if narrow:
            rows.append((name, *ours, *(theirs if published else ())))
        else:
            rows.append((name, *ours))
            if series.published:
                rows.append((f"    {PAPER}", *theirs))
    if published:
        for method, numbers in outcome.plan.experiment.others.items():
            theirs = _published(outcome, numbers)
            blank = (Number(None),) if narrow else ()
            rows.append((f"{method}, as published", *blank, *theirs))
    columns = ["", *(heading(column) for column in outcome.columns)]
    if narrow and published:
        columns.append(PAPER)
    if narrow:
        columns[1] = "mAP" + columns[1]
    return Table(_title(outcome, block), tuple(columns), tuple(rows), tuple(_notes(outcome, block)))


def _paired(outcome: Outcome, block: Block) -> Table | None:
    """Row minus baseline, seed by seed."""
    baseline = next((s for s in block.rows if s.name == outcome.plan.experiment.baseline), None)
    if baseline is None or len(block.rows) < 2:
        return None
    key = MEAN if MEAN in outcome.columns else outcome.columns[0]
    count = outcome.columns != STATISTICS  # of which some are better the lower they are
    decimals = _decimals(outcome)
    rows: list[tuple[Cell, ...]] = []
    for series in block.rows:
        if series is baseline:
            continue
        cells: list[Cell] = []
        for column in outcome.columns:
            mean, deviation = mean_and_deviation(differences(series, baseline, column))
            cells.append(Number(round(mean, decimals) or 0.0, deviation, decimals, sign=True))  # no "-0.0"
        values = differences(series, baseline, key)
        if count:
            cells.append(f"{sum(value > 0 for value in values)} of {len(values)}")
        rows.append((shown_name(outcome, series.name), *cells))
    columns = ("", *map(heading, outcome.columns), *([f"seeds above 0, {heading(key)}"] if count else []))
    title = f"{_title(outcome, block)}: minus “{shown_name(outcome, baseline.name)}”, seed by seed"
    return Table(title, columns, tuple(rows), ("Mean ± standard deviation of the differences.",))


def _title(outcome: Outcome, block: Block) -> str:
    unit = "" if outcome.plan.experiment.measure == "attention" else ", mAP (%)"
    streams = f", {block.streams}" if block.streams else ""
    title = f"{outcome.plan.experiment.title}{streams}{unit}"
    return f"Simulated data: {title}" if outcome.simulated else title


def _notes(outcome: Outcome, block: Block) -> Iterator[str]:
    count = len(outcome.seeds)
    spread = "mean ± standard deviation over" if count > 1 else "one run only, no spread:"
    seeds = ", ".join(map(str, outcome.seeds))
    yield f"Ours: {spread} {'seeds' if count > 1 else 'seed'} {seeds}, on {outcome.data}."
    if any(series.published for series in block.rows):
        on = outcome.plan.experiment.published_on
        where = f", on {on}" if on else ""
        yield f"Paper: Shi et al., CVPR 2020{where}; mean of five runs, no deviation given."
    if block is outcome.blocks[0]:
        yield from outcome.protocol
        yield from outcome.plan.notes
        yield from outcome.plan.experiment.notes


def _number(outcome: Outcome, values: Sequence[float]) -> Number:
    mean, deviation = mean_and_deviation(values)
    return Number(mean, deviation, _decimals(outcome))


def _published(outcome: Outcome, numbers: Mapping[str, float]) -> tuple[Number, ...]:
    return tuple(Number(numbers.get(column), None, _decimals(outcome)) for column in outcome.columns)


def _decimals(outcome: Outcome) -> int:
    return 3 if outcome.columns == STATISTICS else 1


_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "–": "--",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "∩": r"$\cap$",
    "¬": r"$\neg$",
    "|": r"$|$",
    "β": r"$\beta$",
    "λ": r"$\lambda$",
    "γ": r"$\gamma$",
    "σ": r"$\sigma$",
    "“": "``",
    "”": "''",
}


def latex(table: Table) -> str:
    """A table as LaTeX, for the package booktabs; the title is its caption, notes stand below it."""
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{escaped(table.title)}}}"]
    lines.append(rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}")
    lines += [r"\toprule", " & ".join(map(escaped, table.columns)) + r" \\", r"\midrule"]
    for name, *cells in table.rows:
        indent = r"\quad " if str(name).startswith(" ") else ""
        values = " & ".join(escaped(str(cell)) for cell in cells)
        lines.append(rf"{indent}{escaped(str(name).strip())} & {values} \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\footnotesize {escaped(note)}" for note in table.notes]
    return "\n".join([*lines, r"\end{table}", ""])


def escaped(text: str) -> str:
    """Text as LaTeX shows it."""
    return "".join(_LATEX.get(character, character) for character in text)


def csv_text(outcome: Outcome) -> str:
    """One line for each number, with all digits: experiment, data, streams, row, column, mean, standard
    deviation, number of seeds, the paper's number."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["experiment", "data", "streams", "row", "column", "mean", "std", "seeds", "paper"])
    name = outcome.plan.experiment.name
    for block in outcome.blocks:
        for series in block.rows:
            for column in outcome.columns:
                mean, deviation = mean_and_deviation(series.values[column])
                numbers = [mean, "" if deviation is None else deviation, len(series.values[column])]
                paper = series.published.get(column, "")
                writer.writerow([name, outcome.data, series.streams, series.name, column, *numbers, paper])
    return out.getvalue()


def as_json(outcome: Outcome, command: str) -> dict[str, Any]:
    """Everything: values of every seed, settings, protocol, data and the runs behind the numbers."""
    plan = outcome.plan
    return {
        "experiment": plan.experiment.name,
        "title": plan.experiment.title,
        "data": outcome.data,
        "simulated": outcome.simulated,
        "seeds": list(outcome.seeds),
        "unit": "ratio" if outcome.columns == STATISTICS else "percent",
        "columns": list(outcome.columns),
        "tables": [
            {"streams": block.streams, "rows": [_series(series) for series in block.rows]}
            for block in outcome.blocks
        ],
        "published_on": plan.experiment.published_on,
        "others": {name: dict(numbers) for name, numbers in plan.experiment.others.items()},
        "protocol": list(outcome.protocol),
        "notes": [*plan.notes, *plan.experiment.notes],
        "settings": {model: config.model_dump(mode="json") for model, config in plan.configs.items()},
        "trainings": [dict(facts) for facts in outcome.trained],
        "command": command,
        "versions": versions(outcome),
        "file": plan.experiment.text,
    }


def versions(outcome: Outcome) -> dict[str, str]:
    """Of what produced the numbers."""
    torch = ", ".join(sorted({str(facts.get("torch", "")) for facts in outcome.trained} - {""}))
    return {"dgam": dgam.__version__, "torch": torch, "python": platform.python_version()}


def _series(series: Series) -> dict[str, Any]:
    columns = {}
    for column, values in series.values.items():
        mean, deviation = mean_and_deviation(values)
        columns[column] = {"values": list(values), "mean": mean, "std": deviation}
    return {
        "row": series.name,
        "streams": series.streams,
        "columns": columns,
        "paper": dict(series.published),
    }

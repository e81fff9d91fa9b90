"""An experiment's files: a page that needs nothing but itself, Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from dgam.core.files import atomic_write, write_json
from dgam.experiments.cost import duration
from dgam.experiments.figures import experiment_figure
from dgam.experiments.outcome import Outcome
from dgam.experiments.table import (
    as_json,
    csv_text,
    heading,
    latex,
    main_tables,
    paired_tables,
    shown_name,
    tables,
    versions,
)
from dgam.report.plots import save_figure
from dgam.report.tables import Cell, Number, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENDINGS = ("html", "png", "md", "tex", "csv", "json")


def write_report(out: Path, outcome: Outcome, command: str) -> dict[str, Path]:
    """Write ``OUT/NAME.html``, .png, .md, .tex, .csv and .json; returns them by ending."""
    name = outcome.plan.experiment.name
    paths = {ending: out / f"{name}.{ending}" for ending in ENDINGS}
    made = tables(outcome)
    figure = experiment_figure(outcome)
    write_text(paths["html"], page(outcome, command, picture(figure)))
    save_figure(paths["png"], figure)
    write_text(paths["md"], markdown(outcome, made, command))
    write_text(paths["tex"], "\n".join(latex(table) for table in made))
    write_text(paths["csv"], csv_text(outcome))
    write_json(paths["json"], as_json(outcome, command))
    return paths


def page(outcome: Outcome, command: str, drawn: str) -> str:
    """The page as HTML: tables, picture (``drawn``, a PNG in base64), settings, seeds, data and protocol."""
    plan = outcome.plan
    first = next(iter(plan.configs.values()))
    own = plan.experiment.overrides if first.preset == plan.experiment.preset else ()
    common = {text.partition("=")[0]: text for text in (*own, *plan.request.overrides)}  # the last one counts
    together = sum(int(facts.get("together", 1)) > 1 for facts in outcome.trained)
    return render(
        "experiment.html.j2",
        name=plan.experiment.name,
        title=plan.experiment.title,
        simulated=outcome.simulated,
        paper=plan.experiment.paper,
        published_on=plan.experiment.published_on,
        data=outcome.data,
        seeds=outcome.seeds,
        trainings=outcome.trained,
        time=duration(outcome.seconds),
        together=together,
        tables=main_tables(outcome),
        paired=paired_tables(outcome),
        attention=plan.experiment.measure == "attention",
        picture=drawn,
        picture_text=f"{plan.experiment.title}: the numbers of the table above, drawn.",
        command=command,
        preset=first.preset,
        common=list(common.values()),
        models={shown_name(outcome, name): own for name, own in plan.experiment.models.items()},
        settings=yaml.safe_dump(first.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        seed_tables=[seed_table(outcome, index) for index in range(len(outcome.blocks))],
        text=plan.experiment.text,
        versions=versions(outcome),
    )


def markdown(outcome: Outcome, made: list[Table], command: str) -> str:
    """The tables as Markdown, with what the paper found and the command."""
    experiment = outcome.plan.experiment
    simulated = (
        ["**Simulated data.** Levels compare with no published table.", ""] if outcome.simulated else []
    )
    paper = [f"The paper: {experiment.paper}", ""] if experiment.paper else []
    lines = [f"# {experiment.title}", "", *simulated, *paper]
    return "\n".join([*lines, *(table.markdown() for table in made), f"    {command}", ""])


def seed_table(outcome: Outcome, index: int) -> Table:
    """The values behind means and deviations, a line for each row and seed."""
    block = outcome.blocks[index]
    decimals = 3 if outcome.plan.experiment.measure == "attention" else 1
    rows: list[tuple[Cell, ...]] = [
        (
            f"{shown_name(outcome, series.name)}, seed {seed}",
            *(Number(series.values[column][place], None, decimals) for column in outcome.columns),
        )
        for series in block.rows
        for place, seed in enumerate(outcome.seeds)
    ]
    title = block.streams or "streams as named"
    return Table(
        f"Simulated data: {title}" if outcome.simulated else title,
        ("", *map(heading, outcome.columns)),
        tuple(rows),
    )


def picture(figure: Figure) -> str:
    """A figure as a PNG in base64."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return base64.b64encode(buffer.getvalue()).decode()


def render(template: str, **values: Any) -> str:
    """A template of this package with values filled in, escaped as HTML asks."""
    from jinja2 import DictLoader, Environment, StrictUndefined
    from markupsafe import Markup

    folder = resources.files("dgam") / "experiments" / "templates"
    sources: Mapping[str, str] = {
        file.name: file.read_text(encoding="utf-8")
        for file in folder.iterdir()
        if file.name.endswith((".j2", ".css"))
    }
    environment = Environment(loader=DictLoader(sources), autoescape=True, undefined=StrictUndefined)
    style = Markup(sources["page.css"])  # our own file, not data
    return environment.get_template(template).render(style=style, **values)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, atomically."""
    with atomic_write(path) as file:
        file.write(text.encode())

"""A search's files: a page with a picture, Markdown, the trials as CSV, JSON, a preset of what was found."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import dgam
from dgam.core.config import Config, load_config
from dgam.core.files import write_json
from dgam.experiments.outcome import Values, mean_and_deviation
from dgam.experiments.page import picture, render, write_text
from dgam.experiments.search import Searched
from dgam.experiments.spec import MEAN
from dgam.experiments.table import heading
from dgam.report.plots import colour, entitle, literal, new_figure, save_figure
from dgam.report.tables import Cell, Number, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENDINGS = ("html", "png", "md", "csv", "json", "preset.yaml")


def write_search(out: Path, searched: Searched, command: str) -> dict[str, Path]:
    """Write ``OUT/NAME.html``, .png, .md, .csv (trials), .json and .preset.yaml; returns them by ending."""
    paths = {ending: out / f"{searched.search.name}.{ending}" for ending in ENDINGS}
    figure = search_figure(searched)
    write_text(paths["html"], page(searched, command, picture(figure)))
    save_figure(paths["png"], figure)
    write_text(paths["md"], markdown(searched, command))
    write_text(paths["csv"], trials_csv(searched))
    write_json(paths["json"], as_json(searched, command))
    write_text(paths["preset.yaml"], preset(searched, command))
    return paths


def result_table(searched: Searched) -> Table:
    """The settings found beside the base preset's, on the report half, and their difference seed by seed."""
    preset_name = searched.base_config.preset
    rows: list[tuple[Cell, ...]] = [
        (f"preset {preset_name}", *(_number(searched.base[c]) for c in searched.columns)),
        ("found", *(_number(searched.found[c]) for c in searched.columns)),
    ]
    gaps = {
        c: tuple(a - b for a, b in zip(searched.found[c], searched.base[c], strict=True))
        for c in searched.columns
    }
    rows.append(("found minus preset", *(_number(gaps[c], sign=True) for c in searched.columns)))
    above = sum(value > 0 for value in gaps[MEAN])
    title = "mAP (%) on the report half"
    seeds = ", ".join(map(str, searched.seeds))
    notes = (
        f"Mean ± standard deviation over seeds {seeds}, on {searched.data}; differences seed by seed.",
        f"The mean mAP is higher with {above} of {len(searched.seeds)} seeds.",
        f"On the selection half, with the search's seeds, {searched.search.objective}: found "
        f"{_number(searched.found_selection)}, preset {preset_name} {_number(searched.base_selection)}.",
        searched.statement,
    )
    columns = ("", *map(heading, searched.columns))
    return Table(f"Simulated data: {title}" if searched.simulated else title, columns, tuple(rows), notes)


def trials_table(searched: Searched, most: int | None = None) -> Table:
    """Trials by falling value, at most ``most`` of them, with the settings that each tried."""
    ordered = sorted(searched.trials, key=lambda t: (t.value is None, -(t.value or 0), t.number))
    names = tuple(searched.search.space)
    rows: list[tuple[Cell, ...]] = [
        (f"{trial.number}", Number(trial.value, None, 2), *(_shown(trial.settings.get(n)) for n in names))
        for trial in ordered[:most]
    ]
    title = f"Trials, {searched.search.objective} (%) on the selection half"
    failed = sum(trial.value is None for trial in searched.trials)
    notes = (f"{failed} trials could not be trained.",) if failed else ()
    columns = ("trial", "value", *names)
    return Table(f"Simulated data: {title}" if searched.simulated else title, columns, tuple(rows), notes)


def page(searched: Searched, command: str, drawn: str) -> str:
    """The page as HTML, with the picture ``drawn``, a PNG in base64."""
    return render(
        "search.html.j2",
        title=searched.search.title,
        name=searched.search.name,
        simulated=searched.simulated,
        statement=searched.statement,
        objective=searched.search.objective,
        data=searched.data,
        search_seeds=searched.search.seeds,
        number=searched.best.number,
        streams=", ".join(searched.streams),
        space=[
            (name, str(own), _shown(searched.best.settings[name]))
            for name, own in searched.search.space.items()
        ],
        count=len(searched.trials),
        result=result_table(searched),
        trials=trials_table(searched),
        picture=drawn,
        preset=preset(searched, command),
        command=command,
        text=searched.search.text,
        version=dgam.__version__,
    )


def markdown(searched: Searched, command: str) -> str:
    """The result and all trials as Markdown."""
    simulated = ["**Simulated data.** Levels compare with no published table.", ""]
    lines = [f"# {searched.search.title}", "", *(simulated if searched.simulated else [])]
    lines += [result_table(searched).markdown(), trials_table(searched).markdown(), f"    {command}", ""]
    return "\n".join(lines)


def trials_csv(searched: Searched) -> str:
    """Trials in order: number, value in percent on the selection half (empty where it failed), settings."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = list(searched.search.space)
    writer.writerow(["trial", "data", f"{searched.search.objective}, selection half", *names])
    for trial in searched.trials:
        value = "" if trial.value is None else trial.value
        settings = [json.dumps(trial.settings.get(name), ensure_ascii=False) for name in names]
        writer.writerow([trial.number, searched.data, value, *settings])
    return out.getvalue()


def as_json(searched: Searched, command: str) -> dict[str, Any]:
    """Everything, with the videos of both halves."""
    return {
        "search": searched.search.name,
        "title": searched.search.title,
        "data": searched.data,
        "simulated": searched.simulated,
        "statement": searched.statement,
        "objective": searched.search.objective,
        "best": {"trial": searched.best.number, "settings": dict(searched.best.settings)},
        "seeds": list(searched.seeds),
        "report_half": {"found": _by_column(searched.found), "base": _by_column(searched.base)},
        "selection_half": {
            "found": list(searched.found_selection),
            "base": list(searched.base_selection),
        },
        "halves": {name: {half: list(v) for half, v in own.items()} for name, own in searched.videos.items()},
        "trials": [
            {"number": t.number, "value": t.value, "settings": dict(t.settings), "why": t.why}
            for t in searched.trials
        ],
        "settings": searched.config.model_dump(mode="json"),
        "base": searched.base_config.model_dump(mode="json"),
        "command": command,
        "versions": {"dgam": dgam.__version__},
        "file": searched.search.text,
    }


def preset(searched: Searched, command: str) -> str:
    """The settings found as a preset: every value that differs from a plain Config's or the default preset's.

    It gives the same settings as ``--config FILE`` and as a file among the package's presets. The header says
    what they rest on.
    """
    found = {c: str(_number(searched.found[c])) for c in searched.columns}
    base = {c: str(_number(searched.base[c])) for c in searched.columns}
    told = [
        f"{searched.search.title}: what {len(searched.trials)} trials found, starting from preset "
        f"{searched.base_config.preset}.",
        searched.statement,
        f"On the report half, seeds {', '.join(map(str, searched.seeds))}, {searched.data}: mAP@0.5 "
        f"{found['0.5']} (preset {searched.base_config.preset}: {base['0.5']}), mean .1 to .7 {found[MEAN]} "
        f"({base[MEAN]}).",
    ]
    header = [line for text in told for line in textwrap.wrap(text, 105)]
    lines = [f"# {line}" for line in [*header[:1], *header[1:]]] + ["#", f"#   {command}"]
    values = _differing(searched.config)
    return "\n".join(lines) + "\n" + yaml.dump(values, Dumper=_Inline, sort_keys=False, allow_unicode=True)


class _Inline(yaml.SafeDumper):
    """Lists on one line, as in the package's presets."""


_Inline.add_representer(
    list, lambda dumper, items: dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)
)


def _differing(config: Config) -> dict[str, Any]:
    whole, plain = config.model_dump(mode="json"), Config().model_dump(mode="json")
    default = load_config().model_dump(mode="json")
    values: dict[str, Any] = {}
    for section, own in whole.items():
        if section in ("preset", "streams"):
            continue
        changed = {
            name: value
            for name, value in own.items()
            if value != plain[section][name] or value != default[section][name]
        }
        if changed:
            values[section] = changed
    if whole["streams"]:
        values["streams"] = whole["streams"]
    return values


def search_figure(searched: Searched) -> Figure:
    """The objective over the trials, and over each setting that was searched."""
    names = list(searched.search.space)
    columns = 3
    rows = -(-len(names) // columns)
    figure = new_figure(9.5, 3.0 + 2.3 * rows)
    halves = figure.subfigures(2, 1, squeeze=False, height_ratios=[3.0, 2.3 * rows])
    axes = halves[0, 0].subplots()
    good = [(t.number, t.value) for t in searched.trials if t.value is not None]
    axes.plot([n for n, _ in good], [v for _, v in good], "o", color=colour(0), markersize=4, label="a trial")
    best_yet = [max(value for number, value in good if number <= n) for n, _ in good]
    axes.step([n for n, _ in good], best_yet, where="post", color=colour(1), label="best so far")
    mean, _ = mean_and_deviation(searched.base_selection)
    axes.axhline(
        mean, color="#666666", linestyle="--", linewidth=1, label=f"preset {searched.base_config.preset}"
    )
    axes.set_xlabel("trial")
    axes.set_ylabel(f"{searched.search.objective} (%)\nselection half")
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.legend(frameon=False, fontsize=8.5, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    panels = halves[1, 0].subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for panel, name in zip(panels, names, strict=False):
        own = searched.search.space[name]
        points = [(t.settings[name], t.value) for t in searched.trials if t.value is not None]
        if own.choices:
            places = {json.dumps(choice): place for place, choice in enumerate(own.choices)}
            x = [float(places[json.dumps(value)]) for value, _ in points]
            panel.set_xticks(range(len(places)), [literal(_shown(c)) for c in own.choices], fontsize=7)
            panel.set_xlim(-0.5, len(places) - 0.5)
        else:
            x = [float(value) for value, _ in points]
            panel.set_xscale("log" if own.log else "linear")
        panel.plot(x, [value for _, value in points], "o", color=colour(0), markersize=3.5, alpha=0.8)
        at = next(place for place, t in zip(x, points, strict=True) if t[1] == searched.best.value)
        panel.plot(at, searched.best.value or 0.0, "o", color=colour(1), markersize=6)
        panel.set_xlabel(name, fontsize=8.5)
        panel.grid(color="#dddddd", linewidth=0.6)
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    entitle(figure, searched.search.title, searched.simulated)
    return figure


def _by_column(values: Mapping[str, Values]) -> dict[str, Any]:
    columns = {}
    for column, own in values.items():
        mean, deviation = mean_and_deviation(own)
        columns[column] = {"values": list(own), "mean": mean, "std": deviation}
    return columns


def _number(values: Values, sign: bool = False) -> Number:
    mean, deviation = mean_and_deviation(values)
    return Number(mean, deviation, sign=sign)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 24 else f"{text[:23]}…"

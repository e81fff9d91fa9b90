"""An experiment's picture: values along a setting, along tIoU, or row by row, ours and the paper's apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dgam.experiments.outcome import Block, Outcome, mean_and_deviation
from dgam.experiments.spec import MEAN, STATISTICS
from dgam.experiments.table import HEADINGS
from dgam.report.plots import colour, dash, entitle, literal, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def experiment_figure(outcome: Outcome) -> Figure:
    """The picture of an experiment's first table, or of all of them where attention is measured.

    Ours and the paper's have panels of their own with the same span in height, since their levels compare
    only on the same data.
    """
    if outcome.columns == STATISTICS:
        return _attention(outcome)
    if outcome.plan.experiment.axis is not None:
        return _panels(outcome, _along_setting)
    if len(outcome.plan.experiment.tiou) > 1:
        return _panels(outcome, _along_tiou)
    return _panels(outcome, _rows)


Draw = Callable[[Outcome, "Axes", bool], list[float]]


def _panels(outcome: Outcome, draw: Draw) -> Figure:
    block = outcome.blocks[0]
    has_paper = any(series.published for series in block.rows)
    has_legend = draw is not _rows
    rows = len(block.rows) + (len(outcome.plan.experiment.others) if draw is _along_tiou else 0)
    height = 1.8 + 0.42 * len(block.rows) if draw is _rows else 3.6 + 0.13 * rows
    figure = new_figure(9.5 if has_paper else 5.8, max(3.2, height))
    axes = figure.subplots(1, 1 + has_paper, squeeze=False)[0]
    seen = [draw(outcome, axes[0], False)]
    label = "ours, simulated data" if outcome.simulated else "ours"
    axes[0].set_title(literal(label), fontsize=10)
    if has_paper:
        seen.append(draw(outcome, axes[1], True))
        on = outcome.plan.experiment.published_on
        axes[1].set_title(literal(f"paper{f', {on}' if on else ''}"), fontsize=10)
    _equal_spans(axes, seen, along_x=draw is _rows)
    entitle(figure, outcome.plan.experiment.title, outcome.simulated)
    if has_legend:
        _legend(figure, axes)
    return figure


def _along_setting(outcome: Outcome, axes: Axes, paper: bool) -> list[float]:
    """mAP over the setting that varies, a line for each table: all streams fused, each by itself."""
    axis = outcome.plan.experiment.axis
    assert axis is not None
    column = outcome.columns[0] if len(outcome.columns) == 1 else MEAN
    places = list(range(len(axis[1])))
    drawn: list[float] = []
    blocks: Sequence[Block] = outcome.blocks[:1] if paper else outcome.blocks
    for index, block in enumerate(blocks):
        at: list[float] = []
        means, spreads = [], []
        for place, series in zip(places, block.rows, strict=True):
            if paper and column not in series.published:
                continue
            ours = mean_and_deviation(series.values[column])
            mean, spread = (series.published[column], None) if paper else ours
            at.append(place + 0.07 * (index - (len(blocks) - 1) / 2))  # so that deviations stay apart
            means.append(mean)
            spreads.append(spread or 0.0)
        style: dict[str, Any] = {
            "color": "#666666" if paper else colour(index),
            "marker": "o",
            "markersize": 4,
        }
        label = None if paper else literal(block.streams)
        axes.errorbar(at, means, yerr=None if paper else spreads, capsize=3, label=label, **style)
        drawn += [m + s for m, s in zip(means, spreads, strict=True)]
        drawn += [m - s for m, s in zip(means, spreads, strict=True)]
    axes.set_xticks(
        places, [f"{value:g}" if isinstance(value, float | int) else str(value) for value in axis[1]]
    )
    axes.set_xlabel(literal(axis[0]))
    axes.set_ylabel("mAP (%)" if column == MEAN else f"mAP@{column} (%)")
    axes.grid(color="#dddddd", linewidth=0.6)
    return drawn


def _along_tiou(outcome: Outcome, axes: Axes, paper: bool) -> list[float]:
    """mAP over tIoU, a line for each row; in the paper's panel other methods' as thin grey lines."""
    block = outcome.blocks[0]
    columns = [column for column in outcome.columns if column != MEAN]
    drawn: list[float] = []
    if paper:
        for numbers in outcome.plan.experiment.others.values():
            at = [column for column in columns if column in numbers]
            axes.plot(
                [float(column) for column in at],
                [numbers[column] for column in at],
                color="#bbbbbb",
                linewidth=0.8,
                label="other methods" if not drawn else None,
            )
            drawn += [numbers[column] for column in at]
    for index, series in enumerate(block.rows):
        if paper:
            at = [column for column in columns if column in series.published]
            means = [series.published[column] for column in at]
            spreads = [0.0] * len(at)
        else:
            at = columns
            both = [mean_and_deviation(series.values[column]) for column in at]
            means, spreads = [mean for mean, _ in both], [spread or 0.0 for _, spread in both]
        x = [float(column) for column in at]
        if not x:
            continue
        label = None if paper else literal(series.name)
        axes.plot(x, means, color=colour(index), linestyle=dash(index), marker="o", markersize=3, label=label)
        low = [m - s for m, s in zip(means, spreads, strict=True)]
        high = [m + s for m, s in zip(means, spreads, strict=True)]
        axes.fill_between(x, low, high, color=colour(index), alpha=0.15, linewidth=0)
        drawn += [*low, *high]
    axes.set_xlabel("tIoU")
    axes.set_ylabel("mAP (%)")
    axes.grid(color="#dddddd", linewidth=0.6)
    return drawn


def _rows(outcome: Outcome, axes: Axes, paper: bool) -> list[float]:
    """One dot a row, every seed as a small ring beside it."""
    block, column = outcome.blocks[0], outcome.columns[0]
    drawn: list[float] = []
    for place, series in enumerate(block.rows):
        if paper:
            if column in series.published:
                axes.plot(series.published[column], place, "o", color="#666666")
                drawn.append(series.published[column])
            continue
        values = series.values[column]
        mean, deviation = mean_and_deviation(values)
        axes.errorbar(mean, place, xerr=deviation, fmt="o", color=colour(0), capsize=3)
        axes.plot(
            values, [place + 0.22] * len(values), "o", color=colour(0), markerfacecolor="none", markersize=4
        )
        drawn += [*values, mean + (deviation or 0.0), mean - (deviation or 0.0)]
    axes.set_yticks(range(len(block.rows)), ["" if paper else literal(series.name) for series in block.rows])
    axes.set_ylim(len(block.rows) - 0.4, -0.6)
    axes.set_xlabel(f"mAP@{column} (%)")
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    return drawn


def _attention(outcome: Outcome) -> Figure:
    """A panel for each of table 2's ratios: rows in each stream, and the paper's."""
    figure = new_figure(9.5, 1.6 + 0.35 * len(outcome.blocks) * len(outcome.blocks[0].rows))
    panels = figure.subplots(1, len(STATISTICS), sharey=True)
    for axes, column in zip(panels, STATISTICS, strict=True):
        names, place = [], 0
        for block in outcome.blocks:
            for index, series in enumerate(block.rows):
                values = series.values[column]
                mean, deviation = mean_and_deviation(values)
                axes.errorbar(
                    mean, place, xerr=deviation, fmt="o", color=colour(index), capsize=3, label="ours"
                )
                if column in series.published:
                    paper = series.published[column]
                    axes.plot(paper, place, "D", color=colour(index), markerfacecolor="none", label="paper")
                names.append(literal(f"{block.streams}, {series.name}"))
                place += 1
        axes.set_yticks(range(place), names)
        axes.set_ylim(place - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.set_title(literal(HEADINGS[column]), fontsize=8.5)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    entitle(figure, outcome.plan.experiment.title, outcome.simulated)
    _legend(figure, panels[:1])
    return figure


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    handles: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        columns = 2 if max(map(len, handles)) > 30 else 4
        figure.legend(
            handles.values(),
            handles.keys(),
            loc="outside lower center",
            ncols=columns,
            frameon=False,
            fontsize=8.5,
        )


def _equal_spans(panels: Sequence[Axes], seen: Sequence[Sequence[float]], *, along_x: bool) -> None:
    """Give all panels the same span, each about its own values: slopes then look as steep in both."""
    ranges = [(min(values), max(values)) for values in seen if values]
    if not ranges:
        return
    span = 1.15 * max(max(high - low for low, high in ranges), 1.0)
    for axes, values in zip(panels, seen, strict=True):
        if values:
            middle = (min(values) + max(values)) / 2
            limits = max(0.0, middle - span / 2), max(0.0, middle - span / 2) + span
            (axes.set_xlim if along_x else axes.set_ylim)(*limits)

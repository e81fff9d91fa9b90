"""Pictures: losses, AP per class, precision over recall; one video along time is in ``timelines``.

Each function returns a matplotlib Figure that belongs to no window and no global state; :func:`save_figure`
writes it as PNG or SVG. Colours are those of Okabe and Ito, told apart with any colour vision. matplotlib is
imported on use.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from dgam.core.errors import InputError
from dgam.core.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#222222"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":")


def save_figure(path: str | os.PathLike[str], figure: Figure, dpi: int = 150) -> None:
    """Write a figure as PNG or SVG, by the path's ending, atomically. The same figure gives the same bytes.

    InputError for another ending.
    """
    import matplotlib

    ending = Path(path).suffix.lower()
    if ending not in (".png", ".svg"):
        raise InputError(
            f"{path}: pictures are written as .png or .svg, not {ending or 'without an ending'}."
        )
    buffer = io.BytesIO()
    metadata = {"Date": None} if ending == ".svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "dgam"}):
        figure.savefig(buffer, format=ending[1:], dpi=dpi, metadata=metadata)
    with atomic_write(path) as file:
        file.write(buffer.getvalue())


def losses_figure(
    records: Sequence[Mapping[str, Any]],
    keys: Sequence[str] | None = None,
    x: str = "epoch",
    by: str = "stream",
    title: str = "Losses",
    *,
    simulated: bool = False,
) -> Figure:
    """Small panels, one per logged quantity, over epochs; a line for each value of ``by``.

    ``records`` are the objects of a metrics.jsonl; ``keys`` the quantities, by default every number in them
    except ``x``, steps, times and rates. InputError where no record has ``x`` and a quantity.
    """
    records = [record for record in records if _is_number(record.get(x))]
    if keys is None:
        skipped = {x, "epoch", "step", "time", "seconds", "lr", "cvae_lr", "learning_rate"}
        found = dict.fromkeys(k for record in records for k, v in record.items() if _is_number(v))
        keys = [key for key in found if key not in skipped]
    if not records or not keys:
        raise InputError(
            f"no record has both {x!r} and a quantity to draw; expected lines of a metrics.jsonl."
        )
    columns = min(3, len(keys))
    rows = math.ceil(len(keys) / columns)
    figure = new_figure(3.4 * columns + 0.4, 2.3 * rows + 0.8)
    panels = np.atleast_2d(figure.subplots(rows, columns, squeeze=False)).ravel()
    lines = list(dict.fromkeys(str(record.get(by, "")) for record in records))
    for axes, key in zip(panels, keys, strict=False):
        for index, name in enumerate(lines):
            points = [
                (r[x], r[key]) for r in records if str(r.get(by, "")) == name and _is_number(r.get(key))
            ]
            if points:
                over, values = zip(*points, strict=True)
                mark = "." if len(points) < 30 else None
                axes.plot(
                    over,
                    values,
                    color=colour(index),
                    linestyle=dash(index),
                    marker=mark,
                    linewidth=1.3,
                    label=literal(name),
                )
        axes.set_title(literal(key), fontsize=9)
        axes.set_xlabel(x)
    for axes in panels[len(keys) :]:
        axes.set_axis_off()
    if lines != [""]:
        drawn = [panel.get_legend_handles_labels() for panel in panels]
        legend = {
            name: handle for handles, names in drawn for handle, name in zip(handles, names, strict=True)
        }
        figure.legend(legend.values(), legend, loc="outside lower center", ncols=len(legend), frameon=False)
    entitle(figure, title, simulated)
    return figure


def class_ap_figure(
    systems: Mapping[str, Mapping[str, Any]],
    tiou: float = 0.5,
    title: str = "AP per class",
    *,
    simulated: bool = False,
) -> Figure:
    """Bars of AP per class in percent, systems side by side, best class of the first system on top.

    ``systems`` maps a name to ``Evaluation.to_dict()``. InputError where a system was not evaluated at
    ``tiou``.
    """
    if not systems:
        raise InputError("AP per class needs at least one system.")
    ap = {name: _class_ap(name, result, tiou) for name, result in systems.items()}
    first = next(iter(ap.values()))
    classes = list(dict.fromkeys(label for values in ap.values() for label in values))
    classes.sort(key=lambda label: first.get(label, -1.0))
    height = 0.8 / len(ap)
    figure = new_figure(7, max(2.2, 0.1 + len(classes) * (0.11 + 0.13 * len(ap))) + 1.1)
    axes = figure.subplots()
    for index, (name, values) in enumerate(ap.items()):
        at = np.arange(len(classes)) + 0.4 - (index + 0.5) * height
        widths = [values.get(label, 0.0) for label in classes]
        mean = 100 * systems[name]["map"][_tiou_index(name, systems[name], tiou)]
        axes.barh(at, widths, height * 0.92, color=colour(index), label=literal(f"{name} (mAP {mean:.1f})"))
    axes.set_yticks(np.arange(len(classes)), list(map(literal, classes)))
    axes.set_ylim(-0.6, len(classes) - 0.4)
    axes.set_xlim(0, max(1.0, *(1.08 * max(values.values(), default=0) for values in ap.values())))
    axes.set_xlabel(f"AP at tIoU {tiou:g} (%)")
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    figure.legend(loc="outside lower center", ncols=len(ap), frameon=False)
    entitle(figure, title, simulated)
    return figure


def precision_recall_figure(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    title: str = "Precision over recall",
    *,
    simulated: bool = False,
) -> Figure:
    """Precision over recall, a line each: name to ``(recall (n,), precision (n,))`` in [0, 1].

    With ``Evaluation.curve``, pass ``envelope`` as the precision to see the area that AP measures.
    """
    figure = new_figure(6, 5)
    axes = figure.subplots()
    for index, (name, (recall, precision)) in enumerate(curves.items()):
        over, values = np.asarray(recall, dtype=float), np.asarray(precision, dtype=float)
        over = np.concatenate([[0.0], over])
        values = np.concatenate([values[:1], values]) if len(values) else np.zeros(1)
        axes.plot(
            over, values, color=colour(index), linestyle=dash(index), linewidth=1.5, label=literal(name)
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    axes.grid(color="#dddddd", linewidth=0.6)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    entitle(figure, title, simulated)
    return figure


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, with its own Agg canvas."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def entitle(figure: Figure, title: str, simulated: bool) -> None:
    """Set the title, which says so where data are simulated, and the common style of all axes."""
    figure.suptitle(literal(f"{title} (simulated data)" if simulated else title), fontsize=11, color=INK)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        axes.set_axisbelow(True)


def _class_ap(name: str, result: Mapping[str, Any], tiou: float) -> dict[str, float]:
    index = _tiou_index(name, result, tiou)
    return {label: 100 * values[index] for label, values in result["per_class"].items()}


def _tiou_index(name: str, result: Mapping[str, Any], tiou: float) -> int:
    for index, value in enumerate(result["tiou"]):
        if abs(value - tiou) < 1e-9:
            return index
    raise InputError(
        f"{name}: tIoU {tiou:g} was not evaluated; it has {', '.join(map(str, result['tiou']))}."
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def literal(text: str) -> str:
    """The text as it is: matplotlib reads what stands between dollar signs as a formula."""
    return text.replace("$", r"\$")


def colour(index: int) -> str:
    """The index-th colour, starting over after the last."""
    return COLOURS[index % len(COLOURS)]


def dash(index: int) -> str:
    """The index-th line style, starting over after the last."""
    return DASHES[index % len(DASHES)]

"""A picture of a video as extraction sees it: sampled frames, flow as colours, snippets along time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, EVEN, ODD, MARK = "#222222", "#9ecae1", "#c6dbef", "#D55E00"


def flow_colours(flow: NDArray[np.floating[Any]], largest: float) -> NDArray[np.float64]:
    """Flow (H, W, 2), horizontal then vertical in pixels, to RGB (H, W, 3) in [0, 1].

    The hue is the direction (right: red; then, clockwise as seen, yellow, green, …), the saturation the
    length over ``largest``; no motion is white, and longer flow is as strong as ``largest``.
    """
    from matplotlib.colors import hsv_to_rgb

    length = np.hypot(flow[..., 0], flow[..., 1])
    hue = np.arctan2(flow[..., 1], flow[..., 0]) / (2 * np.pi) % 1.0
    saturation = np.minimum(length / largest, 1.0) if largest > 0 else np.zeros_like(length)
    colours: NDArray[np.float64] = hsv_to_rgb(np.stack([hue, saturation, np.ones_like(hue)], axis=-1))
    return colours  # (H, W, 3)


def draw_samples(
    title: str,
    pictures: Sequence[NDArray[np.uint8]],
    flows: Sequence[NDArray[np.floating[Any]] | None],
    times: Sequence[float],
    snippets: Sequence[int],
    cells: NDArray[np.float64],
    seconds: float,
    notes: Sequence[str] = (),
) -> Figure:
    """Draw a video's samples over its time line.

    ``pictures`` (H, W, 3) and ``flows`` (H, W, 2) or None, one of each for every entry of ``times`` (seconds)
    and ``snippets`` (numbers); ``cells`` holds the snippets' edges in seconds, (T + 1,); ``seconds`` is the
    video's length. At most one sample for each snippet and at least one in all.
    """
    from matplotlib.figure import Figure

    moving = [flow for flow in flows if flow is not None]
    rows = 2 if moving else 1
    height, width = pictures[0].shape[:2]
    columns = len(pictures)
    across = max(2.0 * columns, 8.0)
    down = across / columns * height / width
    figure = Figure(figsize=(across, rows * down + 2.1), layout="constrained")
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[down] * rows + [1.2])
    lengths = [float(np.hypot(flow[..., 0], flow[..., 1]).max()) for flow in moving]
    # The strongest percentile over all samples, so that one wild vector does not wash out the rest.
    strong = [float(np.percentile(np.hypot(flow[..., 0], flow[..., 1]), 99.5)) for flow in moving]
    largest = max([*strong, 0.5])
    for column, (picture, flow) in enumerate(zip(pictures, flows, strict=True)):
        axes = figure.add_subplot(grid[0, column])
        _bare(axes).imshow(picture)
        axes.set_title(f"{times[column]:.2f} s, snippet {snippets[column]}", fontsize=8, color=INK)
        if moving:
            below = _bare(figure.add_subplot(grid[1, column]))
            if flow is None:
                below.set_axis_off()
                continue
            below.imshow(flow_colours(flow, largest))
            longest = float(np.hypot(flow[..., 0], flow[..., 1]).max())
            below.set_xlabel(f"longest {longest:.1f} px", fontsize=7, color=INK)
    along = figure.add_subplot(grid[rows, : max(1, columns - 1)] if moving and columns > 1 else grid[rows, :])
    _draw_timeline(along, cells, times, snippets, seconds)
    if moving and columns > 1:
        _draw_wheel(figure.add_subplot(grid[rows, columns - 1]), largest, max(lengths))
    figure.suptitle("\n".join([title, *notes]), fontsize=9, color=INK)
    return figure


def _draw_timeline(
    axes: Axes, cells: NDArray[np.float64], times: Sequence[float], snippets: Sequence[int], seconds: float
) -> None:
    """Snippets as cells of two shades, the sampled ones marked, the video's end as a line."""
    from matplotlib.collections import PolyCollection

    chosen = set(snippets)
    boxes = [[(a, 0), (b, 0), (b, 1), (a, 1)] for a, b in itertools.pairwise(cells)]
    colours = [MARK if i in chosen else (EVEN, ODD)[i % 2] for i in range(len(boxes))]
    edge = "white" if len(boxes) <= 200 else "none"
    axes.add_collection(PolyCollection(boxes, facecolors=colours, edgecolors=edge, linewidths=0.5))
    for time in times:
        axes.plot([time, time], [1.0, 1.25], color=MARK, linewidth=1)
    axes.plot([seconds, seconds], [-0.1, 1.25], color=INK, linewidth=1.2)
    end = max(seconds, float(cells[-1]))
    axes.set_xlim(-0.01 * end, 1.01 * end)
    axes.set_ylim(-0.1, 1.3)
    axes.set_yticks([])
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.tick_params(labelsize=7, colors=INK)
    what = (
        f"seconds; {len(boxes)} snippets of {cells[1] - cells[0]:.2f} s, sampled ones orange; line: the end"
    )
    axes.set_xlabel(what, fontsize=8, color=INK)


def _draw_wheel(axes: Axes, largest: float, longest: float) -> None:
    """What colour stands for which direction."""
    side = np.linspace(-1, 1, 121)
    wheel = np.stack(np.meshgrid(side, side), axis=-1) * largest  # (121, 121, 2)
    colours = np.ones((121, 121, 4))
    colours[..., :3] = flow_colours(wheel, largest)
    colours[..., 3] = np.hypot(wheel[..., 0], wheel[..., 1]) <= largest
    _bare(axes).imshow(colours)
    axes.set_xlabel(f"flow: rim {largest:.1f} px a frame\n(longest {longest:.1f})", fontsize=7, color=INK)


def _bare(axes: Axes) -> Axes:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes

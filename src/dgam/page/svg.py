"""SVG elements as escaped markup. Text stands beside the drawings in HTML, so that it never stretches."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import ArrayLike

WIDTH, HEIGHT = 1000, 100


def tag(name: str, *children: str, **attributes: object) -> Markup:
    """An element; every attribute and plain child is escaped. ``class_`` is class, ``_`` in a name is "-"."""
    pairs = [
        f' {key if key == "viewBox" else key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    ]
    inner = "".join(escape(child) for child in children)
    return Markup(f"<{name}{''.join(pairs)}>{inner}</{name}>")


def drawing(children: Iterable[str], label: str, height: int = HEIGHT, class_: str = "strip") -> Markup:
    """A drawing of ``WIDTH`` × ``height`` units that stretches to its box; ``label`` says what it shows."""
    return tag(
        "svg",
        *children,
        viewBox=f"0 0 {WIDTH} {height}",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
        class_=class_,
    )


def rect(
    start: float, end: float, top: float, height: float, class_: str, title: str = "", **more: object
) -> Markup:
    """A bar from ``start`` to ``end`` in units of the drawing, at least 1.5 wide so that it can be seen."""
    children = [tag("title", title)] if title else []
    width = max(1.5, end - start)
    return tag(
        "rect",
        *children,
        x=number(start),
        y=number(top),
        width=number(width),
        height=number(height),
        class_=class_,
        **more,
    )


def path(x: ArrayLike, y: ArrayLike, class_: str) -> Markup:
    """A line through points (n,) in units of the drawing; nothing where there are none."""
    over, values = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    points = "L".join(f"{number(a)} {number(b)}" for a, b in zip(over, values, strict=True))
    return tag("path", d=f"M{points}" if points else "", class_=class_)


def number(value: float) -> str:
    """One decimal at most, no trailing zero."""
    return f"{value:.1f}".removesuffix(".0")

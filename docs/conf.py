"""Sphinx settings of the documentation site: ``make docs`` builds it into build/docs, without the network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert

from dgam import __version__

sys.path.insert(0, str(Path(__file__).parent))

project = "dgam"
author = copyright = "The dgam engineers"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton", "reference"]
exclude_patterns = ["results/*/runs"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
highlight_language = "none"

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_type_aliases = {name: name for name in ("Array", "ArrayLike", "Floats", "Integers")}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90
html_theme = "furo"
html_title = "dgam"
html_favicon = "../src/dgam/app/static/icon.svg"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
html_math_renderer = "mathml"


def _formula(display: str) -> Any:
    """A formula as MathML, which browsers show by themselves: no script from elsewhere is needed."""

    def visit(translator: Any, node: nodes.Element) -> None:
        translator.body.append(convert(node.astext(), display=display))
        raise nodes.SkipNode

    return visit


def _bars_are_bars(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Docstrings write |gt| for the size of a set, which reStructuredText would take for a placeholder."""
    for number, line in enumerate(lines):
        parts = line.split("``")
        parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]  # outside literals
        lines[number] = "``".join(parts)


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", _bars_are_bars)
    app.add_html_math_renderer(
        "mathml", inline_renderers=(_formula("inline"), None), block_renderers=(_formula("block"), None)
    )

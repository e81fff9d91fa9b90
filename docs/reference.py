"""Sphinx directives for what the program says of itself: the help of every command, and every setting.

``dgam-commands`` makes a section of each command with its ``--help``; ``dgam-settings`` one of each part of
the settings, with the values of the default preset.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any

from docutils import nodes
from rich.console import Console
from sphinx.util.docutils import SphinxDirective

from dgam.cli.app import COMMANDS, build_app
from dgam.cli.settings_help import describe_settings
from dgam.core.config import Config, load_config

WIDTH = 88


def command_help(*words: str) -> str:
    """What ``dgam WORDS --help`` prints in a terminal of 88 columns, without colours."""
    console = Console(file=io.StringIO(), width=WIDTH, color_system=None, force_terminal=False)
    build_app(words[0]).help_print(list(words), console=console)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().strip().splitlines())


def commands() -> Iterator[tuple[str, ...]]:
    """The words of every command, those of a group of commands too."""
    for name in COMMANDS:
        yield (name,)
        group = build_app(name)[name]
        yield from ((name, part) for part in group if not part.startswith("-"))


def sections(pages: Iterable[tuple[str, str]]) -> list[nodes.Node]:
    """Sections of preformatted text, from their headings and texts."""
    made: list[nodes.Node] = []
    for heading, text in pages:
        section = nodes.section(ids=[nodes.make_id(heading)], names=[heading])
        section += nodes.title(text=heading)
        section += nodes.literal_block(text, text, language="none")
        made.append(section)
    return made


class Commands(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        return sections((f"dgam {' '.join(words)}", command_help(*words)) for words in commands())


class Settings(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        values = load_config()
        parts = [name for name in Config.model_fields if name not in ("preset", "streams")]
        return sections((part, describe_settings(values, part)) for part in parts)


def setup(app: Any) -> dict[str, Any]:
    app.add_directive("dgam-commands", Commands)
    app.add_directive("dgam-settings", Settings)
    return {"parallel_read_safe": True}

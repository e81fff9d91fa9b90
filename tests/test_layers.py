"""Who may import whom: docs/architecture.md's table and order, enforced on every import in the source.

The rules are read from the document, so document and code cannot part company: a module that the document
does not list, or an import that its table does not allow, fails here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "dgam"
DOCUMENT = ROOT / "docs" / "architecture.md"

# What holds times of actions; training must not be able to see them.
SEGMENT_TYPES = {"Segment", "AnnotatedVideo", "SegmentAnnotations"}


@dataclass(frozen=True)
class Rules:
    """``order``: package to its modules, as they may import each other; ``allowed``: package or module to
    what it may import from others; ``torch_free``: whether a package or module must do without torch."""

    order: dict[str, list[str]]
    allowed: dict[str, list[str]]
    torch_free: dict[str, bool]


def read_rules(text: str) -> Rules:
    """The picture of folders and the table under "Layers" of the document."""
    order: dict[str, list[str]] = {}
    package = ""
    for line in text.split("## Layers")[1].splitlines():
        if found := re.match(r" {6}(\w+)/ +(.+)", line):
            package = found[1]
            order[package] = found[2].split()
        elif package and re.match(r" {15,}\w", line):
            order[package] += line.split()
        else:
            package = ""
    allowed: dict[str, list[str]] = {}
    torch_free: dict[str, bool] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("| ") or len(cells) != 3 or cells[0] == "package":
            continue
        for name in cells[0].split(", "):
            targets = cells[1].split(", ")
            allowed[name] = [] if targets == ["nothing"] else ["*"] if "everything" in targets else targets
            torch_free[name] = "no torch" in cells[2]
    del order["cli"]  # described in words
    return Rules(order, allowed, torch_free)


def sources_of(folder: Path) -> dict[str, str]:
    """Dotted name below dgam ("core.types", "api") to source text; packages by their own name, dgam as ""."""
    texts = {}
    for file in folder.rglob("*.py"):
        parts = file.relative_to(folder).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        texts[name] = file.read_text(encoding="utf-8")
    return texts


def nodes_of(tree: ast.AST, types_too: bool) -> Iterator[ast.AST]:
    """All nodes below ``tree``; without ``types_too`` not those under ``if TYPE_CHECKING``."""
    for node in ast.iter_child_nodes(tree):
        if types_too or not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield node
            yield from nodes_of(node, types_too)


@cache
def statements_of(text: str, types_too: bool) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The import statements of a source, at its top or inside functions: module, and names taken from it."""
    found = []
    for node in nodes_of(ast.parse(text), types_too):
        if isinstance(node, ast.Import):
            found += [(alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import of {node.module}"
            found.append((f"{node.module}", tuple(alias.name for alias in node.names)))
    return tuple(found)


@cache
def names_in(text: str) -> frozenset[str]:
    """Every name that a source uses, defines or imports."""
    nodes = ast.walk(ast.parse(text))
    return frozenset(str(getattr(node, key, "")) for node in nodes for key in ("id", "attr", "name"))


def imports_of(text: str, known: Collection[str], types_too: bool = True) -> Iterator[str]:
    """What a source imports: modules of dgam without that prefix, others whole."""
    for module, names in statements_of(text, types_too):
        inner = [f"{module}.{name}" for name in names]
        below = [name for name in inner if name.removeprefix("dgam.") in known]
        whole = [module] if len(below) < len(inner) or not names else []
        yield from (name.removeprefix("dgam.") for name in below + whole)


def most_specific(table: Mapping[str, object], module: str) -> str:
    """The entry of ``table`` that speaks about ``module``: its own, or its package's."""
    return module if module in table else module.split(".")[0]


def violations(texts: Mapping[str, str], rules: Rules) -> list[str]:
    """Everything in the sources that the rules forbid."""
    found = []
    imports = {module: sorted(set(imports_of(text, texts))) for module, text in texts.items()}
    for module, targets in imports.items():
        package, _, name = module.partition(".")
        if module in ("", "__main__"):
            continue  # they hand on to api and cli
        if package in rules.order and name and name not in rules.order[package]:
            found.append(f"{module} is not listed in docs/architecture.md")
        # Two modules of a package may know each other's types, as long as one alone needs the other to run.
        needed = {*imports_of(texts[module], texts, types_too=False)}
        asked = [target for target in targets if target in needed or target.split(".")[0] != package]
        complaints = {target: complaint_about(module, target, texts, rules) for target in asked}
        found += [f"{module} imports {target}{what}" for target, what in complaints.items() if what]
    return found + segment_leaks(texts, imports)


def complaint_about(module: str, target: str, known: Collection[str], rules: Rules) -> str | None:
    """What is wrong with ``module`` importing ``target``, if anything: words to put behind that."""
    package, _, name = module.partition(".")
    home, _, inner = target.partition(".")
    if home == "torch" or target == "safetensors.torch":
        return "; it must do without" if rules.torch_free[most_specific(rules.torch_free, module)] else None
    if target not in known:
        return None  # somebody else's package
    if home == package:
        order = rules.order.get(package, [])  # cli has none
        if name not in order or inner not in order:
            return None  # what is not listed has been complained of
        return ", which comes after it" if order.index(inner) > order.index(name) else None
    may = rules.allowed[most_specific(rules.allowed, module)]
    return None if {"*", home, target} & set(may) else ", which its row does not allow"


def segment_leaks(texts: Mapping[str, str], imports: Mapping[str, list[str]]) -> list[str]:
    """Where training could see times: it reaches data.annotations, or names a type that holds times."""
    found = []
    for module, text in texts.items():
        if module != "data.dataset" and not module.startswith("training"):
            continue
        reached: set[str] = set()
        waiting = [module]
        while waiting:
            current = waiting.pop()
            if current in texts and current not in reached:
                reached.add(current)
                waiting += imports[current]
        if "data.annotations" in reached:
            found.append(f"{module} reaches data.annotations")
        found += [f"{module} names {name}" for name in sorted(SEGMENT_TYPES & names_in(text))]
    return found


@pytest.fixture(scope="module")
def rules() -> Rules:
    return read_rules(DOCUMENT.read_text(encoding="utf-8"))


def test_the_document_is_understood(rules: Rules) -> None:
    packages = {file.parent.name for file in SOURCE.glob("*/__init__.py")}
    assert set(rules.order) == packages - {"cli"}
    assert packages - {"detection"} <= set(rules.allowed)  # detection has a row for each module
    assert rules.torch_free["core"]
    assert not rules.torch_free["training"]
    assert rules.allowed["model"] == []


def test_every_import_is_allowed(rules: Rules) -> None:
    assert violations(sources_of(SOURCE), rules) == []


def test_every_module_that_the_document_lists_exists(rules: Rules) -> None:
    known = sources_of(SOURCE)
    listed = [f"{package}.{name}" for package, names in rules.order.items() for name in names]
    assert [module for module in listed if module not in known] == []


PLANTED = [
    ("core.types", "import torch", "core.types imports torch; it must do without"),
    ("core.errors", "from dgam.core import config", "core.errors imports core.config, which comes after it"),
    ("core.types", "import dgam.data.annotations", "core.types imports data.annotations, which its row"),
    ("features.source", "from dgam.data import sampling", "features.source imports data.sampling"),
    ("features.source", "from dgam.features.store import FeatureStore", ", which comes after it"),
    ("model.networks", "from dgam.core.config import Config", "model.networks imports core.config"),
    ("training.trainer", "from dgam.data.annotations import read_labels", "training.trainer reaches"),
    ("training.engine", "from dgam.core.types import Segment", "training.engine names Segment"),
    ("data.dataset", "def f():\n    return types.AnnotatedVideo", "data.dataset names AnnotatedVideo"),
    (
        "data.sampling",
        "from dgam.data.annotations import read_labels",
        "data.dataset reaches data.annotations",
    ),
    ("detection.scoring", "def f():\n    from torch import nn", "detection.scoring imports torch"),
    ("detection.scoring", "from dgam.features.store import FeatureStore", "imports features.store"),
    ("evaluation.metrics", "from dgam.report import tables", "evaluation.metrics imports report.tables"),
    ("report.tables", "import torch.nn", "report.tables imports torch.nn"),
    ("core.nonsense", "", "core.nonsense is not listed in docs/architecture.md"),
]


@pytest.mark.parametrize(("module", "line", "complaint"), PLANTED)
def test_a_forbidden_import_is_found(module: str, line: str, complaint: str, rules: Rules) -> None:
    texts = sources_of(SOURCE)
    before = violations(texts, rules)
    texts[module] = f"{texts.get(module, '')}\n\n{line}\n"
    assert any(complaint in found for found in set(violations(texts, rules)) - set(before))

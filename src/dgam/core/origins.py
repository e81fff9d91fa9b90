"""Where settings come from: a preset, a file, an option. Read as nested values; messages name the origin."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from dgam.core.errors import Problem


@dataclass(frozen=True)
class Origin:
    """Settings of one origin: what to print before a defective key, and the nested values."""

    name: str
    values: dict[str, Any]

    def has(self, path: Sequence[Any]) -> bool:
        """Whether this origin says anything at ``path``, a sequence of keys."""
        value: Any = self.values
        for part in path:
            if isinstance(value, list):
                return True  # lists are replaced as a whole, so all of it is this origin's
            if not isinstance(value, Mapping) or part not in value:
                return False
            value = value[part]
        return True


def read_file(path: Path, problems: list[Problem]) -> Origin:
    """A user's YAML file; defects are appended to ``problems``."""
    name = f"{path}: "
    try:
        return Origin(name, read_yaml(path.read_text(encoding="utf-8"), str(path), problems))
    except OSError as error:
        problems.append(Problem(str(path), f"cannot be read: {error.strerror}."))
    except UnicodeDecodeError as error:
        problems.append(Problem(str(path), f"is not a text file in UTF-8: {error}."))
    return Origin(name, {})


def read_yaml(text: str, where: str, problems: list[Problem]) -> dict[str, Any]:
    """YAML text that holds sections; defects are appended to ``problems`` with ``where``."""
    try:
        repeated = list(_repeated_keys(yaml.compose(text, yaml.SafeLoader)))
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 2001-13-45
        problems.append(Problem(where, f"is not valid YAML: {' '.join(str(error).split())}."))
        return {}
    problems.extend(
        Problem(f"{where}: {key}", "is given twice; only the last would count.") for key in repeated
    )
    if value is not None and not isinstance(value, dict):
        problems.append(Problem(where, f"must hold sections such as 'train:', got {brief(value)}."))
        return {}
    return value or {}


def _repeated_keys(node: yaml.Node | None, path: str = "", depth: int = 5) -> Iterator[str]:
    """Keys that a mapping holds twice, which PyYAML would let pass. No setting lies deeper than five."""
    if not isinstance(node, yaml.MappingNode) or depth == 0:
        return
    seen = set()
    for key, value in node.value:
        name = f"{path}{key.value}"
        if name in seen:
            yield name
        seen.add(name)
        yield from _repeated_keys(value, f"{name}.", depth - 1)


def read_override(text: str, problems: list[Problem]) -> Origin:
    """One ``section.name=value``; defects are appended to ``problems``."""
    key, equals, raw = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        problems.append(Problem("--set", f"{brief(text)} is not of the form section.name=value."))
        return Origin("", {})
    if parts == ["preset"]:
        problems.append(Problem("--set", "cannot choose the preset.", remedy="Use --preset."))
        return Origin("", {})
    try:
        value = yaml.safe_load(raw)
    except (yaml.YAMLError, ValueError, RecursionError):
        problems.append(Problem("--set", f"the value of {brief(text)} cannot be read as YAML."))
        return Origin("", {})
    for part in reversed(parts):
        value = {part: value}
    return Origin("--set ", value)


def merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the values of ``top`` over it, section by section."""
    merged = dict(base)
    for key, value in top.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def explain(
    error: ValidationError, model: type[BaseModel], prefix: tuple[str, ...], origins: Sequence[Origin]
) -> list[Problem]:
    """The defects that pydantic found in ``model``, which lies at ``prefix`` of the settings, in plain words.

    Each names the topmost of ``origins`` that set the value.
    """
    problems = []
    for detail in error.errors():
        loc, kind, got = detail["loc"], detail["type"], brief(detail["input"])
        path = [part for part in (*prefix, *loc) if part != "[key]"]
        origin = next((origin.name for origin in reversed(origins) if origin.has(path)), "")
        remedy = ""
        if kind in ("extra_forbidden", "invalid_key"):
            what, remedy = "no such setting.", nearest(str(loc[-1]), model, loc[:-1])
        elif "[key]" in loc:
            what = f"{detail['msg'].replace('Input should', 'must')}: only these can differ between streams."
        elif kind in ("model_type", "dict_type"):
            what = f"is a section, not a setting; got {got}."
        elif kind == "tuple_type":
            what = f"must be a list such as [0.1, 0.5], got {got}."
        elif kind == "too_short":
            what = f"must hold at least one value, got {got}."
        elif kind == "missing":
            what = f"has too few values, got {got}."
        else:
            what = f"{detail['msg'].replace('Input should', 'must')}, got {got}."
        problems.append(Problem(origin + ".".join(map(str, path)), what, remedy=remedy))
    return problems


def nearest(name: str, model: Any, section: Sequence[Any] = ()) -> str:
    """A hint at the setting of ``model``'s section that was meant, or another section that has ``name``."""
    part = model
    for key in section:
        field = getattr(part, "model_fields", {}).get(key)
        part = field.annotation if field is not None else None
    known = tuple(key for key in getattr(part, "model_fields", ()) if key != "preset")
    homes = [
        key
        for key, field in model.model_fields.items()
        if name in getattr(field.annotation, "model_fields", ())
    ]
    if homes:
        return f"Did you mean '{homes[0]}.{name}'?"
    return nearest_of(name, known)


def nearest_of(name: str, known: Sequence[str]) -> str:
    """A hint at the one of ``known`` that was meant, or the list of them."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"Known ones: {', '.join(known)}." if known else ""


def brief(value: Any) -> str:
    """``repr`` of a value of any size, in at most 80 characters and in bounded time."""
    shortened = reprlib.Repr()
    shortened.maxlevel, shortened.maxstring, shortened.maxother, shortened.maxlong = 2, 60, 60, 60
    shown = shortened.repr(value)
    return shown if len(shown) <= 80 else f"{shown[:79]}…"

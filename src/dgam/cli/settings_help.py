"""What ``dgam info settings`` says of each setting, taken from where the settings are declared."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from dgam.core.config import PER_STREAM, Config


def describe_settings(values: Config, only: str = "") -> str:
    """Every setting (or those of section ``only``): name, value in ``values``, what it can be, meaning."""
    blocks = []
    for section, field in Config.model_fields.items():
        if section in ("preset", "streams") or only not in ("", section):
            continue
        model = field.annotation
        assert isinstance(model, type)
        can_differ = " Can differ between streams." if section in PER_STREAM else ""
        blocks.append(f"{section}: {(model.__doc__ or '').strip()}{can_differ}\n")
        current = getattr(values, section)
        schema = current.model_json_schema()
        for name, about in schema["properties"].items():
            value = json.dumps(current.model_dump(mode="json")[name])
            blocks.append(
                f"  {section}.{name} = {value}    {kind_of(about)}\n{_wrapped(about['description'])}\n"
            )
    return "\n".join(blocks).rstrip()


def kind_of(schema: Mapping[str, Any]) -> str:
    """What values a setting can take, in words, from its JSON schema.

    >>> kind_of({"type": "number", "exclusiveMinimum": 0})
    'number > 0'
    """
    if "anyOf" in schema:
        return " or ".join(kind_of(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    kind = schema.get("type")
    if kind == "array":
        if "prefixItems" in schema:
            return f"list of {len(schema['prefixItems'])}, each a {kind_of(schema['prefixItems'][0])}"
        return f"list, each a {kind_of(schema['items'])}"
    words = {"number": "number", "integer": "whole number", "boolean": "true | false", "null": "null"}
    limits = " and ".join(_limits(schema))
    return f"{words.get(str(kind), str(kind))} {limits}".rstrip()


def _limits(schema: Mapping[str, Any]) -> Iterator[str]:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    for key, sign in signs.items():
        if key in schema:
            yield f"{sign} {schema[key]:g}"


def _wrapped(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 100, initial_indent="      ", subsequent_indent="      ")

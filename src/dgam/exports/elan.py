"""ELAN's annotation format, EAF 3.0: tiers of annotations for linguists and people who code behaviour.

Written after "EAF Annotation Format 3.0 and ELAN" (Max Planck Institute for Psycholinguistics) and its
schema http://www.mpi.nl/tools/elan/EAFv3.0.xsd. Each class has a tier; annotations of a tier must not
overlap, so a class whose detections do has further tiers. Scores hang below on tiers of their own, one to
one.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from urllib.parse import quote
from xml.etree import ElementTree as Xml

from dgam.exports.content import Content, Placed
from dgam.exports.text import one_line
from dgam.features.names import file_stem

_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
# The schema demands a date. A constant one, so that the same detections give the same file.
_DATE = "1970-01-01T00:00:00+00:00"


def write_elan(content: Content) -> dict[str, bytes]:
    """One ``.eaf`` file a video; times in milliseconds, an annotation lasts at least one."""
    return {
        f"{file_stem(video)}.eaf": _document(content.placed(video), content.media.get(video))
        for video in content.detections.videos
    }


def _document(segments: Sequence[Placed], media: str | None) -> bytes:
    root = Xml.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "dgam",
            "DATE": _DATE,
            "FORMAT": "3.0",
            "VERSION": "3.0",
            f"{{{_INSTANCE}}}noNamespaceSchemaLocation": _SCHEMA,
        },
    )
    header = Xml.SubElement(root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    if media is not None:
        Xml.SubElement(header, "MEDIA_DESCRIPTOR", _media(media))
    order = Xml.SubElement(root, "TIME_ORDER")
    placed = [one.at_least(1)._replace(label=one_line(one.label) or "no name") for one in segments]
    slots = _time_slots(order, (time for one in placed for time in (one.start, one.end)))
    annotations = 0
    names: set[str] = set()
    for label in sorted({one.label for one in placed}):
        for members in _without_overlap([one for one in placed if one.label == label]):
            name = _unused(label, names)
            tier = Xml.SubElement(root, "TIER", {"TIER_ID": name, "LINGUISTIC_TYPE_REF": "action"})
            below = {
                "TIER_ID": _unused(f"{name} score", names),
                "LINGUISTIC_TYPE_REF": "score",
                "PARENT_REF": name,
            }
            scores = Xml.SubElement(root, "TIER", below)
            for one in members:
                times = {"TIME_SLOT_REF1": slots[one.start], "TIME_SLOT_REF2": slots[one.end]}
                identity, of_score = f"a{annotations + 1}", f"a{annotations + 2}"
                annotations += 2
                _annotate(tier, "ALIGNABLE_ANNOTATION", {"ANNOTATION_ID": identity, **times}, label)
                linked = {"ANNOTATION_ID": of_score, "ANNOTATION_REF": identity}
                _annotate(scores, "REF_ANNOTATION", linked, repr(one.score))
    kind = {"GRAPHIC_REFERENCES": "false"}
    Xml.SubElement(
        root, "LINGUISTIC_TYPE", {"LINGUISTIC_TYPE_ID": "action", "TIME_ALIGNABLE": "true", **kind}
    )
    constrained = {"TIME_ALIGNABLE": "false", "CONSTRAINTS": "Symbolic_Association", **kind}
    Xml.SubElement(root, "LINGUISTIC_TYPE", {"LINGUISTIC_TYPE_ID": "score", **constrained})
    association = {"STEREOTYPE": "Symbolic_Association", "DESCRIPTION": "one score for each annotation"}
    Xml.SubElement(root, "CONSTRAINT", association)
    Xml.indent(root, " ")
    return bytes(Xml.tostring(root, encoding="UTF-8", xml_declaration=True)) + b"\n"


def _media(media: str) -> dict[str, str]:
    place = Path(media)
    address = media if "://" in media else place.as_uri() if place.is_absolute() else quote(place.as_posix())
    kind, _ = mimetypes.guess_type(media)
    return {
        "MEDIA_URL": address,
        "MIME_TYPE": kind or "unknown",
        "RELATIVE_MEDIA_URL": f"./{PurePath(address).name}",
    }


def _time_slots(order: Xml.Element, times: Iterable[int]) -> dict[int, str]:
    """Write each time once, rising; the slots' ids by their time."""
    slots = {}
    for number, time in enumerate(sorted(set(times)), start=1):
        slots[time] = f"ts{number}"
        Xml.SubElement(order, "TIME_SLOT", {"TIME_SLOT_ID": slots[time], "TIME_VALUE": str(time)})
    return slots


def _without_overlap(segments: Sequence[Placed]) -> list[list[Placed]]:
    """Segments by start, shared out over as few rows as can hold them without overlap."""
    rows: list[list[Placed]] = []
    for one in segments:
        row = next((row for row in rows if row[-1].end <= one.start), None)
        if row is None:
            rows.append([one])
        else:
            row.append(one)
    return rows


def _unused(name: str, names: set[str]) -> str:
    """``name``, or with a number behind it where a tier has it already; taken from now on."""
    found, number = name, 2
    while found in names:
        found, number = f"{name} ({number})", number + 1
    names.add(found)
    return found


def _annotate(tier: Xml.Element, kind: str, attributes: dict[str, str], value: str) -> None:
    annotation = Xml.SubElement(Xml.SubElement(tier, "ANNOTATION"), kind, attributes)
    Xml.SubElement(annotation, "ANNOTATION_VALUE").text = value

"""CSV: one detection a line, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io

from dgam.exports.content import Content

COLUMNS = ("video", "start", "end", "label", "score")


def write_csv(content: Content) -> dict[str, bytes]:
    """``detections.csv``: times in seconds with three decimals, scores with every digit (RFC 4180, UTF-8).

    A name that a spreadsheet would take for a formula gets an apostrophe in front, as OWASP advises against
    CSV injection; scores are numbers and stay as they are.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for video in content.detections.videos:
        for one in content.placed(video):
            times = (f"{one.start / 1000:.3f}", f"{one.end / 1000:.3f}")
            writer.writerow((_no_formula(video), *times, _no_formula(one.label), repr(one.score)))
    return {"detections.csv": text.getvalue().encode(errors="replace")}


def _no_formula(text: str) -> str:
    risky = text[:1] in ("\t", "\r", "\n") or text.lstrip()[:1] in ("=", "+", "-", "@")
    return f"'{text}" if risky and text else text

"""What a report says about its run and its data, in words."""

from __future__ import annotations

import yaml

from dgam.core.run import Run
from dgam.core.types import SegmentAnnotations
from dgam.features.source import FeatureSource


def run_facts(
    run: Run, features: FeatureSource, videos: int, truth: SegmentAnnotations | None, simulated: str | None
) -> tuple[tuple[str, str], ...]:
    """Names and values: where from, how trained, how chosen, how much data."""
    streams = ", ".join(f"{name} ({size})" for name, size in run.streams.items())
    facts = [
        ("run", str(run.path)),
        ("preset", run.config.preset),
        ("seed", str(run.seed)),
        ("weights", run.selection),
        ("trained on", f"video labels of {run.videos} videos{f', {run.labels}' if run.labels else ''}"),
        ("streams", f"{streams} dimensions" if streams else "none"),
        ("classes", str(len(run.classes))),
        ("features", f"{features.name}, {videos} videos reported on"),
        ("ground truth", truth.source or "given" if truth is not None else "none: no scores"),
    ]
    if simulated:
        facts.append(("data", simulated))
    return tuple(facts)


def settings_text(run: Run) -> str:
    """All settings of the run, as YAML."""
    return yaml.safe_dump(run.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

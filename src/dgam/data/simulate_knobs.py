"""Every knob of the simulated benchmark, declared once: default, range, unit and meaning; and its presets.

The defaults were fixed by reasoning and by the statistics of THUMOS14's timelines before any localiser was
trained on the result; ``docs/simulation.md`` gives the reason for each.
"""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

from dgam.core.errors import InputProblems, Problem


def _knob(default: Any, low: float, high: float, meaning: str) -> Any:
    return field(default=default, metadata={"low": low, "high": high, "help": meaning})


def _choice(default: str, choices: tuple[str, ...], meaning: str) -> Any:
    return field(default=default, metadata={"choices": choices, "help": meaning})


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """The knobs. Each field's metadata holds ``help``, and ``low`` and ``high`` (inclusive) or ``choices``.

    Lengths of latent factors are in the unit in which the latent's wandering has a standard deviation of
    ``wander`` along each direction: at 1, an action of length 3 lies three deviations from its scene alone.
    Raises InputProblems, listing every knob of the wrong type, out of its range, or at odds with another.
    """

    train: int = _knob(200, 1, 99_999, "Training videos.")
    test: int = _knob(210, 0, 99_999, "Test videos.")
    classes: int = _knob(20, 1, 999, "Action classes; video i holds class i modulo this number.")
    two_labels: float = _knob(0.15, 0, 1, "Share of the videos that hold instances of two classes.")

    instances: float = _knob(
        16.0,
        1,
        500,
        "Mean number of instances a video, log-normal, before max_snippets drops those that do not fit.",
    )
    instances_spread: float = _knob(0.9, 0, 2, "Standard deviation of the logarithm of that number.")
    duration_mean: float = _knob(4.5, 0.3, 300, "Mean duration of an instance in seconds, log-normal.")
    duration_median: float = _knob(
        3.2, 0.3, 300, "Median duration of an instance in seconds, at most the mean."
    )
    class_durations: float = _knob(
        0.5, 0, 1, "Share of the variance of log duration that lies between classes, not within them."
    )
    gap_median: float = _knob(
        2.6, 0.2, 300, "Median of the time between two instances in seconds, log-normal."
    )
    gap_spread: float = _knob(1.5, 0, 2.5, "Standard deviation of the logarithm of that time.")
    lead_median: float = _knob(
        10.0,
        0.2,
        300,
        "Median of the time before the first and after the last instance in seconds, log-normal.",
    )
    lead_spread: float = _knob(1.2, 0, 2.5, "Standard deviation of the logarithm of that time.")
    min_snippets: int = _knob(15, 1, 100_000, "Fewest snippets a video; shorter ones get more background.")
    max_snippets: int = _knob(
        1000, 15, 100_000, "Most snippets a video; longer ones get shorter gaps, then fewer instances."
    )

    context: float = _knob(
        0.8, 0, 1, "Probability that an instance has its class's scene before it, and likewise after it."
    )
    context_median: float = _knob(
        2.5, 0.1, 300, "Median length of such a stretch in seconds, within the gap."
    )
    shot_seconds: float = _knob(8.0, 0.5, 1000, "Mean length of a background shot in seconds, exponential.")
    scenes: int = _knob(40, 1, 10_000, "Background scenes that all videos share.")
    other_scene: float = _knob(
        0.2,
        0,
        1,
        "Probability that a background shot shows the scene of a class that its video does not hold.",
    )

    style: float = _knob(4.0, 0, 20, "Length of the video's own style, the same in all its snippets.")
    scene: float = _knob(6.0, 0, 20, "Length of the class's scene, in action and in context alike.")
    action: float = _knob(3.0, 0, 20, "Length of the action itself.")
    background: float = _knob(6.0, 0, 20, "Length of the scene of a background shot.")
    shared_action: float = _knob(
        0.5, 0, 1, "Share of the action's squared length that all classes have in common."
    )
    phases: float = _knob(
        0.5,
        0,
        1,
        "Share of the class's own part of an action that differs between its start, middle and end.",
    )
    scene_variation: float = _knob(
        0.3,
        0,
        1,
        "Share of a scene's squared length that is particular to the video (of background: the shot).",
    )
    action_variation: float = _knob(
        0.25, 0, 2, "Standard deviation of the logarithm of an instance's strength about that of the action."
    )
    rgb_action: float = _knob(0.5, 0, 1, "How much of the action's length reaches RGB; flow has all of it.")
    flow_scene: float = _knob(
        0.5, 0, 1, "How much of the lengths of style and scenes reaches flow; RGB has all of them."
    )

    wander: float = _knob(1.0, 0, 20, "Standard deviation of the latent's wandering along each direction.")
    smoothness: float = _knob(0.7, 0, 0.999, "Correlation of that wandering from a snippet to the next.")
    unit_noise: float = _knob(0.3, 0, 20, "Standard deviation of the noise of each unit in each snippet.")
    latent: int = _knob(32, 2, 1024, "Dimension of the latent.")
    dimension: int = _knob(128, 1, 8192, "Feature dimension of each stream.")
    dtype: str = _choice("float16", ("float16", "float32"), "Number format of the feature files.")

    def __post_init__(self) -> None:
        problems = [problem for knob in fields(self) if (problem := _defect(knob, getattr(self, knob.name)))]
        if not problems:
            if self.duration_median > self.duration_mean:
                what = f"must not exceed duration_mean = {self.duration_mean}, got {self.duration_median}."
                problems.append(
                    Problem("duration_median", what, remedy="A log-normal's mean is the larger one.")
                )
            if self.min_snippets > self.max_snippets:
                what = f"must not exceed max_snippets = {self.max_snippets}, got {self.min_snippets}."
                problems.append(Problem("min_snippets", what, remedy="Lower it or raise max_snippets."))
            if self.two_labels > 0 and self.classes < 2:
                what = f"is {self.two_labels}, which needs at least 2 classes, got {self.classes}."
                problems.append(Problem("two_labels", what, remedy="Set two_labels to 0 or raise classes."))
        if problems:
            raise InputProblems("The simulation's knobs are not usable:", problems)

    @property
    def duration_spread(self) -> float:
        """Standard deviation of the logarithm of an instance's duration, from its mean and median."""
        return math.sqrt(2 * math.log(self.duration_mean / self.duration_median))


PRESETS: Final[Mapping[str, tuple[str, Mapping[str, float]]]] = {
    "default": ("THUMOS14's timelines; context around most instances.", {}),
    "easy": (
        "Half the wandering, half the context.",
        {"wander": 0.5, "context": 0.4},
    ),
    "hard": (
        "Half as much wandering again, and background that shows other classes' scenes half the time.",
        {"wander": 1.5, "other_scene": 0.5},
    ),
    "no-context": (
        "Background up to the very boundaries: nothing to confuse an action with.",
        {"context": 0.0},
    ),
    "all-context": (
        "Context on both sides of every instance, twice as long.",
        {"context": 1.0, "context_median": 5.0},
    ),
    "weak-action": (
        "Half the action: the scene tells the class better than the action does.",
        {"action": 1.5},
    ),
    "weak-scene": (
        "Half the class's scene: the action tells the class better than the scene.",
        {"scene": 3.0},
    ),
    "own-action": ("Actions of different classes have nothing in common.", {"shared_action": 0.0}),
}
"""Name to what it is for, and the knobs in which it differs from the default."""


def build(preset: str, knobs: Mapping[str, Any]) -> Simulation:
    """The knobs of a preset, with ``knobs`` on top.

    Raises InputProblems for an unknown preset or knob, naming the nearest known one, and as Simulation does.
    """
    problems = []
    known = [knob.name for knob in fields(Simulation)]
    if preset not in PRESETS:
        problems.append(
            Problem("preset", f"unknown preset {preset!r}.", remedy=_nearest(preset, list(PRESETS)))
        )
    unknown = [name for name in knobs if name not in known]
    problems += [
        Problem(name, "is no knob of the simulation.", remedy=_nearest(name, known)) for name in unknown
    ]
    if problems:
        raise InputProblems("The simulation's knobs are not usable:", problems)
    return Simulation(**{**PRESETS[preset][1], **knobs})


def _defect(knob: Any, value: Any) -> Problem | None:
    meaning = knob.metadata["help"]
    choices = knob.metadata.get("choices")
    if choices is not None:
        if isinstance(value, str) and value in choices:
            return None
        return Problem(knob.name, f"must be {' or '.join(choices)}, got {value!r}.", remedy=f"({meaning})")
    whole = knob.type == "int"
    low, high = knob.metadata["low"], knob.metadata["high"]
    right_type = isinstance(value, numbers.Integral if whole else numbers.Real) and not isinstance(
        value, bool
    )
    if right_type and low <= value <= high:
        return None
    kind = "a whole number" if whole else "a number"
    return Problem(knob.name, f"must be {kind} from {low} to {high}, got {value!r}.", remedy=f"({meaning})")


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else f"Known ones: {', '.join(known)}."

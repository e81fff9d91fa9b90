"""The list of experiments: what each shows in the paper, how many trainings it takes, what they cost."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from dgam.core.config import Config
from dgam.experiments.cache import digest_of
from dgam.experiments.cost import duration, training_seconds
from dgam.experiments.data import SIMULATION, SIMULATION_PRESET, SIMULATION_SETTINGS
from dgam.experiments.spec import Experiment, experiment_names, read_experiment

SEEDS = 5
PUBLISHED = {"THUMOS14": (200, 1024), "ActivityNet1.2": (4819, 1024)}
"""Data set: its training videos, and the dimension of its usual features."""
SIMULATED = (int(SIMULATION["train"]), 128)


def list_experiments() -> str:
    """What ``dgam reproduce`` prints without arguments."""
    found = [read_experiment(name) for name in experiment_names()]
    blocks = [_block(experiment) for experiment in found]
    own, simulated = _trainings(found, simulated=False), _trainings(found, simulated=True)
    total = f"{len(own)} trainings in all, since experiments share them"
    costs = f"{duration(sum(own.values()))}; with --data sim {duration(sum(simulated.values()))}"
    return "\n".join(
        [
            f"The paper's experiments, with {SEEDS} seeds. Costs: two CPU cores, reckoned from one step.",
            "",
            *blocks,
            f"all       {total}: {costs}",
            "",
            "dgam reproduce table4 --data sim              on simulated data",
            "dgam reproduce table4 --data DIR --seeds 5    DIR with train/, test/, labels.csv and gt.json",
            "dgam reproduce my.yaml --data DIR             an experiment of your own; see docs/reproduce.md",
        ]
    )


def _block(experiment: Experiment) -> str:
    own = _trainings([experiment], simulated=False)
    simulated = _trainings([experiment], simulated=True)
    cost = f"{len(own)} trainings: on {experiment.published_on} about {duration(sum(own.values()))}"
    cost += f", with --data sim {duration(sum(simulated.values()))}"
    title = experiment.title.partition(": ")[2] or experiment.title
    indent = " " * 10
    texts = [
        textwrap.fill(t, 100, initial_indent=indent, subsequent_indent=indent)
        for t in (experiment.paper, cost)
    ]
    return "\n".join([f"{experiment.name:<10}{title}", *texts, ""])


def _trainings(experiments: Iterable[Experiment], *, simulated: bool) -> dict[str, float]:
    """Each different training of five seeds, and its cost in seconds."""
    found = {}
    for experiment in experiments:
        base = (
            experiment.base(SIMULATION_PRESET, None, SIMULATION_SETTINGS) if simulated else experiment.base()
        )
        videos, dimension = SIMULATED if simulated else PUBLISHED.get(experiment.published_on, SIMULATED)
        for model in experiment.models:
            config = experiment.config(model, base)
            for stream in experiment.streams:
                key = _form(config.for_stream(stream), stream)
                for seed in range(SEEDS):
                    found[f"{key} {seed}"] = training_seconds(config, videos, dimension)
    return found


def _form(config: Config, stream: str) -> str:
    return digest_of([stream, config.model_dump(mode="json", include={"model", "loss", "train"})])

"""Trials of a search: proposed by Optuna, kept in a journal, gone on with where a killed search stopped."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dgam.core.errors import InputError
from dgam.experiments.search_spec import Range, Search


@dataclass(frozen=True)
class Trial:
    """One trial: its settings, and its value; None where it failed, with the reason."""

    number: int
    settings: Mapping[str, Any]
    value: float | None
    why: str = ""


def run_trials(
    search: Search,
    journal: Path,
    study_name: str,
    trials: int,
    evaluate: Callable[[int, Mapping[str, Any]], float],
    on_trial: Callable[[Trial], None],
) -> list[Trial]:
    """Ask for settings and have them evaluated until there are ``trials``; those in the journal count.

    A trial's proposal depends on the sampler's seed, its number and the finished trials only, so that an
    interrupted search ends as an uninterrupted one. ``evaluate`` may raise InputError: the trial then failed,
    and the search goes on. InputError where the package optuna is missing or the journal cannot be read.
    """
    try:
        import optuna
    except ImportError:
        raise InputError("the search needs the package optuna: pip install 'dgam[search]'.") from None
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal.parent.mkdir(parents=True, exist_ok=True)
    try:
        storage = JournalStorage(JournalFileBackend(str(journal)))
        study = optuna.create_study(
            storage=storage, study_name=study_name, direction="maximize", load_if_exists=True
        )
    except (ValueError, KeyError) as error:
        raise InputError(
            f"{journal}: damaged or no journal of a search ({error}). Remove it to begin anew; finished runs "
            "are kept elsewhere and used again."
        ) from error
    space = {name: _distribution(optuna, own) for name, own in search.space.items()}
    while len(study.trials) < trials or any(t.state == TrialState.RUNNING for t in study.trials):
        # A trial that was running when the search was killed is evaluated first, with its own settings.
        begun = [t for t in study.trials if t.state == TrialState.RUNNING]
        if begun:
            number, proposed = begun[0].number, begun[0].params
            if set(proposed) != set(space):  # killed in the middle of the proposal
                study.tell(number, state=TrialState.FAIL)
                continue
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # multivariate sampling calls itself experimental
                study.sampler = optuna.samplers.TPESampler(
                    seed=1000 * search.seed + len(study.trials),
                    n_startup_trials=search.startup,
                    multivariate=True,
                )
            trial = study.ask(fixed_distributions=space)
            number, proposed = trial.number, trial.params
        settings = {name: _value(search.space[name], value) for name, value in proposed.items()}
        try:
            value = evaluate(number, settings)
        except InputError as error:
            study.tell(number, state=TrialState.FAIL)
            on_trial(Trial(number, settings, None, " ".join(str(error).split())))
        else:
            study.tell(number, value)
            on_trial(Trial(number, settings, value))
    return _finished(search, study.trials)


def best(trials: Sequence[Trial]) -> Trial:
    """The trial of the highest value, the first of several. InputError where every trial failed."""
    good = [trial for trial in trials if trial.value is not None]
    if not good:
        raise InputError(f"none of {len(trials)} trials could be trained and measured.")
    return max(good, key=lambda trial: (trial.value, -trial.number))


def _finished(search: Search, frozen: Sequence[Any]) -> list[Trial]:
    return [
        Trial(
            one.number,
            {name: _value(search.space[name], value) for name, value in one.params.items()},
            one.value,
            "" if one.value is not None else "could not be trained and measured",
        )
        for one in frozen
    ]


def _distribution(optuna: Any, own: Range) -> Any:
    distributions = optuna.distributions
    if own.choices:
        # Lists are no categories to Optuna; their JSON is.
        return distributions.CategoricalDistribution([json.dumps(choice) for choice in own.choices])
    if own.whole:
        return distributions.IntDistribution(int(own.low), int(own.high), own.log, int(own.step or 1))
    return distributions.FloatDistribution(own.low, own.high, own.log, own.step)


def _value(own: Range, proposed: Any) -> Any:
    return json.loads(proposed) if own.choices else proposed

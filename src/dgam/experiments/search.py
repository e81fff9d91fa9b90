"""A search for settings: chosen on one half of the test videos, reported on the other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dgam.core.config import Config, change_config, load_config
from dgam.core.errors import InputError, InputProblems
from dgam.core.progress import track
from dgam.core.types import Detections
from dgam.evaluation import select
from dgam.experiments.cache import RunCache, digest_of
from dgam.experiments.data import DataSpec, Identities, describe
from dgam.experiments.halves import halves
from dgam.experiments.outcome import Values
from dgam.experiments.plan import Request, measurement_of, training_of
from dgam.experiments.runner import Spread, carry_out
from dgam.experiments.search_spec import Search
from dgam.experiments.source import MEASURING, source_of
from dgam.experiments.spec import MEAN, as_overrides
from dgam.experiments.tasks import Measurement, Part, Training, name_of
from dgam.experiments.trials import Trial, best, run_trials

REPORT_TIOU = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
SELECTION, REPORT = "selection", "report"
Half = str


@dataclass(frozen=True)
class Searched:
    """What a search came to.

    ``found`` and ``base`` hold mAP in percent by column, a value for each of ``seeds``, on the report half;
    ``found_selection`` and ``base_selection`` the objective on the selection half by search seed. ``sizes``
    maps a half to how many videos it has, per data set; ``videos`` lists them.
    """

    search: Search
    trials: tuple[Trial, ...]
    best: Trial
    config: Config
    base_config: Config
    streams: tuple[str, ...]
    seeds: tuple[int, ...]
    columns: tuple[str, ...]
    found: Mapping[str, Values]
    base: Mapping[str, Values]
    found_selection: Values
    base_selection: Values
    sizes: Mapping[Half, tuple[int, ...]]
    videos: Mapping[str, Mapping[Half, tuple[str, ...]]]
    data: str
    simulated: bool

    @property
    def statement(self) -> str:
        """What was looked at to choose, and what was not: belongs beside every number."""
        sizes = {half: "/".join(map(str, dict.fromkeys(counts))) for half, counts in self.sizes.items()}
        return (
            f"CHOSEN WITH TEST ANNOTATIONS: segment annotations of the selection half ({sizes[SELECTION]} of "
            "the test videos) were used to choose these settings. Scores on the report half "
            f"({sizes[REPORT]} other test videos) played no part in the choice; scores on the selection half "
            "are no estimate of how well the settings do."
        )


def run_search(
    search: Search, request: Request, cache: RunCache, spread: Spread, journal: Path, trials: int
) -> Searched:
    """Search, then train the best trial and the base with the request's seeds and measure both on the report
    half.

    What the journal holds counts; finished runs are reused. InputError where another process searches with
    the same journal, where nothing could be trained, or where the data are not usable.
    """
    streams = request.streams or search.streams
    request = replace(request, streams=streams)
    identities = Identities(request.left_out)
    base = load_config(
        request.preset or (search.preset if request.file is None else None),
        request.file,
        (*search.overrides, *request.overrides),
    )
    worker = _Judge(search, request, cache, spread, identities, {})
    seeds = tuple(range(search.seeds))
    name = digest_of(
        {
            "space": {setting: str(own) for setting, own in search.space.items()},
            "base": base.model_dump(mode="json"),
            # Scores of other source are no trials of this search.
            "source": source_of(*MEASURING, "experiments"),
            "objective": [search.tiou, seeds, search.seed, search.startup, streams],
            "data": [identities.test(request.data.at(s), stream) for s in seeds for stream in streams],
            "training": [
                identities.training(request.data.at(s), stream) for s in seeds for stream in streams
            ],
        }
    )
    with ExitStack() as held:
        if not held.enter_context(cache.claim(f"search-{name}", wait=False)):
            raise InputError(f"{journal}: another process is at this very search. Wait for it to end.")
        advance = held.enter_context(track("searching", total=trials))
        done = run_trials(
            search,
            journal,
            name,
            trials,
            lambda number, settings: worker.objective(_with(base, settings), seeds, f"trial {number}"),
            lambda trial: advance(1, trial=trial.number, value=trial.value or math.nan),
        )
    chosen = best(done)
    config = _with(base, chosen.settings)
    found, found_selection = worker.report(config, "found", seeds)
    base_values, base_selection = worker.report(base, "base", seeds)
    told, simulated = describe(request.data, request.seeds)
    halved = {str(seed): worker.halves_of(request.data.at(seed)) for seed in request.seeds}
    return Searched(
        search=search,
        trials=tuple(done),
        best=chosen,
        config=config,
        base_config=base,
        streams=streams,
        seeds=request.seeds,
        columns=tuple(found),
        found=found,
        base=base_values,
        found_selection=found_selection,
        base_selection=base_selection,
        sizes={half: tuple(len(own[half]) for own in halved.values()) for half in (SELECTION, REPORT)},
        videos=halved if request.data.per_seed else {"all seeds": next(iter(halved.values()))},
        data=told,
        simulated=simulated,
    )


@dataclass
class _Judge:
    """Trains and measures settings on either half."""

    search: Search
    request: Request
    cache: RunCache
    spread: Spread
    identities: Identities
    halved: dict[DataSpec, dict[Half, tuple[str, ...]]]

    def halves_of(self, data: DataSpec) -> dict[Half, tuple[str, ...]]:
        """The two halves of the videos that the protocol chooses; InputError where one is empty."""
        if data not in self.halved:
            truth = select(Detections({}), data.read_test()[1], data.protocol).ground_truth
            selection, report = halves(truth)
            if not selection or not report:
                raise InputError(f"{data.truth}: {len(truth.videos)} test videos cannot be cut into halves.")
            self.halved[data] = {SELECTION: selection, REPORT: report}
        return self.halved[data]

    def objective(self, config: Config, seeds: Sequence[int], title: str) -> float:
        """The mean over seeds of what trials are judged by, on the selection half; percent."""
        results = self.measured(config, seeds, SELECTION, title)
        return math.fsum(self._objective_of(one) for one in results) / len(results)

    def report(
        self, config: Config, title: str, search_seeds: Sequence[int]
    ) -> tuple[dict[str, Values], Values]:
        """mAP on the report half by column, a value a seed; and the objective on the selection half."""
        results = self.measured(config, self.request.seeds, REPORT, title)
        chosen = self.measured(config, search_seeds, SELECTION, title)
        rows = [self._columns_of(result) for result in results]
        return (
            {column: tuple(row[column] for row in rows) for column in rows[0]},
            tuple(self._objective_of(result) for result in chosen),
        )

    def measured(self, config: Config, seeds: Sequence[int], half: Half, title: str) -> list[dict[str, Any]]:
        """Train what is not trained, and measure on one half: mAP of all streams fused, for each seed."""
        trainings: list[Training] = []
        measurements: list[Measurement] = []
        for seed in seeds:
            data = self.request.data.at(seed)
            parts = {}
            for stream in self.request.streams:
                made = training_of(config, data, stream, seed, self.request, self.identities, title)
                trainings.append(made)
                parts[stream] = Part(made.key, made.key, config.for_stream(stream).localize)
            measurements.append(
                measurement_of(
                    parts,
                    data,
                    f"{title}, seed {seed}, {half} half",
                    self.request,
                    self.identities,
                    (*self.search.tiou, *REPORT_TIOU),
                    self.halves_of(data)[half],
                )
            )
        failed = carry_out(trainings, self.cache, self.spread, f"training {title}")
        failed = failed or carry_out(measurements, self.cache, self.spread, f"measuring {title}")
        if failed:
            raise InputProblems("Some runs failed:", failed)
        system = name_of(self.request.streams)
        found = []
        for task in measurements:
            value = self.cache.result(task.key)
            assert value is not None  # it was just measured
            found.append(value["map"][system])
        return found

    def _objective_of(self, result: Mapping[str, Any]) -> float:
        at = _percent(result)
        return math.fsum(at[f"{tiou:g}"] for tiou in self.search.tiou) / len(self.search.tiou)

    def _columns_of(self, result: Mapping[str, Any]) -> dict[str, float]:
        at = _percent(result)
        shown = {f"{tiou:g}": at[f"{tiou:g}"] for tiou in REPORT_TIOU}
        return {**shown, MEAN: math.fsum(shown.values()) / len(shown)}


def _with(base: Config, settings: Mapping[str, Any]) -> Config:
    return change_config(base, as_overrides(settings))


def _percent(result: Mapping[str, Any]) -> dict[str, float]:
    return {f"{tiou:g}": 100 * score for tiou, score in zip(result["tiou"], result["map"], strict=True)}

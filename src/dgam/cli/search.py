"""``dgam search``."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace

from dgam.cli.experiment_options import DataOptions, WorkOptions, make_request, read_seeds, told
from dgam.cli.options import FeatureOptions, SettingOptions
from dgam.core.errors import InputError
from dgam.experiments.search_spec import read_search, search_names


def search(
    name: str | None = None,
    /,
    *,
    trials: int | None = None,
    seeds: str = "5",
    where: DataOptions | None = None,
    work: WorkOptions | None = None,
    settings: SettingOptions | None = None,
    reading: FeatureOptions | None = None,
) -> None:
    """Search for settings on one half of the test videos, and report on the other half.

    A YAML file says which settings are searched, in which ranges, and what trials are judged by; without a
    name the searches that come with dgam are listed. The segment annotations of the selection half choose the
    settings, and everything that is written says so. The best trial and the preset it started from are then
    trained with the seeds of --seeds and measured on the report half. OUT gets NAME.html (a page with the
    picture), .png, .md, .csv (the trials), .json and .preset.yaml, the settings found, ready for --config. An
    interrupted search goes on when the same command is given again, and ends as if it had not been.

    ```
    dgam search
    dgam search dgam-plus --data 'stitched-{seed}' --trials 60 --out search
    dgam search my.yaml --data sim --trials 10
    dgam train FEATURES --labels labels.csv --out RUN --config search/dgam-plus.preset.yaml
    ```

    Parameters
    ----------
    name
        A search that comes with dgam, or the path of a YAML file.
    trials
        How many trials, those before an interruption included. [default: as the file says]
    seeds
        For the report: how many seeds, counted from 0; or a list of them, as 3,4,7.
    """
    where, work = where or DataOptions(), work or WorkOptions()
    settings, reading = settings or SettingOptions(), reading or FeatureOptions()
    if name is None:
        for own in search_names():
            spec = read_search(own)
            print(f"{own:<12}{spec.title}: {len(spec.space)} settings, {spec.trials} trials")
        return
    spec = read_search(name)
    count = spec.trials if trials is None else trials
    if count < 1:
        raise InputError(f"--trials: must be a whole number from 1 on, got {count}.")
    chosen = read_seeds(seeds)
    cache, spread = work.open_cache(), work.spread()
    every = tuple(dict.fromkeys([*range(spec.seeds), *chosen]))  # those of the search and of the report
    request = make_request(spec.protocol, spec.streams, every, where, work, settings, reading)

    from dgam.experiments.search import run_search
    from dgam.experiments.search_page import result_table, write_search

    print(f"{spec.name}: {count} trials, each with seeds 0 to {spec.seeds - 1}.", file=sys.stderr)
    journal = work.out / f"{spec.name}.journal"
    searched = run_search(spec, replace(request, seeds=chosen), cache, spread, journal, count)
    more = [] if trials is None else ["--trials", str(trials)]
    command = shlex.join(["dgam", "search", name, *more, *told(where, seeds, work, settings, reading)])
    files = write_search(work.out, searched, command)
    print(result_table(searched).text())
    print(f"\n{files['html']} and .png, .md, .csv, .json; the settings found: {files['preset.yaml']}")

"""``dgam reproduce``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from dgam.cli.experiment_options import DataOptions, WorkOptions, make_request, read_seeds, told
from dgam.cli.options import FeatureOptions, SettingOptions
from dgam.core.errors import InputError
from dgam.experiments.cost import duration
from dgam.experiments.listing import list_experiments
from dgam.experiments.spec import Experiment, experiment_names, read_experiment


def reproduce(
    *names: str,
    seeds: str = "5",
    dry_run: bool = False,
    where: DataOptions | None = None,
    work: WorkOptions | None = None,
    settings: SettingOptions | None = None,
    reading: FeatureOptions | None = None,
) -> None:
    """Repeat the paper's experiments: train, localise, evaluate, and write tables and pictures.

    Without a name the experiments are listed, with what the paper shows and what they cost. `all` stands for
    all of them; a path names a YAML file of your own. For each experiment OUT gets NAME.html (a page with the
    picture), .png, .md, .tex, .csv and .json: mean ± standard deviation over seeds, our number beside the
    paper's, protocol, settings, seeds and data. Finished runs are kept and reused, also by other experiments;
    what was interrupted goes on when the same command is given again. Settings given here go on top of the
    experiment's preset and below what the experiment itself varies.

    ```
    dgam reproduce
    dgam reproduce table4 --data sim
    dgam reproduce table3 table4 --data 'stitched-{seed}' --seeds 5 --preset default --out results
    dgam reproduce all --features I3D --labels labels.csv --subset validation --ground-truth gt.json
    ```

    Parameters
    ----------
    names
        table1 … table7, figure4, all, or the path of a YAML file.
    seeds
        How many seeds, counted from 0; or a list of them, as 3,4,7.
    dry_run
        Say what would be trained and what it costs, and stop.
    """
    where, work = where or DataOptions(), work or WorkOptions()
    settings, reading = settings or SettingOptions(), reading or FeatureOptions()
    if not names:
        print(list_experiments())
        return
    paths = _expand(names)
    experiments = [read_experiment(name) for name in paths]
    _refuse_equal_names(experiments, paths)
    chosen, cache, spread = read_seeds(seeds), work.open_cache(), work.spread()
    given = [
        make_request(one.protocol, one.streams, chosen, where, work, settings, reading) for one in experiments
    ]

    from dgam.experiments.reproduce import prepare
    from dgam.experiments.reproduce import reproduce as carry_out_all

    ready = prepare(experiments, given, cache)
    left = len(ready.trainings) - ready.finished
    cost = f"about {duration(ready.seconds)} on two CPU cores" if left else "nothing to train"
    print(f"{len(ready.trainings)} trainings, {ready.finished} of them finished; {cost}.", file=sys.stderr)
    if dry_run:
        return
    options = told(where, seeds, work, settings, reading)
    path_of = {experiment.name: path for experiment, path in zip(experiments, paths, strict=True)}

    def command(name: str) -> str:
        return shlex.join(["dgam", "reproduce", path_of[name], *options])

    for outcome, files in carry_out_all(ready, cache, spread, work.out, command):
        from dgam.experiments.table import tables

        print(tables(outcome)[0].text())
        print(f"\n{files['html']} and .png, .md, .tex, .csv, .json\n")


def _expand(names: Sequence[str]) -> list[str]:
    return list(
        dict.fromkeys(own for name in names for own in (experiment_names() if name == "all" else (name,)))
    )


def _refuse_equal_names(experiments: Sequence[Experiment], paths: Sequence[str]) -> None:
    """InputError where two files would write into the same places."""
    seen: dict[str, str] = {}
    for experiment, path in zip(experiments, paths, strict=True):
        if experiment.name in seen:
            raise InputError(f"{path} and {seen[experiment.name]} have the same name; rename one file.")
        seen[experiment.name] = path

"""What averaging several trainings gains over one: mAP of single members and of means over the first k.

    python benchmarks/members.py --data 'stitched-{seed}' [--seeds 0 1 2 3 4] [--members 5] [--set KEY=VALUE]
                                 [--json FILE]

For each data set (``{seed}`` in the path becomes the seed; laid out as ``dgam simulate`` and the stitched
benchmark lay it out) that many runs are trained, which differ in their seed only, and the test videos are
localised with each alone and with the means of attention, TCAM and class probabilities over the first k
(``dgam localize --members``). "single" is the mean over the members of a data set; "worst" the least of them.
Printed as Markdown: mean ± standard deviation over the data sets.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import torch

import dgam

TIOU = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    found: list[dict[str, list[float]]] = []
    for seed in given.seeds:
        found.append(measure(Path(given.data.format(seed=seed)), seed, given.members, given.set))
        print(f"data {seed}: {found[-1]}", file=sys.stderr, flush=True)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    show(found)


def measure(data: Path, seed: int, count: int, overrides: list[str]) -> dict[str, list[float]]:
    """mAP at each tIoU, by name: every member alone, and the mean over the first k."""
    labels = dgam.read_labels(data / "labels.csv").in_subset("train")
    training, test = dgam.open_features(data / "train"), dgam.open_features(data / "test")
    truth = dgam.read_segments(data / "gt.json").in_subset("test")
    config = dgam.load_config(overrides=overrides)
    seeds = [seed, *(1000 + 10 * seed + number for number in range(count - 1))]
    with tempfile.TemporaryDirectory() as folder:
        runs = dgam.train_many(
            training, labels, [Path(folder) / str(n) for n in seeds], config, seeds, at_once=1
        )
        systems = {f"member {number}": [run] for number, run in enumerate(runs)}
        systems |= {f"mean of {k}": runs[:k] for k in range(2, count + 1)}
        return {
            name: dgam.evaluate(dgam.localize(own[0], test, members=own[1:]), truth, TIOU).to_dict()["map"]
            for name, own in systems.items()
        }


def show(found: list[dict[str, list[float]]]) -> None:
    """The Markdown table."""
    singles = [[values for name, values in own.items() if name.startswith("member")] for own in found]
    rows = {
        "single": [[statistics.mean(column) for column in zip(*own, strict=True)] for own in singles],
        "worst": [min(own, key=sum) for own in singles],
    }
    rows |= {name: [own[name] for own in found] for name in found[0] if name.startswith("mean")}
    print("| | @0.5 | mean .1–.7 | against single, mean .1–.7 |")
    print("|---|---:|---:|---:|")
    for name, values in rows.items():
        means = [statistics.mean(own) for own in values]
        gains = [mean - statistics.mean(single) for mean, single in zip(means, rows["single"], strict=True)]
        print(f"| {name} | {spread([own[4] for own in values])} | {spread(means)} | {spread(gains, '+')} |")


def spread(values: list[float], sign: str = "") -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{100 * statistics.mean(values):{sign}.1f} ± {100 * deviation:.1f}"


if __name__ == "__main__":
    main()

"""`dgam reproduce`: the eight experiments from end to end on tiny simulated data, numbers against numbers."""

from __future__ import annotations

import csv
import io
import re
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import dgam
from dgam.cli import main
from dgam.core.config import load_config
from dgam.core.run import load_run
from dgam.experiments.spec import experiment_names
from dgam.training.checkpoint import load_tensors, save_tensors
from tiny_experiments import SETTINGS, read, reproduce, row_of, simulate

EIGHT = ("table1", "table2", "table3", "table4", "table5", "table6", "table7", "figure4")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return simulate(tmp_path_factory.mktemp("experiments"))


@pytest.fixture(scope="module")
def out(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All eight experiments, two seeds."""
    folder = tmp_path_factory.mktemp("experiments") / "out"
    assert reproduce("all", data, folder) == 0
    return folder


def own_map(run: dgam.api.Run, data: str, seed: int, tiou: tuple[float, ...]) -> list[float]:
    """mAP in percent by the plain functions."""
    folder = Path(data.format(seed=seed))
    found = dgam.localize(run, dgam.open_features(folder / "test"))
    truth = dgam.read_segments(folder / "gt.json").in_subset("test")
    return [100 * value for value in dgam.evaluate(found, truth, tiou).map]


# The list.


def test_the_list_says_what_each_shows_and_costs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce"]) == 0
    told = capsys.readouterr().out
    assert experiment_names() == (*EIGHT[:7], "figure4")
    for name in EIGHT:
        assert re.search(rf"^{name} +\S", told, re.MULTILINE)
    assert "40 trainings: on THUMOS14 about" in told
    assert re.search(r"^all +210 trainings in all", told, re.MULTILINE)


def test_a_dry_run_trains_nothing(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce("table4", data, tmp_path / "out", "--dry-run") == 0
    assert capsys.readouterr().err.startswith("16 trainings, 0 of them finished; about ")
    assert not (tmp_path / "out" / "runs" / "runs").exists()
    assert not (tmp_path / "out" / "table4.html").exists()


# All eight.


@pytest.mark.parametrize("name", EIGHT)
def test_every_experiment_leaves_its_files_with_mean_and_deviation(out: Path, name: str) -> None:
    report = read(out, name)
    assert (report["seeds"], report["simulated"]) == ([0, 1], True)
    assert report["data"].startswith("simulated data: ")
    for table in report["tables"]:
        for row in table["rows"]:
            assert list(row["columns"]) == report["columns"]
            for numbers in row["columns"].values():
                assert len(numbers["values"]) == 2
                assert numbers["mean"] == pytest.approx(statistics.mean(numbers["values"]), abs=1e-12)
                assert numbers["std"] == pytest.approx(statistics.stdev(numbers["values"]), abs=1e-12)
    for ending in ("html", "md", "tex", "csv"):
        assert "simulated data" in (out / f"{name}.{ending}").read_text(encoding="utf-8").lower()
    page = (out / f"{name}.html").read_text(encoding="utf-8")
    assert '<img src="data:image/png;base64,' in page
    assert not re.search(r'(src|href)="(https?:|//)', page)  # needs nothing but itself


def test_the_csv_file_holds_every_number_with_all_digits(out: Path) -> None:
    for name in EIGHT:
        report = read(out, name)
        with open(out / f"{name}.csv", encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
        expected = [
            (row["streams"], row["row"], column, numbers["mean"], numbers["std"], row["paper"].get(column))
            for table in report["tables"]
            for row in table["rows"]
            for column, numbers in row["columns"].items()
        ]
        found = [
            (
                line["streams"],
                line["row"],
                line["column"],
                float(line["mean"]),
                float(line["std"]),
                float(line["paper"]) if line["paper"] else None,
            )
            for line in lines
        ]
        assert found == expected
        assert {line["data"] for line in lines} == {report["data"]}


def test_latex_and_markdown_print_the_numbers_of_the_json(out: Path) -> None:
    report = read(out, "table4")
    rows = report["tables"][0]["rows"]
    text = (out / "table4.tex").read_text(encoding="utf-8")
    first = text.split(r"\end{table}")[0]
    body = first.split(r"\midrule")[1].split(r"\bottomrule")[0]
    cells = [[cell.strip() for cell in line.rstrip("\\ ").split("&")] for line in body.strip().splitlines()]
    shown = [f"{r['columns']['0.5']['mean']:.1f} $\\pm$ {r['columns']['0.5']['std']:.1f}" for r in rows]
    assert [line[1] for line in cells] == shown
    assert [line[2] for line in cells] == ["21.5", "24.8", "26.7", "28.8"]  # the paper's table 4
    assert cells[0][0] == r"L\_fg"
    assert text.count(r"\begin{table}") == text.count(r"\end{tabular}") > 1
    markdown = (out / "table4.md").read_text(encoding="utf-8")
    for row, value in zip(rows, shown, strict=True):
        assert (
            f"| {row['row']} | {value.replace('$' + chr(92) + 'pm$', '±')} | {row['paper']['0.5']} |"
            in markdown
        )


def test_a_value_is_what_the_plain_functions_give(out: Path, data: str, tmp_path: Path) -> None:
    folder = Path(data.format(seed=1))
    labels = dgam.read_labels(folder / "labels.csv").in_subset("train")
    config = load_config("thumos14", overrides=SETTINGS)
    run = dgam.train(dgam.open_features(folder / "train"), labels, tmp_path, config=config, seed=1)
    rows = {"DGAM, RGB": ["rgb"], "DGAM, flow": ["flow"], "DGAM, fused": ["rgb", "flow"]}
    for name, streams in rows.items():
        some = replace(run, streams={stream: run.streams[stream] for stream in streams})
        tiou = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
        expected = own_map(some, data, 1, tiou)
        columns = row_of(read(out, "table3"), name)["columns"]
        assert [columns[f"{t:g}"]["values"][1] for t in tiou] == pytest.approx(expected, abs=1e-9)
        assert columns["mean"]["values"][1] == pytest.approx(statistics.mean(expected), abs=1e-9)
    truth = dgam.read_segments(folder / "gt.json").in_subset("test")
    told = dgam.api.statistics(run, dgam.open_features(folder / "test"), truth)
    for table, stream in enumerate(("rgb", "flow")):
        columns = row_of(read(out, "table2"), "with", table)["columns"]
        assert columns["omission"]["values"][1] == told[stream].omission
        assert columns["false_activation"]["values"][1] == told[stream].false_activation


def test_modules_are_exchanged_seed_by_seed_and_stream_by_stream(
    out: Path, data: str, tmp_path: Path
) -> None:
    """Table 1's mixed rows against run folders put together by hand from the weights' files."""
    keys = {run["title"]: run["key"] for run in read(out, "table1")["trainings"]}
    for attention, classifier in (("old", "new"), ("new", "old")):
        mixed = tmp_path / f"{attention}-{classifier}"
        for stream in ("rgb", "flow"):
            weights, facts = {}, {}
            for model in (classifier, attention):
                file = (
                    out / "runs" / "runs" / keys[f"{model}, {stream}, seed 0"] / stream / "model.safetensors"
                )
                tensors, facts = load_tensors(file)
                only = {n: t for n, t in tensors.items() if n.startswith("attention.")}
                weights.update(tensors if model == classifier else only)
            save_tensors(mixed / stream / "model.safetensors", weights, facts)
        base = load_run(out / "runs" / "runs" / keys["new, rgb, seed 0"])
        run = replace(base, path=mixed, streams={"rgb": 6, "flow": 6})
        run.save()
        row = row_of(read(out, "table1"), f"{attention} attention, {classifier} classifier")
        expected = own_map(run, data, 0, (0.3, 0.5))
        found = [row["columns"][column]["values"][0] for column in ("0.3", "0.5")]
        assert found == pytest.approx(expected, abs=1e-9)


def test_experiments_share_what_they_have_in_common(out: Path) -> None:
    """The paper's full model is trained once for tables 1, 4, 6, 7 and figure 4, and gives one number."""
    rows = {
        "table1": "new attention, new classifier",
        "table4": "L_fg, L_bg, L_guide, L_re",
        "table6": "128",
        "table7": "0.1",
        "figure4": "1",
    }
    values = {name: row_of(read(out, name), row)["columns"]["0.5"]["values"] for name, row in rows.items()}
    assert len(set(map(tuple, values.values()))) == 1
    old = row_of(read(out, "table1"), "old attention, old classifier")["columns"]["0.5"]
    assert old == row_of(read(out, "table4"), "L_fg, L_bg, L_guide")["columns"]["0.5"]
    keys = {run["key"] for name in EIGHT for run in read(out, name)["trainings"]}
    assert len(keys) == len(list((out / "runs" / "runs").iterdir())) == 20 * 2 * 2  # models, streams, seeds


def test_differences_are_paired_by_seed(out: Path) -> None:
    report = read(out, "table6")
    base = np.array(row_of(report, "128")["columns"]["0.5"]["values"])
    gap = np.array(row_of(report, "16")["columns"]["0.5"]["values"]) - base
    assert abs(gap).max() > 0.05  # else this would show nothing
    text = (out / "table6.md").read_text(encoding="utf-8")
    title = "Simulated data: Table 6: dimension of the latent, rgb and flow, mAP (%)"
    part = text.split(f"**{title}: minus “latent = 128”, seed by seed**")[1]
    assert f"| latent = 16 | {gap.mean():+.1f} ± {gap.std(ddof=1):.1f} | {(gap > 0).sum()} of 2 |" in part


def test_figure_4_says_that_the_paper_prints_no_numbers(out: Path) -> None:
    report = read(out, "figure4")
    assert [row["row"] for row in report["tables"][0]["rows"]] == [
        "0",
        "0.25",
        "0.5",
        "0.75",
        "1",
        "1.25",
        "1.5",
    ]
    assert all(row["paper"] == {} for table in report["tables"] for row in table["rows"])
    assert "prints none" in " ".join(report["notes"])


# The paper's numbers.


def test_published_numbers_are_the_paper_s() -> None:
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "paper"
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("001*.txt"))]
    if not texts:
        pytest.skip("the paper is not on this machine")
    lines = [re.findall(r"\d+\.\d+", line) for line in texts[0].splitlines()]

    def printed(*numbers: float, digits: int = 1) -> bool:
        shown = [f"{number:.{digits}f}" for number in numbers]
        return any(line[-len(shown) :] == shown for line in lines)  # mAP@0.5 may lead the line

    from dgam.experiments.spec import read_experiment

    def column(name: str, column: str) -> list[float]:
        return [numbers[column] for numbers in read_experiment(name).published.values()]

    for row in read_experiment("table1").published.values():
        assert printed(*row.values())
    both = [list(row.values()) for row in read_experiment("table2").published.values()]
    assert all(printed(*pair, digits=3) for pair in zip(*both, strict=True))
    assert printed(*column("table6", "0.5"))
    assert printed(*column("table7", "0.5"))
    assert all(printed(value) for value in column("table4", "0.5"))
    for name, rows in (("table3", 7), ("table5", 11)):
        experiment = read_experiment(name)
        for method, numbers in {**experiment.others, **experiment.published}.items():
            at = [f"{value:.1f}" for key, value in numbers.items() if name == "table5" or key != "mean"]
            # The paper's table 3 goes on to .9; others' means are from their own papers.
            assert not at or any(line[:rows] == at for line in lines), method


def test_the_csv_module_reads_what_rows_with_commas_hold(out: Path) -> None:
    lines = list(csv.reader(io.StringIO((out / "table4.csv").read_text(encoding="utf-8"))))
    assert {line[3] for line in lines[1:]} == {
        "L_fg",
        "L_fg, L_bg",
        "L_fg, L_bg, L_guide",
        "L_fg, L_bg, L_guide, L_re",
    }

"""The experiments' work on a Ray cluster of two local nodes, one of which is killed in mid-run."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra ray is not installed"),
]

# In a process of its own: Ray leaves threads and sockets behind that the suite would count as leaks.
SCRIPT = """
import sys, threading, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from tiny_experiments import read, reproduce, simulate

folder = Path(sys.argv[1])
data = simulate(folder)
more = ("--set=train.epochs=60",)
assert reproduce("table4", data, folder / "plain", *more) == 0
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
second = cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False)

def kill():
    while len(list((folder / "ray" / "runs" / "runs").glob("*/done.json"))) < 3:
        time.sleep(0.05)
    cluster.remove_node(second, allow_graceful=False)

killer = threading.Thread(target=kill)
killer.start()
assert reproduce("table4", data, folder / "ray", *more, "--engine", "ray") == 0
killer.join()
until = time.monotonic() + 60
while ray.cluster_resources()["CPU"] != 1:  # the cluster takes a moment to notice
    assert time.monotonic() < until
    time.sleep(0.1)
assert read(folder / "ray", "table4")["tables"] == read(folder / "plain", "table4")["tables"]
ray.shutdown()
cluster.shutdown()
print("the tables are equal")
"""


def test_a_killed_node_costs_no_run(tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=290,
    )
    assert "the tables are equal" in done.stdout, done.stderr[-6000:]

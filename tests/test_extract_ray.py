"""Extraction on a Ray cluster of two local nodes, one of which is killed in mid-run."""

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
import os, sys, threading, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from coded_videos import write_video
from test_extract import TINY, tree
from dgam.extraction.extract import extract

folder = Path(sys.argv[1])
for number in range(8):
    write_video(folder / "videos" / f"clip {number}.mp4", range(60 + 20 * number))
extract([folder / "videos"], folder / "plain", TINY)
os.environ["TINY_ENCODER_SECONDS"] = "0.3"
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
second = cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False)

def kill():
    while len(list((folder / "ray" / "videos").glob("*.json"))) < 2:
        time.sleep(0.1)
    cluster.remove_node(second, allow_graceful=False)

killer = threading.Thread(target=kill)
killer.start()
told = extract([folder / "videos"], folder / "ray", TINY, engine="ray")
killer.join()
assert told.counts == {"extracted": 8, "unchanged": 0, "failed": 0}, told.table()
assert ray.cluster_resources()["CPU"] == 1
assert tree(folder / "ray") == tree(folder / "plain")
ray.shutdown()
cluster.shutdown()
print("the stores are equal")
"""


def test_a_killed_node_costs_no_video(tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert "the stores are equal" in done.stdout, done.stderr[-3000:]

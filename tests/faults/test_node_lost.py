"""A machine of a cluster that is lost in the middle of a run: its stacks go on elsewhere, bit for bit."""

import os
import threading
import time
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal
from run_folders import begin
from walks import MakeWalk, plans, train_here

import regrow
from regrow.lab.runs import engine, lock

pytestmark = pytest.mark.slow


def test_a_lost_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="needs ray")
    from ray.cluster_utils import Cluster

    support = str(Path(__file__).parents[1] / "support")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([support, os.environ.get("PYTHONPATH", "")]))
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    other = nodes.add_node(num_cpus=1)
    ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
    store = begin(tmp_path / "run", 2)

    def lose() -> None:
        while min(store.task(plan.id) for plan in plans(2)) < 2:  # both machines train
            time.sleep(0.1)
        nodes.remove_node(other, allow_graceful=False)

    thread = threading.Thread(target=lose)
    thread.start()
    try:
        with lock.sole_run(store.folder):
            engine.run(plans(2), MakeWalk(pause=0.5), store, tasks=30, engine="ray")
        thread.join()
        assert len(ray.nodes()) == 2 and sum(node["Alive"] for node in ray.nodes()) == 1
    finally:
        ray.shutdown()
        nodes.shutdown()
    train_here(begin(tmp_path / "here", 2), plans(2), 30)
    assert_frame_equal(regrow.load(store.folder), regrow.load(tmp_path / "here"), check_exact=True)

"""Training on a Ray cluster: the same rows, also where a worker is lost; other data and versions are refused."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from polars.testing import assert_frame_equal
from run_folders import begin, says
from walks import MakeWalk, plans, train_here

import regrow
from regrow.lab.runs import engine, lock, manifest, ray_engine, worker

ray: Any = pytest.importorskip("ray", reason="needs ray")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    paths = [str(Path(__file__).parents[1] / "support"), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def test_a_lost_worker_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths too: workers have another working directory."""
    monkeypatch.chdir(tmp_path)
    store = begin(Path("run"), 3)
    mark = tmp_path / "died"
    with lock.sole_run(store.folder):
        make = DyingOnce(mark)
        engine.run(plans(3), make, store, tasks=12, workers=2, engine="ray")
    assert mark.exists()
    train_here(begin(tmp_path / "here", 3), plans(3), 12)
    assert_frame_equal(regrow.load(store.folder), regrow.load(tmp_path / "here"), check_exact=True)


@dataclasses.dataclass(frozen=True)
class DyingOnce:
    """Makes walks whose process dies at task 5 of the second stack, the first time."""

    mark: Path

    def __call__(self, plan: Any, progress: Any) -> Any:
        dies = not self.mark.exists() and plan.id == "small.seed1.0"
        if dies:
            self.mark.touch()
        return MakeWalk(dies=(("small.seed1.0", 5),) if dies else ())(plan, progress)


def test_one_that_is_lost_again_and_again_is_a_failure(tmp_path: Path) -> None:
    store = begin(tmp_path / "run", 1)
    with lock.sole_run(store.folder), pytest.raises(worker.StackFailed) as caught:
        engine.run(plans(1), MakeWalk(dies=(("small.seed0.0", 2),)), store, tasks=4, engine="ray")
    assert says(caught).startswith("stack small.seed0.0: its worker was lost 4 times, at last: ")
    assert store.task("small.seed0.0") == 2


def test_a_failure_names_cause_node_and_log(tmp_path: Path) -> None:
    store = begin(tmp_path / "run", 1)
    with lock.sole_run(store.folder), pytest.raises(worker.StackFailed) as caught:
        engine.run(plans(1), MakeWalk(fails=(("small.seed0.0", 2),)), store, tasks=4, engine="ray")
    log = store.folder / "errors.log"
    assert says(caught).startswith("stack small.seed0.0: ArithmeticError: the walk fell (node ")
    assert says(caught).endswith(f"(traceback: {log})") and "in run_task" in log.read_text()


def test_the_nodes_are_named_and_must_have_the_same_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, joined = begin(tmp_path / "run", 1), ray_engine.Cluster("cpu")
    assert joined.capacity == 2
    manifest.add_nodes(store.folder, joined.about())
    (about,) = manifest.read(store.folder)["nodes"].values()  # type: ignore[typeddict-item]
    assert about["regrow"] == regrow.__version__ and about["torch"] and about["cpu"]
    monkeypatch.setattr(regrow, "__version__", "0.0.1")
    with pytest.raises(ValueError, match=r"has regrow .*, and this machine 0.0.1: install the same on every node"):
        joined.about()
    joined.close()
    assert ray.is_initialized()  # it was not this one that connected

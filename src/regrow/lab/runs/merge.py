"""Several folders of one study, each with some of its stacks, as one."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from ..studies import StackPlan, packing
from . import digests, files, lock, manifest
from .columns import RESULTS, VIT_SCHEMAS
from .manifest import Manifest
from .store import Store


def merge(folders: Sequence[Path], out: Path) -> tuple[int, int]:
    """Bring the stacks of several folders together in a new one; of each the copy with the most tasks.

    Copies of a stack must agree: the rows of the one that has fewer are the first of the other's, bit for bit.

    Args:
        folders: what runs of one study wrote, with equal options but for tasks and seeds.
        out: the folder to make.

    Returns:
        How many stacks were copied, and how many there are in all.

    Raises:
        OSError: where a folder is in use, or `out` cannot be made or is not empty.
        ValueError: where folders are of different runs, or a file is damaged; one line.
    """
    contents = [manifest.read(folder) for folder in folders]
    joined = contents[0]
    for folder, content in zip(folders[1:], contents[1:], strict=True):
        joined = manifest.join(folder, content, joined)
    for folder in folders:
        if lock.is_running(folder):
            raise OSError(f"{folder} is in use by a run: wait for it to end, or stop it")
    if (out / manifest.NAME).exists():
        raise OSError(f"{out} holds a run already: choose another --out")
    plans, stores = packing.restore(joined["packing"]), [_store(folder, joined) for folder in folders]
    chosen = {plan.id: best for plan in plans if (best := _furthest(plan, stores))}
    manifest.open_folder(out)
    with lock.sole_run(out):
        manifest.write(out, joined)
        into = _store(out, joined)
        into.prepare()
        for plan in plans:
            if plan.id in chosen:
                _copy(plan, chosen[plan.id], into)
    return len(chosen), len(plans)


def _store(folder: Path, content: Manifest) -> Store:
    schemas = VIT_SCHEMAS if content["study"] == "vit-cifar" else {"results": RESULTS}
    return Store(folder, content["study"], schemas=schemas)


def _copy(plan: StackPlan, store: Store, into: Store) -> None:
    for name in store.schemas:
        files.write_whole(into.table_path(name, plan.id), digests.seal_table(store.read(name, plan)))
    state = store.checkpoint_path(plan.id)
    if state.exists():
        shutil.copyfile(state, into.checkpoint_path(plan.id))


def _furthest(plan: StackPlan, stores: Sequence[Store]) -> Store | None:
    """The store with the most tasks of a stack, if any; the others' rows must be the same."""
    copies = []
    for store in stores:
        inspection = store.inspect(plan, states=True)
        for path, why in inspection.damaged.items():
            raise ValueError(f"{path} is damaged ({why}): rerun the command of its run first")
        if inspection.tasks:
            copies.append((inspection.tasks, inspection.header is not None, store))
    if not copies:
        return None
    copies.sort(key=lambda entry: entry[:2])
    *others, (_, _, best) = copies
    for name in best.schemas:
        rows = best.read(name, plan)
        for tasks, _, store in others:
            _agree(plan, name, rows.filter(pl.col("task") < tasks), store)
    return best


def _agree(plan: StackPlan, name: str, rows: pl.DataFrame, store: Store) -> None:
    other = store.read(name, plan)
    if digests.values_digest(rows) != digests.values_digest(other.select(rows.columns)):
        raise ValueError(
            f"{store.table_path(name, plan.id)} holds other values than another folder's copy: leave out one"
        )

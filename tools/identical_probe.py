"""Runs inside one of the two trees: computes the tables of one job with interfaces that both trees have.

python tools/identical_probe.py KIND FILE TREE [WORDS ...]
"""

import contextlib
import importlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from identical_tables import LOOSE, WORDS, Table, array, from_flat, store

PATIENCE = 120.0  # seconds until a run has begun
JUDGED = ("verdict", "grade", "basis", "side")  # texts of a claim that a change of the numbers changes


def table(frame: Any) -> Table:
    """A polars table; where a column has nulls, which rows these are is a column too."""
    columns = {}
    for series in frame.iter_columns():
        if series.null_count():
            columns[f"{series.name} is null"] = series.is_null().to_numpy()
        if series.dtype.is_nested():
            columns[f"{series.name} length"] = np.array([-1 if row is None else len(row) for row in series.to_list()])
            series = series.drop_nulls().explode()
        columns[series.name] = array(series.to_numpy())
    return Table(columns)


def members(manifest: Any) -> Table:
    """Each network of a manifest: where it is packed, and its config."""
    packing = manifest["packing"]
    rows = [
        {key: stack.get(key) for key in ("id", "setting", "seed", "ln_position", "units_read")}
        | {"config_id": config, "system": packing["configs"][config]["system"]}
        | {"config": json.dumps(packing["configs"][config]["config"], sort_keys=True)}
        for stack in packing["stacks"]
        for config in stack["members"]
    ]
    return Table({key: array([row[key] for row in rows]) for key in rows[0]})


def of_manifest(folder: Path) -> dict[str, Table]:
    manifest = json.loads((folder / "manifest.json").read_text())
    told = {key: manifest[key] for key in ("study", "device", "config")} | manifest["packing"].get("settings", {})
    return {"members": members(manifest), "manifest": from_flat(told)}


def command(*words: str) -> str:
    """A command line, in this process; returns what it printed."""
    from regrow.cli import main

    with contextlib.redirect_stdout(io.StringIO()) as said:
        status = main(words)
    if status:
        raise SystemExit(f"regrow {' '.join(words)} ended with status {status}")
    return said.getvalue()


def loaded(folder: Path) -> dict[str, Table]:
    import regrow

    tables = {"results": table(regrow.load(folder))}
    if (folder / "epochs").exists():
        tables["epochs"] = table(regrow.load(folder, "epochs"))
    return tables


def run(*words: str) -> dict[str, Table]:
    """`regrow run`: its rows, its manifest, and the ranking of a sweep."""
    folder = Path("run")
    command("run", *words, "--out", str(folder), "--workers", "1", "--device", "cpu", "--quiet")
    tables = loaded(folder) | of_manifest(folder)
    if (folder / "selected.json").exists():
        tables["selected"] = from_flat(json.loads((folder / "selected.json").read_text()))
    return tables


def ids(*words: str) -> dict[str, Table]:
    """What `regrow run` is about to train: the run is ended as soon as its manifest is there."""
    folder = Path("run")
    line = [sys.executable, "-m", "regrow", "run", *words, "--out", str(folder), "--workers", "1", "--device", "cpu"]
    began = time.monotonic()
    with open("log", "w") as log:
        process = subprocess.Popen(line, stdout=log, stderr=log, start_new_session=True)
    try:
        while not (folder / "manifest.json").exists():
            if process.poll() is not None or time.monotonic() - began > PATIENCE:
                raise SystemExit(f"{' '.join(line)} wrote no manifest: {Path('log').read_text()[-200:]}")
            time.sleep(0.05)
        return of_manifest(folder)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def demo() -> dict[str, Table]:
    """`regrow demo`: its rows, and what it says of them."""
    said = command("demo", "--out", "demo").splitlines()
    starts = [i for i, line in enumerate(said) if line.startswith("SWR renewed")]
    lines = [line for line in said if set(line) & set("│┃|")]
    lines += [line for line in said[starts[0] :] if not line.startswith("Picture")] if starts else []
    return {"printed": Table({"lines": array([line.rstrip() for line in lines])})} | loaded(Path("demo"))


def report(stored: str) -> dict[str, Table]:
    """A folder of stored results, as they are loaded, and what the report of them says of each claim."""
    results, out = Path(stored), Path("report").resolve()
    folders = sorted(path.parent for path in results.glob("*/manifest.json"))
    tables = {f"{folder.name} {name}": table for folder in folders for name, table in loaded(folder).items()}
    os.chdir(results)
    # The long runs on CIFAR-100 are of another size than the others, and have no place beside them.
    command("report", *(folder.name for folder in folders if "vit-small-long" not in folder.name), "--out", str(out))
    content = json.loads((out / "claims.json").read_text())
    claims = {claim["id"]: claim for claim in content.pop("claims")}
    found = from_flat(content | {"claims": claims}).columns
    texts = {name for name, column in found.items() if column.dtype.kind == "U" and not name.endswith(JUDGED)}
    said = {name: column for name, column in found.items() if name in texts}
    judged = {name: column for name, column in found.items() if name not in texts}
    return tables | {"claims.json": Table(judged, LOOSE), "wording of claims.json": Table(said, WORDS)}


def main() -> None:
    kind, file, tree, *words = sys.argv[1:]
    import regrow

    assert Path(regrow.__file__).is_relative_to(tree), f"it is {regrow.__file__} that runs, not that of {tree}"
    if kind in ("general", "library"):
        tables = importlib.import_module(f"identical_{kind}").tables(*words)
    else:
        kinds = {"run": run, "ids": ids, "demo": demo, "report": report}
        tables = kinds[kind](*words)
    spent = os.times()
    seconds = spent.user + spent.system + spent.children_user + spent.children_system
    store(Path(file), tables, seconds)


if __name__ == "__main__":
    main()

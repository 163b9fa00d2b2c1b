"""How loops are compiled: kept on disk as long as their sources are the same, and not counted as training."""

import contextlib
import importlib
import linecache
import os
import subprocess
import sys
import time
from pathlib import Path

import numba
import pytest
from lab_twins import SETTINGS, plan_of, trainer

from regrow.lab import kernels
from regrow.lab.kernels import jit, magnitudes, units


def test_without_a_folder_to_keep_it_a_loop_is_compiled_each_time(monkeypatch):
    njit = numba.njit

    def read_only(**options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)

    monkeypatch.setattr(numba, "njit", read_only)
    assert jit.compiled(lambda x: x + 1)(1) == 2


def test_a_kept_loop_is_compiled_anew_where_its_sources_changed(tmp_path, monkeypatch):
    """A constant of another file too, of the same length, saved within the same second."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    package, loops = tmp_path / "kept", "from regrow.lab.kernels.jit import compiled\nfrom . import numbers\n\n\n"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "loops.py").write_text(loops + "@compiled\ndef loop(x):\n    return x * numbers.FACTOR + numbers.TERM\n")

    def run(factor, term):
        (package / "numbers.py").write_text(f"from .terms import TERM\nFACTOR = {factor}\n")
        (package / "terms.py").write_text(f"TERM = {term}\n")
        for file in package.glob("*.py"):
            os.utime(file, (1e9, 1e9))
        for name in [name for name in sys.modules if name.split(".")[0] == "kept"]:
            del sys.modules[name]
        importlib.invalidate_caches(), linecache.clearcache()
        loop = importlib.import_module("kept.loops").loop
        return loop(3), sum(loop.stats.cache_hits.values())

    assert [run(2, 1), run(2, 1)] == [(7, 0), (7, 1)]
    assert [run(2, 4), run(2, 4)] == [(10, 0), (10, 1)]
    assert [run(5, 4), run(5, 4), run(2, 1)] == [(19, 0), (19, 1), (7, 0)]
    kept = {name.removeprefix("regrow.") for name in (module.__name__ for module in jit._sources(units))}
    assert kept >= {"lab.kernels.units", "lab.kernels.jit", "core.draw", "core.random"}


def test_a_cache_of_another_kind_is_not_used(monkeypatch):
    monkeypatch.setattr(jit, "_key_cache", lambda file, digest: object().unknown)
    usual = magnitudes.add_magnitudes
    assert type(jit.compiled(usual.py_func)._cache) is not type(usual._cache)


def test_compiling_is_told_apart_from_training():
    """A fresh install compiles while the expected time is measured."""
    double = numba.njit(lambda x: 2 * x)  # not kept on disk, from where it would come the next time
    with kernels.compiling() as seconds:
        assert seconds() == 0
        assert double(2) == 4
        once = seconds()
        assert double(3) == 6 and seconds() == once > 0


def test_what_is_compiled_meanwhile_is_not_counted(monkeypatch):
    """The first ten updates that are timed compile for half a second."""
    lab, made, second = trainer(plan_of(SETTINGS["narrow"], ["base"])), [], 0.5
    monkeypatch.setattr(kernels, "compiling", lambda: contextlib.nullcontext(lambda: second * (len(made) > 1)))

    def run_updates(count):
        made.append(count)
        time.sleep(second if len(made) == 2 else 0.001)

    monkeypatch.setattr(lab, "run_updates", run_updates)
    assert lab.sample(0.05) < second / 20 and len(made) > 2


LOOP = """
import sys; sys.path.insert(0, sys.argv[1])
from added import add
print(add(2.0, 3.0), add.stats.cache_hits)
"""


@pytest.mark.parametrize("kind", [".nbi", ".nbc"])
def test_a_damaged_cache_is_compiled_anew(tmp_path: Path, kind: str) -> None:
    (tmp_path / "added.py").write_text(
        "from regrow.lab.kernels.jit import compiled\n\n\n@compiled\ndef add(a, b):\n    return a + b\n"
    )
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def run() -> str:
        done = subprocess.run([sys.executable, "-c", LOOP, str(tmp_path)], env=env, capture_output=True, text=True)
        return done.stdout + done.stderr

    assert run() == "5.0 Counter()\n" and run().startswith("5.0 Counter({")
    (path,) = (tmp_path / "cache").rglob(f"*{kind}")
    for content in (b"", path.read_bytes()[:-40], path.read_bytes()[:50] + b"\x55" + path.read_bytes()[51:]):
        path.write_bytes(content)
        assert run() == "5.0 Counter()\n"
        assert run().startswith("5.0 Counter({")  # and kept again

"""Trains the stacks of a run in worker processes, one per core, and stops them in order."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from .scheduler import Turn, Turns
from .signals import STOPPING, Interrupted, handling
from .store import Store
from .training import MakeLearner, Report
from .worker import Failure, Observer, StackFailed, log_failure, work

_THREADS = ("OMP", "MKL", "OPENBLAS", "POLARS")
_POLL = 0.2  # seconds until Ctrl-C is noticed


def run_here(turns: Turns, make: MakeLearner, store: Store, count: int, observer: Observer, device: str) -> None:
    """Train stacks as `regrow.lab.runs.engine.run` does, in processes of this machine.

    Args:
        turns: hands them out.
        make, store, watch, device: as there.
        count: processes.
    """
    with _Pool(make, store, count, observer, device) as pool:
        pool.train(turns)


def default_workers(device: str = "cpu") -> int:
    """One worker for each core that this process may use, or for each CUDA device."""
    return torch.cuda.device_count() if device == "cuda" else cores()


def cores() -> int:
    """Physical cores that this process may use: two threads of one core do not train faster than one."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    cores = set()
    for cpu in os.sched_getaffinity(0):
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.add(siblings.read_text() if siblings.exists() else str(cpu))
    return len(cores)


@dataclass
class _Worker:
    number: int
    process: Any
    connection: Connection
    turn: Turn | None = None  # its current one


class _Pool:
    """Worker processes, started together and all ended with the `with` block."""

    def __init__(self, make: MakeLearner, store: Store, count: int, observer: Observer, device: str) -> None:
        self._arguments, self._count, self._device = (make, store), count, device
        self._store, self._observer = store, observer
        self._workers: list[_Worker] = []
        self._failure: Failure | None = None
        self._signals, self._last_signal, self._asked_to_stop = 0, 0, False
        self._handlers = contextlib.ExitStack()

    def __enter__(self) -> "_Pool":
        for number in STOPPING:
            self._handlers.enter_context(handling(number, self._count_signal))
        context = multiprocessing.get_context("spawn")
        with _one_thread_each(), contextlib.ExitStack() as ignored:
            for number in (signal.SIGINT, signal.SIGHUP):  # workers ignore them from the first moment
                ignored.enter_context(handling(number, signal.SIG_IGN))
            for number in range(self._count):
                here, there = context.Pipe()
                gpu = number % torch.cuda.device_count() if self._device == "cuda" else None
                process = context.Process(target=work, args=(there, *self._arguments, gpu), daemon=True)
                process.start()
                there.close()
                self._workers.append(_Worker(number, process, here))
        return self

    def __exit__(self, *error: object) -> None:
        self._handlers.close()
        for worker in self._workers:
            worker.process.kill()
            worker.process.join()
            worker.connection.close()

    def _count_signal(self, number: int, _: object) -> None:
        self._signals, self._last_signal = self._signals + 1, number

    def train(self, turns: Turns) -> None:
        """Hand out the stacks until all are done."""
        for worker in self._workers:
            self._hand_out(worker, turns)
        at_work = {worker.connection: worker for worker in self._workers}
        while at_work:
            if self._signals or self._failure:
                self._stop(at_work.values())
            for connection in wait(list(at_work), _POLL):
                worker = at_work[connection]  # type: ignore[index]
                try:
                    self._receive(worker, worker.connection.recv(), turns)
                except (EOFError, OSError):
                    del at_work[worker.connection]
                    self._ended(worker)
        if self._failure:
            raise StackFailed(log_failure(self._store.folder, self._failure))
        if self._signals:
            raise Interrupted(number=self._last_signal)

    def _hand_out(self, worker: _Worker, turns: Turns) -> None:
        worker.turn = turns.next()
        with contextlib.suppress(OSError):  # it died: `train` handles that
            worker.connection.send(worker.turn)

    def _receive(self, worker: _Worker, message: Report | Failure | Turn, turns: Turns) -> None:
        if isinstance(message, Report):
            self._observer.report(worker.number, message)
        elif isinstance(message, Failure):
            self._failure, worker.turn = self._failure or message, None
        else:
            if turns.ended(message):
                self._observer.done(worker.number, message.plan.id)
            self._hand_out(worker, turns)

    def _ended(self, worker: _Worker) -> None:
        """A process has ended: a failure, unless it was asked to stop or had nothing left to do."""
        stopping = self._asked_to_stop or self._signals  # a scheduler's SIGTERM reaches the whole group, workers first
        if worker.turn and not stopping:
            worker.process.join()
            how = _describe_exit(worker.process.exitcode)
            self._failure = self._failure or Failure(worker.turn.plan.id, f"its worker {how}", "")

    def _stop(self, workers: Any) -> None:
        """Ask all to store their finished tasks and end; at the second signal, end them at once."""
        for worker in workers:
            if self._signals > 1:
                worker.process.kill()
            elif not self._asked_to_stop:
                worker.process.terminate()
        self._asked_to_stop = True


def _describe_exit(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"was ended by {name}" + (", perhaps out of memory" if name == "SIGKILL" else "")
    return f"ended with status {code}"


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started within it have one thread each: libraries read these variables when they are loaded."""
    names = [f"{library}_{'MAX' if library == 'POLARS' else 'NUM'}_THREADS" for library in _THREADS]
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

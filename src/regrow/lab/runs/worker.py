"""A worker process: trains the stacks that it is given, and reports progress and failures."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import NamedTuple, Protocol

import torch

from . import lock
from .scheduler import Turn
from .signals import STOPPING
from .store import Store
from .training import MakeLearner, Report, Stopped, StopSignal, train_stack


class Failure(NamedTuple):
    """What went wrong with a stack: one line, and the traceback."""

    stack: str
    line: str
    trace: str


class Observer(Protocol):
    """Receives the progress of the workers. Its methods must return soon."""

    def report(self, worker: int, report: Report) -> None:
        """A worker reports its progress on a stack."""
        ...

    def done(self, worker: int, stack: str) -> None:
        """A worker has finished a stack."""
        ...


class NoObserver:
    """Ignores all progress."""

    def report(self, worker: int, report: Report) -> None:
        del worker, report

    def done(self, worker: int, stack: str) -> None:
        del worker, stack


def use_one_thread() -> None:
    """One thread per process, one process per core; denormals count as 0, since they slow arithmetic down."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def work(connection: Connection, make: MakeLearner, store: Store, device: int | None = None) -> None:
    """The main function of a worker process: trains each stack it receives, and answers when it is done.

    Args:
        connection: delivers a `Turn`, or None to end; takes `Report`, `Failure`, and each `Turn` that is done.
        make, store: as for `train_stack`.
        device: the CUDA device to use, if any.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=[parent.sentinel], daemon=True).start()
    stop = StopSignal()
    for number in STOPPING:  # Ctrl-C goes to the whole group; the run stops its workers itself, by SIGTERM
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, stop.request)
    use_one_thread()
    if device is not None:
        torch.cuda.set_device(device)

    def send(message: Report | Failure | Turn) -> None:
        with contextlib.suppress(OSError):  # the run is gone, and so is this process in a moment
            connection.send(message)

    stack = ""
    with connection:
        try:
            with contextlib.suppress(Stopped, EOFError), lock.one_writer(store.folder, store.shard):
                # If the run died before this process had the lock, another run may hold the folder by now.
                while parent.is_alive():
                    with stop.interruptible():
                        turn = connection.recv()
                    if turn is None:
                        return
                    stack = turn.plan.id
                    train_stack(turn.plan, make, store, turn.tasks, send, stop)
                    send(turn)
        except Exception as error:
            send(failure(stack, error))


def failure(stack: str, error: Exception) -> Failure:
    """The failure to report for an exception: users' errors keep their message, others get their type's name."""
    line = str(error).partition("\n")[0]
    if not isinstance(error, OSError | ValueError) or not line:
        line = f"{type(error).__name__}: {line}"
    return Failure(stack, line, traceback.format_exc())


def _end_with(sentinel: int) -> None:
    """End at once when the run is gone, as if killed with it: files are whole at any moment."""
    wait([sentinel])
    os._exit(1)


class StackFailed(ChildProcessError):
    """A stack could not be trained: one line with its id."""


def log_failure(folder: Path, failure: Failure) -> str:
    """Append a failure to `errors.log`; returns one line for the user."""
    line = f"stack {failure.stack}: {failure.line}"
    if not failure.trace:
        return line
    path = folder / "errors.log"
    try:
        with open(path, "a") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n{failure.trace}\n")
    except OSError:
        return line  # the disk itself may be the problem
    return f"{line} (traceback: {path})"

"""Signals that stop a run: Ctrl-C, a scheduler's SIGTERM, a closed terminal's SIGHUP."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


class Interrupted(KeyboardInterrupt):
    """A signal stopped the run; `number` is the signal's."""

    def __init__(self, message: str = "", number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = int(number)


def number_of(stop: KeyboardInterrupt) -> int:
    """The signal behind an interruption."""
    return stop.number if isinstance(stop, Interrupted) else int(signal.SIGINT)


@contextlib.contextmanager
def interrupting() -> Iterator[None]:
    """Within it, every signal that stops a run raises `Interrupted`, as Ctrl-C raises KeyboardInterrupt anyway."""
    with contextlib.ExitStack() as handlers:
        for number in STOPPING:
            handlers.enter_context(handling(number, _interrupt))
        yield


def _interrupt(number: int, _: FrameType | None) -> None:
    raise Interrupted(number=number)


@contextlib.contextmanager
def handling(number: signal.Signals, handler: Any) -> Iterator[None]:
    """Handle a signal, unless it is ignored already or this is not the main thread."""
    before = signal.getsignal(number)
    handled = before is not signal.SIG_IGN and threading.current_thread() is threading.main_thread()
    if handled:
        signal.signal(number, handler)
    try:
        yield
    finally:
        if handled:
            signal.signal(number, before)

"""One run at a time writes to a folder: a lock that the system itself releases when its holders are gone."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from .files import cannot_write

NAME = "lock"
_PATIENCE = 10.0  # seconds for the workers of a killed run to notice that it is gone


@contextlib.contextmanager
def sole_run(folder: Path) -> Iterator[None]:
    """Hold a folder for one run.

    Every process that may write holds a shared lock on the file: the run, and each of its workers. A run begins only at
    a moment when it can lock the file exclusively; so after a run is killed the next one waits for the workers left
    behind, which stop by themselves, and two runs never write at once.

    Raises:
        OSError: where another run holds it, or the folder cannot be written.
    """
    import fcntl

    path = folder / NAME
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        _acquire(handle, folder)
        with contextlib.suppress(OSError):  # a full disk: the owner only serves the message
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{socket.gethostname()} {os.getpid()}\n".encode(), 0)
        # Going from exclusive to shared is not atomic: another run may get the lock in between.
        if not _try(handle, fcntl.LOCK_SH):
            raise _taken(handle, folder)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Hold a folder as one of the workers of the run that holds it; see `sole_run`."""
    import fcntl

    handle = os.open(folder / NAME, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def is_running(folder: Path) -> bool:
    """Whether a run, or a worker left behind by a killed run, holds the folder now."""
    import fcntl

    try:
        handle = os.open(folder / NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _try(handle, fcntl.LOCK_EX)
    finally:
        os.close(handle)


def _acquire(handle: int, folder: Path) -> None:
    import fcntl

    limit = time.monotonic() + _PATIENCE
    while not _try(handle, fcntl.LOCK_EX):
        if _owner_lives(handle) or time.monotonic() > limit:
            raise _taken(handle, folder)
        time.sleep(0.05)


def _try(handle: int, kind: int) -> bool:
    import fcntl

    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _owner(handle: int) -> tuple[str, int] | None:
    """Host and process id of the last run that took the lock."""
    words = os.pread(handle, 1000, 0).decode(errors="replace").split()
    return (words[0], int(words[1])) if len(words) == 2 and words[1].isdigit() else None


def _owner_lives(handle: int) -> bool:
    owner = _owner(handle)
    if owner is None or owner[0] != socket.gethostname():
        return False
    try:
        os.kill(owner[1], 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # somebody else's process
    return True


def _taken(handle: int, folder: Path) -> OSError:
    owner = _owner(handle)
    who = f" (process {owner[1]} on {owner[0]})" if owner else ""
    return OSError(f"{folder} is in use by another run{who}: wait for it to end, stop it, or choose another --out")

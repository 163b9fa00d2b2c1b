"""One run at a time writes to a folder, or the shards of one: locks that the system releases when holders are gone."""

import contextlib
import errno
import os
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .files import cannot_write

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None

NAME = "lock"
_SHARDS = "lock.shards"
_MANIFEST = "lock.manifest"
_PATIENCE = 10.0  # seconds for the workers of a killed run to notice that it is gone
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF)


class Shard(NamedTuple):
    """A part of a run: the stacks `index - 1`, `index - 1 + count`, …, trained by a job of its own."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def lock(self) -> str:
        return f"{NAME}.{self.index}-of-{self.count}"


def is_lock(name: str) -> bool:
    """Whether a file of a folder of results is one of the locks."""
    return name == NAME or name.startswith(f"{NAME}.")


@contextlib.contextmanager
def sole_run(folder: Path, shard: Shard | None = None) -> Iterator[None]:
    """Hold a folder for one run, or for one shard of a run.

    Every process that may write holds a shared lock on the file: the run, and each of its workers. A run begins only at
    a moment when it can lock the file exclusively; so after a run is killed the next one waits for the workers left
    behind, which stop by themselves, and two runs never write at once. Shards of equal count hold a second file
    together, which a whole run needs for itself.

    Raises:
        OSError: where another run holds it, the folder cannot be written, or its file system has no locks.
    """
    with contextlib.ExitStack() as held:
        if shard:
            _join(held.enter_context(_opened(folder, _SHARDS)), folder, shard)
            with _opened(folder, NAME) as whole:
                _acquire(whole, folder)  # no whole run: for a moment only
        handle = held.enter_context(_opened(folder, shard.lock if shard else NAME))
        _acquire(handle, folder)
        if not shard and (folder / _SHARDS).exists():
            with _opened(folder, _SHARDS) as shards:
                _acquire(shards, folder)
        with contextlib.suppress(OSError):  # a full disk: the owner only serves the message
            _write(handle, f"{socket.gethostname()} {os.getpid()}\n")
        # Going from exclusive to shared is not atomic: another run may get the lock in between.
        if not _try(handle, _flag("LOCK_SH"), folder):
            raise _taken(handle, folder)
        yield


@contextlib.contextmanager
def one_writer(folder: Path, shard: Shard | None = None) -> Iterator[None]:
    """Hold a folder as one of the workers of the run that holds it; see `sole_run`."""
    with contextlib.ExitStack() as held:
        for name in (shard.lock, _SHARDS) if shard else (NAME,):
            _flock(held.enter_context(_opened(folder, name)), _flag("LOCK_SH"), folder)
        yield


@contextlib.contextmanager
def manifest_alone(folder: Path) -> Iterator[None]:
    """Hold the manifest for a moment: shards read and write it at once."""
    with _opened(folder, _MANIFEST) as handle:
        _flock(handle, _flag("LOCK_EX"), folder)
        yield


def is_running(folder: Path) -> bool:
    """Whether a run, or a worker left behind by a killed run, holds the folder now."""
    return any(_is_held(folder, name) for name in (NAME, _SHARDS))


def _is_held(folder: Path, name: str) -> bool:
    path = folder / name
    for way in (os.O_RDWR, os.O_RDONLY):  # NFS locks exclusively only what is open for writing
        try:
            handle = os.open(path, way | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            return not _try(handle, _flag("LOCK_EX"), folder)
        except OSError:
            return _owner_lives(handle)
        finally:
            os.close(handle)
    return False


@contextlib.contextmanager
def _opened(folder: Path, name: str) -> Iterator[int]:
    path = folder / name
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield handle
    finally:
        os.close(handle)


def _join(handle: int, folder: Path, shard: Shard) -> None:
    """Hold the file of the shards, which says how many there are."""
    limit = time.monotonic() + _PATIENCE
    while not _try(handle, _flag("LOCK_SH"), folder):
        if time.monotonic() > limit:
            raise _taken(handle, folder)
        time.sleep(0.05)
    stored = os.pread(handle, 100, 0).decode(errors="replace").strip()
    if stored == str(shard.count):
        return
    if stored and not _try(handle, _flag("LOCK_EX"), folder):
        raise OSError(
            f"{folder} is in use by shards of {stored}; got --shard {shard}: give the same number, or wait for them"
        )
    _write(handle, f"{shard.count}\n")
    _flock(handle, _flag("LOCK_SH"), folder)


def _write(handle: int, text: str) -> None:
    os.ftruncate(handle, 0)
    os.pwrite(handle, text.encode(), 0)


def _acquire(handle: int, folder: Path) -> None:
    limit = time.monotonic() + _PATIENCE
    while not _try(handle, _flag("LOCK_EX"), folder):
        if _owner_lives(handle) or time.monotonic() > limit:
            raise _taken(handle, folder)
        time.sleep(random.uniform(0.02, 0.08))


def _flag(name: str) -> int:
    return getattr(fcntl, name, 0)


def _try(handle: int, kind: int, folder: Path) -> bool:
    try:
        _flock(handle, kind | _flag("LOCK_NB"), folder)
    except BlockingIOError:
        return False
    return True


def _flock(handle: int, kind: int, folder: Path) -> None:
    try:
        if fcntl is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        fcntl.flock(handle, kind)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise OSError(
            f"{folder} lies on a file system without file locks ({error.strerror}): choose an --out on another disk, "
            "and bring results together with `regrow merge`"
        ) from error


def _owner(handle: int) -> tuple[str, int] | None:
    """Host and process id of the last run that took the lock."""
    words = os.pread(handle, 1000, 0).decode(errors="replace").split()
    return (words[0], int(words[1])) if len(words) == 2 and words[1].isdecimal() else None


def _owner_lives(handle: int) -> bool:
    owner = _owner(handle)
    if owner is None or owner[0] != socket.gethostname():
        return False
    try:
        os.kill(owner[1], 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass  # somebody else's process
    return True


def _taken(handle: int, folder: Path) -> OSError:
    owner = _owner(handle)
    who = f" (process {owner[1]} on {owner[0]})" if owner else ""
    return OSError(f"{folder} is in use by another run{who}: wait for it to end, stop it, or choose another --out")

"""Files that appear whole or not at all."""

import errno
import os
from collections.abc import Collection
from pathlib import Path

_TEMPORARY = ".{name}.{pid}.tmp"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader, also after a crash, sees all of it or its previous content.

    Args:
        path: the file; its folder exists.
        content: its bytes.

    Raises:
        OSError: one line that names the file and the remedy; the previous content is untouched.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "file"
        >>> write_whole(path, b"all of it")
        >>> path.read_bytes(), len(list(path.parent.iterdir()))
        (b'all of it', 1)
    """
    temporary = path.with_name(_TEMPORARY.format(name=path.name, pid=os.getpid()))
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> OSError:
    """The error to raise where a file or a folder cannot be written."""
    if error.errno == errno.ENOENT:
        return OSError(
            f"{path} cannot be written: {path.parent} was deleted or moved meanwhile; put it back, or rerun the "
            "command to begin again"
        )
    return OSError(
        f"{path} cannot be written ({error.strerror or error}): free space or allow writing there, then rerun the "
        "command; what is stored stays readable"
    )


def sync_folder(folder: Path) -> None:
    """Make a folder's entries survive a crash of the machine, where folders can be synced."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_temporary(folder: Path, names: Collection[str] | None = None) -> None:
    """Remove the temporary files of killed writers; for the only process that may write there.

    Args:
        folder: where they lie.
        names: of the files that they would have become; None: all.
    """
    for path in folder.glob(".*.tmp"):
        if names is None or path.name[1:].rsplit(".", 2)[0] in names:
            path.unlink(missing_ok=True)

"""The state of a stack of networks in a file, with whose it is and a digest.

    REGROW CHECKPOINT 1 <SHA-256 of the next line>
    {"stack": …, "task": …, "sha256": <of the rest>}      whose it is; read alone where that suffices
    <what torch.save wrote>

A file of an older version begins with what `torch.save` wrote; it is read, and counts as unverified.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .digests import Damaged
from .files import write_whole

_MAGIC = b"REGROW CHECKPOINT 1 "
_OLD = b"PK"


class Header(NamedTuple):
    """What is known of a stored stack without reading its state.

    task: the next one, from 0. expected: the number of tasks whose rows were stored before the stack was retrained,
    which must come out as they are stored. within: whether the state is of the middle of a task. owner: whose it is, as
    given to `save`; None for a file without a digest.
    """

    task: int
    expected: int = 0
    within: bool = False
    owner: Mapping[str, Any] | None = None


def save(path: Path, header: Header, state: Mapping[str, Any]) -> None:
    """Store the state of a stack."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    body = buffer.getvalue()
    line = json.dumps(header._asdict() | {"sha256": hashlib.sha256(body).hexdigest()}).encode()
    write_whole(path, _MAGIC + hashlib.sha256(line).hexdigest().encode() + b"\n" + line + b"\n" + body)


def read_header(path: Path) -> Header | None:
    """Whose checkpoint it is and its task; None where there is none.

    Raises:
        Damaged: where it cannot be read or its digest differs.
    """
    try:
        with path.open("rb") as file:
            first = file.readline(200)
            if not first.startswith(_OLD):
                return _header(first, file.readline(1 << 20))[0]
    except FileNotFoundError:
        return None
    return _load_old(path)[0]


def load(path: Path) -> tuple[Header, dict[str, Any]]:
    """The state of a stored stack, verified, and its header.

    Raises:
        Damaged: where it cannot be read or a digest differs.
    """
    content = path.read_bytes()
    if content.startswith(_OLD):
        return _load_old(path)
    first, _, rest = content.partition(b"\n")
    line, _, body = rest.partition(b"\n")
    header, digest = _header(first, line)
    if hashlib.sha256(body).hexdigest() != digest:
        raise Damaged("its state has another digest")
    return header, torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)


def _header(first: bytes, line: bytes) -> tuple[Header, str]:
    line = line.removesuffix(b"\n")
    if first.removesuffix(b"\n") != _MAGIC + hashlib.sha256(line).hexdigest().encode():
        raise Damaged("it is no checkpoint, or its header has another digest")
    content = json.loads(line)
    digest = content.pop("sha256")
    return Header(**content), digest


def _load_old(path: Path) -> tuple[Header, dict[str, Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch itself reads a flipped bit without complaint
        if damaged is not None:
            raise zipfile.BadZipFile(f"checksum of {damaged}")
        content = torch.load(path, map_location="cpu", weights_only=True)
        return Header(int(content["task"])), content["state"]
    except Exception as error:
        raise Damaged(" ".join(str(error).split())[:60] or type(error).__name__) from error


def same(one: Any, other: Any) -> bool:
    """Whether two states are equal, bit for bit.

    Example:
        >>> zero = {"w": torch.tensor([0.0])}
        >>> same(zero, {"w": torch.tensor([0.0])}), same(zero, {"w": torch.tensor([-0.0])})
        (True, False)
    """
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        alike = one.dtype == other.dtype and one.shape == other.shape
        return alike and _raw(one) == _raw(other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other or (one != one and other != other))


def _raw(x: torch.Tensor) -> bytes:
    return x.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()

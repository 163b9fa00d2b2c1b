"""The file that marks a folder of results: its content, and reading it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import regrow

from . import digests
from .files import write_whole

NAME = "manifest.json"
_REMEDY = "give a folder that `regrow run` wrote (its --out)"


class Manifest(TypedDict):
    """The description of a folder of results.

    config: all that decides the results, with `tasks` and `seeds`. packing: see `regrow.lab.studies.packing.describe`.
    arithmetic: see `regrow.lab.mlp.arithmetic`; absent: 1. continued: of every later run, what it differs in. nodes: of
    a cluster, {name: versions}. seconds, processor_seconds: of all runs together.
    """

    study: str
    config: dict[str, Any]
    version: str
    arithmetic: NotRequired[int]
    device: str
    commit: NotRequired[str | None]
    torch: str
    machine: NotRequired[str]
    cpu: NotRequired[str]
    started: str
    command: list[str]
    packing: dict[str, Any]
    continued: NotRequired[list[dict[str, Any]]]
    nodes: NotRequired[dict[str, Any]]
    seconds: NotRequired[float]
    processor_seconds: NotRequired[float]


_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "study": str, "config": dict, "version": str, "arithmetic": int, "device": str, "commit": (str, type(None)),
    "torch": str, "machine": str, "cpu": str, "started": str, "command": list, "packing": dict, "continued": list,
    "nodes": dict, "seconds": (int, float), "processor_seconds": (int, float),
}  # fmt: skip
_NEEDED = ("study", "config", "version", "device", "torch", "started", "command", "packing")


def write(folder: Path, content: Mapping[str, Any]) -> None:
    """Write the manifest, whole, with its digest."""
    write_whole(folder / NAME, digests.seal_json(content))


def read(folder: Path) -> Manifest:
    """The manifest of a folder.

    Raises:
        FileNotFoundError: where there is no folder, or it holds none.
        ValueError: where it is damaged, of something else, or of a later version.
    """
    return read_verified(folder)[0]


def read_verified(folder: Path) -> tuple[Manifest, bool]:
    """The manifest of a folder, and whether it has a digest; see `read`."""
    path = folder / NAME
    try:
        content, verified = digests.open_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        what = "holds no manifest.json" if folder.is_dir() else "is no folder"
        raise FileNotFoundError(f"{folder} {what}: {_REMEDY}") from None
    except digests.Damaged as error:
        raise ValueError(f"{path} is damaged ({error}): restore it from a copy, or choose another --out") from None
    if not isinstance(content, dict) or "study" not in content:
        raise ValueError(f"{path} is no manifest of a run: {_REMEDY}")
    _check_version(path, content.get("version"))
    if problem := _problem(content):
        raise ValueError(f"{path} is no manifest of a run ({problem}): {_REMEDY}")
    return content, verified  # type: ignore[return-value]


def _check_version(path: Path, version: object) -> None:
    if isinstance(version, str) and _parts(version) > _parts(regrow.__version__):
        raise ValueError(
            f"{path} was written by regrow {version}, and this is {regrow.__version__}: pip install --upgrade regrow"
        )


def _parts(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdecimal()]


def _problem(content: Mapping[str, Any]) -> str:
    """What is wrong with it in a few words; empty where nothing is."""
    for key in _NEEDED:
        if key not in content:
            return f"it lacks `{key}`"
    for key, value in content.items():
        if key not in _KINDS:
            return f"its key {key[:40]!r} is unknown"
        if not isinstance(value, _KINDS[key]):
            return f"its `{key}` is {value!r:.40}"
    for key in ("tasks", "seeds"):
        value = content["config"].get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            return f"its config has `{key}` {value!r:.40}"
    try:
        members(content["packing"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        return f"its packing is damaged, {type(error).__name__} {error}"
    return ""


def members(packing: Mapping[str, Any]) -> dict[str, set[tuple[str, str, str, int]]]:
    """{stack: setting, system, config_id and seed of its members}, of a packing as the manifest holds it."""
    systems = {config_id: content["system"] for config_id, content in packing["configs"].items()}
    return {
        stack["id"]: {
            (stack["setting"], systems[config_id], config_id, int(stack["seed"])) for config_id in stack["members"]
        }
        for stack in packing["stacks"]
    }

"""The `regrow` command: one typed configuration for each subcommand."""

import contextlib
import dataclasses
import importlib
import io
import os
import signal
import sys
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from . import __version__

_DESCRIPTION = (
    "Train, watch and report studies of how neural networks lose, and keep, the ability to learn. `regrow --version` "
    "prints the version."
)
_COMMANDS = {
    "demo": ("demo", "Demo"),
    "studies": ("studies", "Studies"),
    "run": ("run", "Run"),
    "status": ("status", "Status"),
    "merge": ("merge", "Merge"),
    "report": ("report", "Report"),
    "watch": ("report", "Watch"),
    "data": ("data", "Data"),
    "bench": ("bench", "Bench"),
}
"""{command: (module, its typed configuration)}"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns its exit status: 0, 1 for an error, 2 for unknown words, 128 + n after signal n."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments == ["--version"]:
        print(f"regrow {__version__}")
        return 0
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")  # paths that are no text are printed as they are
    try:
        return _main(arguments)
    except KeyboardInterrupt as stop:
        with contextlib.suppress(OSError):  # the terminal may be gone
            print(f"\nregrow: {_flags(str(stop), _command(arguments))}" if str(stop) else "", file=sys.stderr)
        return 128 + getattr(stop, "number", signal.SIGINT)
    except BrokenPipeError:  # `regrow … | head`
        print("regrow: stopped, for nothing reads its output any more", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is flushed at the end
        return 128 + signal.SIGPIPE


def _main(arguments: list[str]) -> int:
    try:
        import tyro

        commands = _load(arguments[0] if arguments else "")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("regrow"):
            raise
        return _fail(f"the commands need packages that are not installed ({error.name}): pip install 'regrow[lab]'")
    try:
        command: Any = tyro.extras.subcommand_cli_from_dict(
            commands, prog="regrow", description=_DESCRIPTION, args=arguments
        )
    except SystemExit as stop:  # after its help, or a complaint that does not always list the choices
        if stop.code and arguments and arguments[0] in commands:
            print(f"arguments of regrow {arguments[0]}: {_options(commands[arguments[0]])}", file=sys.stderr)
        return int(stop.code or 0)
    try:
        command.run()
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        return _fail(_flags(str(error), type(command)))
    return 0


def _command(arguments: Sequence[str]) -> Any:
    return _load(arguments[0]).get(arguments[0]) if arguments and arguments[0] in _COMMANDS else None


def _flags(message: str, command: Any) -> str:
    """A message that names the options as they were typed: `measure_every` is --measure-every to the user."""
    for name, word in _names(command) if command else ():
        message = message.replace(f"`{name}`", f"`{word}`")
    return message


def _load(wanted: str) -> dict[str, Any]:
    """The typed configurations of all commands, or of the one that is wanted: loading them takes seconds."""
    return {
        name: getattr(importlib.import_module(f".commands.{module}", __package__), kind)
        for name, (module, kind) in _COMMANDS.items()
        if wanted not in _COMMANDS or name == wanted
    }


def _options(command: Any) -> str:
    return ", ".join(word for _, word in _names(command))


def _names(command: Any) -> Iterator[tuple[str, str]]:
    """(field, its word in the usage): a positional's metavar, an option with its dashes; nested ones in their place."""
    hints = typing.get_type_hints(command, include_extras=True)
    for field in dataclasses.fields(command):
        kind = typing.get_args(hints[field.name])[:1]
        if kind and dataclasses.is_dataclass(kind[0]):
            yield from _names(kind[0])
        else:
            name, notes = field.name.rstrip("_"), getattr(hints[field.name], "__metadata__", ())
            metavar = next((note.metavar for note in notes if getattr(note, "metavar", None)), name.upper())
            yield name, metavar if "Positional" in str(notes) else f"--{name.replace('_', '-')}"


def _fail(message: str) -> int:
    print(f"regrow: {message}", file=sys.stderr)
    return 1

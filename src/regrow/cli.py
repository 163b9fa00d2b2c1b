"""The `regrow` command: one typed configuration for each subcommand."""

import dataclasses
import sys
from collections.abc import Sequence

from . import __version__

_DESCRIPTION = "Keeps neural networks able to learn. `regrow --version` prints the version."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns its exit status: 0, 1 for an error, 2 for unknown words, 130 when interrupted."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments == ["--version"]:
        print(f"regrow {__version__}")
        return 0
    try:
        import tyro

        from .demo import Demo
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("regrow"):
            raise
        return _fail(f"the commands need packages that are not installed ({error.name}): pip install 'regrow[lab]'")
    commands = {"demo": Demo}
    try:
        command = tyro.extras.subcommand_cli_from_dict(
            commands, prog="regrow", description=_DESCRIPTION, args=arguments
        )
    except SystemExit as stop:  # after its help, or a complaint that does not always list the choices
        if stop.code and arguments and arguments[0] in commands:
            options = ", ".join(f"--{field.name}" for field in dataclasses.fields(commands[arguments[0]]))
            print(f"options of regrow {arguments[0]}: {options}", file=sys.stderr)
        return int(stop.code or 0)
    try:
        command.run()
    except KeyboardInterrupt:
        return 130
    except (OSError, ValueError) as error:
        return _fail(str(error))
    return 0


def _fail(message: str) -> int:
    print(f"regrow: {message}", file=sys.stderr)
    return 1

"""`regrow merge`: folders of one study, each with some of its stacks, as one."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console
from tyro.conf import Positional, arg

from ..lab.runs import manifest
from ..lab.runs.merge import merge
from .status import resuming


@dataclass(frozen=True)
class Merge:
    """Merge the results of several jobs of one study into a new folder, verifying every file."""

    folders: Annotated[Positional[tuple[Path, ...]], arg(metavar="DIR...", help_behavior_hint="(required)")]
    """folders that `regrow run` wrote, with the same options except --tasks, --seeds and --shard"""
    out: Annotated[Path, arg(metavar="DIR")]
    """folder to create"""

    def run(self) -> None:
        """Copy, and print what was copied."""
        if not self.folders:
            raise ValueError("`regrow merge` needs folders of results; got none: name folders that `regrow run` wrote")
        copied, planned = merge(self.folders, self.out)
        line = f"Merged {copied} of {planned} stacks into {self.out}."
        if copied < planned:
            line += f" The others have no stored task in any of these folders. To train them: {self._rest()}"
        Console().print(line, soft_wrap=True, highlight=False, markup=False)

    def _rest(self) -> str:
        """The command that trains what no job has: all shards, with as many tasks and seeds as any of them."""
        content = manifest.read(self.out)
        words = resuming(self.out, content, without=("--shard", "--tasks", "--seeds"))
        size = [f"--{name}={content['config'][name]}" for name in ("tasks", "seeds")]
        return shlex.join(["regrow", *words, *size])

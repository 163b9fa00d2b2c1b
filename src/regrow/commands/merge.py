"""`regrow merge`: folders of one study, each with some of its stacks, as one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console
from tyro.conf import Positional, arg

from ..lab.runs.merge import merge


@dataclass(frozen=True)
class Merge:
    """Bring the results of several jobs of one study together in a new folder, every file verified."""

    folders: Annotated[Positional[tuple[Path, ...]], arg(metavar="DIR...", help_behavior_hint="(required)")]
    """folders that `regrow run` wrote, with the same options except --tasks, --seeds and --shard"""
    out: Annotated[Path, arg(metavar="DIR")]
    """folder to create"""

    def run(self) -> None:
        """Copy, and print what was copied."""
        if not self.folders:
            raise ValueError("`regrow merge` needs folders of results; got none: name folders that `regrow run` wrote")
        copied, planned = merge(self.folders, self.out)
        line = f"Merged {copied} of {planned} stacks. Results: {self.out}"
        Console().print(line, soft_wrap=True, highlight=False, markup=False)

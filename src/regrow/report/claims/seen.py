"""Which runs were known when the rules were made: what rests on them is exploratory.

A network's draws are a function of its setting, system, values and seed, whoever trains it, so a run is known if any
task of its seed was stored then. That holds for the tasks trained since, too: they continue what was known.
"""

from ...lab.studies import SIX, VIT_SETTINGS
from ...lab.studies.vit_values import chosen
from ..runs import Run, papers_id
from ..style import FOUR

_ORDERS = ("cbp-authors", "redo-authors")
_OTHER_SWR = tuple(f"swr-gradient-{way}" for way in ("threshold-mean", "proportional-resample", "proportional-mean"))
_ALL_SWR = tuple(
    f"swr-{utility}-{prune}-{reinit}"
    for utility in ("gradient", "magnitude", "random")
    for prune in ("threshold", "proportional")
    for reinit in ("resample", "mean")
)

SEEN: tuple[tuple[tuple[str, ...], tuple[str, ...], tuple[int, ...]], ...] = (
    (FOUR, (*SIX, *_ORDERS), (1000, 200, 200, 200, 200)),
    (FOUR, ("scratch",), (20, 20, 20, 20, 20)),
    (FOUR, ("swr-random-threshold-resample", "swr-zero-only", "swr-zero-spared"), (30, 30, 30)),
    (FOUR, _OTHER_SWR, (200,)),
    (("large-ln",), ("swr-gradient-proportional-mean-authors",), (64,)),
    (("large",), _ALL_SWR, (200, 200)),
    (("large-sgdw", "large-adamw"), SIX, (200, 200)),
    (("vit", "vit-reparam"), ("base", "scratch"), (5, 5, 5)),
)
"""Settings, systems, and how many tasks of seeds 0, 1, … were stored on 30 November 2026, at chosen values."""
SWEPT = (30,)
"""The same at other values, of sweeps."""


def tasks_seen(run: Run) -> int:
    """How many tasks of a run were known."""
    if run.setting in FOUR and run.config_id != papers_id(run.setting, run.system):
        known = [SWEPT]
    elif run.setting in VIT_SETTINGS and not _has_papers_decay(run):
        known = []
    else:
        known = [tasks for settings, systems, tasks in SEEN if run.setting in settings and run.system in systems]
    return max((tasks[run.seed] for tasks in known if run.seed < len(tasks)), default=0)


def _has_papers_decay(run: Run) -> bool:
    """Whether a vision transformer has the paper's decay, as all stored ones had, not one matched to its boundaries."""
    paper = chosen(run.setting, run.system, run.config.get("optimizer", "authors"))["decay"]
    return run.config.get("decay", paper) == paper


def is_new(run: Run) -> bool:
    """Whether none of its tasks was known."""
    return not tasks_seen(run)

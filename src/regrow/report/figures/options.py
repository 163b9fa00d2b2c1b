"""What choices change that the paper leaves open: where units are read, and where layer norm stands."""

from collections.abc import Mapping

from ..runs import Runs
from ..style import SETTING_LABELS, look
from . import lines
from .accuracy import BASELINES, SIX
from .drawing import Drawing, Missing, Topic, run_command, styled
from .panels import Found, Line, Sheet, compose

NAME, TITLE, STUDY = "options", "Choices that the paper leaves open", "weights-vs-units"
SETTINGS, SYSTEMS = ("large-ln", "small-ln"), ("cbp", "redo")


@styled
def options(results: Runs, others: Mapping[str, Runs]) -> Drawing | Missing:
    """Unit methods as in the other figures, and the same with another option of the laboratory.

    Args:
        results: runs with the usual options.
        others: {what is different, in a few words: its runs}
    """
    found = [_find(results, others, setting) for setting in SETTINGS]
    found = [panel for panel in found if any(line.own for line, *_ in panel.drawn)]
    if not found:
        command = run_command(STUDY, SETTINGS, SYSTEMS) + " --units-read after"
        return Missing(NAME, TITLE, "no run with units read after the norm", command)
    plan = Sheet(Topic(NAME, TITLE, STUDY), (), columns=len(found))
    return compose(plan, found, ())


def _find(results: Runs, others: Mapping[str, Runs], setting: str) -> Found:
    """The usual lines of systems that also have others, and the others dotted in the same colour."""
    drawn = []
    for system in (*SIX[len(BASELINES) :], *BASELINES):
        beside = [(name, main) for name, runs in others.items() if (main := runs.main(setting, system))]
        usual = results.main(setting, system)
        if beside and usual:
            drawn.append((Line(setting, system), usual))
        for name, main in beside:
            own = look(system)._replace(label=f"{look(system).label}, {name}", dashes=":")
            drawn.append((Line(setting, system, own), main))
    width = lines.bin_width(lines.longest(main for _, main in drawn))
    courses = ((line, main, lines.course(main, "online_accuracy", width)) for line, main in drawn)
    return Found(SETTING_LABELS[setting], width, tuple(courses))

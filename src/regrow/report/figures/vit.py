"""Figures 3 and 15 to 18 of the paper: a vision transformer that learns one class after the other."""

from ...lab.studies import VIT_SETTINGS
from ...lab.studies.systems import Dashes
from ..results_vit import ViTResults
from ..runs import FRESH, Runs
from ..style import METHODS, NORMS, REPARAM, SERIES, STANDARD, SYSTEMS, VIT_SETTING_LABELS, Look
from .panels import Line
from .sheet import Drawing, Missing
from .vit_panels import Sheet, View, draw, steady

ACCURACY, DIFFERENCE = "test accuracy (%)", "points above a fresh network"


def _own(system: str, label: str, dashes: Dashes) -> Look:
    return Look(label, SYSTEMS[system].colour, dashes)


BASE, BASE_STANDARD = Line(REPARAM, "base"), Line(STANDARD, "base", _own("base", "base, standard norm", "-."))
FRESH_REPARAM = Line(REPARAM, FRESH)
FRESH_STANDARD = Line(STANDARD, FRESH, _own(FRESH, "fresh network, standard norm", "-"))
BOTH = (BASE, BASE_STANDARD, FRESH_REPARAM, FRESH_STANDARD)


def _variants() -> tuple[Line, ...]:
    """The base in six settings: a colour for what decays, dashed where the decay is scaled."""
    found = []
    for name, setting in VIT_SETTINGS.items():
        colour, _ = SERIES[2 * list(NORMS).index(setting.unscaled)]
        look = Look(f"base, {VIT_SETTING_LABELS[name]}", colour, "--" if setting.scaled else "-")
        found.append(Line(name, "base", look))
    return tuple(found)


def _systems(setting: str) -> tuple[Line, ...]:
    """The base and all methods in one setting."""
    return tuple(Line(setting, system) for system in ("base", *METHODS))


_PANEL_3B = View("incremental or fresh", ACCURACY, BOTH)
_PANEL_3C = View("every method", DIFFERENCE, _systems(REPARAM), against=REPARAM)
_BEST = "the best test accuracy of each task's epochs"
_FROM = "minus that of a network that starts fresh on every task, of the same seed and norm"
_IN_16 = (*_systems(REPARAM), BASE_STANDARD)

FIGURE_3 = Sheet(
    "figure-03",
    "Figure 3: a vision transformer, trained class by class or from scratch",
    f"a: mean |scale| of the layer norms after each task; b: {_BEST}; c: the same {_FROM}.",
    (
        View("scale of the norms", "mean |scale|", (BASE_STANDARD, FRESH_STANDARD), "ln_scale"),
        _PANEL_3B,
        _PANEL_3C,
    ),
    columns=3,
)
FIGURE_15 = Sheet(
    "figure-15",
    "Figure 15: what decays, and when",
    f"The base system in six settings: a: {_BEST}; b: mean |scale| of the layer norms after each task, one added "
    "where it is reparametrized. No decay on vectors: biases and norms are spared. Scaled: the decay follows the "
    "schedule of the step size.",
    (
        View("accuracy", ACCURACY, (*_variants(), FRESH_REPARAM)),
        View("scale of the norms", "mean |scale|", (*_variants(), FRESH_STANDARD), "ln_scale"),
    ),
)
FIGURE_16 = Sheet(
    "figure-16",
    "Figure 16: weights that shrink",
    "Magnitudes of weights after each task, reparametrized norm unless said: a, c: the packed matrices of queries, "
    "keys and values, as the authors' code has it; b, d: both layers of the MLPs.",
    (
        View("attention, last block", "median |w|", _IN_16, "qkv_median_last", log=True),
        View("MLP, last block", "median |w|", _IN_16, "mlp_median_last", log=True),
        View("attention, all blocks", "mean |w|", _IN_16, "qkv_mean", log=True),
        View("MLP, all blocks", "mean |w|", _IN_16, "mlp_mean", log=True),
    ),
)
FIGURE_17 = Sheet(
    "figure-17",
    "Figure 17: as figure 3, without runs that diverged",
    f"a: {_BEST}; b: the same {_FROM}.",
    (steady(_PANEL_3B), steady(_PANEL_3C)),
)
FIGURE_18 = Sheet(
    "figure-18",
    "Figure 18: with the standard layer norm",
    f"a: {_BEST}; b: the same {_FROM}.",
    (
        View("accuracy", ACCURACY, (*_systems(STANDARD), Line(STANDARD, FRESH))),
        View("against a fresh network", DIFFERENCE, _systems(STANDARD), against=STANDARD),
    ),
)
SHEETS = (FIGURE_3, FIGURE_15, FIGURE_16, FIGURE_17, FIGURE_18)


def figure_3(results: ViTResults) -> Drawing | Missing:
    """Scale of the norms, accuracy incremental and fresh, and every method against a fresh network."""
    return draw(results, FIGURE_3)


def figure_15(results: ViTResults) -> Drawing | Missing:
    """Six ways in which the base's weights decay."""
    return draw(results, FIGURE_15)


def figure_16(results: ViTResults) -> Drawing | Missing:
    """Magnitudes of attention and MLP weights, in the last block and over all."""
    return draw(results, FIGURE_16)


def figure_17(results: ViTResults) -> Drawing | Missing:
    """Accuracy as in figure 3, of runs that did not diverge."""
    drawn = draw(results, FIGURE_17)
    if isinstance(drawn, Missing) or any(_lost(results.main, line) for line in (*BOTH, *_systems(REPARAM))):
        return drawn
    note = " No run diverged, so these are the lines of figure 3."
    return Drawing(drawn.name, drawn.title, drawn.caption + note, drawn.alt, drawn.figure, drawn.gaps)


def _lost(runs: Runs, line: Line) -> bool:
    return any(run.diverged for run in runs.main(line.setting, line.system))


def figure_18(results: ViTResults) -> Drawing | Missing:
    """Every method with the standard norm."""
    return draw(results, FIGURE_18)

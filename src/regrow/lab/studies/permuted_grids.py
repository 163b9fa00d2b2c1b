"""The paper's sweeps on permuted images: the grid of every system in every setting."""

from collections.abc import Mapping
from itertools import product
from typing import Any

from ... import check
from .catalog import SETTINGS, Config
from .permuted_values import Rows, chosen, read, scaled, shared
from .systems import System

# Cells as in `values`. The two prunings have one grid each, whatever the utility and the value that is put in.
GRIDS_SGD = """
system          knob              large                large-ln         small           small-ln
base            step_size         5e-4:0.1             5e-4:0.5         5e-4:0.1        5e-4:0.5
base            ln_position       -                    before,after     -               before,after
l2              decay             1e-8..1e-3           1e-8..1e-3       1e-8..1e-3      1e-8..1e-3
shrink-perturb  noise_variance    1e-8..1e-4           1e-8..1e-4       1e-10..1e-4     1e-11..1e-4
cbp             maturity          1,5,10,50,100,500    1,5,10,50,100    1,5,10,50,100   1,5,10,50,100
cbp             replacement_rate  1e-6..0.1            1e-5..0.1        1e-5..0.1       1e-6..0.01
redo            every             8..256               8..128           8..128          512..8192
redo            threshold         1e-5..1.0            1e-4..1.0        1e-5..0.1       1e-4..1.0
proportional    every             256..8192            256..4096        256..4096       256..4096
proportional    factor            .01,.05,.1,.2,.4,.8  .05,.1,.2,.4,.8  .01,.05,.1,.2,.4  .01,.05,.1,.2,.4
threshold       every             256..8192            256..4096        256..4096       512..8192
threshold       factor            1e-6..0.1            1e-6..0.01       1e-6..0.01      1e-6..0.01
"""

GRIDS_OPTIMIZERS = """
system          knob              large-sgdw           large-adamw
base            step_size         1e-7:1e-2            5e-5:1e-2
base            momentum          .9,.99,.999          -
base            beta1             -                    .9,.99,.999
base            beta2             -                    .9,.99,.999
l2              decay             1e-6..1e-2           1e-6..1e-2
shrink-perturb  noise_variance    1e-9..1e-4           1e-10..1e-4
cbp             maturity          1,5,10,50,100        1,5,10,50,100
cbp             replacement_rate  1e-5..0.1            1e-5..0.1
redo            every             8..128               8..128
redo            threshold         1e-5..0.1            1e-5..0.1
threshold       every             256..4096            256..4096
threshold       factor            1e-6..0.01           1e-6..0.01
"""

# Of methods that are not in the paper.
GRIDS_OURS = """
system          knob              large                large-ln         small           small-ln
l2-init         strength          1e-5..0.1            -                1e-5..0.1       -
swr-silent-input every            4,16,64,256,1024     -                -               -
"""

# Of study `dense-inputs`; ours. Where no input is 0 hardly any utility is: a share of the entries must be chosen.
GRIDS_DENSE = """
system            knob              large                large-ln          small             small-ln
base              step_size         .003,.01,.03,.05,.1  .01,.03,.05,.1,.3 .003,.01,.03,.05,.1  .01,.03,.05,.1,.3
l2                decay             1e-7..1e-3           -                 -                 -
shrink-perturb    noise_variance    1e-10..1e-5          -                 -                 -
cbp               maturity          1,10,100,1000        -                 -                 -
cbp               replacement_rate  1e-5..0.1            -                 -                 -
redo              every             8,32,128,512,2048    -                 -                 -
redo              threshold         1e-4..1.0            -                 -                 -
proportional      every             64,256,1024,4096     -                 -                 -
proportional      factor            .001,.01,.05,.2      -                 -                 -
threshold         every             64,256,1024,4096     -                 -                 -
threshold         factor            1e-5..0.1            -                 -                 -
swr-silent-input  every             4,16,64,256,1024     -                 -                 -
"""

RANDOM_FACTORS = (0.01, 0.05, 0.1, 0.5, 1.0)  # ours: of random utilities a threshold takes half as large a share
HANDED_DOWN = ("step_size", "momentum", "beta1", "beta2", "ln_position")  # from base to all others

GRIDS = read(GRIDS_SGD, GRIDS_OPTIMIZERS, GRIDS_OURS)
TABLES: Mapping[str, Rows] = {"paper": GRIDS, "dense": read(GRIDS_DENSE)}
"""{what a study's sweeps try, see `regrow.lab.studies.Study`: the grids}"""

Winners = Mapping[tuple[str, str], Config]
"""{(setting, system): the best config of an earlier sweep}"""


def grid(
    setting: str, system: str, winners: Winners | None = None, ratio: float = 1.0, tables: Rows = GRIDS
) -> list[Config]:
    """The configs that a sweep of a system tries, each once.

    What a system takes over from `base` (all but its own knobs) and `l2` (decay, for `shrink-perturb`) is as the paper
    chose it, or as the winners have it. Where the paper swept nothing the grid is that of `large`, and `source` "ours".

    Args:
        setting: of `SETTINGS`.
        system: of `SYSTEMS` but `scratch`. The authors' order of a unit method has the grid of ours.
        winners: of an earlier sweep with tasks of the same length; they count for `base` and `l2`.
        ratio: updates a task divided by MNIST's 2,000. Configs that `scaled` makes equal are listed once.
        tables: of `TABLES`.

    Returns:
        Configs, the last knob varying fastest. One with `ln_position` needs a network with its layer norm there.

    Raises:
        ValueError: for an unknown name, for `scratch`, and for a ratio that is not positive and finite.

    Example:
        >>> [config["decay"] for config in grid("large-adamw", "l2")]
        [1e-06, 1e-05, 0.0001, 0.001, 0.01]
        >>> len(grid("small-ln", "base"))
        14

    Reference:
        Hernandez-Garcia et al. 2025, appendices A and B, their grids from the authors' public code.
    """
    check.choice("setting", setting, SETTINGS)
    if system == "scratch":
        raise ValueError(
            "`scratch` has no sweep, it takes the values of `base`; got it in a sweep: sweep `base` instead"
        )
    knobs = _knobs(setting, system, tables)
    source = chosen(setting, system)["source"] if tables is GRIDS else "ours"
    taken = _taken(setting, System.of(system).tuned_as, winners or {})
    configs: list[Config] = []
    for values in product(*knobs.values()):
        tried = shared(setting, system) | dict(zip(knobs, values, strict=True)) | {"source": source}
        config = _with(scaled(tried, ratio), taken)
        if config not in configs:
            configs.append(config)
    return configs


def _knobs(setting: str, system: str, tables: Rows) -> Mapping[str, tuple[Any, ...]]:
    """What a sweep of the system varies, and the values it tries."""
    start = shared(setting, system)
    row = start.get("prune", System.of(system).tuned_as)
    knobs = tables[setting].get(row) or tables["large"].get(row) or GRIDS["large"][row]
    if row == "threshold" and start["utility"] == "random":
        return knobs | {"factor": RANDOM_FACTORS}
    return knobs


def _taken(setting: str, system: str, winners: Winners) -> dict[str, Any]:
    """The values that a system takes from the winners of `base` and `l2`."""
    if system == "base":
        return {}
    base, l2 = winners.get((setting, "base"), {}), winners.get((setting, "l2"), {})
    taken = {knob: base[knob] for knob in HANDED_DOWN if knob in base}
    return taken | ({"decay": l2["decay"]} if system == "shrink-perturb" and l2 else {})


def _with(config: Config, taken: Mapping[str, Any]) -> Config:
    """The config with the winners' values; its source is "ours" if they are not the paper's choice."""
    same = taken.items() <= ({"ln_position": "after"} | dict(config)).items()
    return dict(config) | dict(taken) | ({} if same else {"source": "ours"})

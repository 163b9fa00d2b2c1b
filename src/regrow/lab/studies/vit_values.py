"""The hyper-parameters of the vision transformer: the paper's chosen values and grids, and ours where it has none."""

from collections.abc import Mapping
from itertools import product
from typing import Any

from ... import check
from .catalog import VIT_SETTINGS, Config
from .permuted_values import read, rescaled
from .systems import VIT_SYSTEMS, System, system_name

OPTIMIZERS = ("authors", "clean", "authors-cleared")
ALL_CLASSES = 100

# Cells as in `regrow.lab.studies.permuted_values`. With a standard norm the methods keep the decay of the
# reparametrized one: so did the authors' runs, but for base and shrink-perturb.
CHOSEN_VIT = """
system          knob              vit   vit-reparam  vit-nodecay  vit-scaled  vit-reparam-scaled  vit-nodecay-scaled
base            step_size         0.01  0.01         0.01         0.01        0.01                0.01
base            dropout           0.1   0.1          0.1          0.1         0.1                 0.1
base            decay             2e-6  6e-6         6e-6         6e-4        2e-3                2e-3
shrink-perturb  noise_variance    1e-8  1e-8         -            -           -                   -
cbp             decay             6e-6  6e-6         -            -           -                   -
cbp             maturity          10000 10000        -            -           -                   -
cbp             replacement_rate  1e-7  1e-7         -            -           -                   -
redo            decay             6e-6  6e-6         -            -           -                   -
redo            every             128   128          -            -           -                   -
redo            threshold         5e-4  5e-4         -            -           -                   -
swr             decay             6e-6  6e-6         -            -           -                   -
swr             every             128   128          -            -           -                   -
swr             factor            5e-4  5e-4         -            -           -                   -
"""

GRIDS_STANDARD = """
system  knob       vit                            vit-scaled
base    decay      1e-7,5e-7,1e-6,2e-6,5e-6,1e-5  1e-5,1e-4,2e-4,3e-4,4e-4,5e-4,6e-4,7e-4,8e-4,9e-4,1e-3,1e-2
base    step_size  0.1,0.01,0.001                 -
base    dropout    0.0,0.1,0.2                    -
"""

GRIDS_REPARAM = """
system          knob              vit-reparam                              vit-reparam-scaled
base            decay             1e-7,5e-7,1e-6,2e-6,5e-6,6e-6,7e-6,1e-5  1e-4,5e-4,8e-4,9e-4,1e-3,2e-3,3e-3,5e-3,1e-2
shrink-perturb  noise_variance    1e-9,5e-9,1e-8,5e-8,1e-7                 -
cbp             maturity          1000,10000                               -
cbp             replacement_rate  1e-8,5e-8,1e-7,5e-7,1e-6                 -
redo            every             64,128,254                               -
redo            threshold         5e-4,1e-3,5e-3                           -
swr             every             64,128,254                               -
swr             factor            1e-4,5e-4,1e-3                           -
"""

GRIDS_NODECAY = """
system  knob   vit-nodecay                                        vit-nodecay-scaled
base    decay  1e-7,1e-6,3e-6,4e-6,5e-6,6e-6,7e-6,1e-5,3e-5,1e-4  1e-5,1e-4,8e-4,9e-4,1e-3,2e-3,3e-3,1e-2
"""

CHOSEN = read(CHOSEN_VIT)
GRIDS = read(GRIDS_STANDARD, GRIDS_REPARAM, GRIDS_NODECAY)
_TUNED = "vit-reparam"  # where the methods were
_HANDED_DOWN = ("step_size", "dropout", "decay")  # from base to all others


def chosen(setting: str, system: str, optimizer: str = "authors") -> Config:
    """The hyper-parameters of a system in a setting: the paper's, or ours where it has none.

    A flat config: `step_size` (the peak of its schedule), `decay` (at each update; scaled settings multiply it with the
    step size), `dropout`, `noise_variance`, `optimizer`, `source`, and the system's own. The authors' order of a unit
    method has `law` "authors": new incoming weights from a law wider by the square root of 3, and biases 0; "initial"
    is the law that they were initialised from.

    Args:
        setting: of `VIT_SETTINGS`.
        system: of `VIT_SYSTEMS`. Where the paper ran no method its knobs are those for `vit-reparam`, `source` "ours".
        optimizer: of `OPTIMIZERS`; see `regrow.lab.vit.optimizer`.

    Raises:
        ValueError: for an unknown name.

    Example:
        >>> config = chosen("vit", "swr")
        >>> config["decay"], config["every"], config["factor"], config["source"]
        (6e-06, 128, 0.0005, 'paper')
        >>> chosen("vit-scaled", "swr")["decay"], chosen("vit-scaled", "swr")["source"]
        (0.0006, 'ours')

    Reference:
        Hernandez-Garcia et al. 2025, appendix D, its values from the authors' public code.
    """
    row, rows = _row(setting, system), CHOSEN[setting]
    own = rows.get(row) or {k: v for k, v in CHOSEN[_TUNED][row].items() if k != "decay"}
    source = "paper" if row in rows and optimizer == "authors" else "ours"
    return _shared(setting, system, optimizer) | {knob: values[0] for knob, values in own.items()} | {"source": source}


def _row(setting: str, system: str) -> str:
    """The system in the tables whose values these are."""
    check.choice("setting", setting, VIT_SETTINGS)
    return System.of(check.choice("system", system_name(system), VIT_SYSTEMS)).tuned_as


def _shared(setting: str, system: str, optimizer: str) -> dict[str, Any]:
    """What a system takes over from `base`, and what it never varies."""
    check.choice("optimizer", optimizer, OPTIMIZERS)
    config: dict[str, Any] = {knob: values[0] for knob, values in CHOSEN[setting]["base"].items()}
    config |= {"noise_variance": 0.0, "optimizer": optimizer}
    asked = System.of(system)
    return config | asked.fixed | ({"law": "authors"} if asked.order == "authors" else {})


def grid(
    setting: str,
    system: str,
    winners: Mapping[tuple[str, str], Config] | None = None,
    ratio: float = 1.0,
    optimizer: str = "authors",
) -> list[Config]:
    """The configs that a sweep of a system tries.

    The base is tuned as in appendix D, on all classes at once: its configs have `classes_a_task` 100, and a run of it
    is a single task. The methods are swept on the classes as they come. The best is that of the highest validation
    accuracy (the authors looked at the test images).

    Args:
        setting, system, optimizer: as for `chosen`, but for `scratch`.
        winners: {(setting, system): config} of an earlier sweep; that of `base` decides step size, dropout and decay.
        ratio: as for `scaled`.

    Returns:
        Configs, each once, the last knob varying fastest; their `source` is "ours" where the paper swept nothing.

    Raises:
        ValueError: for an unknown name, and for `scratch`.

    Example:
        >>> len(grid("vit", "base")), len(grid("vit-reparam", "swr")), grid("vit-scaled", "base")[0]["decay"]
        (54, 9, 1e-05)
    """
    row = _row(setting, system)
    if system == "scratch":
        raise ValueError(
            "`scratch` has no sweep, it takes the values of `base`; got it in a sweep: sweep `base` instead"
        )
    knobs = GRIDS[setting].get(row) or GRIDS[_TUNED][row]
    source = "paper" if row in GRIDS[setting] and optimizer == "authors" else "ours"
    base = (winners or {}).get((setting, "base"), {}) if row != "base" else {}
    taken = {knob: base[knob] for knob in _HANDED_DOWN if knob in base}
    start = dict(chosen(setting, system, optimizer)) | {"source": source}
    if not taken.items() <= start.items():
        start |= taken | {"source": "ours"}
    if row == "base":
        start |= {"classes_a_task": ALL_CLASSES}
    tried = [scaled(start | dict(zip(knobs, values, strict=True)), ratio) for values in product(*knobs.values())]
    return [config for i, config in enumerate(tried) if config not in tried[:i]]


def scaled(config: Config, ratio: float) -> Config:
    """The config adapted to a different task length, so that the number of renewals per task stays the same.

    `every` and `maturity` are multiplied by the ratio and rounded, at least 1; `replacement_rate` (at most 1) and
    `noise_variance` are divided by it. `decay` is unchanged: with the authors' optimizer, decay / step size sets what
    the momentum buffer holds at the end of a task, and so how the next task begins (see
    `regrow.lab.vit.optimizer.Authors`).

    Args:
        config: for the paper's tasks.
        ratio: updates a task divided by the paper's, > 0.

    Returns:
        A new config with `source` "ours"; at ratio 1 the given one, its `source` unchanged.

    Raises:
        ValueError: for a ratio that is not positive and finite.

    Example:
        >>> scaled(chosen("vit", "swr"), 0.1)["every"]
        13
    """
    return rescaled(config, ratio, ("replacement_rate",), papers="the paper's")

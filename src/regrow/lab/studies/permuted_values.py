"""The paper's chosen hyper-parameters for permuted images, as its tables have them, and ours where it has none."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ... import check
from .catalog import SETTINGS, Config
from .systems import System

# A cell is a value, or a list of them: 1,5,10 as it stands; 8..64 doubled; 1e-8..1e-3, of fractions, in decades;
# 5e-4:0.1 the ones and fives of each decade; - where the paper has none.
CHOSEN_SGD = """
system                              knob              large  large-ln  small  small-ln
base                                step_size         0.05   0.1       0.05   0.1
l2                                  decay             1e-4   1e-5      1e-4   1e-4
shrink-perturb                      noise_variance    1e-7   1e-7      1e-9   1e-10
cbp                                 maturity          500    1         5      1
cbp                                 replacement_rate  1e-4   0.01      1e-3   1e-5
redo                                every             16     8         8      8192
redo                                threshold         1e-4   0.1       0.01   1.0
swr-gradient-proportional-resample  every             4096   2048      4096   2048
swr-gradient-proportional-resample  factor            0.4    0.1       0.4    0.2
swr-gradient-proportional-mean      every             512    512       512    512
swr-gradient-proportional-mean      factor            0.2    0.05      0.1    0.1
swr-magnitude-proportional-resample every             8192   -         -      -
swr-magnitude-proportional-resample factor            0.8    -         -      -
swr-magnitude-proportional-mean     every             8192   -         -      -
swr-magnitude-proportional-mean     factor            0.8    -         -      -
swr                                 every             2048   2048      2048   2048
swr                                 factor            1e-5   1e-5      1e-6   1e-5
swr-gradient-threshold-mean         every             2048   4096      2048   8192
swr-gradient-threshold-mean         factor            1e-3   1e-3      1e-3   1e-3
swr-magnitude-threshold-resample    every             2048   -         -      -
swr-magnitude-threshold-resample    factor            1e-4   -         -      -
swr-magnitude-threshold-mean        every             1024   -         -      -
swr-magnitude-threshold-mean        factor            0.1    -         -      -
"""

CHOSEN_OPTIMIZERS = """
system                              knob              large-sgdw  large-adamw
base                                step_size         5e-3        5e-4
base                                momentum          0.9         -
base                                beta1             -           0.9
base                                beta2             -           0.999
l2                                  decay             1e-4        1e-5
shrink-perturb                      noise_variance    1e-7        1e-9
cbp                                 maturity          1           1
cbp                                 replacement_rate  1e-3        1e-3
redo                                every             8           16
redo                                threshold         1e-3        1e-5
swr                                 every             2048        2048
swr                                 factor            1e-6        1e-6
"""

# Of methods that are not in the paper, by sweeps of ours. Where none was made the value of the nearest setting serves.
CHOSEN_OURS = """
system                              knob              large  large-ln  small  small-ln
l2-init                             strength          1e-3   1e-3      0.01   0.01
swr-silent-input                    every             64     64        64     64
"""

OURS = {"every": (2048,), "factor": (1.0,)}  # random/threshold: half of all entries at each renewal
EQUAL_SHARE = {"swr-random-threshold-resample": (), "swr-random-proportional-mean": (2048, 512)}
"""{system of random utility: updates between renewals at which `equal_share` has values; (): the paper's}"""
EQUAL_SHARE_OF = "swr-gradient-proportional-resample"

Rows = dict[str, dict[str, dict[str, tuple[Any, ...]]]]
"""{setting: {system: {knob: values}}}"""


def read(*tables: str) -> Rows:
    """Tables of the form above."""
    rows: Rows = {}
    for table in tables:
        (_, _, *settings), *lines = [line.split() for line in table.strip().splitlines()]
        for system, knob, *cells in lines:
            for setting, cell in zip(settings, cells, strict=True):
                if cell != "-":
                    rows.setdefault(setting, {}).setdefault(system, {})[knob] = _values(cell)
    return rows


def _values(cell: str) -> tuple[Any, ...]:
    if ":" in cell:
        low, high = map(float, cell.split(":"))
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        values = [float(f"{digit}e{decade}") for decade in decades for digit in (1, 5)]
        return tuple(value for value in values if low <= value <= high)
    if ".." in cell:
        low, high = map(_value, cell.split(".."))
        if isinstance(low, int):
            return tuple(low * 2**i for i in range(round(math.log2(high / low)) + 1))
        return tuple(float(f"1e{i}") for i in range(round(math.log10(low)), round(math.log10(high)) + 1))
    return tuple(map(_value, cell.split(",")))


def _value(text: str) -> Any:
    return int(text) if text.isdecimal() else text if text.isalpha() else float(text)


CHOSEN, OWN = read(CHOSEN_SGD, CHOSEN_OPTIMIZERS), read(CHOSEN_OURS)


def chosen(setting: str, system: str) -> Config:
    """The hyper-parameters of a system in a setting: the paper's, or ours where it has none.

    Ours, `source` "ours": what is renewed at random takes the values of gradient utility if the pruning is
    proportional, and half of all entries every 2,048 updates if it is by threshold; all else takes those of `large`.

    Args:
        setting: of `SETTINGS`.
        system: of `SYSTEMS`. `scratch` has the values of `base`, the authors' order of a unit method and their ties
            those of ours, `swr-zero-only` and `swr-zero-spared` those of `swr`.

    Returns:
        A config; see `regrow.lab.studies.Config`.

    Raises:
        ValueError: for an unknown name.

    Example:
        >>> chosen("small", "l2")
        {'step_size': 0.05, 'decay': 0.0001, 'noise_variance': 0.0, 'source': 'paper'}
        >>> config = chosen("large-adamw", "swr")
        >>> config["beta2"], config["every"], config["factor"]
        (0.999, 2048, 1e-06)

    Reference:
        Hernandez-Garcia et al. 2025, tables 1 to 4, their values from the authors' public code.
    """
    check.choice("setting", setting, SETTINGS)
    own, source = _own(setting, System.of(system).tuned_as)
    return shared(setting, system) | {knob: values[0] for knob, values in own.items()} | {"source": source}


def equal_share(setting: str, system: str) -> list[Config]:
    """Values of random utility that renew as much as the paper's chosen values for proportional pruning.

    The share of all entries that an update renews, on average, is that of `swr-gradient-proportional-resample`. Of
    uniform utilities a threshold factor takes a share half as large. Ours, to be run beside the chosen values; such a
    config names what it equals as `share_of`.

    Args:
        setting: of `SETTINGS`.
        system: of `SYSTEMS`; those that `EQUAL_SHARE` lacks have none.

    Example:
        >>> [(c["every"], c["factor"]) for c in equal_share("large", "swr-random-threshold-resample")]
        [(4096, 0.8)]
        >>> [(c["every"], c["factor"]) for c in equal_share("large", "swr-random-proportional-mean")]
        [(2048, 0.2), (512, 0.05)]
    """
    paper, config = chosen(setting, EQUAL_SHARE_OF), dict(chosen(setting, system))
    if system not in EQUAL_SHARE:
        return []
    an_update = float(paper["factor"]) / int(paper["every"])
    by_threshold = 2 if config["prune"] == "threshold" else 1
    config |= {"source": "ours", "share_of": EQUAL_SHARE_OF}
    return [
        config | {"every": every, "factor": by_threshold * an_update * every}
        for every in EQUAL_SHARE[system] or (int(paper["every"]),)
    ]


def _own(setting: str, system: str) -> tuple[Mapping[str, tuple[Any, ...]], str]:
    """What a system does not share with others, and whether it is the paper's or ours."""
    variant, row = System.of(system).variant, system
    if variant and variant.utility == "random":
        if variant.prune == "threshold":
            return OURS, "ours"
        row = variant._replace(utility="gradient").name
    if System.of(system).row and not any(row in rows for rows in CHOSEN.values()):
        return OWN.get(setting, OWN["large"])[row], "ours"
    if row in CHOSEN[setting]:
        return CHOSEN[setting][row], "paper" if row == system else "ours"
    return CHOSEN["large"][row], "ours"


def shared(setting: str, system: str) -> dict[str, Any]:
    """What a system takes over from `base` and `l2`, and what it never varies."""
    asked, rows = System.of(system), CHOSEN[setting]
    start = {knob: values[0] for knob, values in rows["base"].items()}
    config = {"step_size": start.pop("step_size"), "decay": 0.0, "noise_variance": 0.0} | start
    if asked.method == "shrink-perturb":
        config["decay"] = rows["l2"]["decay"][0]
    return config | asked.fixed


def scaled(config: Config, ratio: float) -> Config:
    """A config for tasks of another length: what happened n times per task still does.

    Times in updates (`every`, `maturity`) are multiplied by the ratio and rounded, at least 1; what acts at each
    update (`replacement_rate`, `decay`, `noise_variance`) is divided by it, shares at most 1; the rest stays.

    Args:
        config: for MNIST's 2,000 updates a task.
        ratio: updates a task divided by 2,000, > 0.

    Returns:
        A new config with `source` "ours"; at ratio 1 the given one, its `source` unchanged.

    Raises:
        ValueError: for a ratio that is not positive and finite.

    Example:
        >>> config = scaled(chosen("large", "cbp"), 0.1)
        >>> config["maturity"], config["replacement_rate"], config["source"]
        (50, 0.001, 'ours')
    """
    return rescaled(config, ratio, ("replacement_rate", "decay"), papers="2,000")


def rescaled(config: Config, ratio: float, shares: Sequence[str], papers: str) -> Config:
    """What `scaled` does, here and for vision transformers.

    Args:
        config, ratio: as for `scaled`.
        shares: knobs that are a share of something at each update.
        papers: how the message calls the paper's updates of a task.
    """
    if not 0 < ratio < math.inf:
        raise ValueError(f"`ratio` must be positive and finite (updates a task divided by {papers}); got {ratio!r}")
    if ratio == 1:
        return config
    new: dict[str, Any] = dict(config) | {"source": "ours"}
    for knob in new.keys() & {"every", "maturity"}:
        new[knob] = max(1, round(new[knob] * ratio))
    for knob in new.keys() & set(shares):
        new[knob] = min(1.0, new[knob] / ratio)
    new["noise_variance"] /= ratio
    return new

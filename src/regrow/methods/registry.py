"""Every method, once: its names, its colour in figures, and its publication.

The library, `--systems`, grids, figures, the contract test and the documentation read this table.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from .cbp import ContinualBackprop
from .l2_init import L2Init
from .method import Method
from .redo import ReDo
from .shrink_perturb import ShrinkPerturb
from .silent_input import SilentInput
from .swr import SWR


class Row(NamedTuple):
    """One method.

    method: its class; `regrow` offers it under the name of the class, results call it by `method.name`.
    label: in tables and legends.
    colour: of its lines. The first are of Okabe & Ito, "Color universal design" (2008), all far enough from each other
        for colour-blind eyes.
    reference: where it is published.
    fixed: knobs to which the laboratory's system of this name gives other values than the library's defaults.
    """

    method: type[Method]
    label: str
    colour: str
    reference: str
    fixed: Mapping[str, str] = MappingProxyType({})


REGISTRY: dict[str, Row] = {
    row.method.name: row
    for row in (
        Row(ShrinkPerturb, "S&P", "#56B4E9", "Ash & Adams, NeurIPS 2020"),
        Row(ContinualBackprop, "CBP", "#009E73", "Dohare et al., Nature 2024"),
        Row(ReDo, "ReDo", "#CC79A7", "Sokar et al., ICML 2023"),
        Row(SWR, "SWR", "#D55E00", "Hernandez-Garcia et al., CoLLAs 2025"),
        Row(
            L2Init,
            "L2-Init",
            "#0072B2",
            "Kumar et al., CoLLAs 2024",
            fixed={"reference": "initial", "pulled": "no norms"},
        ),
        Row(SilentInput, "silent inputs", "#6E51E0", "ours"),
    )
}

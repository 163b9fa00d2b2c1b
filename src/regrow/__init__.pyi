"""Written by tools/stub.py."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch.nn import Module
from torch.optim import Optimizer

from . import core as core
from . import lab as lab
from . import laws as laws
from . import methods as methods
from .diagnose.diagnose import diagnose as diagnose
from .diagnose.plasticity import plasticity as plasticity
from .lab.runs.tables import load as load
from .laws import Law
from .laws.find import init_laws as init_laws
from .maintain.base import Maintainer as Maintainer
from .nn import ReparamLayerNorm as ReparamLayerNorm
from .nn import reparametrize_layer_norms as reparametrize_layer_norms
from .optim import SGDW as SGDW
from .optimizer_state import reset_optimizer_state as reset_optimizer_state
from .reinit import reinitialize as reinitialize
from .wiring.find import find_units as find_units
from .wiring.units import Units as Units

__version__: str

class ShrinkPerturb(Maintainer):
    def __init__(
        self,
        model: Module,
        *,
        shrink: float = 0.0,
        noise_variance: float = 0.0,
        only: str | Sequence[str] | None = None,
        skip: str | Sequence[str] | None = None,
        seed: int | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None: ...

class ContinualBackprop(Maintainer):
    def __init__(
        self,
        model: Module,
        *,
        replacement_rate: float,
        maturity: int,
        utility: str = "contribution",
        decay: float = 0.0,
        units: Sequence[Units] | None = None,
        laws: Mapping[str, Law] | str | None = None,
        only: str | Sequence[str] | None = None,
        skip: str | Sequence[str] | None = None,
        optimizer: Optimizer | None = None,
        clear_moments: bool | str = "zero",
        seed: int | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None: ...

class ReDo(Maintainer):
    def __init__(
        self,
        model: Module,
        *,
        every: int,
        threshold: float,
        utility: str = "activation",
        units: Sequence[Units] | None = None,
        laws: Mapping[str, Law] | str | None = None,
        only: str | Sequence[str] | None = None,
        skip: str | Sequence[str] | None = None,
        optimizer: Optimizer | None = None,
        clear_moments: bool | str = "zero",
        seed: int | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None: ...

class SWR(Maintainer):
    def __init__(
        self,
        model: Module,
        *,
        every: int,
        factor: float,
        utility: str = "gradient",
        prune: str = "threshold",
        reinit: str = "resample",
        absent_rows: str = "keep",
        keep_zeros: bool = False,
        ties: str = "random",
        laws: Mapping[str, Law] | str | None = None,
        only: str | Sequence[str] | None = None,
        skip: str | Sequence[str] | None = None,
        optimizer: Optimizer | None = None,
        clear_moments: bool | str = "zero",
        seed: int | None = None,
        track_overlap: bool = False,
        state: Mapping[str, Any] | None = None,
    ) -> None: ...

class L2Init(Maintainer):
    def __init__(
        self,
        model: Module,
        *,
        strength: float,
        reference: str = "initial",
        laws: Mapping[str, Law] | str | None = None,
        only: str | Sequence[str] | None = None,
        skip: str | Sequence[str] | None = None,
        seed: int | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None: ...

class SilentInput(Maintainer):
    def __init__(
        self,
        model: Module,
        *,
        every: int,
        laws: Mapping[str, Law] | str | None = None,
        only: str | Sequence[str] | None = None,
        skip: str | Sequence[str] | None = None,
        optimizer: Optimizer | None = None,
        clear_moments: bool | str = "zero",
        seed: int | None = None,
        track_overlap: bool = False,
        state: Mapping[str, Any] | None = None,
    ) -> None: ...

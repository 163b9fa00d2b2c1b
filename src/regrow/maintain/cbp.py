"""Continual backpropagation (Dohare et al. 2024; Hernandez-Garcia et al. 2025, section 2)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .. import check
from ..core import random, select
from ..laws import Law
from ..wiring import Units
from .cbp_schedule import Schedule
from .state_checks import field
from .unit_renewer import Layer, UnitRenewer


class ContinualBackprop(UnitRenewer):
    """Continual backpropagation: replace the least useful mature units at a fixed rate.

    At every update, for each layer on its own:

        age_i += 1;  unit i is mature where age_i > maturity;  owed += replacement_rate * (number mature)
        renew the floor(owed) mature units of lowest utility, ties at random;  owed -= floor(owed)

        U_i = mean |h_i| * mean |w_out,i| over the update's examples and positions (contribution)

    and with decay > 0 an average of U per unit, A <- decay * A + (1 - decay) * U, read as A / (1 - decay ** age).
    A renewed unit gets incoming weights, bias and norm from their laws, outgoing weights 0, age 0 and A = 0.

    "Continual backpropagation" means several utilities in public code. With `decay=0` this is the paper's, on the
    present batch only; `decay=0.99` is the bias-corrected average of the original, on |h| without centring.

    Args:
        model: any module with hidden units. Make this before training: the laws are taken now.
        replacement_rate: share of the mature units replaced per update, in [0, 1]. 0 is off.
        maturity: updates that a new unit is left alone, >= 0.
        utility: "contribution", "activation" (mean |h|), "gradient" (|sum w_out g_out|), "magnitude" (mean |w_out|).
        decay: of the average of the utility, in [0, 1); 0: the present update only.
        units: list of `regrow.Units`; None: `regrow.find_units(model)`.
        laws: {name pattern: law}, or the source of all: "auto", "modules", "values".
        only, skip: name patterns of the layers' incoming weights.
        optimizer: where to clear moments if you call `step()` yourself; `attach` sets it.
        clear_moments: as for `SWR`; of the entries that are renewed or set to 0.
        seed: keys all random numbers, >= 0; None: `torch.initial_seed()`, the one of rank 0 on all ranks.

    Raises:
        ValueError, TypeError: for an argument out of its range, a model in which no units are found, or a parameter
            whose law cannot be told.
        RuntimeError: at an update that is due without a forward pass in training mode before it.

    Example:
        >>> import torch, regrow
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
        >>> opt = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> cbp = regrow.ContinualBackprop(model, replacement_rate=0.05, maturity=2, seed=0).attach(opt)
        >>> for _ in range(6):
        ...     model(torch.randn(4, 8)).square().mean().backward()
        ...     opt.step()
        >>> cbp.report()["renewed_total"]
        3

    Reference:
        Dohare et al., "Loss of plasticity in deep continual learning", Nature 2024; Hernandez-Garcia et al. 2025,
        section 2. The authors' code renews inside the backward pass; here it is after the optimizer's step.
    """

    method = "cbp"

    def __init__(
        self,
        model: nn.Module,
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
        clear_moments: bool | str = True,
        seed: int | None = None,
    ) -> None:
        self._rate = check.number("replacement_rate", replacement_rate, 0, 1, "share of the mature units per update")
        self._maturity = check.whole("maturity", maturity, 0, "updates that a new unit is left alone")
        self._decay = check.number("decay", decay, 0, 1, "of the average of the utility")
        if self._decay == 1:
            raise ValueError("`decay` must be below 1, or the average of the utility never moves; got 1")
        self._schedules: dict[str, Schedule] = {}
        self._born: dict[str, Tensor] = {}  # update at which each unit was last renewed
        self._average: dict[str, Tensor] = {}
        super().__init__(
            model, units=units, utility=utility, laws=laws, only=only, skip=skip, optimizer=optimizer,
            clear_moments=clear_moments, seed=seed,
        )  # fmt: skip
        self._settle()

    @property
    def knobs(self) -> dict[str, Any]:
        return {
            "replacement_rate": self._rate, "maturity": self._maturity, "utility": self._utility, "decay": self._decay,
            "clear_moments": self._clear_moments,
        }  # fmt: skip

    @property
    def off(self) -> bool:
        return self._rate == 0

    def _start(self, layers: list[Layer]) -> None:
        """Ages, averages and a schedule for every layer that is new, or no longer of the size it was."""
        for layer in layers:
            if layer.name in self._born and len(self._born[layer.name]) == layer.n:
                continue
            schedule = Schedule(layer.n, self._rate, self._maturity)
            schedule.begin(self._clock.steps)
            self._schedules[layer.name] = schedule
            device = layer.weight(layer.units.weight_in[0]).device
            self._born[layer.name] = torch.full((layer.n,), schedule.step, dtype=torch.int64, device=device)
            self._average[layer.name] = torch.zeros(layer.n, device=device)
            if not self.off:
                schedule.run_ahead()
        self._look_ahead()

    # The step loop.

    def _observe(self, found_inf: Tensor | None) -> None:
        if self._decay == 0:
            return
        layers = [y for y in self._ready_and_watched() if y.watch.sums() is not None or not self._reads_activations]
        for layer, new in zip(layers, self._averaged(layers), strict=True):
            if new is not None and found_inf is not None:
                new = torch.where(found_inf.to(new.device) != 0, self._average[layer.name].to(new.device), new)
            if new is not None:
                self._average[layer.name] = new

    def _averaged(self, layers: list[Layer], stale: bool = False) -> list[Tensor | None]:
        """The average of each layer's utility with the update just made; without decay, that update alone."""
        return [
            u if u is None or self._decay == 0
            else self._decay * self._average[layer.name].to(u.device) + (1 - self._decay) * u
            for layer, u in zip(layers, self._utilities(layers, stale), strict=True)
        ]  # fmt: skip

    def _due(self) -> bool:
        return self._clock.reached(self._next)

    def _settle(self) -> None:
        soon, layers = self._clock.at_most + 1, list(self._layers.values())
        if self.off or (self._decay == 0 and soon < self._next):
            layers = []
        self._watch([y for y in layers if self._decay > 0 or self._count_at(y, soon, at_latest=True)])

    def _count_at(self, layer: Layer, step: int, at_latest: bool = False) -> int:
        """How many units of a layer to replace at an update (or, perhaps, by then)."""
        schedule = self._schedules[layer.name]
        return schedule.count if schedule.step == step or (at_latest and schedule.step < step) else 0

    def _fire(self, found_inf: Tensor | None) -> None:
        step = self._clock.steps
        layers = [layer for layer in self._ready_and_watched() if self._count_at(layer, step)]
        utilities = self._utilities(layers)  # refuses an update without a forward pass
        if self._decay > 0:
            pairs = zip(layers, utilities, strict=True)
            utilities = [None if u is None else self._average[layer.name] for layer, u in pairs]
        choices = self._choose(layers, utilities, step)
        if layers:
            self._tally.begin()
        for layer, choice in choices:
            if choice is None:
                self._tally.skipped_no_grad += 1
                continue
            chosen, zero, nan = choice
            self._tally.add(layer.name, chosen, zero, nan)
            self._born[layer.name] = self._born[layer.name].to(chosen.device).masked_fill(chosen, step)
            self._average[layer.name] = self._average[layer.name].to(chosen.device).masked_fill(chosen, 0.0)
        self._renew_units([(layer, choice[0]) for layer, choice in choices if choice is not None], step)
        for schedule in self._schedules.values():
            if schedule.step <= step:
                schedule.run_ahead()
        self._look_ahead()

    def _look_ahead(self) -> None:
        """Note the first update at which a schedule has something to say."""
        self._next = min(schedule.step for schedule in self._schedules.values())

    def _choose(
        self, layers: list[Layer], utilities: list[Tensor | None], step: int
    ) -> list[tuple[Layer, tuple[Tensor, Tensor, Tensor] | None]]:
        """For each layer the units to renew, how many of them have utility 0, and whether a NaN forbids it."""
        choices: list[tuple[Layer, tuple[Tensor, Tensor, Tensor] | None]] = []
        for layer, u in zip(layers, utilities, strict=True):
            if u is None:
                choices.append((layer, None))
                continue
            age = step - self._born[layer.name].to(u.device)
            mature = age > self._maturity
            if self._decay > 0:
                u = u / (1 - self._decay ** age.clamp(min=1))  # less the pull of the zero the average began at
            order = random.field(self._key(step, layer.name, "order"), u.shape, random.order, u.device)
            chosen = select.eligible_lowest(u, mature, self._count_at(layer, step), order=order)
            choices.append((layer, (chosen, torch.count_nonzero(chosen & (u == 0)), u.isnan().any())))
        return choices

    def _masks(self) -> dict[str, Tensor]:
        step = self._clock.steps + 1
        layers = [layer for layer in self._ready() if self._count_at(layer, step)]
        choices = self._choose(layers, self._averaged(layers, stale=True), step)
        return self._masks_of_all([(layer, choice[0]) for layer, choice in choices if choice is not None])

    # What it tells and stores.

    def report(self) -> dict[str, float]:
        steps = self._clock.steps
        mature = sum(int((steps - born > self._maturity).sum()) for born in self._born.values())
        return super().report() | {"mature_units": mature}

    def state_dict(self) -> dict[str, Any]:
        layers = {
            name: {"born": born.cpu().clone(), "average": self._average[name].cpu().clone()}
            | {"schedule": self._schedules[name].state_dict()}
            for name, born in self._born.items()
        }
        return super().state_dict() | {"layers": layers}

    def _restore(self, state: Mapping[str, Any]) -> None:
        layers = field(state, "layers", Mapping)
        read = {name: self._read_layer(layers, name) for name in self._born}
        super()._restore(state)
        for name, (born, average, schedule) in read.items():
            self._born[name], self._average[name] = born.clone(), average.clone()
            self._schedules[name].load_state_dict(schedule)
        self._look_ahead()

    def _read_layer(self, layers: Mapping[str, Any], name: str) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """The stored state of one layer, checked."""
        layer = field(layers, name, Mapping)
        born, average = field(layer, "born", Tensor), field(layer, "average", Tensor)
        n = len(self._born[name])
        if born.shape != (n,) or average.shape != (n,) or born.dtype != torch.int64 or not average.is_floating_point():
            raise ValueError(
                f"state_dict: layer {name!r} has {n} units; got {tuple(born.shape)} and {tuple(average.shape)}"
            )
        schedule = field(layer, "schedule", Mapping)
        for key, kind in (("step", int), ("count", int), ("mature", int), ("owed", float)):
            field(schedule, key, kind, low=0)
        young = field(schedule, "young", Tensor)
        if young.dim() != 2 or young.shape[1] != 2 or young.dtype != torch.int64:
            raise ValueError(
                f"state_dict: `young` of layer {name!r} must be int64 of shape (n, 2); got {tuple(young.shape)}"
            )
        return born, average, dict(schedule)

"""Make an optimizer forget: its moments, its momentum, its step counts."""

import warnings
from collections.abc import Iterable, MutableMapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from . import check
from .optim import SGDW

_STEPS = frozenset({"step", "mu_product", "eta", "mu"})  # step counts, and what follows from them alone
_MOMENTS = frozenset(
    {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "momentum_buffer", "square_avg", "grad_avg", "acc_delta"}
    | {"sum", "prev", "step_size", "ax", "row_var", "col_var", "variance"}
)
_NAMES = (
    "ASGD Adadelta Adafactor Adagrad Adam AdamW Adamax Muon NAdam RAdam RMSprop Rprop SGD SparseAdam"  # older lack some
)
_KNOWN = (*(getattr(torch.optim, name) for name in _NAMES.split() if hasattr(torch.optim, name)), SGDW)

_warned: set[tuple[str, str]] = set()


@torch.no_grad()
def reset_optimizer_state(
    optimizer: Optimizer,
    params: nn.Module | Tensor | Iterable[Tensor] | None = None,
    *,
    moments: bool = True,
    step: bool = True,
) -> None:
    """Make an optimizer forget the moments, momentum and step counts of all or some parameters.

    m <- 0;  v <- 0;  t <- 0

    and whatever else it remembers to its value at the start, so that the next step is that of a new optimizer with the
    present options, bit for bit. Options, learning rates and what is attached to the optimizer stay as they are.
    Tensors are reset where they lie, so that a captured CUDA graph keeps using them; only SGD's momentum is dropped,
    which has no value before its first step.

    Resetting one without the other changes the size of the next steps: of Adam, `moments` alone leaves the bias
    correction of an old run, so the first step is up to (1 - beta1) / sqrt(1 - beta2) = 3.2 times the learning rate;
    `step` alone divides old moments by the correction of a first step, m by 0.1 and sqrt(v) by 0.03.

    Optimizers from outside torch forget the whole state of a parameter in a full reset, for most make it anew at the
    next step. A step count in a parameter group is set to 0 where all parameters of the group are reset. What such an
    optimizer keeps under a name unknown here is named once in a warning, and stays in a partial reset.

    Args:
        optimizer: any `torch.optim.Optimizer`.
        params: the parameters to forget, or the module that holds them (its trainable ones); None for all. An LBFGS has
            one memory for all of its parameters, so it takes None only.
        moments: forget moments, momentum, accumulated squares, the step sizes of Rprop, the average of ASGD.
        step: forget step counts, and with them the decays of NAdam and ASGD that follow from them.

    Raises:
        TypeError: for an `optimizer` or `params` of another kind.
        ValueError: for a parameter that the optimizer does not hold; for part of the memory of an LBFGS.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(4, 2)
        >>> opt = torch.optim.Adam(model.parameters())
        >>> model(torch.ones(1, 4)).sum().backward()
        >>> opt.step()
        >>> reset_optimizer_state(opt, model.bias)
        >>> opt.state[model.bias]["exp_avg"], opt.state[model.weight]["step"]
        (tensor([0., 0.]), tensor(1.))

    Reference:
        Asadi, Fakoor & Sabach, "Resetting the optimizer in deep RL", NeurIPS 2023.
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"`optimizer` must be a torch.optim.Optimizer; got {type(optimizer).__name__}")
    check.flag("moments", moments)
    check.flag("step", step)
    inner = _inner(optimizer)
    chosen = _chosen(inner, params)
    if isinstance(inner, torch.optim.LBFGS):
        return _reset_lbfgs(inner, params is None, moments, step)
    keys = (_MOMENTS if moments else frozenset()) | (_STEPS if step else frozenset())
    unknown: set[str] = set()
    for group in inner.param_groups:
        held = [p for p in group["params"] if id(p) in chosen]
        for p in held:
            unknown |= _reset(inner, group, p, keys, whole=moments and step)
        if step and held and len(held) == len(group["params"]) and "step" in group:
            group["step"] = _zero(group["step"])
    _warn(inner, unknown, whole=moments and step)


def _inner(optimizer: Optimizer) -> Optimizer:
    """The optimizer that a wrapper (such as Accelerate's) steps, where both have the same state."""
    inner = getattr(optimizer, "optimizer", None)
    if isinstance(inner, Optimizer) and inner is not optimizer and inner.state is optimizer.state:
        return _inner(inner)
    return optimizer


def _chosen(optimizer: Optimizer, params: Any) -> set[int]:
    """Identities of the parameters to forget, all of them held by the optimizer."""
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if params is None:
        return held
    kind = type(optimizer).__name__
    if isinstance(params, nn.Module):
        params = [item for item in params.named_parameters() if item[1].requires_grad]
    elif isinstance(params, Tensor):
        params = [params]
    elif isinstance(params, str) or not isinstance(params, Iterable):
        raise TypeError(
            f"`params` takes parameters or a module, for an optimizer knows no names; got {params!r}: "
            "give model.head.parameters()"
        )
    chosen: set[int] = set()
    item: Any
    for number, item in enumerate(params):
        name, p = item if isinstance(item, tuple) and len(item) == 2 else (f"number {number}", item)
        if not isinstance(p, Tensor):
            raise TypeError(f"`params` takes parameters, for an optimizer knows no names; got {p!r}")
        if id(p) not in held:
            shape = tuple(p.shape)
            raise ValueError(f"`params`: the {kind} does not hold {name}, of shape {shape}: leave it out")
        chosen.add(id(p))
    return chosen


def _reset(optimizer: Optimizer, group: dict[str, Any], p: Tensor, keys: frozenset[str], whole: bool) -> set[str]:
    """Reset some keys of one parameter; returns those that are unknown."""
    state: MutableMapping[str, Any] = optimizer.state.get(p, {})
    unknown = {key for key in state if key not in _MOMENTS and key not in _STEPS}
    known = isinstance(optimizer, _KNOWN)
    if whole and (unknown or not known):
        optimizer.state.pop(p, None)
        return unknown
    for key in keys & state.keys():
        if key == "momentum_buffer" and isinstance(optimizer, (torch.optim.SGD, SGDW)):
            del state[key]  # the first one is the gradient itself, whatever the dampening
        elif key == "ax" and "step" not in keys:
            state[key].copy_(p)  # an average that begins here: with the old count its first weight may be below 1
        elif known:
            state[key] = _filled(state[key], _start(optimizer, group, key))
        else:
            state[key] = _zero(state[key])
    if not state:
        optimizer.state.pop(p, None)
    return unknown


def _start(optimizer: Optimizer, group: dict[str, Any], key: str) -> float:
    """What a key holds before the first step."""
    if key in ("step_size", "eta"):
        return float(group["lr"])
    if key == "sum":
        return optimizer.defaults.get("initial_accumulator_value", 0.0)
    return 1.0 if key in ("mu", "mu_product") else 0.0


def _filled(value: Any, start: float) -> Any:
    """The value at its start: a tensor where it lies, both parts of a complex one alike."""
    if isinstance(value, Tensor):
        return value.fill_(complex(start, start) if value.is_complex() else start)
    return type(value)(start) if isinstance(value, (int, float)) else value


def _zero(value: Any) -> Any:
    return _filled(value, 0.0)


def _reset_lbfgs(optimizer: torch.optim.LBFGS, everything: bool, moments: bool, step: bool) -> None:
    """Its directions are those of all parameters together, and its first step begins them anew."""
    if not everything or moments != step:
        raise ValueError(
            "an LBFGS has one memory, of all parameters and their steps together: leave `params`, `moments` and `step` "
            "as they are by default"
        )
    if moments:
        optimizer.state.clear()


def _warn(optimizer: Optimizer, unknown: set[str], whole: bool) -> None:
    """Name what is unknown, once."""
    kind = type(optimizer).__name__
    new = sorted(key for key in unknown if (kind, key) not in _warned)
    _warned.update((kind, key) for key in new)
    if new:
        what = "forgotten with the rest: make a new one where it does not make its state anew at the next step"
        warnings.warn(
            f"optimizer state {', '.join(map(repr, new))} of {kind} is unknown to regrow and "
            + (what if whole else "stays as it is"),
            stacklevel=3,
        )

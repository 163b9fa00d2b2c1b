"""SGD whose weight decay stays out of the gradient."""

# The foreach operations have no public name; torch recommends these to authors of optimizers.
# pyright: reportPrivateImportUsage=false

import math
from collections.abc import Callable, Iterator
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT, _default_to_fused_or_foreach

from . import check
from .core.noise import scale_

DECAYS = ("lr", "constant")


class SGDW(Optimizer):
    """Stochastic gradient descent with momentum and decoupled weight decay.

    theta <- (1 - d) theta;  b <- momentum * b + g;  theta <- theta - lr * b

    d = lr * weight_decay with `decay="lr"`, d = weight_decay with `decay="constant"`. The first b is g. The decay comes
    before the step and never enters b; `nesterov` steps along g + momentum * b. Gradients are left as they are. With
    no decay this is `torch.optim.SGD`, whose state it shares: the checkpoint of one continues with the other.

    Args:
        params: parameters, named parameters or parameter groups; each group may set any option below.
        lr: step size, finite, >= 0; a number or a tensor of one element, which is never read back from the device.
        momentum: in [0, 1].
        weight_decay: finite, >= 0; in [0, 1] with `decay="constant"`. The paper's L2 factor is d, so it is
            `weight_decay` here with "constant", and d / lr with "lr".
        decay: "lr", scaled by the step size and so by its schedule, or "constant", not scaled.
        nesterov: needs `momentum` > 0.
        maximize: ascend.
        foreach: update many tensors by one kernel (True), or one tensor at a time (False, less memory), to the same
            bits. None: what torch does for its own optimizers, True on CUDA.

    Raises:
        ValueError, TypeError: for an option outside its range; at `step`, for sparse or complex gradients.

    Example:
        >>> import torch
        >>> w = torch.nn.Parameter(torch.tensor([2.0]))
        >>> opt = SGDW([w], lr=0.5, weight_decay=0.25, decay="constant")
        >>> w.grad = torch.tensor([1.0])
        >>> opt.step()
        >>> w.data  # (1 - 0.25) * 2 - 0.5 * 1
        tensor([1.])

    Reference:
        Loshchilov & Hutter 2019, algorithm 1; Hernandez-Garcia et al. 2025, section 3, the L2 baseline.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        *,
        decay: str = "lr",
        nesterov: bool = False,
        maximize: bool = False,
        foreach: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "decay": decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters; options it does not name are the optimizer's. See `torch.optim.Optimizer`."""
        if isinstance(param_group, dict):  # anything else is for torch to refuse
            _check({**self.defaults, **param_group})
        super().add_param_group(param_group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:  # the checkpoint may be that of a torch.optim.SGD
            for option, value in self.defaults.items():
                group.setdefault(option, value)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every parameter that has a gradient.

        Args:
            closure: clears the gradients, computes the loss, calls backward and returns the loss.

        Returns:
            What `closure` returned, if there is one.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            for p in params:
                if p.grad.layout is not torch.strided or p.grad.is_complex():
                    raise TypeError(
                        f"SGDW takes dense real gradients; got {p.grad.layout}, {p.grad.dtype} for a parameter of "
                        f"shape {tuple(p.shape)}: use sparse=False in an nn.Embedding, or leave it to another optimizer"
                    )
            for part in _parts(params, group["foreach"]):
                self._update(part, group)
        return loss

    def _update(self, params: list[Tensor], group: dict[str, Any]) -> None:
        """The step of tensors of one device and type."""
        lr, momentum = group["lr"], group["momentum"]
        if isinstance(lr, Tensor):
            lr = lr.reshape(())
        direction: list[Tensor] = [p.grad for p in params]  # type: ignore[misc]
        if group["maximize"]:
            direction = list(torch._foreach_neg(direction))
        if group["weight_decay"] != 0:
            share = group["weight_decay"] * (lr if group["decay"] == "lr" else 1)
            scale_(params, 1 - share)
        if momentum != 0:
            buffers = self._advance(params, direction, momentum)
            # Not in place: code that reads the gradients after the step, such as SWR, needs them unchanged.
            direction = list(torch._foreach_add(direction, buffers, alpha=momentum)) if group["nesterov"] else buffers
        if isinstance(lr, Tensor):  # as an `alpha` it would be read, which waits for the device
            torch._foreach_sub_(params, torch._foreach_mul(direction, lr))
        else:
            torch._foreach_add_(params, direction, alpha=-lr)

    def _advance(self, params: list[Tensor], direction: list[Tensor], momentum: float) -> list[Tensor]:
        """b <- momentum * b + g, or g if there is no b yet."""
        old, fresh = [], []
        for p, g in zip(params, direction, strict=True):
            if self.state[p].get("momentum_buffer") is None:
                self.state[p]["momentum_buffer"] = g.clone()
            else:
                old.append(self.state[p]["momentum_buffer"])
                fresh.append(g)
        if old:
            scale_(old, momentum)
            torch._foreach_add_(old, fresh)
        return [self.state[p]["momentum_buffer"] for p in params]


def _parts(params: list[Tensor], foreach: bool | None) -> Iterator[list[Tensor]]:
    """Tensors that one foreach operation takes together: of one device and type, or each alone."""
    if foreach is None:
        _, foreach = _default_to_fused_or_foreach(params, differentiable=False, use_fused=False)
    if not foreach:
        yield from ([p] for p in params)
    elif params:
        for (part,), _ in Optimizer._group_tensors_by_device_and_dtype([params]).values():  # type: ignore[arg-type]
            yield part  # type: ignore[misc]


def _check(options: dict[str, Any]) -> None:
    """Refuse options outside their range: the rule, the value got, the remedy."""
    lr = options["lr"]
    if isinstance(lr, Tensor):
        if lr.numel() != 1 or lr.is_complex():
            raise ValueError(
                f"a tensor `lr` must hold one real number; got {lr.dtype} of shape {tuple(lr.shape)}: "
                "for several step sizes use parameter groups"
            )
        lr = float(lr)
    check.number("lr", lr, 0, math.inf, "the step size; to ascend set maximize=True")
    check.number("momentum", options["momentum"], 0, 1, "the share of the last direction that stays")
    check.choice("decay", options["decay"], DECAYS)
    high, why = (
        (1, "the share lost at each step") if options["decay"] == "constant" else (math.inf, "decay per unit of lr")
    )
    check.number("weight_decay", options["weight_decay"], 0, high, why)
    for name in ("nesterov", "maximize"):
        check.flag(name, options[name])
    if options["foreach"] not in (None, True, False):
        raise TypeError(f"`foreach` must be True, False or None; got {options['foreach']!r}")
    if options["nesterov"] and options["momentum"] == 0:
        raise ValueError("`nesterov=True` needs `momentum` > 0; got 0: set momentum=0.9, or nesterov=False")

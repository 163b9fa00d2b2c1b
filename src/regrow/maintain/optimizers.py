"""Optimizers around optimizers: whose steps to follow, and where memory of a parameter lies.

Hooks belong on the optimizer whose `step` ends with the final weights on every rank.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim import SGD, Optimizer

INNER = ("optim", "optimizer", "base_optimizer", "_base_optimizer", "inner_optimizer", "_optimizer")
"""Attributes under which wrappers keep the optimizer inside."""

COPIES = frozenset({"slow_param", "slow_params", "slow_buffer", "slow_weights", "lookahead_slow_buff"})
"""State that holds another copy of the weights, which pulls them back (Lookahead)."""

SCRATCH = frozenset({"old_p", "e_w"})
"""State that is written anew at every step (SAM)."""


def inner(optimizer: object) -> Optimizer | None:
    """The optimizer inside a wrapper, if it has one."""
    own = vars(optimizer) if hasattr(optimizer, "__dict__") else {}
    return next((own[name] for name in INNER if isinstance(own.get(name), Optimizer)), None)


def followed(optimizer: object) -> Optimizer | None:
    """The optimizer to put step hooks on: the given one or, where it has none or leaves the last step to it, its inner.

    None where there is no such optimizer. ZeRO and Lookahead as torch's own base class makes them: the outer. Wrappers
    that never called `Optimizer.__init__` (Accelerate's, torch_optimizer's Lookahead), and SAM, whose second step is
    the inner one's: the inner.
    """
    while optimizer is not None:
        hooked = isinstance(optimizer, Optimizer) and hasattr(optimizer, "_optimizer_step_post_hooks")
        if hooked and not (hasattr(optimizer, "second_step") and inner(optimizer) is not None):
            return optimizer  # type: ignore[return-value]
        optimizer = inner(optimizer)
    return None


def with_memory(optimizer: object) -> list[Optimizer]:
    """An optimizer and all inside it."""
    chain: list[Optimizer] = []
    while optimizer is not None and optimizer not in chain:
        chain.append(optimizer)  # type: ignore[arg-type]
        optimizer = inner(optimizer)
    return chain


def states(chain: list[Optimizer], parameter: Tensor) -> list[dict[str, Any]]:
    """What each of some optimizers remembers of a parameter; a wrapper may hand on the state of its inner one."""
    of = [getattr(optimizer, "state", {}).get(parameter) for optimizer in chain]
    return list({id(state): state for state in of if state}.values())


def has_stepped(chain: list[Optimizer]) -> bool:
    """Do optimizers remember anything of earlier steps? Adagrad has a state from the start, of step 0."""
    return any(_steps(state) for optimizer in chain for state in getattr(optimizer, "state", {}).values())


def _steps(state: object) -> bool:
    step = state.get("step") if isinstance(state, Mapping) else None
    known = isinstance(step, int | float) or (isinstance(step, Tensor) and step.numel() == 1)
    return float(step) > 0 if known else True  # type: ignore[arg-type]


def changes_gradients(optimizer: object) -> bool:
    """Does its step change `.grad`? Of torch's optimizers, Nesterov's momentum of several tensors at once does."""
    groups = getattr(optimizer, "param_groups", ())
    several = (group.get("foreach") is not False and not group.get("fused") for group in groups)
    nesterov = (bool(group.get("nesterov")) for group in groups)
    return isinstance(optimizer, SGD) and any(map(all, zip(several, nesterov, strict=True)))


def history(chain: list[Optimizer]) -> list[dict[str, Any]]:
    """What LBFGS remembers: of all parameters together, in the state of the first."""
    firsts = [p for optimizer in chain for group in optimizer.param_groups for p in group["params"][:1]]
    return [state for p in firsts for state in states(chain, p) if "old_dirs" in state or "prev_flat_grad" in state]

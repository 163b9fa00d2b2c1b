"""Does a network learn worse than a fresh one? Train copies of both on the same data and compare."""

import copy
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim import LBFGS, Optimizer


def plasticity(
    model: nn.Module,
    fresh: nn.Module,
    batches: Iterable[Any],
    loss: Callable[[nn.Module, Any], Tensor],
    *,
    optimizer: Callable[[list[nn.Parameter]], Optimizer],
) -> dict[str, Any]:
    """Measure how much worse a network learns than a fresh one does, by trying it.

    Deep copies of both are trained on the same batches, in the same order, from the same state of all random
    generators, each by a new optimizer; the loss on each batch is taken before the update on it:

        difference = mean over batches of loss(model) - mean over batches of loss(fresh)

    Above 0 it is lost plasticity: the network learns these data worse than it would from the beginning. Take data that
    are new to the model, the next task: on what it has learned before, and where the new is like the old, what it knows
    is transferred, and a value below 0 may be that rather than better learning. `final_difference` leaves the start
    out, where a model that is confidently wrong pays more than a fresh one. One run is one sample: repeat it with other
    fresh models before you believe a small difference.

    The model and the fresh one stay as they are: values, modes, buffers, gradients, hooks, as do the generators of
    torch (CPU and CUDA), NumPy and Python. Maintainers do not fire, for no optimizer of theirs makes a step; forward
    hooks are copied with the model and run. Copies are trained in training mode: one whose model is in evaluation mode
    is switched, others keep the modes of their parts. With several processes each measures on its own.

    Args:
        model: any module that `copy.deepcopy` copies, wrapped or not (the copy is of the wrapped one).
        fresh: one as the model was before training; it may be another kind of network.
        batches: what `loss` takes, at least one; gone through once and kept, so give a finite number.
        loss: from a model and a batch to one number.
        optimizer: from a list of parameters to an optimizer, `lambda params: torch.optim.Adam(params, lr=1e-3)` for
            one; called for each copy, with its trainable parameters.

    Returns:
        `loss` and `fresh_loss`, lists of a number for each batch; `difference`, of their means; `final_difference`, of
        the means over the last quarter of the batches, rounded up.

    Raises:
        TypeError: for an argument of another kind, or a model that cannot be copied.
        ValueError: for no batch, a model without trainable parameters, a loss that is not one number or does not depend
            on the model it is given, an optimizer that holds other parameters.

    Example:
        >>> import torch
        >>> make = lambda: torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        >>> model = make()
        >>> _ = torch.nn.init.constant_(model[0].bias, -100.0)  # no unit ever fires
        >>> x = torch.randn(40, 16, 4)
        >>> result = plasticity(
        ...     model, make(), zip(x, x.sum(2, keepdim=True)),
        ...     lambda net, batch: (net(batch[0]) - batch[1]).square().mean(),
        ...     optimizer=lambda params: torch.optim.SGD(params, lr=0.05),
        ... )
        >>> result["difference"] > 0.5, len(result["loss"])
        (True, 40)

    Reference:
        Hernandez-Garcia et al. 2025, section 2: loss of plasticity is to learn less well than a fresh network.
    """
    _check(model, fresh, batches, loss, optimizer)
    generators = _Generators()
    try:
        kept = list(batches)
        if not kept:
            raise ValueError("`batches` must hold at least one batch; got none: a generator can be read once only")
        losses = []
        with _undisturbed(model, fresh):
            for name, net in (("model", model), ("fresh", fresh)):
                generators.restore()
                losses.append(_train(_copied(name, net), kept, loss, optimizer))
    finally:
        generators.restore()
    own, others = losses
    last = -(-len(kept) // 4)
    return {
        "loss": own,
        "fresh_loss": others,
        "difference": fmean(own) - fmean(others),
        "final_difference": fmean(own[-last:]) - fmean(others[-last:]),
    }


def _check(model: Any, fresh: Any, batches: Any, loss: Any, optimizer: Any) -> None:
    for name, net in (("model", model), ("fresh", fresh)):
        if not isinstance(net, nn.Module):
            raise TypeError(f"`{name}` must be a torch.nn.Module; got {type(net).__name__}")
    if not isinstance(batches, Iterable):
        raise TypeError(f"`batches` must be a list of batches, or another iterable; got {type(batches).__name__}")
    if not callable(loss):
        raise TypeError(f"`loss` must be a function of a model and a batch; got {type(loss).__name__}")
    if isinstance(optimizer, Optimizer) or not callable(optimizer):
        kind = type(optimizer).__name__
        raise TypeError(
            f"`optimizer` must be a function of a list of parameters, lambda params: torch.optim.SGD(params, lr=0.01); "
            f"got {kind}"
        )


class _Generators:
    """The state of all global random generators at the time this was created."""

    def __init__(self) -> None:
        self._cpu = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
        self._numpy = np.random.get_state()
        self._python = random.getstate()

    def restore(self) -> None:
        torch.set_rng_state(self._cpu)
        if self._cuda is not None:
            torch.cuda.set_rng_state_all(self._cuda)
        np.random.set_state(self._numpy)
        random.setstate(self._python)


@contextmanager
def _undisturbed(*models: nn.Module) -> Iterator[None]:
    """Enable gradients; set those of the models aside, so that a loss that uses a model itself leaves none there.

    Autocast's cache is off: it would keep using the weights from before an update.
    """
    grads = {id(p): (p, p.grad) for model in models for p in model.parameters()}
    cached = torch.is_autocast_cache_enabled()
    try:
        torch.set_autocast_cache_enabled(False)
        for p, _ in grads.values():
            p.grad = None
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.set_autocast_cache_enabled(cached)
        for p, grad in grads.values():
            p.grad = grad


def _copied(name: str, model: nn.Module) -> nn.Module:
    """A copy to be trained."""
    while True:
        if isinstance(model, (DataParallel, DistributedDataParallel)):
            model = model.module
        elif "_orig_mod" in model._modules:  # compiled
            model = model._modules["_orig_mod"]  # type: ignore[assignment]
        else:
            break
    try:
        twin = copy.deepcopy(model)
    except Exception as error:
        why = str(error).partition("\n")[0]
        raise TypeError(f"`{name}` must be a module that copy.deepcopy copies; it says: {why}") from error
    for p in twin.parameters():
        p.grad = None
    return twin if twin.training else twin.train()


def _train(model: nn.Module, batches: list[Any], loss: Any, optimizer: Any) -> list[float]:
    """Train on each batch once; the loss on each before its update."""
    params = [p for p in model.parameters() if p.requires_grad]
    if not params:
        raise ValueError(f"the {type(model).__name__} has no trainable parameter: nothing of it can learn")
    opt = optimizer(params)
    _check_optimizer(opt, params)
    values: list[Tensor] = []
    for batch in batches:
        taken: list[Tensor] = []

        def closure(batch: Any = batch, taken: list[Tensor] = taken) -> Tensor:
            opt.zero_grad()
            value = _value(loss(model, batch))
            value.backward()
            if all(p.grad is None for p in params):
                raise ValueError(_OTHER)
            taken.append(value.detach())
            return value

        if isinstance(opt, LBFGS):
            opt.step(closure)
        else:
            closure()
            opt.step()
        values.append(taken[0])
    return [float(value) for value in values]


def _value(value: Any) -> Tensor:
    if not isinstance(value, Tensor) or value.numel() != 1:
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"`loss` must return one number, a tensor of one entry; got {got}: end it with .mean()")
    if not value.requires_grad:
        raise ValueError(_OTHER)
    return value.reshape(())


_OTHER = (
    "`loss` must depend on the model that it is given, which is a copy; no gradient reaches that: "
    "use its first argument, and no model from outside"
)


def _check_optimizer(opt: Any, params: list[nn.Parameter]) -> None:
    if not isinstance(opt, Optimizer):
        raise TypeError(f"`optimizer` must return a torch.optim.Optimizer; got {type(opt).__name__}")
    given = {id(p) for p in params}
    if any(id(p) not in given for group in opt.param_groups for p in group["params"]):
        raise ValueError(
            "`optimizer` must make a new optimizer of the parameters that it is given; it returned one of others: "
            "do not return the one you train with"
        )

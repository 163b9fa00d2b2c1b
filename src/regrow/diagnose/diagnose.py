"""Measures of a network's ability to learn."""

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .. import check
from ..names import Entry, walk
from ..wiring.entries import find_module
from .dormancy import moment_sums, shares
from .preactivations import Preactivations
from .probe import LayerSums, Probe


def diagnose(
    model: nn.Module,
    inputs: Any,
    loss: Callable[[Any], Tensor] | None = None,
    dormant: float = 0.025,
    *,
    optimizer: Optimizer | None = None,
) -> dict[str, float]:
    """Measure how much of a network is still able to learn.

    With h_i(x) the activation of hidden unit i for row x (an example; of a feature map or a sequence, an example at a
    position), A the matrix of a layer's activations (a row for each x, a column for each unit), s_1 >= s_2 >= ... its
    singular values and p_k = s_k / sum(s); with L the loss and z_i the pre-activation of unit i:

        dead_units              share of units with h_i(x) = 0 for every x, or 1 for every x, or -1 for every x, exactly
        dormant_units           share of units with mean_x |h_i| <= dormant * mean_j mean_x |h_j|, j over the layer
        stable_rank             ||A||_F^2 / ||A||_2^2 = sum(s^2) / s_1^2
        rank99                  smallest k with s_1 + ... + s_k >= 0.99 * sum(s)
        effective_rank          exp(-sum p_k log p_k)
        weight_magnitude        mean |w| over all entries of all trainable parameters
        gradient_magnitude      mean |dL/dw| over the same entries, 0 for those that L does not depend on
        gradient_dormant_units  share of units with mean_x |dL/dz_i| <= dormant * mean_j mean_x |dL/dz_j|
        moment_dormant_units    share of units with u_i <= dormant * mean_j u_j, u_i the mean of sqrt(v) over the
                                incoming weights of unit i, v what the optimizer keeps of their squared gradients

    Measures of gradients need `loss`, the last one needs `optimizer`.

    A dead unit passes nothing on (0: ReLU, GELU, SiLU), or sits where tanh and sigmoid are flat in the model's
    precision (1, -1). For ReLU networks this is the paper's measure. A sigmoid close to 0 is dormant, not dead.

    Layers are those of `find_units`, and frozen ones, which it leaves out; if there are none, the outputs of the
    activation modules. Each output of a CReLU, [relu(z), relu(-z)], counts as a unit. Both shares are over the units of
    all layers; the three ranks are those of the last hidden layer that the forward pass reaches, in the paper the
    third. Every measure is also given for each layer alone, as "key/layer", magnitudes for each module with parameters
    (a parameter of the model itself under its own name). Layers that the inputs do not reach are left out.

    z is the input of the activation module; where the activation is a function, it is the output of the norm or the
    layer before it. A unit of several rows (a gated MLP) has several z, which are summed over. Units that L does not
    depend on have gradient 0. A layer without gradient, all before it being frozen, has no `gradient_dormant_units`.

    `moment_dormant_units` needs no activations and reflects past training, not `inputs`: with Adam a unit that has
    just died is counted after about 2 log(1 / dormant) / (1 - beta2) updates, 7,400 with the usual values. It covers
    the layers whose incoming weights are trainable and held by the optimizer, which has stepped them; nan where there
    is none.

    A is never centred, and singular values are float64. Ranks of a layer that is 0 throughout are 0. A layer whose
    activations are not all finite gives nan, and so do the shares over all layers then.

    The model runs in evaluation mode. Modes, hooks, gradients, buffers, torch's generators and what maintainers have
    summed are as before; what the forward stores in attributes and lists of its own stays. With several processes each
    measures its own inputs.

    Args:
        model: any module, wrapped or not.
        inputs: examples, the same ones every time that measures are to be compared: a tensor, a tuple (or list) of
            arguments or a mapping of named ones. A rank is at most the number of rows, so give many times more rows
            than units: the paper takes 1,500 images for 100. Where each example has many positions, fewer do.
        loss: from the model's output to one number, for the measures of gradients; it may hold the targets. The whole
            graph of the inputs is then kept until the gradient is there.
        dormant: threshold of dormancy, in [0, 1], of activations, gradients and moments.
        optimizer: with second moments (Adam, RMSprop, Adagrad, Adadelta, Adafactor and their like), for
            `moment_dormant_units`; it is only read.

    Returns:
        The measures over all layers, then layer by layer.

    Raises:
        TypeError: for a model, inputs, loss or optimizer of another kind.
        ValueError: for `dormant` out of range, inputs without an example, a model in which nothing can be measured,
            a loss that is not one number or depends on no trainable parameter, an optimizer that holds the incoming
            weights of no hidden layer or keeps no second moments of them.

    Example:
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
        >>> _ = torch.nn.init.constant_(net[0].bias[:1], -100.0)  # a unit that never fires
        >>> measures = diagnose(net, torch.randn(200, 8), loss=lambda y: y.square().mean())
        >>> measures["dead_units"], measures["rank99"], measures["dead_units/0"]
        (0.25, 3.0, 0.25)
        >>> measures["gradient_dormant_units"]  # no gradient reaches it either
        0.25
        >>> [key for key in measures if key.startswith("gradient_magnitude")]
        ['gradient_magnitude', 'gradient_magnitude/0', 'gradient_magnitude/2']

    Reference:
        dead_units, weight_magnitude, gradient_magnitude: Hernandez-Garcia et al. 2025, appendix C, which calls rank99
        "stable rank". dormant_units: Sokar et al. 2023, section 3. stable_rank: Rudelson & Vershynin 2007.
        rank99: Kumar et al. 2021, section 3. effective_rank: Roy & Vetterli 2007. gradient_dormant_units: Liu et al.
        2025, "Measure gradients, not activations!" (GraMa). moment_dormant_units: the same from the optimizer's memory.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` must be a torch.nn.Module; got {type(model).__name__}")
    if loss is not None and not callable(loss):
        raise TypeError(f"`loss` must be a function of the model's output, or None; got {type(loss).__name__}")
    if optimizer is not None and not isinstance(optimizer, Optimizer):
        raise TypeError(f"`optimizer` must be a torch.optim.Optimizer or None; got {type(optimizer).__name__}")
    dormant = check.number("dormant", dormant, 0, 1, "share of a layer's mean activation")
    args, kwargs = _arguments(inputs)
    inner = find_module(model, "") or model
    entries = [entry for entry in walk(inner) if entry.parameter.requires_grad]
    with _at_rest(inner), Probe(inner, loss is not None) as probe, torch.set_grad_enabled(loss is not None):
        probe.watch(inputs)
        output = inner(*args, **kwargs)
        grads, at_units = _gradients(loss(output), entries, probe.preactivations) if loss is not None else ((), {})
    measures = _activity(probe.reached(), dormant)
    measures |= _magnitude("weight_magnitude", entries, [entry.parameter for entry in entries])
    if loss is not None:
        measures |= _magnitude("gradient_magnitude", entries, grads)
        measures |= shares("gradient_dormant_units", at_units, dormant)
    if optimizer is not None:
        measures |= shares("moment_dormant_units", moment_sums(inner, probe.units, optimizer), dormant)
    return dict(sorted(measures.items(), key=lambda item: "/" in item[0]))  # stable: measures of the whole come first


def _arguments(inputs: Any) -> tuple[tuple, dict[str, Any]]:
    """The arguments for the model."""
    if isinstance(inputs, Tensor):
        return (inputs,), {}
    if isinstance(inputs, (tuple, list)):
        return tuple(inputs), {}
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    raise TypeError(
        "`inputs` must be a tensor, a tuple of the model's arguments or a dict of its named ones; "
        f"got {type(inputs).__name__}"
    )


@contextmanager
def _at_rest(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; restores modes, buffers, torch's generators and torch's switches on exit.

    Modes are set module by module, for a `train` of the user's may do more than set them. Compiled code and torch's
    fused kernel for transformer layers pass by the hooks, so both are off; so is autocast's cache: before torch 2.10
    a weight cast without gradient stays there and cuts off the gradient of whatever uses it next.
    """
    training = [module for module in model.modules() if module.training]
    devices = {t.device for t in chain(model.parameters(), model.buffers()) if t.is_cuda}
    buffers = [(module._buffers, name, b, b.clone()) for module, name, b in _buffers(model)]
    fused, cached = torch.backends.mha.get_fastpath_enabled(), torch.is_autocast_cache_enabled()
    # Where the compiler is not loaded nothing is compiled, and loading it takes a second.
    eager = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
    try:
        for module in training:
            module.training = False
        torch.backends.mha.set_fastpath_enabled(False)
        torch.set_autocast_cache_enabled(False)
        with torch.random.fork_rng(list(devices)), eager:
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        torch.set_autocast_cache_enabled(cached)
        for module in training:
            module.training = True
        with torch.no_grad():
            for own, name, buffer, copy in buffers:
                own[name] = buffer
                if buffer.layout != torch.strided or not torch.equal(buffer, copy):  # a graph may have saved the others
                    buffer.copy_(copy)


def _buffers(model: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    """Where each buffer is: its module and its name there."""
    for module in model.modules():
        yield from ((module, name, buffer) for name, buffer in module._buffers.items() if buffer is not None)


def _gradients(
    value: Any, entries: Sequence[Entry], at: Preactivations | None
) -> tuple[Sequence[Tensor], dict[str, Tensor]]:
    """The gradient of the loss for each parameter, and its size at each unit.

    It touches no `.grad` and fires no hook of one.
    """
    if not isinstance(value, Tensor) or value.numel() != 1:
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"`loss` must return one number, a tensor of one entry; got {got}: end it with .mean()")
    if not (value.requires_grad and entries):
        raise ValueError("`loss` must depend on a trainable parameter; its gradient is cut off, or all are frozen")
    assert at is not None
    parameters = [entry.parameter for entry in entries]
    places: Any = [*parameters, *at.edges]
    grads = torch.autograd.grad(value.sum(), places, allow_unused=True)
    own = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, grads, strict=False)]
    return own, at.sums(grads[len(parameters) :])


def _activity(layers: Mapping[str, LayerSums], threshold: float) -> dict[str, float]:
    """Measures of activations, of the whole and layer by layer."""
    measures: dict[str, float] = {}
    for key, chosen in {
        "dead_units": {name: layer.dead() for name, layer in layers.items()},
        "dormant_units": {name: layer.dormant(threshold) for name, layer in layers.items()},
    }.items():
        counts = {name: mask.sum().item() if layers[name].finite else math.nan for name, mask in chosen.items()}
        measures[key] = sum(counts.values()) / sum(mask.numel() for mask in chosen.values())
        measures |= {f"{key}/{name}": counts[name] / mask.numel() for name, mask in chosen.items()}
    for name, layer in layers.items():
        ranks = layer.ranks()
        measures |= ranks  # the last layer's stay
        measures |= {f"{key}/{name}": rank for key, rank in ranks.items()}
    return measures


def _magnitude(key: str, entries: Sequence[Entry], tensors: Sequence[Tensor]) -> dict[str, float]:
    """Mean |t| over all entries of all tensors, and module by module; nan over none."""
    sums: dict[str, list[float]] = {key: [0.0, 0]}
    for entry, tensor in zip(entries, tensors, strict=True):
        total = torch.linalg.vector_norm(tensor.detach().to_dense(), 1, dtype=torch.float64).item()
        for name in (key, f"{key}/{entry.name.rpartition('.')[0] or entry.name}"):
            before, entries_before = sums.get(name, (0.0, 0))
            sums[name] = [before + total, entries_before + tensor.numel()]
    return {name: total / number if number else math.nan for name, (total, number) in sums.items()}

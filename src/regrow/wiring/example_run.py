"""What one run of a model on an example shows about its units."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .flow import Shapes
from .reading import Reading, Tap
from .units import Units


def shapes(model: nn.Module, example_input: Any) -> Shapes:
    """What each module reads and gives.

    Args:
        model: any module; not changed.
        example_input: a tensor, a tuple of arguments or a dict of named ones.

    Returns:
        Shapes of the first tensor read and of the output, by the module's id, of the modules that were called.
    """
    seen: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {}

    def after(module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        first = next((x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)), None)
        seen[id(module)] = (_shape(first), _shape(output))

    _run(model, example_input, lambda: [m.register_forward_hook(after, with_kwargs=True) for m in model.modules()])
    return seen


def unseen(model: nn.Module, found: Sequence[Units], example_input: Any) -> dict[Units, str]:
    """Those of the units whose activation is not where it is said to be, and what was there.

    Args:
        model: any module; not changed.
        found: its units.
        example_input: as for `shapes`.
    """
    wrong = dict.fromkeys(found, "its activation is not seen in the example")

    def take(units: Units, reading: Reading, module: nn.Module, h: Tensor) -> None:
        try:
            reading.sum_abs(h)
            wrong.pop(units, None)
        except ValueError as error:
            wrong[units] = str(error)

    def watch(units: Units) -> Tap:
        reading = units.reading(model)
        return Tap(reading, partial(take, units, reading))

    _run(model, example_input, lambda: [watch(units) for units in found])
    return wrong


def _shape(x: Any) -> tuple[int, ...]:
    return tuple(x.shape) if isinstance(x, Tensor) else ()


def _run(model: nn.Module, example_input: Any, hook: Callable[[], Sequence[RemovableHandle | Tap]]) -> None:
    """One forward under hooks, in evaluation mode, without gradient and without a mark on torch's generator."""
    training = [module for module in model.modules() if module.training]
    hooks: Sequence[RemovableHandle | Tap] = []
    try:
        hooks = hook()
        for module in training:
            module.training = False
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            if isinstance(example_input, Mapping):
                model(**example_input)
            else:
                model(*(example_input if isinstance(example_input, (list, tuple)) else (example_input,)))
    finally:
        for module in training:
            module.training = True
        for handle in hooks:
            handle.remove()

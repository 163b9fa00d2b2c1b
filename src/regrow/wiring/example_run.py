"""Run a model on an example and record what it shows about its units."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .flow import Shapes
from .reading import Reading, Tap
from .units import Units


def shapes(model: nn.Module, example_input: Any, training: bool = False) -> Shapes:
    """The shapes that each module receives and returns.

    Args:
        model: any module; not changed.
        example_input: a tensor, a tuple of arguments or a dict of named ones.
        training: also run the branches that only training mode calls.

    Returns:
        Shapes of the first tensor received and of the output, by the module's id, of the modules that were called.
    """
    seen: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {}

    def after(module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        first = next((x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)), None)
        seen[id(module)] = (_shape(first), _shape(output))

    def hooks() -> list[RemovableHandle]:
        return [module.register_forward_hook(after, with_kwargs=True) for module in model.modules()]

    _run(model, example_input, hooks, training)
    return seen


def unseen(model: nn.Module, layers: Sequence[Units], example_input: Any, training: bool = False) -> dict[Units, str]:
    """Units whose activation is not where `Units` places it, and what is there instead.

    Args:
        model: any module; not changed.
        layers: its units.
        example_input, training: as for `shapes`.
    """
    wrong = dict.fromkeys(layers, "its activation is not seen in the example")

    def take(units: Units, reading: Reading, module: nn.Module, h: Tensor) -> None:
        try:
            reading.sum_abs(h)
            wrong.pop(units, None)
        except ValueError as error:
            wrong[units] = str(error)

    def watch(units: Units) -> Tap:
        reading = units.reading(model)
        return Tap(reading, partial(take, units, reading))

    _run(model, example_input, lambda: [watch(units) for units in layers], training)
    return wrong


def _shape(x: Any) -> tuple[int, ...]:
    return tuple(x.shape) if isinstance(x, Tensor) else ()


def _run(
    model: nn.Module, example_input: Any, hook: Callable[[], Sequence[RemovableHandle | Tap]], training: bool
) -> None:
    """Run the forward pass with hooks, without gradients; buffers and torch's generator stay as they were.

    The first run is in evaluation mode. With `training` a second run puts all modules except torch's own in training
    mode, so that dropout stays off and norms keep their statistics. It may fail: in training mode some models require
    targets.
    """
    modes = {module: module.training for module in model.modules()}
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()] if training else []
    hooks: Sequence[RemovableHandle | Tap] = []
    try:
        hooks = hook()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            for module in modes:
                module.training = False
            _call(model, example_input)
            if training:
                for module in modes:
                    module.training = not type(module).__module__.startswith("torch.")
                with suppress(Exception):
                    _call(model, example_input)
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        for module, mode in modes.items():
            module.training = mode
        for handle in hooks:
            handle.remove()


def _call(model: nn.Module, example_input: Any) -> None:
    if isinstance(example_input, Mapping):
        model(**example_input)
    else:
        model(*(example_input if isinstance(example_input, (list, tuple)) else (example_input,)))

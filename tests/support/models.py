"""Small models and training loops that the tests share."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def mlp(seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """6-12-12-3 with layer norm; its second hidden layer has units that never fire."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.LayerNorm(12), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 3))
    return net.to(dtype)


def batch(step: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Eight examples of six inputs, of which the first is always zero."""
    generator = torch.Generator().manual_seed(1000 + step)
    x = torch.randn(8, 6, generator=generator).to(dtype)
    x[:, 0] = 0
    return x, torch.randint(3, (8,), generator=generator)


def backward(model: nn.Module, step: int) -> None:
    """Gradients of one batch, in place of the former ones."""
    x, y = batch(step, next(model.parameters()).dtype)
    model.zero_grad()
    nn.functional.cross_entropy(model(x).float(), y).backward()


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, steps: range, after: Callable[[], None] | None = None
) -> None:
    """Plain training; `after` is called after every optimizer step."""
    for step in steps:
        backward(model, step)
        optimizer.step()
        if after is not None:
            after()


def weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all parameters."""
    return {name: w.detach().clone() for name, w in model.named_parameters()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def with_gradients(model: nn.Module) -> nn.Module:
    """The model itself, with a gradient of zeros at every parameter, as if a backward pass had been."""
    for w in model.parameters():
        w.grad = torch.zeros_like(w)
    return model


def trained(net: nn.Module) -> nn.Module:
    """Values that no law of initialisation gives."""
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape) + 5)
    return net

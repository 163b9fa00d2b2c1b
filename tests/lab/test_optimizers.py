"""The optimizers of a stack as compiled loops, held against torch's own, which other devices use."""

import copy
import io

import pytest
import torch

from regrow.lab import kernels
from regrow.lab.optimizers import (
    OPTIMIZERS,
    SGD,
    CompiledAdamW,
    CompiledOptimizer,
    CompiledSGDW,
    TorchAdamW,
    TorchOptimizer,
    TorchSGDW,
)  # fmt: skip

SHAPES = {"fc1.weight": (4, 7, 20), "fc1.bias": (4, 7), "out.weight": (4, 3, 7)}
SHARED = {"noise_variance": 0.0, "decay": 0.0}
CONFIGS = {
    "sgdw": [
        SHARED | {"step_size": 0.1, "momentum": 0.9},
        SHARED | {"step_size": 0.1, "momentum": 0.9, "decay": 1e-2},
        SHARED | {"step_size": 0.02, "momentum": 0.0},
        SHARED | {"step_size": 0.1, "momentum": 0.5, "decay": 0.3},
    ],
    "adamw": [
        SHARED | {"step_size": 1e-2, "beta1": 0.9, "beta2": 0.999},
        SHARED | {"step_size": 1e-2, "beta1": 0.9, "beta2": 0.999, "decay": 1e-2},
        SHARED | {"step_size": 1e-3, "beta1": 0.0, "beta2": 0.9},
        SHARED | {"step_size": 1e-2, "beta1": 0.5, "beta2": 0.99, "decay": 0.3},
    ],
}
KINDS = {"sgdw": (CompiledSGDW, TorchSGDW), "adamw": (CompiledAdamW, TorchAdamW)}


class Net:
    """Parameters alone."""

    def __init__(self, dtype, members=slice(None)):
        generator = torch.Generator().manual_seed(0)
        self.parameters = {
            name: torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)[members].clone()
            for name, shape in SHAPES.items()
        }

    def descend(self):
        """Plain descent is the network's own: these tests are of the optimizers that keep memory."""
        pytest.fail("an optimizer with memory left the descent to the network")


def gradients(step, dtype, members=slice(None)):
    generator = torch.Generator().manual_seed(step + 1)
    return {name: torch.randn(s, generator=generator, dtype=torch.float64).to(dtype)[members].clone()
            for name, s in SHAPES.items()}  # fmt: skip


def run(optimizer, steps, dtype, members=slice(None)):
    for step in steps:
        optimizer.shrink_and_perturb(step)
        optimizer.step(gradients(step, dtype, members))
        if step == 5:
            optimizer.forget(1)
        if step == 7:
            optimizer.permute("fc1.weight", torch.arange(20).flip(0))


@pytest.mark.parametrize("name", list(KINDS))
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-14)])
def test_steps_are_torchs(name, dtype, tolerance):
    """Of members with knobs of their own; with one's memory cleared, and columns shuffled, on the way."""
    nets = [Net(dtype), Net(dtype)]
    for kind, net in zip(KINDS[name], nets):
        run(kind(net, CONFIGS[name], [0] * 4, alone=[1]), range(12), dtype)
    for key, w in nets[0].parameters.items():
        torch.testing.assert_close(w, nets[1].parameters[key], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", list(KINDS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_member_alone_has_the_bits_of_its_stack(name, dtype):
    """Beside one that is lost, too."""
    stack = Net(dtype)
    stack.parameters["fc1.weight"][1, 2, 3] = torch.nan
    run(OPTIMIZERS[name](stack, CONFIGS[name], [0] * 4, alone=[1]), range(5), dtype)
    for i in (0, 2, 3):
        alone = Net(dtype, slice(i, i + 1))
        run(OPTIMIZERS[name](alone, CONFIGS[name][i : i + 1], [0]), range(5), dtype, slice(i, i + 1))
        for key, w in alone.parameters.items():
            assert w[0].equal(stack.parameters[key][i]), (i, key)


@pytest.mark.parametrize("name", list(KINDS))
@pytest.mark.parametrize(("writer", "reader"), [(0, 0), (0, 1), (1, 0)])
def test_a_state_continues_by_either_code(name, writer, reader):
    nets = [Net(torch.float64), Net(torch.float64)]
    first, second = (KINDS[name][which](net, CONFIGS[name], [0] * 4, [1]) for which, net in zip((writer, reader), nets))
    assert first.state_dict() == {}
    run(first, range(6), torch.float64)
    if writer == reader == 0:
        run(second, range(3), torch.float64)  # a state takes the place of memory that was there
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    for key, w in nets[1].parameters.items():
        w.copy_(nets[0].parameters[key])
    second.load_state_dict(torch.load(file, weights_only=True))
    for optimizer in (first, second):
        run(optimizer, range(6, 12), torch.float64)
    for key, w in nets[0].parameters.items():
        if writer == reader:
            assert w.equal(nets[1].parameters[key])
        torch.testing.assert_close(w, nets[1].parameters[key], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", list(KINDS))
def test_a_copy_has_its_own_memory(name):
    optimizer = OPTIMIZERS[name](Net(torch.float32), CONFIGS[name], [0] * 4)
    run(optimizer, range(4), torch.float32)
    twin = copy.deepcopy(optimizer)
    for each in (optimizer, twin):
        run(each, range(4, 9), torch.float32)
    for key, w in optimizer.net.parameters.items():
        assert w.equal(twin.net.parameters[key])


def test_torch_serves_where_loops_cannot(monkeypatch):
    assert isinstance(OPTIMIZERS["sgdw"](Net(torch.float32), CONFIGS["sgdw"], [0] * 4), CompiledOptimizer)
    half = Net(torch.bfloat16)
    assert isinstance(OPTIMIZERS["sgdw"](half, CONFIGS["sgdw"], [0] * 4), TorchOptimizer)
    apart = Net(torch.float32)
    apart.parameters["fc1.weight"] = apart.parameters["fc1.weight"].mT.contiguous().mT
    assert isinstance(OPTIMIZERS["adamw"](apart, CONFIGS["adamw"], [0] * 4), TorchOptimizer)
    monkeypatch.setattr(kernels, "supports", lambda x: False)
    assert isinstance(OPTIMIZERS["adamw"](Net(torch.float32), CONFIGS["adamw"], [0] * 4), TorchAdamW)
    assert OPTIMIZERS["sgd"] is SGD

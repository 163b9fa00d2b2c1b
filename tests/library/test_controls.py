"""Selective weight reinitialization of a part of what it selects: that of utility 0, or all but that."""

import pytest
import torch

from regrow.lab.mlp.loss import CrossEntropy
from regrow.lab.mlp.network import StackedMLP
from regrow.lab.nets import MLP
from regrow.lab.studies import CONTROLS
from regrow.lab.studies.permuted_values import chosen
from regrow.methods import SWR, StackedMethod, from_config

SYSTEMS = ("swr", *CONTROLS)


def renewed_by(factor: float) -> tuple[dict[str, dict[str, torch.Tensor]], StackedMethod]:
    """Which entries the first renewal changes, {parameter: {system: bool}}, after one pass over dark-edged images."""
    torch.manual_seed(0)
    net = StackedMLP(MLP(hidden=12, inputs=20), len(SYSTEMS), dtype=torch.float64)
    configs = [dict(chosen("small", system)) | {"every": 1, "factor": factor} for system in SYSTEMS]
    methods = [from_config(SWR, config) for config in configs]
    swr = StackedMethod(methods, range(len(SYSTEMS)), [7] * len(SYSTEMS))
    x = torch.rand(30, 20, dtype=torch.float64)
    x[:, 14:] = 0  # pixels that no image lights
    scale = torch.ones(len(SYSTEMS), dtype=torch.float64)
    _, grad = CrossEntropy(scale)(net.forward(x), torch.randint(10, (30,)))
    net.backward(grad)
    before = {name: w.clone() for name, w in net.parameters.items()}
    swr.renew(1, net, net.gradients(), swr.due(1))
    return {
        name: dict(zip(SYSTEMS, (w != before[name]).flatten(1), strict=True)) for name, w in net.parameters.items()
    }, swr


@pytest.mark.parametrize("factor", [1e-6, 0.5])
def test_the_two_controls_share_what_swr_renews(factor: float) -> None:
    changed, swr = renewed_by(factor)
    for name, of in changed.items():
        both = of["swr-zero-only"].int() + of["swr-zero-spared"].int()
        assert both.equal(of["swr"].int()), name
    renewed, zero = swr.counts["renewed"], swr.counts["renewed_zero"]
    assert renewed[0] == renewed[1] + renewed[2] and zero.tolist() == [renewed[1], renewed[1], 0]
    dark = torch.zeros(12, 20, dtype=torch.bool)
    dark[:, 14:] = True
    first = changed["fc1.weight"]
    assert first["swr-zero-only"][dark.flatten()].all() and not first["swr-zero-spared"][dark.flatten()].any()
    if factor > 0.1:
        assert renewed[2] > 100  # there is something to tell apart


def test_they_have_the_values_of_swr() -> None:
    for system, among in CONTROLS.items():
        assert chosen("large-ln", system) == chosen("large-ln", "swr") | {"among": among}

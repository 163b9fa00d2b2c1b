"""Claim: of a layer that only another method than forward calls, it is said which units it may read."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import regrow
from regrow.wiring import find_units


class TwoHeads(nn.Module):
    """Its second head is read by another method than forward."""

    def __init__(self, wide: int = 16, flat: int = 1) -> None:
        super().__init__()
        self.stem, self.trunk = nn.Linear(8, 12), nn.Linear(12, 16)
        self.pi, self.v = nn.Linear(16, 4), nn.Linear(wide * flat, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pi(F.relu(self.trunk(F.relu(self.stem(x)))))

    def value(self, x: Tensor) -> Tensor:
        return self.v(F.relu(self.trunk(F.relu(self.stem(x)))))


def renewed(net: TwoHeads, units: list[regrow.Units] | None = None) -> Tensor:
    """Which units of the trunk a step of ReDo has renewed, seen by the weights of the first head."""
    redo, x = regrow.ReDo(net, every=1, threshold=1.0, seed=0, units=units), torch.randn(64, 8)
    (net(x).square().mean() + net.value(x).square().mean()).backward()
    redo.step()
    assert redo.report()["renewed_last"] > 0
    return (net.pi.weight == 0).all(0)


def test_what_another_method_may_read_is_named() -> None:
    net = TwoHeads()
    with pytest.warns(UserWarning) as caught:
        new = renewed(net)
    assert (
        "v: the forward of the model does not call it; where another method has it read the units of 'trunk', renewing "
        "them does not set its weights on them to 0: to leave those units out, give units=[u for u in "
        "regrow.find_units(model) if u.layer not in ['trunk']]. To add them"
    ) in str(caught[0].message)
    assert new.any() and (net.v.weight[0, new] != 0).all()  # as it says


def test_units_that_another_method_reads_are_left_out_or_renewed_whole() -> None:
    """The remedy of the warning, and the one of the documentation; neither warns (warnings are errors here)."""
    net = TwoHeads()
    assert not renewed(net, units=[u for u in find_units(net) if u.layer not in ["trunk"]]).any()
    net, readers = TwoHeads(), [("pi.weight", 1), ("v.weight", 1)]
    new = renewed(net, units=[regrow.Units(("trunk.weight", 0), ("trunk.bias", 0), None, readers, "input of pi")])
    assert new.any() and torch.equal(net.v.weight[0] == 0, new)


@pytest.mark.parametrize(
    "head, named",
    [(TwoHeads(12), "'stem', renewing"), (TwoHeads(16, 3), "'stem' or 'trunk', renewing"), (TwoHeads(7), "")],
)
def test_layers_of_as_many_units_as_it_reads(head: TwoHeads, named: str) -> None:
    """Or of a divisor, as when they are flattened; where there is none, nothing is said of them."""
    reason = find_units(head).left_out["v"]
    assert named in reason and bool(named) == ("renewing" in reason)

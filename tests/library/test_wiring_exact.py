"""Claim: a unit that is found is exactly that, in every model: no more of the model, and no less, belongs to it.

For each layer of units and random subsets of its units:
- with their outgoing weights at 0, their incoming weights, biases and norm entries may be anything: the model's output
  does not change by a bit (so the outgoing weights are their only way out, and the norm entries are theirs alone);
- setting their outgoing weights to 0 changes the output bit for bit as setting their activation to 0 does, where
  `reading` says it is (so h is where it is said to be, and the columns are those of the same units);
- their incoming weights and biases move h of these units and of no other.
Norms that couple units through their statistics (layer, group and RMS norms over units) make any unit matter to its
neighbours: in these tests their statistics are held constant, so that the claims are about the wiring alone.
"""

from collections.abc import Callable

import pytest
import torch
from wiring_checks import Case, check_apart, check_units, hold_statistics, prepared
from wiring_zoo import ATTENTION, ZOO, LeNet, hugging_face

from regrow.wiring import Place, Units, find_units


def check_model(case: Callable[[], Case], kinds: tuple[str, ...]) -> None:
    model, args = prepared(case)
    found = find_units(model, kinds=kinds)
    assert find_units(model, args, kinds) == found
    assert len({units.layer for units in found}) == len(found)
    hold_statistics(model, found)
    check_apart(model, found)
    for units in found:
        check_units(model, units, args)


@pytest.mark.parametrize("name", ZOO)
def test_hidden_units(name: str) -> None:
    check_model(ZOO[name], ("hidden",))


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_units(name: str) -> None:
    check_model(ATTENTION[name], ("attention",))


@pytest.mark.parametrize("name", ["gpt2", "vit", "llama 4", "llama 2", "llama 1", "mistral 2", "qwen2 2"])
def test_hugging_face(name: str) -> None:
    pytest.importorskip("transformers")
    check_model(hugging_face()[name], ("hidden", "attention"))


def test_needs_an_example() -> None:
    """A view with a batch of -1 is believed once an example has shown that it keeps the batch."""
    model, args = prepared(lambda: (LeNet("-1"), (torch.randn(3, 1, 14, 14),)))
    assert [units.layer for units in find_units(model)] == ["conv1", "fc1"]
    found = find_units(model, args)
    assert [units.layer for units in found] == ["conv1", "conv2", "fc1"]
    for units in found:
        check_units(model, units, args)


def test_the_checks_notice() -> None:
    """Wirings that are wrong in one respect each fail the checks above."""
    model, args = prepared(ZOO["lenet flatten"])
    first, second, third = find_units(model)
    for wrong in (
        Units(third.weight_in, ("fc2.bias", 0, 0), None, third.weight_out, third.activation),
        Units(third.weight_in, third.bias, None, ("fc1.weight", 0), third.activation),
        Units(first.weight_in, first.bias, None, ("conv2.weight", 1, 0), "input of fc1"),
        Units(second.weight_in, second.bias, None, Place("fc1.weight", 1, None, 4, 6), second.activation),
        Units(second.weight_in, None, ("conv1.bias", 0, 0), second.weight_out, second.activation, axis=-1),
    ):
        with pytest.raises((AssertionError, ValueError)):
            check_units(model, wrong, args)

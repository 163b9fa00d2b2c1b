"""A parameter keeps its name and its place in the order however the model is wrapped; a tied one is met once."""

import pytest
import torch
from torch import nn

from regrow.names import matches, walk


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.body = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight
        self.gain = nn.Parameter(torch.ones(2))
        self.shared = self.body


class Wrapper(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


class Owner(nn.Module):
    """Not a wrapper: it has a parameter of its own."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.scale = nn.Parameter(torch.ones(1))


NAMES = ["gain", "embed.weight", "body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias"]


def part_compiled(model: Tied) -> nn.Module:
    model.body = torch.compile(model.body)  # type: ignore[assignment]
    return model


@pytest.mark.parametrize(
    "wrap",
    [
        lambda m: m,
        torch.compile,
        nn.DataParallel,
        Wrapper,
        lambda m: torch.compile(nn.DataParallel(m)),
        lambda m: nn.DataParallel(torch.compile(Wrapper(m))),
        part_compiled,
    ],
    ids=["bare", "compile", "DataParallel", "own", "compile of DP", "DP of compile", "part"],
)
def test_names_and_order_do_not_depend_on_wrapping(wrap) -> None:
    model = wrap(Tied())
    entries = walk(model)
    assert [e.name for e in entries] == NAMES
    assert [id(e.parameter) for e in entries] == [id(p) for _, p in model.named_parameters()]


def test_module_is_a_name_like_another_where_it_is_not_all() -> None:
    assert [e.name for e in walk(Owner(nn.Linear(2, 2)))] == ["scale", "module.weight", "module.bias"]
    two = nn.ModuleDict({"module": nn.Linear(2, 2, bias=False), "other": nn.Linear(2, 2, bias=False)})
    assert [e.name for e in walk(two)] == ["module.weight", "other.weight"]


def test_names_are_distinct() -> None:
    model = nn.ModuleDict({"a": Wrapper(nn.Linear(2, 2)), "b": Wrapper(Wrapper(nn.PReLU())), "c": Owner(nn.PReLU())})
    names = [e.name for e in walk(model)]
    assert names == ["a.weight", "a.bias", "b.weight", "c.scale", "c.module.weight"]


def test_tied_parameters_know_their_other_homes() -> None:
    entries = {e.name: e for e in walk(Tied())}
    assert [a.name for a in entries["embed.weight"].aliases] == ["head.weight"]
    assert [a.name for a in entries["body.1.bias"].aliases] == ["shared.1.bias"]
    assert entries["embed.weight"].matches("head") and entries["embed.weight"].matches("embed.*")
    assert not entries["gain"].matches("head")


def test_ancestors_know_the_parameter_by_their_own_name() -> None:
    (entry,) = [e for e in walk(nn.DataParallel(part_compiled(Tied()))) if e.name == "body.0.bias"]  # type: ignore
    assert [(name, type(module).__name__) for name, module in entry.ancestors] == [
        ("bias", "Linear"),
        ("0.bias", "Sequential"),
        ("0.bias", "OptimizedModule"),
        ("body.0.bias", "Tied"),
        ("body.0.bias", "DataParallel"),
    ]


def test_a_parameter_put_in_place_of_another_is_seen() -> None:
    model = nn.Linear(2, 2)
    entry = walk(model)[0]
    model.weight = nn.Parameter(torch.zeros(2, 2))
    assert entry.parameter is model.weight


def test_lists_dicts_and_parametrisations() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.many = nn.ParameterList([nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(2))])
            self.named = nn.ParameterDict({"x": nn.Parameter(torch.zeros(3))})
            self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))

    entries = walk(Odd())
    assert [e.name for e in entries] == [name for name, _ in Odd().named_parameters()]
    assert [e.parameter.numel() for e in entries] == [1, 2, 3, 2, 2, 4]


@pytest.mark.parametrize(
    ("pattern", "name", "answer"),
    [
        ("fc.weight", "fc.weight", True),
        ("fc", "fc.weight", True),
        ("fc", "fc2.weight", False),
        ("f", "fc.weight", False),
        ("*.bias", "a.b.bias", True),
        ("*.bias", "bias", False),
        ("*bias", "bias", True),
        ("blocks.?.fc", "blocks.1.fc", True),
        ("blocks.[01].*", "blocks.2.fc", False),
        ("FC.weight", "fc.weight", False),
        ("", "fc.weight", False),
    ],
)
def test_patterns(pattern: str, name: str, answer: bool) -> None:
    assert matches(pattern, name) is answer

"""Claim: `Units` and `Place` say which entries belong to which unit exactly as a loop over their definition would.

Also that h is reduced over everything but units whatever its layout and type, and that wirings which cannot be are
refused in one clear line.
"""

import copy
import pickle
import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from regrow.wiring import Place, Reading, Units, locate


def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 2)
    )


CONV = (("0.weight", 0), ("0.bias", 0), [("1.weight", 0), ("1.bias", 0)], ("4.weight", 1), "2")
LINEAR = (("4.weight", 0), ("4.bias", 0), None, ("6.weight", 1), "5")


def owned(i: int, start: int, positions: int, stride: int) -> list[int]:
    """Entries of unit i, by the definition: blocks of `stride` units, whose entries are `stride` apart."""
    block, inside = divmod(i, stride)
    return [start + block * stride * positions + inside + stride * p for p in range(positions)]


@given(
    blocks=st.integers(1, 4), positions=st.integers(1, 4), stride=st.integers(1, 4),
    start=st.none() | st.integers(0, 3), dim=st.integers(0, 2), spare=st.integers(0, 2), data=st.data(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_places_equal_a_loop(
    blocks: int, positions: int, stride: int, start: int | None, dim: int, spare: int, data: st.DataObject
) -> None:
    n = blocks * stride
    size = n * positions + (0 if start is None else start + spare)
    shape = [2, 3, 2]
    shape[dim] = size
    place = Place("w", dim, start, positions, stride)
    w = torch.arange(float(torch.Size(shape).numel())).view(shape)
    chosen = torch.tensor(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    rows = [owned(i, start or 0, positions, stride) for i in range(n)]
    assert place.entries(n).tolist() == rows
    mask = torch.zeros(shape, dtype=torch.bool)
    for i in range(n):
        if chosen[i]:
            mask.index_fill_(dim, torch.tensor(rows[i]), True)
    assert torch.equal(place.mask(w, chosen), mask)
    assert torch.equal(place.along(w, chosen), mask.movedim(dim, 0).flatten(1).any(1))
    by_unit = place.per_unit(w, n)
    assert by_unit.shape == (n, w.numel() // size * positions)
    for i in range(n):
        expected = w.index_select(dim, torch.tensor(rows[i])).flatten()
        assert by_unit[i].sort().values.equal(expected.sort().values)
    first = place.units_first(w, n)
    assert first.data_ptr() == w.data_ptr() + w.element_size() * (start or 0) * w.stride(dim)
    first[0, 0] = -1
    assert all((w.select(dim, entry) == -1).all() for entry in rows[0])


def test_rows_and_columns_are_views() -> None:
    layer = nn.Linear(4, 3)
    rows = Place("weight", 0).per_unit(layer.weight, 3)
    columns = Place("weight", 1, positions=2).per_unit(layer.weight, 2)
    assert rows._base is not None and columns.shape == (2, 6)
    assert Place("weight", 1).per_unit(layer.weight, 4)._base is not None
    torch.testing.assert_close(columns[1].sort().values, layer.weight[:, 2:].flatten().sort().values)


def test_outgoing_joins_all_readers() -> None:
    units = Units(("a", 0), None, None, [("b", 1), ("c", 0)], "act")
    b, c = torch.randn(2, 3), torch.randn(3, 5)
    assert torch.equal(units.outgoing([b, c], 3), torch.cat([b.T, c], 1))
    single = Units(("a", 0), None, None, ("b", 1), "act").outgoing([b], 3)
    assert single._base is b


def test_normal_form() -> None:
    units = Units(["w", 0], None, (), [("o", 1), ("p", 1, 4)], "act", positions=2)  # type: ignore[arg-type]
    assert units.weight_in == (Place("w", 0),) and units.bias == () == units.norm
    assert units.weight_out == (Place("o", 1, None, 2), Place("p", 1, 4, 2))
    again = Units(units.weight_in, units.bias, units.norm, units.weight_out, units.activation, units.positions)
    assert again == units and hash(again) == hash(units) and len({again, units}) == 1
    assert Units(*CONV, positions=4) != Units(*CONV, positions=2)
    assert copy.deepcopy(units) == units == pickle.loads(pickle.dumps(units))
    with pytest.raises(AttributeError):
        units.positions = 3  # type: ignore[misc]
    assert repr(Units(*CONV, 4)) == "Units(0.weight -> 4.weight, h: output of 2)"
    assert Units(*CONV, 4).layer == "0" and Units(("qkv.weight", 0, 6), None, None, ("o", 1), "act").layer == "qkv[6:]"
    assert Units(("w", 0), None, None, ("o", 1), "act").layer == "w"


def test_count() -> None:
    model = net()
    assert Units(*CONV, positions=4).count(model) == 3
    assert Units(*LINEAR).count(model) == 5
    half = Units(("4.weight", 0, 2), ("4.bias", 0, 2), None, ("6.weight", 1, 2), "5")
    assert half.count(model) == 3  # the units from the third on


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"weight_in": None}, "`weight_in` must name at least one parameter: a unit has incoming and outgoing weights"),
        ({"weight_out": []}, "`weight_out` must name at least one parameter"),
        ({"weight_in": 3}, "`weight_in` takes (parameter name, dimension), or several of them; got 3"),
        (
            {"weight_in": "fc.weight"},
            "`weight_in` takes (parameter name, dimension), or several of them; got 'fc.weight'",
        ),
        ({"bias": ("b",)}, "`bias` takes (name, dimension) or (name, dimension, start); got ('b',)"),
        ({"bias": [("b", 0, 0, 1)]}, "`bias` takes (name, dimension) or (name, dimension, start); got ('b', 0, 0, 1)"),
        ({"norm": [(1, 0)]}, "`norm`: a parameter's name must be text; got 1"),
        ({"norm": ("", 0)}, "`norm`: a parameter's name must be text; got ''"),
        (
            {"weight_out": ("o", -1)},
            "`dim` must be at least 0 (the dimension of 'o' that indexes units, in `weight_out`)",
        ),
        ({"weight_out": ("o", "1")}, "`dim` must be a whole number (the dimension of 'o' that indexes units"),
        ({"weight_out": ("o", 1, -2)}, "`start` must be at least 0 (the first entry of 'o' that is a unit's"),
        ({"weight_out": Place("o", 1, None, 0)}, "`positions` must be at least 1 (entries of each unit in 'o'"),
        ({"weight_out": Place("o", 1, None, 1, True)}, "`stride` must be a whole number"),
        ({"positions": 0}, "`positions` must be at least 1 (columns of `weight_out` that each unit owns); got 0"),
        ({"activation": ""}, "`activation` must be a module's name, or 'input of ' and its name; got ''"),
        ({"axis": 1.0}, "`axis` must be a whole number or None; got 1.0"),
    ],
)
def test_refused_on_construction(arguments: dict[str, Any], text: str) -> None:
    proper = {"weight_in": ("w", 0), "bias": None, "norm": None, "weight_out": ("o", 1), "activation": "act"}
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(text)}") as caught:
        Units(**(proper | arguments))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({0: ("8.weight", 0)}, "'8.weight' is no parameter or buffer of the model; names are 0.weight, 0.bias, 1"),
        ({0: ("0.scale", 0)}, "'0.scale' is no parameter or buffer of the model"),
        ({0: ("0.weight", 4)}, "'0.weight' has shape (3, 1, 3, 3) and no dimension 4: check the entry of `Units`"),
        ({0: ("0.weight", 1)}, "all entries of `Units` must hold the same units; dimension 0 of '0.bias' has 3 units, "
                               "dimension 1 of '0.weight' has 1: check them and `positions`"),
        ({3: ("6.weight", 1)}, "dimension 1 of '6.weight' must hold units from entry 0 on, 4 in each; its size is 5: "
                               "check the entry of `Units` and `positions`"),
        ({5: 1}, "all entries of `Units` must hold the same units; dimension 1 of '4.weight' has 12 units"),
        ({5: 2}, "all entries of `Units` must hold the same units; dimension 1 of '4.weight' has 6 units"),
        ({3: ("4.weight", 1, 12)}, "dimension 1 of '4.weight' must hold units from entry 12 on, 4 in each; its size"),
        ({3: ("4.weight", 1, 4)}, "all entries of `Units` must hold the same units; dimension 0 of '0.weight' has 3 "
                                  "units, dimension 1 of '4.weight' has 2"),
        ({3: Place("4.weight", 1, None, 2, 2)}, "all entries of `Units` must hold the same units"),
        ({4: "relu"}, "`activation` must name a module of the model; there is no 'relu'"),
        ({4: "input of relu"}, "`activation` must name a module of the model; there is no 'relu'"),
        ({4: "values of 4"}, "'values of 4' needs an nn.MultiheadAttention; '4' is a Linear"),
    ],
)  # fmt: skip
def test_refused_by_the_model(change: dict[int, Any], text: str) -> None:
    arguments = [*CONV, 4]
    for position, value in change.items():
        arguments[position] = value
    with pytest.raises(ValueError, match=f"^{re.escape(text)}") as caught:
        Units(*arguments).count(net())  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_locate_sees_through_wrappers() -> None:
    model = net()
    for wrapped in (torch.compile(model), nn.DataParallel(model), torch.compile(nn.DataParallel(model))):
        assert locate(wrapped, "4.weight") == (model[4], "weight")
        assert Units(*LINEAR).count(wrapped) == 5
        assert Units(*LINEAR).reading(wrapped).module is model[5]
    inside = nn.Sequential(torch.compile(nn.Sequential(nn.Linear(2, 3))))
    assert locate(inside, "0.0.weight")[0] is inside[0]._orig_mod[0]
    assert locate(nn.Linear(2, 3), "weight")[1] == "weight"


def sums(h: Tensor, axis: int, columns: list[list[int]]) -> list[float]:
    """Sum |h| over all entries of each unit, by a loop."""
    flat = h.detach().movedim(axis, -1).reshape(-1, h.shape[axis])
    return [sum(float(abs(row[c])) for row in flat.double() for c in mine) for mine in columns]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_sum_abs_equals_a_loop(dtype: torch.dtype) -> None:
    module = nn.Identity()
    alone, four = [[i] for i in range(6)], [list(range(4 * i, 4 * i + 4)) for i in range(6)]
    apart = [[i, i + 6, i + 12] for i in range(6)]
    parts = (Place("w", 1, 2, 1), Place("w", 1, 9, 1))
    for h, axis, places, columns in (
        (torch.randn(5, 6), -1, (), alone),
        (torch.randn(5, 3, 6), -1, (), alone),
        (torch.randn(6), -1, (), alone),
        (torch.randn(5, 6, 3, 2), -3, (), alone),
        (torch.randn(5, 6, 3, 2), 1, (), alone),
        (torch.randn(5, 24), -1, (), four),
        (torch.randn(5, 18), -1, (Place("w", 1, None, 3, 6),), apart),
        (torch.randn(2, 5, 16), -1, parts, [[i + 2, i + 9] for i in range(6)]),
        (torch.randn(3, 6, 5).transpose(1, 2), -1, (), alone),
    ):
        h = h.to(dtype).requires_grad_()
        reading = Reading(module, "act", "output", 6, axis, places)
        total, count = reading.sum_abs(h)
        assert total.dtype == (torch.float64 if dtype == torch.float64 else torch.float32) and not total.requires_grad
        assert total.shape == (6,) and count == h.numel() // h.shape[axis] * len(columns[0])
        torch.testing.assert_close(
            total.double(), torch.tensor(sums(h, axis, columns), dtype=torch.float64), rtol=1e-5, atol=0
        )
        matrix = reading.matrix(h)
        assert matrix.shape == (count, 6)
        torch.testing.assert_close(matrix.double().abs().sum(0), total.double(), rtol=1e-5, atol=0)


def test_a_sum_that_half_precision_could_not_hold() -> None:
    h = torch.full((4096, 2), 100.0, dtype=torch.float16)
    total, count = Reading(nn.Identity(), "act", "output", 2, -1).sum_abs(h)
    assert total.tolist() == [409600.0, 409600.0] and count == 4096


def test_large_activations_are_summed_in_pieces() -> None:
    """More than a core's cache holds, in batches that do not divide, and in layouts that cannot be cut."""
    for shape, axis, n in (
        ((37, 9001), -1, 9001),
        ((41, 6, 43, 29), -3, 6),
        ((300_000,), -1, 300_000),
        ((7, 90_000), -1, 9000),
    ):
        h = torch.randn(shape)
        total, count = Reading(nn.Identity(), "act", "output", n, axis).sum_abs(h)
        expected = h.double().abs().movedim(axis, -1).reshape(-1, n, shape[axis] // n).sum((0, 2))
        assert count == h.numel() // n
        torch.testing.assert_close(total.double(), expected, rtol=1e-5, atol=1e-4)


def test_an_axis_that_does_not_hold_the_units() -> None:
    reading = Reading(nn.Identity(), "act", "output", 6, -1)
    for h in (torch.randn(6, 5), torch.randn(5, 7), torch.randn(5, 4)):
        with pytest.raises(
            ValueError, match=r"^axis -1 of the output of 'act' must hold 6 units; its shape is \(\d, \d\): give `axis`"
        ):
            reading.sum_abs(h)


def test_the_axis_is_derived() -> None:
    """From the layer that reads h where it is what a reader receives, else from the layer that makes it."""
    model = net()
    assert Units(*CONV, 4).reading(model).axis == -3
    assert Units(*CONV, 4, axis=1).reading(model).axis == 1
    flat = Units(*CONV[:4], "input of 4", 4).reading(model)
    assert (flat.axis, flat.places) == (-1, (Place("4.weight", 1, None, 4),))
    assert Units(*LINEAR).reading(model).axis == -1
    assert Units(*CONV[:4], "input of 3", 4).reading(model).axis == -3


def test_activation_from_what_hooks_receive() -> None:
    x, y = torch.randn(2, 3), torch.randn(2, 3)
    at = {kind: Reading(nn.Identity(), "act", kind, 3, -1) for kind in ("input", "output")}
    assert at["input"].activation((x,), {}) is x and at["input"].activation((), {"input": x}) is x
    assert at["output"].activation((x,), {}, y) is y


@pytest.mark.parametrize("separate", [False, True])
def test_values_of_attention(separate: bool) -> None:
    """`values of` is what the attention mixes: with a single token to attend to, mixing returns it."""
    attention = nn.MultiheadAttention(6, 2, batch_first=True, vdim=4 if separate else None)
    nn.init.normal_(attention.in_proj_bias)
    out = attention.out_proj
    nn.init.eye_(out.weight), nn.init.zeros_(out.bias)
    query, value = torch.randn(3, 1, 6), torch.randn(3, 1, 4 if separate else 6)
    reading = Reading(attention, "attention", "values", 6, -1)
    expected = attention(query, query, value)[0]
    torch.testing.assert_close(reading.activation((query, query, value), {}), expected)
    torch.testing.assert_close(reading.activation((query,), {"key": query, "value": value}), expected)

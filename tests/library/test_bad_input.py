"""Bad input gets one clear line: the rule, the value got, the remedy. Never another exception, never half a change."""

import copy
import inspect
import math
import re
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import backward, mlp, same, weights
from torch import nn

import regrow

CONSTRUCTORS = [
    ({"every": 0}, ValueError, "`every` must be at least 1 (updates between renewals); got 0"),
    ({"every": 2.5}, TypeError, "`every` must be a whole number (updates between renewals); got 2.5 of type float"),
    ({"every": True}, TypeError, "`every` must be a whole number (updates between renewals); got True of type bool"),
    ({"factor": -1}, ValueError, "`factor` must be finite and at least 0 (share of the mean utility); got -1"),
    ({"factor": math.nan}, ValueError, "`factor` must be finite and at least 0 (share of the mean utility); got nan"),
    (
        {"factor": 1.5, "prune": "proportional"},
        ValueError,
        "`factor` must be in [0, 1] (share of the entries); got 1.5",
    ),
    ({"factor": "a"}, TypeError, "`factor` must be a number (share of the mean utility); got 'a' of type str"),
    ({"utility": "grad"}, ValueError, "`utility` must be one of 'gradient', 'magnitude', 'random'; got 'grad'"),
    ({"prune": "top"}, ValueError, "`prune` must be one of 'threshold', 'proportional'; got 'top'"),
    ({"reinit": "zero"}, ValueError, "`reinit` must be one of 'resample', 'mean'; got 'zero'"),
    ({"absent_rows": "drop"}, ValueError, "`absent_rows` must be one of 'keep', 'renew'; got 'drop'"),
    ({"clear_moments": "mean"}, ValueError, "`clear_moments` must be True, False, 'zero' or 'restart'; got 'mean'"),
    ({"clear_moments": 0}, ValueError, "`clear_moments` must be True, False, 'zero' or 'restart'; got 0"),
    ({"only": []}, ValueError, "`only` must name something; got []: leave it out for all parameters"),
    ({"seed": -1}, ValueError, "`seed` must be at least 0 (random numbers are keyed by it); got -1"),
    ({"optimizer": "adam"}, TypeError, "`optimizer` must be a torch.optim.Optimizer or None; got str"),
    ({"only": "encoder.*"}, ValueError, "`only`: pattern 'encoder.*' matches no parameter; names are 0.weight, 0.bias"),
    ({"skip": ["0", "9"]}, ValueError, "`skip`: pattern '9' matches no parameter; names are 0.weight"),
    ({"only": 3}, TypeError, "`only` takes name patterns (text, or a list of it); got 3"),
    ({"skip": "*"}, ValueError, "no trainable parameter to maintain: check `only`, `skip` and requires_grad"),
    ({"track_overlap": 1}, TypeError, "`track_overlap` must be True or False; got 1"),
]


@pytest.mark.parametrize("arguments, error, text", CONSTRUCTORS, ids=lambda v: str(v)[:40])
def test_constructor_arguments(arguments, error, text):
    with pytest.raises(error, match=re.escape(text)) as caught:
        regrow.SWR(mlp(), **{"every": 1, "factor": 0.1, **arguments})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments, text",
    [
        ({"shrink": -0.1}, "`shrink` must be in [0, 1] (share of every weight lost at each update); got -0.1"),
        ({"shrink": 1.1}, "`shrink` must be in [0, 1]"),
        (
            {"noise_variance": -1e-9},
            "`noise_variance` must be finite and at least 0 (variance of the noise); got -1e-0",
        ),
        ({"noise_variance": math.inf}, "`noise_variance` must be finite and at least 0 (variance of the noise); got"),
    ],
)
def test_shrink_perturb_arguments(arguments, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        regrow.ShrinkPerturb(mlp(), **arguments)


def test_models_that_cannot_be_maintained():
    def make(model, **more):
        laws = {"w": regrow.laws.Constant(1.0)} if more else None
        return regrow.SWR(model, every=1, factor=0.1, laws=laws, **more)

    with pytest.raises(TypeError, match=r"`model` must be a torch.nn.Module; got Tensor"):
        make(torch.ones(3))
    with pytest.raises(ValueError, match="no trainable parameter to maintain"):
        make(nn.ReLU())
    with pytest.raises(ValueError, match="no trainable parameter to maintain"):
        make(mlp().requires_grad_(False))
    with pytest.raises(ValueError, match="'0.weight' is not initialised yet: run one forward of the lazy module first"):
        make(nn.Sequential(nn.LazyLinear(3)))
    complex_model = nn.ParameterDict({"c": nn.Parameter(torch.ones(2, dtype=torch.complex64)), "w": torch.ones(3)})
    with pytest.raises(TypeError, match=r"'c' is complex \(complex64\).*or leave it out with skip='c'"):
        make(complex_model)
    make(complex_model, skip="c")
    low = nn.ParameterDict({"q": nn.Parameter(torch.ones(2).to(torch.float8_e4m3fn)), "w": torch.ones(3)})
    with pytest.raises(TypeError, match=r"'q' is quantised \(float8_e4m3fn\) and cannot be renewed.*skip='q'"):
        make(low)
    make(low, skip="q")


@pytest.mark.filterwarnings("ignore")
def test_quantised_modules_are_refused():
    model = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 4), nn.PReLU()), {nn.Linear})
    with pytest.raises(TypeError, match=r"'0' is quantised \(Linear\) and cannot be renewed.*skip='0'"):
        regrow.SWR(model, every=1, factor=0.1)
    regrow.SWR(model, every=1, factor=0.1, skip="0")


@pytest.mark.parametrize("set_to_none", [True, False])
def test_stepping_where_no_gradient_is_there(set_to_none):
    """A call after zero_grad() is told at once, not when the first renewal is due."""
    model = mlp()
    swr = regrow.SWR(model, every=2048, factor=0.1)
    backward(model, 0)
    model.zero_grad(set_to_none)
    before = weights(model)
    with pytest.raises(RuntimeError, match="needs the gradient of the update, and no parameter has one: call"):
        swr.step()
    assert same(before, weights(model)) and swr.report()["steps"] == 0
    regrow.SWR(model, every=2048, factor=0.1, utility="magnitude").step()


def test_gradients_gone_when_a_renewal_is_due():
    model = mlp()
    swr = regrow.SWR(model, every=2, factor=0.1)
    backward(model, 0)
    swr.step()
    model.zero_grad()
    with pytest.raises(RuntimeError, match="needs the gradient of the update"):
        swr.step()
    with pytest.raises(RuntimeError, match="needs the gradient of the update"):
        swr.preview()


def test_attach_arguments():
    swr = regrow.SWR(mlp(), every=1, factor=0.1)
    with pytest.raises(TypeError, match=r"attach takes a torch.optim.Optimizer; got str: call step\(\)"):
        swr.attach("adam")
    with pytest.raises(ValueError, match="the SGD holds none of the maintained parameters: is it this model's?"):
        swr.attach(torch.optim.SGD(mlp().parameters()))
    assert "not attached" in repr(swr)
    model = mlp()
    half = torch.optim.SGD([model[0].weight])
    with pytest.raises(ValueError, match="maintained parameters: of no layer of units both incoming and outgoing"):
        regrow.ReDo(model, every=1, threshold=0.1).attach(half)


def test_a_computed_list_of_names_that_is_empty_resets_nothing():
    model = mlp()
    before = weights(model)
    with pytest.raises(ValueError, match="`only` must name something"):
        regrow.reinitialize(model, only=[])
    assert same(before, weights(model))


def test_a_state_of_no_step_is_no_late_start():
    """Adagrad has one from the start."""
    model = mlp()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        regrow.SWR(model, every=2, factor=0.1).attach(torch.optim.Adagrad(model.parameters()))


STATES = [
    (lambda s: [], TypeError, "load_state_dict takes what state_dict() returned, a dict; got list"),
    (lambda s: {}, ValueError, "state_dict lacks 'version'"),
    (lambda s: s | {"version": 2}, ValueError, "state_dict is of version 2, this regrow reads version 1"),
    (lambda s: s | {"method": "redo"}, ValueError, "state_dict is of method 'redo'; this maintainer is 'swr'"),
    (lambda s: s | {"step": -1}, ValueError, "state_dict['step'] must be at least 0; got -1"),
    (lambda s: s | {"step": "7"}, TypeError, "state_dict['step'] must be int; got str"),
    (lambda s: s | {"step": True}, TypeError, "state_dict['step'] must be int; got bool"),
    (lambda s: s | {"attempts": 0, "step": 3}, ValueError, "state_dict['attempts'] must be at least 3; got 0"),
    (
        lambda s: s | {"tally": s["tally"] | {"past": torch.ones(2)}},
        ValueError,
        "must hold 5 counts, int64; got torch.float32 of shape (2,)",
    ),
    (lambda s: s | {"laws": 3}, TypeError, "state_dict['laws'] must be Mapping; got int"),
]


@pytest.mark.parametrize("change, error, text", STATES)
def test_states(change, error, text):
    swr = regrow.SWR(mlp(), every=1, factor=0.1, seed=1)
    before = repr(swr), swr.report()
    with pytest.raises(error, match=re.escape(text)):
        swr.load_state_dict(change(swr.state_dict()))
    assert (repr(swr), swr.report()) == before


ARGUMENTS = [name for name in inspect.signature(regrow.SWR.__init__).parameters if name not in ("self", "model")]
anything = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.sampled_from(["gradient", "mean", "zero", "*", "0"]),
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(ARGUMENTS), anything, max_size=4))
def test_any_constructor_argument_works_or_gets_one_clear_line(arguments):
    try:
        regrow.SWR(mlp(), **{"every": 1, "factor": 0.1, **arguments})
    except (ValueError, TypeError) as error:
        assert "\n" not in str(error)
        assert any(name in str(error) for name in [*arguments, "no trainable"])


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_state_works_or_gets_one_clear_line_and_changes_nothing(data):
    swr = regrow.SWR(mlp(), every=1, factor=0.1, seed=1, track_overlap=True)
    backward(swr._maintained.coverage.model, 0)
    swr.step()
    state = copy.deepcopy(swr.state_dict())
    place = state
    while True:
        key = data.draw(st.sampled_from(sorted(place)))
        if isinstance(place[key], dict) and place[key] and data.draw(st.booleans()):
            place = place[key]
            continue
        if data.draw(st.booleans()):
            del place[key]
        else:
            place[key] = data.draw(anything)
        break
    before = repr(swr), swr.report(), copy.deepcopy(swr.state_dict())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # knobs that differ are named in one
            swr.load_state_dict(state)
    except (ValueError, TypeError) as error:
        assert "\n" not in str(error)
        assert (repr(swr), swr.report()) == before[:2]
    swr.step()
    assert swr.report()["renewals"] >= 1

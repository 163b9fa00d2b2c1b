"""Tensors of every make are renewed in place, as their plain contiguous twins are, in bounded memory."""

import copy
import ctypes
import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

import regrow

KNOBS = {
    "gradient threshold": {"utility": "gradient", "prune": "threshold", "factor": 0.5},
    "gradient proportional": {"utility": "gradient", "prune": "proportional", "factor": 0.3},
    "magnitude proportional mean": {"utility": "magnitude", "prune": "proportional", "factor": 0.3, "reinit": "mean"},
    "random threshold": {"utility": "random", "prune": "threshold", "factor": 0.5},
}
every_kind = pytest.mark.parametrize("knobs", KNOBS.values(), ids=list(KNOBS))
NORMAL = regrow.laws.Normal(0.0, 0.1)


class Holder(nn.Module):
    """One parameter of given values, and its gradient."""

    def __init__(self, values, gradient):
        super().__init__()
        self.weight = nn.Parameter(values)
        self.weight.grad = gradient


def renewed(model, knobs, laws=NORMAL):
    """The model after one renewal, and the report; its parameters are the objects they were."""
    before = {name: (id(p), p.data_ptr(), p.stride()) for name, p in model.named_parameters()}
    swr = regrow.SWR(model, every=1, **knobs, laws={"*": laws}, seed=3)
    swr.step()
    assert {name: (id(p), p.data_ptr(), p.stride()) for name, p in model.named_parameters()} == before
    return swr.report()


def assert_as_its_twin(values, gradient, knobs):
    twin = Holder(values.detach().clone(memory_format=torch.contiguous_format), gradient.contiguous().clone())
    own = Holder(values, gradient)
    expected = renewed(twin, knobs)
    assert expected["renewed_total"] > 0
    assert renewed(own, knobs) == expected
    assert torch.equal(own.weight, twin.weight)


@every_kind
def test_channels_last_tensor(knobs):
    values = torch.randn(4, 3, 5, 2).contiguous(memory_format=torch.channels_last)
    assert_as_its_twin(values, torch.randn(4, 3, 5, 2).contiguous(memory_format=torch.channels_last), knobs)


@every_kind
def test_transposed_tensor(knobs):
    assert_as_its_twin(torch.randn(5, 7).T, torch.randn(7, 5), knobs)


@every_kind
def test_non_contiguous_tensor(knobs):
    storage = torch.randn(6, 10)
    spared = storage[:, 1::2].clone()
    assert_as_its_twin(storage[:, ::2], torch.randn(6, 5), knobs)
    assert torch.equal(storage[:, 1::2], spared)  # what lies between its entries is not its own


@every_kind
def test_tensor_of_no_dimension(knobs):
    values, gradient = torch.tensor(0.7), torch.tensor(0.2)
    of_one = Holder(values.clone().view(1), gradient.clone().view(1))
    scalar = Holder(values, gradient)
    knobs = knobs | {"factor": 1.0}
    expected = renewed(of_one, knobs)
    assert renewed(scalar, knobs) == expected
    assert torch.equal(scalar.weight.view(1), of_one.weight)


@every_kind
def test_scalars_are_counted_on_a_device(knobs, monkeypatch):
    monkeypatch.setattr("regrow.methods.counters.looking_is_free", lambda x: False)
    report = renewed(Holder(torch.tensor(0.7), torch.tensor(0.2)), knobs | {"prune": "proportional", "factor": 1.0})
    assert (report["renewed_total"], report["share_last"]) == (1, 1.0)


@every_kind
def test_empty_tensor(knobs):
    class Pair(Holder):
        def __init__(self, *of):
            super().__init__(*of)
            self.empty = nn.Parameter(torch.empty(0, 4))
            self.empty.grad = torch.empty(0, 4)

    values, gradient = torch.randn(4, 4), torch.randn(4, 4)
    pair, alone = Pair(values.clone(), gradient), Holder(values.clone(), gradient)
    ours, theirs = renewed(pair, knobs), renewed(alone, knobs)
    assert all(ours[key] == theirs[key] for key in ("renewals", "renewed_total", "share_last", "skipped_nan"))
    assert torch.equal(pair.weight, alone.weight)


@every_kind
def test_tied_tensor_is_renewed_once(knobs):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
            self.last.weight = self.first.weight

    tied, alone = Tied(), nn.Sequential()
    alone.first = nn.Linear(6, 6, bias=False)
    with torch.no_grad():
        alone.first.weight.copy_(tied.first.weight)
    gradient = torch.randn(6, 6)
    tied.first.weight.grad, alone.first.weight.grad = gradient, gradient
    assert renewed(tied, knobs) == renewed(alone, knobs)
    assert torch.equal(tied.first.weight, alone.first.weight)
    assert tied.last.weight is tied.first.weight


@every_kind
@pytest.mark.parametrize("absent_rows", ["keep", "renew"])
def test_sparse_gradient(knobs, absent_rows):
    dense = nn.Embedding(12, 4, padding_idx=0)
    sparse = nn.Embedding(12, 4, padding_idx=0, sparse=True)
    sparse.load_state_dict(dense.state_dict())
    for model in (dense, sparse):
        model(torch.tensor([1, 3, 3, 0, 5])).square().sum().backward()
    assert sparse.weight.grad.is_sparse
    before = dense.weight.detach().clone()
    assert renewed(sparse, knobs | {"absent_rows": absent_rows}) == renewed(dense, knobs | {"absent_rows": absent_rows})
    assert torch.equal(sparse.weight, dense.weight)
    assert torch.equal(dense.weight[0], before[0])
    assert sparse.weight.grad.is_sparse


@every_kind
def test_parametrized_tensor(knobs):
    class Doubled(nn.Module):
        def forward(self, w):
            return 2 * w

    plain = nn.Linear(6, 5, bias=False)
    own = copy.deepcopy(plain)
    parametrize.register_parametrization(own, "weight", Doubled())
    original = own.parametrizations.weight.original
    initial = plain.weight.detach().clone()
    plain.weight.grad = torch.randn(5, 6)
    original.grad = plain.weight.grad.clone()
    report = renewed(own, knobs)
    if knobs["utility"] == "random":  # what is chosen is keyed by the name, which is another
        assert 0 < report["renewed_total"] < 30
    else:
        assert report == renewed(plain, knobs)
        assert torch.equal(original == initial, plain.weight == initial)  # the numbers drawn are keyed by the name


def most_memory(action):
    """Bytes by which the resident memory of this process grows at most, whoever allocates them."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def read(key):
        return int(re.search(rf"^{key}:\s+(\d+) kB$", status.read_text(), re.MULTILINE)[1]) * 1024

    ctypes.CDLL(None).malloc_trim(0)  # what the allocator still holds would be used unseen
    reset.write_text("5")  # the highest so far becomes what there is now
    before = read("VmRSS")
    action()
    return read("VmHWM") - before


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the highest memory from Linux")
@every_kind
def test_memory_of_a_step_is_at_most_three_tensors(knobs):
    n = 1 << 23
    model = Holder(torch.randn(n // 1024, 1024), torch.randn(n // 1024, 1024))
    small = Holder(torch.randn(8, 8), torch.randn(8, 8))
    renewed(small, knobs)  # tables of the law
    swr = regrow.SWR(model, every=1, **knobs, laws={"*": NORMAL}, seed=0)
    assert 4 * n < most_memory(swr.step) <= 3 * 4 * n

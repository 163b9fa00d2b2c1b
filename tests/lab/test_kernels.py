"""The compiled loops of a CPU, held against torch's operations, which other devices use."""

import copy
import itertools
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lab_twins import SETTINGS, SYSTEMS, plan_of, trainer

from regrow.core import draw, random, select, utility
from regrow.core.noise import Normals
from regrow.lab import kernels
from regrow.lab.mlp import activations, activations_cpu, measures, online_metrics
from regrow.lab.mlp.loss import CrossEntropy
from regrow.lab.noise import CompiledNormals
from regrow.lab.problems import permuted
from regrow.laws import Normal
from regrow.methods import counters, members, network

TASKS = 2


@pytest.mark.parametrize(
    ("name", "position", "read"),
    [
        ("wide", "after", "before"),
        ("narrow", "after", "before"),
        *itertools.product(("wide-ln", "narrow-ln"), ("after", "before"), ("before", "after")),
    ],
)
def test_both_ways_train_the_same(name, position, read, monkeypatch):
    """Units by masks and norms by torch, against the loops; all but noise, which has streams of its own."""
    kinds = ("base", "l2", "scratch", "cbp", "redo", "cbp-authors", "redo-authors", "swr-gradient-threshold-resample")
    plan = plan_of(SETTINGS[name], [s for s in SYSTEMS if s in kinds], ln_position=position, units_read=read)
    by_loops = trainer(plan)
    rows = [by_loops.run_task() for _ in range(TASKS)]
    monkeypatch.setattr(kernels, "supports", lambda x: False)
    for module in (online_metrics, permuted, network, members, counters):
        monkeypatch.setattr(module, "looking_is_free", lambda x: False)
    by_torch = trainer(plan)
    assert sum(row["renewed"] for row in rows[-1]) > 0
    for task in range(TASKS):
        for own, other in zip(rows[task], by_torch.run_task()):
            told = {key: value for key, value in own.items() if isinstance(value, (int, float))}
            assert told == pytest.approx({key: other[key] for key in told}, rel=1e-5, nan_ok=True), own["system"]
    for key, w in by_loops.net.parameters.items():
        torch.testing.assert_close(by_torch.net.parameters[key], w, rtol=1e-4, atol=1e-6)


KINDS = {
    "relu": (activations.ReLU, activations_cpu.CompiledReLU, {}),
    "norm after": (activations.Norm, activations_cpu.CompiledNorm, {"relu_first": True}),
    "norm before": (activations.Norm, activations_cpu.CompiledNorm, {"relu_first": False}),
}
ORDERS = {"first": True, "later": False}


def passed(layer, z, d, first):
    """Hidden units, outputs, grads of a layer, from where its products are to lie: copies."""
    members, images, units = z.shape
    buffer = layer.buffer(images)
    if buffer is not None:
        stored = buffer.view(images, members, units).transpose(0, 1) if first else buffer
        z = stored.copy_(z)
    hidden, out = layer.forward(z if buffer is not None else z.clone())
    if layer.grad_buffer is not None:
        d = layer.grad_buffer.copy_(d)
    grad = layer.backward(d if layer.grad_buffer is not None else d.clone())
    return [x.clone() for x in (hidden, out, grad, *layer.grads)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("order", list(ORDERS))
def test_activations_are_torchs(kind, order, dtype):
    """A member of NaN and one without spread are among them; its neighbours keep their bits."""
    generator = torch.Generator().manual_seed(1)
    z, d = (torch.randn(3, 16, 10, generator=generator, dtype=dtype) for _ in range(2))
    z[0, :5] = 1.0
    own = [torch.rand(3, 10, generator=generator, dtype=dtype) for _ in range(1 if kind == "relu" else 3)]
    own[0][0] = 0.0
    by_torch, by_loops, options = KINDS[kind]
    first, tolerance = ORDERS[order], {torch.float32: 1e-4, torch.float64: 1e-12}[dtype]

    def both(z):
        mine = passed(by_loops(*own, **options, first=first), z, d, first)
        return mine, passed(by_torch(*own, **options), z, d, first)

    told, theirs = both(z)
    assert (told[0] == 0).any() and (told[0] > 0).any()
    for here, there in zip(told, theirs):
        torch.testing.assert_close(here, there, rtol=tolerance, atol=tolerance)
    spoiled = z.clone()
    spoiled[1] = torch.nan
    for here, there, before in zip(*both(spoiled), told):
        assert here[1].isnan().equal(there[1].isnan())
        assert here[[0, 2]].equal(before[[0, 2]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("units", "inputs"), [(1, 1), (7, 5), (10, 12), (31, 31)])
def test_products_of_narrow_layers_are_torchs(units, inputs, dtype):
    """A member that is NaN leaves its neighbours their bits."""
    generator = torch.Generator().manual_seed(4)
    shapes = (3, units, inputs), (3, units), (3, inputs, 32), (3, units, 32)
    w, bias, a, g = (torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes)
    z, d, sums, outer = torch.empty_like(g), torch.empty_like(a), torch.zeros(3, inputs, dtype=dtype), w.clone()

    def run():
        kernels.narrow_forward(inputs, True)(w.numpy(), bias.numpy(), a.numpy(), z.numpy())
        kernels.narrow_backward(units, True)(w.numpy(), g.numpy(), a.numpy(), d.numpy(), sums.numpy())
        kernels.narrow_outer(outer.numpy(), g.numpy(), a.numpy(), False)
        return [x.clone() for x in (z, d, sums, outer)]

    told, masked = run(), (w.mT @ g).where(a > 0, 0.0)
    expected = [(w @ a + bias.unsqueeze(2)).relu(), masked, masked.sum(2), g @ a.mT]
    tolerance = {torch.float32: 1e-4, torch.float64: 1e-12}[dtype]
    for mine, theirs in zip(told, expected):
        torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance)
    kernels.narrow_outer(outer.numpy(), g.numpy(), a.numpy(), True)
    torch.testing.assert_close(outer, 2 * told[3])
    kernels.narrow_forward(inputs, False)(w.numpy(), bias.numpy(), a.numpy(), z.numpy())
    torch.testing.assert_close(z, w @ a + bias.unsqueeze(2), rtol=tolerance, atol=tolerance)
    w[1] = torch.nan
    for before, after in zip(told, run()):
        assert before[[0, 2]].equal(after[[0, 2]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cross_entropy_is_torchs(dtype, monkeypatch):
    """Of logits with ties, a member that is lost, and one that is sure; argmax answers the first largest, or NaN."""
    generator = torch.Generator().manual_seed(2)
    logits, labels = 9 * torch.randn(5, 40, 10, generator=generator, dtype=dtype), torch.arange(40) % 10
    logits[1] = logits[1].round()  # ties
    logits[2], logits[2, 4, 4], logits[2, 5, 5] = 0.0, torch.nan, torch.inf
    logits[3], logits[4, :20] = torch.nan, 1e4 * logits[4, :20]
    scale = torch.tensor([1.0, -0.05, 2.0, 1.0, 0.5], dtype=dtype)
    loss = CrossEntropy(scale)
    told, grad = (x.clone() for x in loss(logits.mT.contiguous().mT, labels))
    again = loss(logits, labels)  # as they lie, they are copied
    assert all(torch.equal(a.nan_to_num(7), b.nan_to_num(7)) for a, b in zip(again, (told, grad)))
    monkeypatch.setattr(kernels, "supports", lambda x: False)
    for mine, theirs in zip((told, grad), loss(logits.clone(), labels)):
        torch.testing.assert_close(mine, theirs, equal_nan=True)
    assert told[0].isnan().tolist() == [False, False, True, True, False]
    assert told[1, 2] == 4 + 2 and told[1, 3] == 4  # four images are of class 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_magnitudes_are_added_exactly_enough(dtype):
    tensors = {"w": torch.randn(3, 70, 50, dtype=dtype), "b": 1e4 * torch.randn(3, 70, dtype=dtype)}
    tensors["w"][1, 5, 6] = torch.nan
    expected = torch.cat([w.double().flatten(1) for w in tensors.values()], 1).abs().mean(1)
    found = measures.mean_magnitude(tensors)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", ["wide", "wide-ln", "narrow", "narrow-ln"])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda lab: pickle.loads(pickle.dumps(lab))])
def test_a_copy_goes_on_as_the_original(copied, name):
    """No array of a copy belongs to what was copied."""
    original = trainer(plan_of(SETTINGS[name], ["base", "cbp", "redo"]))
    original._progress = None  # a function, which cannot be pickled
    original.run_updates(40)
    twin = copied(original)
    for each in (original, twin):
        each.run_updates(40)
    for name, w in original.net.parameters.items():
        assert twin.net.parameters[name].equal(w), name
    assert original.renewals[0][0].counts["renewed_units"].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_torchs(dtype):
    """Numba knows no halves."""
    lab = trainer(plan_of(SETTINGS["wide-ln"], ["base", "shrink-perturb", "cbp", "redo"]), dtype)
    row = lab.run_task()[0]
    assert 0.2 < row["online_accuracy"] < 1 and lab.net.parameters["fc1.weight"].dtype == dtype


@pytest.mark.parametrize("name", ["wide", "wide-ln", "narrow", "narrow-ln"])
def test_batches_of_several_sizes_do_not_disturb_each_other(name):
    """Other images, many more than a batch, are passed in between, once in inference mode."""
    lab = trainer(plan_of(SETTINGS[name], ["base", "cbp"]))
    lab.net.forward(torch.rand(500, lab.problem.pixels))
    x, y = torch.rand(16, lab.problem.pixels, dtype=torch.float64), torch.arange(16) % 10

    def gradients():
        lab.net.backward(lab._loss(lab.net.forward(x), y)[1])
        return {name: g.clone() for name, g in lab.net.gradients().items()}

    expected = gradients()
    with torch.inference_mode():
        lab.net.forward(torch.rand(500, lab.problem.pixels))
        lab.net.forward(x)
    for name, g in gradients().items():
        assert g.equal(expected[name]), name


@pytest.mark.parametrize("shape", [(5, 784), (7, 3, 2), (4,)])
def test_drawn_rows_have_the_bits_of_the_library(shape):
    law, units, key = Normal(0.0, 0.1), np.array([3, 1]), random.key(0, "cbp", 0, 7, "fc1.weight", "value")
    values = np.zeros(shape, np.float32)
    starts, rises = draw.normal_table().numpy()
    kernels.draw_rows(values.reshape(shape[0], -1), units, np.uint64(key % 2**64), np.float32(0.1), starts, rises)
    expected = law.draw(random.bits(key, torch.arange(values.size))).numpy().reshape(shape)
    untouched = np.setdiff1d(np.arange(shape[0]), units)
    assert (values[units] == expected[units]).all() and not values[untouched].any()


def test_all_words_are_drawn_alike():
    """Cells of both halves, from the middle to the tails."""
    values = np.zeros((1, 1 << 18), np.float32)
    starts, rises = draw.normal_table().numpy()
    kernels.draw_rows(values, np.array([0]), np.uint64(5), np.float32(1), starts, rises)
    expected = draw.from_table(random.bits(5, torch.arange(values.size)), draw.normal_table()).numpy()
    assert (values[0] == expected).all() and values.min() < -4 and values.max() > 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", [(7, 1, 12), (1 << 18, 3), ((1 << 18) + 5, 2)])
def test_normals_have_the_bits_of_the_library(sizes, dtype):
    both = Normals(), CompiledNormals()
    for normals in both:
        normals.seed(random.key(3, "shrink-perturb", 0, 9))
    for size in sizes:  # one after the other
        told, expected = (normals.fill(torch.full((size,), torch.nan, dtype=dtype)) for normals in both)
        assert told.equal(expected)


@given(data=st.data(), units=st.integers(1, 12), positions=st.integers(1, 3), count=st.integers(0, 13))
@settings(deadline=None, max_examples=300)
def test_the_lowest_contributions_are_the_librarys(data, units, positions, count):
    number = st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0, 2.0, 3.0, np.inf, np.nan])
    active = np.array(data.draw(st.lists(number, min_size=units, max_size=units)))
    weight = st.sampled_from([-2.0, -1.0, 0.0, 1.0, 4.0])
    size = 2 * units * positions
    outgoing = np.array(data.draw(st.lists(weight, min_size=size, max_size=size))).reshape(2, units, positions)
    born = np.array(data.draw(st.lists(st.integers(0, 3), min_size=units, max_size=units)))
    before = data.draw(st.integers(0, 4))
    told, chosen = np.empty(units), np.empty(count, np.int64)
    n = kernels.lowest_contributions(active, outgoing.reshape(2, -1), born, before, told, chosen)
    u = utility.contribution(torch.from_numpy(active), 1, torch.from_numpy(outgoing).transpose(0, 1).flatten(1))
    torch.testing.assert_close(torch.from_numpy(told), u, equal_nan=True)
    eligible = torch.from_numpy(born < before)
    order = torch.randperm(units, generator=torch.Generator().manual_seed(0))
    both = [select.eligible_lowest(u, eligible, count, order=o).numpy() for o in (order, units - 1 - order)]
    if n < 0:
        tied = u[eligible].sort().values
        assert tied[count - 1] == tied[count]  # whatever the order makes of it
    else:
        assert all(sorted(chosen[:n]) == list(np.flatnonzero(mask)) for mask in both)


def test_images_are_taken_as_they_are():
    pixels = np.arange(256, dtype=np.uint8).reshape(4, 64)
    out = np.empty((3, 20), np.float32)
    kernels.take_images(pixels, np.array([3, 0, 3]), np.float32(255), out)
    assert (out == pixels[[3, 0, 3], :20] / np.float32(255)).all()


def test_activity_is_the_mean_magnitude():
    h = torch.randn(4, 30, 9, dtype=torch.float64)
    out = torch.full((2, 9), 7.0, dtype=torch.float64)
    kernels.mean_magnitude(h.numpy(), np.array([3, 1]), out.numpy())
    torch.testing.assert_close(out, h[[3, 1]].abs().mean(1))

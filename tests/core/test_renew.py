"""Renewal changes the selected entries and nothing else; each number belongs to its entry, however that is reached."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from regrow.core import draw, eager, noise, random, renew

KEY = random.key("test_renew")


def normal(index: Tensor) -> Tensor:
    return draw.from_table(random.bits(KEY, index), draw.normal_table())


def some(shape: tuple[int, ...], share: float = 0.3) -> Tensor:
    """A random mask, the same for the same shape."""
    index = torch.arange(math.prod(shape)).view(shape)
    return random.uniform(random.bits(random.key("mask"), index)) < share


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 8 entries, so that small tensors span many of them and end within one."""
    monkeypatch.setattr(eager, "CHUNK", 8)
    monkeypatch.setattr(renew, "CHUNK", 8)


@pytest.fixture(params=["short way", "dense way"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The way of plain CPU tensors, and the one of all others."""
    if request.param == "dense way":
        monkeypatch.setattr(renew, "looking_is_free", lambda x: False)
    return request.param


# ---- replace


def test_replace_takes_numbers_and_tensors():
    w, mask = torch.ones(2, 3), torch.tensor([[True, False, False], [False, True, True]])
    assert renew.replace(w, mask, 0.5).tolist() == [[0.5, 1, 1], [1, 0.5, 0.5]]
    assert renew.replace(w, mask, torch.tensor([7.0, 8.0, 9.0])).tolist() == [[7, 1, 1], [1, 8, 9]]
    assert w.tolist() == [[1] * 3] * 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_replace_keeps_the_type(dtype):
    w, mask = torch.ones(4, dtype=dtype), torch.tensor([True, False, True, False])
    for values in (1 / 3, torch.full((4,), 1 / 3, dtype=torch.float64), torch.tensor(1 / 3, dtype=torch.float64)):
        got = renew.replace(w, mask, values)
        assert got.dtype == dtype
        assert got.tolist() == torch.tensor([1 / 3, 1, 1 / 3, 1], dtype=torch.float64).to(dtype).tolist()


def test_replace_does_not_let_what_it_replaces_through():
    w = torch.tensor([math.nan, math.inf, 1.0])
    assert renew.replace(w, torch.tensor([True, True, False]), 0.0).tolist() == [0, 0, 1]
    untouched = renew.replace(w, torch.tensor([True, False, False]), torch.tensor([0.0, math.nan, math.nan]))
    assert untouched.tolist() == [0, math.inf, 1]


# ---- resample


@given(shape=st.lists(st.integers(0, 6), max_size=4), share=st.sampled_from([0.0, 0.3, 1.0]))
@settings(deadline=None, max_examples=100)
def test_resample_is_the_loop(shape, share):
    w, mask = torch.full(shape, 9.0), some(tuple(shape), share)
    got = renew.resample(w, mask, normal).reshape(-1).tolist()
    picked = mask.reshape(-1).tolist()
    assert got == [float(normal(torch.tensor(i))) if picked[i] else 9.0 for i in range(len(picked))]


LAYOUTS: dict[str, Callable[[torch.dtype], Tensor]] = {
    "contiguous": lambda dtype: torch.zeros(3, 7, 5, dtype=dtype),
    "scalar": lambda dtype: torch.zeros((), dtype=dtype),
    "empty": lambda dtype: torch.zeros(3, 0, dtype=dtype),
    "one chunk exactly": lambda dtype: torch.zeros(2, 4, dtype=dtype),
    "transposed": lambda dtype: torch.zeros(11, 9, dtype=dtype).t(),
    "channels last": lambda dtype: torch.zeros(3, 4, 5, 2, dtype=dtype).contiguous(memory_format=torch.channels_last),
    "every other row": lambda dtype: torch.zeros(12, 5, dtype=dtype)[::2],
    "every other column": lambda dtype: torch.zeros(12, 10, dtype=dtype)[:, ::2],
    "strided as one row": lambda dtype: torch.zeros(24, 3, dtype=dtype)[:, 1].view(4, 6),
    "part of a larger tensor": lambda dtype: torch.zeros(40, dtype=dtype)[13:37].view(4, 6),
    "parameter": lambda dtype: torch.nn.Parameter(torch.zeros(5, 5, dtype=dtype)),
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
def test_in_place_has_the_bits_of_resample(layout, dtype, share, way, small_chunks):
    w = LAYOUTS[layout](dtype)
    strides, place, mask = w.stride(), w.data_ptr(), some(tuple(w.shape), share)
    want = renew.resample(w.detach(), mask, normal)
    with torch.no_grad():
        assert renew.resample_(w, mask, normal) is None
    assert torch.equal(w, want)
    assert torch.equal(w != 0, mask)  # no draw of these is 0
    assert (w.stride(), w.data_ptr(), w.dtype) == (strides, place, dtype)


def test_what_surrounds_a_view_stays(way, small_chunks):
    whole = torch.full((40,), 9.0)
    view = whole[5:35].view(6, 5)[:, 1:3]
    renew.resample_(view, torch.ones(6, 2, dtype=torch.bool), normal)
    assert torch.equal(view.reshape(-1), normal(torch.arange(12)))
    assert int((whole == 9.0).sum()) == 40 - 12


def test_a_mask_of_another_layout(way, small_chunks):
    w, mask = torch.zeros(6, 10), some((10, 6)).t()
    renew.resample_(w, mask, normal)
    assert torch.equal(w, renew.resample(torch.zeros(6, 10), mask, normal))


def test_unselected_entries_keep_their_bits(way, small_chunks):
    w = torch.tensor([math.nan, -0.0, math.inf, 1e-42] * 10)
    before, mask = w.view(torch.int32).clone(), some((40,))
    renew.resample_(w, mask, normal)
    assert torch.equal(w.view(torch.int32)[~mask], before[~mask])
    assert torch.equal(w[mask], normal(torch.arange(40))[mask])


@pytest.mark.parametrize("entries", [1, 5])
def test_chunks_of_the_real_size(way, entries):
    """Entries on either side of every border of two chunks."""
    size = renew.CHUNK if way == "short way" else 16 * renew.CHUNK
    n = 2 * size + entries
    mask = torch.zeros(n, dtype=torch.bool)
    mask[[0, size - 1, size, 2 * size - 1, 2 * size, n - 1]] = True
    w = torch.zeros(n)
    renew.resample_(w, mask, normal)
    assert torch.equal(w.nonzero(), mask.nonzero())
    assert torch.equal(w[mask], normal(torch.arange(n))[mask])


def test_only_selected_entries_are_drawn_on_a_cpu(small_chunks):
    asked: list[Tensor] = []
    mask = some((50,), 0.1)
    renew.resample_(torch.zeros(50), mask, lambda i: asked.append(i) or normal(i))
    assert torch.equal(torch.cat(asked), mask.nonzero().view(-1))
    asked.clear()
    renew.resample_(torch.zeros(50), torch.zeros(50, dtype=torch.bool), lambda i: asked.append(i) or normal(i))
    assert not asked


def test_the_same_draw_renews_the_same_entry_whatever_else_is_selected():
    few, many = some((200,), 0.1), some((200,), 0.8)
    a, b = (renew.resample(torch.zeros(200), mask, normal) for mask in (few, many))
    assert torch.equal(a[few & many], b[few & many]) and bool((few & many).any())


def test_same_bits_under_vmap_and_compile():
    keys, w, mask = random.key("stack", torch.arange(3)), torch.zeros(3, 4, 5), some((3, 4, 5))

    def renewed(key: Tensor, w: Tensor, mask: Tensor) -> Tensor:
        return renew.resample(w, mask, lambda i: draw.symmetric_uniform(random.bits(key, i), 0.5))

    def renewed_(key: Tensor, w: Tensor, mask: Tensor) -> Tensor:
        w = w.clone()
        renew.resample_(w, mask, lambda i: draw.symmetric_uniform(random.bits(key, i), 0.5))
        return w

    want = torch.stack([renewed(keys[i], w[i], mask[i]) for i in range(3)])
    for f in (renewed, renewed_):
        torch.compiler.reset()
        assert torch.equal(torch.vmap(f)(keys, w, mask), want)
        assert torch.equal(torch.compile(f, fullgraph=True, backend="eager")(keys[1], w[1], mask[1]), want[1])


# ---- slices


def along(shape: torch.Size, dim: int, chosen: Tensor) -> Tensor:
    """The mask of whole slices, entry by entry."""
    mask = torch.zeros(shape, dtype=torch.bool)
    for i in chosen.nonzero().view(-1).tolist():
        mask.select(dim, i).fill_(True)
    return mask


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("layout", ["contiguous", "transposed", "channels last", "every other column", "parameter"])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_slices_are_renewed_and_filled_as_their_mask_says(layout, dtype, share, way, small_chunks):
    for dim in range(LAYOUTS[layout](dtype).dim()):
        resampled, filled = LAYOUTS[layout](dtype), LAYOUTS[layout](dtype)
        chosen = some((resampled.shape[dim],), share)
        mask = along(resampled.shape, dim, chosen)
        with torch.no_grad():
            want = renew.resample(resampled.detach(), mask, normal)
            renew.resample_slices_(resampled, dim, chosen, normal)
            renew.fill_slices_(filled, dim, chosen, 1 / 3)
        assert torch.equal(resampled, want) and torch.equal(resampled != 0, mask)
        assert torch.equal(filled, mask.to(dtype) * torch.tensor(1 / 3, dtype=dtype))


def test_one_dimension_is_its_own_slices(way):
    w, chosen = torch.zeros(9), some((9,), 0.5)
    renew.resample_slices_(w, 0, chosen, normal)
    assert torch.equal(w, renew.resample(torch.zeros(9), chosen, normal))


# ---- noise


def test_shrink_and_perturb_are_their_formulas():
    w, z = torch.tensor([[2.0, -4.0], [0.0, 1.0]]), torch.tensor([[1.0, -1.0], [2.0, 0.0]])
    assert noise.shrink(w, 0.25).tolist() == [[1.5, -3.0], [0.0, 0.75]]
    assert noise.shrink(w, torch.tensor([[0.0], [1.0]])).tolist() == [[2.0, -4.0], [0.0, 0.0]]
    assert noise.perturb(w, z, 0.25).tolist() == [[2.5, -4.5], [1.0, 1.0]]
    assert noise.perturb(w, z, torch.tensor([[4.0], [0.0]])).tolist() == [[4.0, -6.0], [0.0, 1.0]]
    assert w.tolist() == [[2.0, -4.0], [0.0, 1.0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_noise_keeps_the_type_of_the_weights(dtype):
    w = torch.ones(3, dtype=dtype)
    assert noise.shrink(w, 0.5).dtype == noise.perturb(w, torch.ones(3), 0.25).dtype == dtype
    assert noise.perturb(w, torch.ones(3), 0.25).tolist() == [1.5] * 3


def test_perturbed_weights_gain_the_variance():
    x = noise.perturb(torch.zeros(200_000), normal(torch.arange(200_000)), 0.01)
    assert float(x.var()) == pytest.approx(0.01, rel=4 * (2 / 200_000) ** 0.5)

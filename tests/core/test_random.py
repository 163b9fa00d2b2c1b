"""The random numbers are SplitMix64, never change, and are as good across every part of the key as within a stream.

Results of every run rest on these bits: the known answers below must never be edited to make a change pass.
"""

import math

import numpy as np
import pytest
import torch
import twins_core as twins
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from regrow.core import random

# Published outputs of SplitMix64: of seed 1234567 (Rosetta Code), and of seed 0 (the tests of most ports of it).
PUBLISHED = {
    1234567: [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ],
    0: [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC, 0x1B39896A51A8749B],
}
# Frozen: what `key` folds these parts into, and the first word of each.
FROZEN = [
    ((0,), -2152535657050944081, -6411193824288604561),
    ((-1,), -1956407806741107680, 6755974106381971767),
    ((9223372036854775808,), 5196802822362493915, -8729221926730284640),
    (("",), 5323092005331881792, -5751716692036756790),
    (("swr",), -2220065106073992504, -2569364142689959975),
    (("fc.weight", "values"), 5214218599031905309, -8842241511040913355),
    ((0, "swr", 0, 2048, "fc.weight"), 1010164065713096410, 1009727326466960669),
    ((0, "swr", 0, 2048, "fc.weight", "values"), -7157068845477203175, 3758558308942432581),
    (
        (37542, "continual_backprop", 7, 1, "encoder.layers.0.linear1.weight", "ties"),
        7591997690656450341,
        4526472312200144536,
    ),
    ((1, "größe", 3), -7412895589902802885, 1506735443533194563),
]
INT64 = st.integers(-(2**63), 2**63 - 1)
PART = st.one_of(INT64, st.integers(0, 2**64 - 1), st.text(max_size=12))
TINY = 1e-4  # every outcome below is fixed by its key: a p-value under this would be a defect, not bad luck


def unsigned(words: Tensor) -> list[int]:
    return [int(w) % 2**64 for w in words.reshape(-1)]


def index(n: int) -> Tensor:
    return torch.arange(n)


# ---- the algorithm


@pytest.mark.parametrize("seed", PUBLISHED)
def test_bits_are_the_published_outputs_of_splitmix64(seed):
    assert unsigned(random.bits(seed, index(5))) == PUBLISHED[seed]
    assert unsigned(random.bits(torch.tensor(seed), index(5))) == PUBLISHED[seed]


@pytest.mark.parametrize("parts, key, first", FROZEN)
def test_known_answers_never_change(parts, key, first):
    assert random.key(*parts) == key
    assert int(random.bits(key, index(1))) == first


@given(seed=INT64, start=st.integers(0, 2**40))
@settings(deadline=None, max_examples=100)
def test_bits_agree_with_integers_of_any_size(seed, start):
    advanced = (seed + start * 0x9E3779B97F4A7C15) % 2**64
    assert unsigned(random.bits(seed, index(3) + start)) == twins.splitmix64(advanced, 3)


@given(parts=st.lists(PART, max_size=6))
@settings(deadline=None, max_examples=100)
def test_key_agrees_with_integers_of_any_size(parts):
    key = random.key(*parts)
    assert -(2**63) <= key < 2**63
    assert key % 2**64 == twins.key(*parts)


@given(
    before=st.lists(PART, max_size=3), tensor=st.lists(INT64, min_size=1, max_size=4), after=st.lists(PART, max_size=3)
)
@settings(deadline=None, max_examples=100)
def test_a_tensor_of_keys_equals_the_keys_one_by_one(before, tensor, after):
    together = random.key(*before, torch.tensor(tensor), *after)
    assert together.dtype == torch.int64
    assert together.tolist() == [random.key(*before, part, *after) for part in tensor]


def test_two_tensor_parts_broadcast():
    keys = random.key("swr", index(3)[:, None], index(4))
    assert keys.tolist() == [[random.key("swr", i, j) for j in range(4)] for i in range(3)]


def test_keys_fold_in_order_and_keep_every_part():
    keys = [
        random.key(*p) for p in [(), (0,), (0, 0), ("a",), ("a", "b"), ("b", "a"), ("ab",), (1, 2), (2, 1), ("1", 2)]
    ]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("part", [1.5, None, b"swr", np.int64(3)])
def test_a_key_of_anything_else_is_refused(part):
    with pytest.raises(TypeError, match=f"folded from int, str or int64 tensors; got {type(part).__name__}"):
        random.key(0, part)


@pytest.mark.parametrize("part", [torch.arange(2, dtype=torch.int32), torch.ones(2)])
def test_a_key_of_another_tensor_type_is_refused(part):
    with pytest.raises(TypeError, match="folded from int, str or int64 tensors"):
        random.key(0, part)


def test_keys_do_not_depend_on_the_default_device():
    members = index(2)
    with torch.device("meta"):
        keys = random.key(0, members, 5)
    assert torch.equal(keys, random.key(0, members, 5))


def test_mix_is_a_bijection_on_the_words_it_is_shown():
    words = torch.cat([index(1 << 16), -index(1 << 16) - 1, index(1 << 16) << 47])
    assert random.mix(words.unique()).unique().numel() == words.unique().numel()


# ---- the forms of a word


def test_uniform_is_the_top_24_bits():
    words = random.bits(3, index(1 << 16))
    want = [(w >> 40) / 2**24 for w in unsigned(words)]
    assert random.uniform(words).dtype == torch.float32
    assert random.uniform(words).tolist() == want


def test_uniform_reaches_both_ends_but_never_1():
    ends = random.uniform(torch.tensor([0, -1]))
    assert ends.tolist() == [0.0, 1 - 2**-24]


def test_order_is_the_top_31_bits():
    words = random.bits(3, index(1 << 16))
    assert random.order(words).dtype == torch.int32
    assert random.order(words).tolist() == [w >> 33 for w in unsigned(words)]


# ---- the same bits whichever way they are asked for


def test_any_chunking_order_and_shape_gives_the_same_bits():
    whole = random.bits(7, index(10_000))
    assert torch.equal(torch.cat([random.bits(7, part) for part in index(10_000).split(777)]), whole)
    shuffled = torch.from_numpy(np.random.default_rng(0).permutation(10_000))
    assert torch.equal(random.bits(7, shuffled), whole[shuffled])
    assert torch.equal(random.bits(7, index(10_000).view(100, 4, 25)).reshape(-1), whole)
    assert int(random.bits(7, torch.tensor(9_999))) == int(whole[-1])


def test_a_member_draws_the_same_alone_and_in_any_stack():
    keys = random.key(5, "swr", index(6), 2048, "w")
    stacked = random.bits(keys[:, None], index(1000))
    for member in range(6):
        assert torch.equal(stacked[member], random.bits(random.key(5, "swr", member, 2048, "w"), index(1000)))
    assert torch.equal(random.bits(keys[[4, 1], None], index(1000)), stacked[[4, 1]])


def forms(key: Tensor, at: Tensor) -> tuple[Tensor, ...]:
    words = random.bits(random.key(key, 9), at)
    return words, random.uniform(words), random.order(words)


def same(got: tuple[Tensor, ...], want: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


def test_same_bits_under_vmap():
    keys, at = random.key(0, index(5)), index(1001)
    for in_dims, args in [((0, None), (keys, at)), ((None, 0), (keys[0], at.view(7, 11, 13)))]:
        want = [forms(keys[i] if in_dims[0] == 0 else args[0], at if in_dims[0] == 0 else args[1][i]) for i in range(5)]
        got = torch.func.vmap(forms, in_dims)(*args)
        assert all(same(tuple(g[i] for g in got), want[i]) for i in range(5))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # inductor's own
@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
def test_same_bits_under_compile(backend):
    torch.compiler.reset()
    keys, at = random.key(0, index(5))[:, None], index(1003)
    assert same(torch.compile(forms, fullgraph=True, backend=backend)(keys, at), forms(keys, at))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_same_bits_on_cuda():
    keys, at = random.key(0, index(5))[:, None], index(100_003)
    assert same(tuple(x.cpu() for x in forms(keys.cuda(), at.cuda())), forms(keys, at))


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (7,), (8,), (2, 4, 2), (5, 5)])
def test_a_field_is_its_words_in_chunks(shape, monkeypatch):
    words = random.bits(11, torch.arange(math.prod(shape)).view(shape))
    for chunk in (1, 8, 1 << 18):
        monkeypatch.setattr(random, "CHUNK", chunk)
        for number in (random.uniform, random.order):
            got = random.field(11, torch.Size(shape), number, torch.device("cpu"))
            assert got.shape == shape and got.dtype == number(words).dtype
            assert torch.equal(got, number(words))


def test_no_generator_is_touched():
    before, before_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    forms(random.key(0, "swr", index(5))[:, None], index(1003))
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == before_numpy).all()  # type: ignore[index]


# ---- statistics


N, ZERO = 1 << 20, torch.tensor(0)
STREAMS = {  # a million words along the entries of one key, along each part of the key at one entry, and along both
    "entry": lambda: random.bits(random.key(0, "swr", 0, 1, "w", "values"), index(N)),
    "seed": lambda: random.bits(random.key(index(N), "swr", 0, 1, "w", "values"), ZERO),
    "member": lambda: random.bits(random.key(0, "swr", index(N), 1, "w", "values"), ZERO),
    "step": lambda: random.bits(random.key(0, "swr", 0, index(N), "w", "values"), ZERO),
    "every 2048th step": lambda: random.bits(random.key(0, "swr", 0, index(N) * 2048, "w", "values"), ZERO),
    "member and entry": lambda: random.bits(random.key(0, "swr", index(1024), 1, "w")[:, None], index(1024)).view(-1),
}


@pytest.mark.parametrize("name", STREAMS)
def test_every_byte_and_every_bit_is_uniform_and_independent_along(name):
    words = STREAMS[name]()
    assert words.unique().numel() == N
    for byte in words.numpy().view(np.uint8).reshape(N, 8).T:
        assert stats.chisquare(np.bincount(byte, minlength=256)).pvalue > TINY
    assert stats.kstest(random.uniform(words[: N // 4]).numpy(), "uniform").pvalue > TINY
    bits = torch.stack([words >> bit & 1 for bit in range(64)]).float() * 2 - 1
    assert bits.mean(1).abs().max() * N**0.5 < 5
    assert (bits @ bits.T / N - torch.eye(64)).abs().max() * N**0.5 < 5


ROWS, NAMES = 256, ["swr", "redo", "cbp", "shrink_perturb", "values", "coin", "ties"]
TEXTS = [f"{i}.weight" for i in range(ROWS // 2)] + [f"blocks.{i}.bias" for i in range(ROWS // 2 - len(NAMES))] + NAMES
PARTS = ["seed", "method", "member", "step", "tensor", "purpose"]


def rows_along(part: str) -> Tensor:
    """A row of words for each of 256 neighbouring values of one part, all else equal."""
    base: list[int | str] = [0, "swr", 0, 2048, "0.weight", "values"]
    at = PARTS.index(part)
    values = TEXTS if isinstance(base[at], str) else range(ROWS)
    keys = [random.key(*base[:at], value, *base[at + 1 :]) for value in values]
    return random.bits(torch.tensor(keys)[:, None], index(1 << 12))


@pytest.mark.parametrize("part", [*PARTS, "entry"])
def test_neighbours_along_any_part_of_the_key_are_independent(part):
    words = rows_along("step") if part == "entry" else rows_along(part)
    first, second = (words[:, :-1], words[:, 1:]) if part == "entry" else (words[:-1], words[1:])
    n = first.numel()
    for shift in (0, 28, 60):  # the low, a middle and the top four bits, in all pairings
        a = (first >> shift & 15).reshape(-1)
        for other in (0, 28, 60):
            pairs = torch.bincount(16 * a + (second >> other & 15).reshape(-1), minlength=256)
            assert stats.chisquare(pairs.numpy()).pvalue > TINY
    u, v = random.uniform(first).double() - 0.5, random.uniform(second).double() - 0.5
    assert abs(float((u * v).sum())) * 12 / n**0.5 < 4  # a correlation, in standard errors


@pytest.mark.parametrize("part", PARTS)
def test_rows_of_a_key_are_uncorrelated_in_every_pair(part):
    u = random.uniform(rows_along(part)).double() - 0.5
    correlation = (u @ u.T) * 12 / u.shape[1] ** 0.5  # standard normal off the diagonal
    off = correlation[*torch.triu_indices(ROWS, ROWS, 1)]
    assert off.abs().max() < 5.5
    assert stats.kstest(off.numpy(), "norm").pvalue > TINY


@pytest.mark.parametrize("of", ["key", "entry"])
def test_one_flipped_bit_flips_half_of_the_others(of):
    n = 10_000
    here = random.bits(99, index(n))  # random keys, and random entries of one key
    apply = (lambda x: random.key(x, 0)) if of == "key" else (lambda x: random.bits(4, x))
    plain = apply(here)
    shares = torch.empty(64, 64)
    for bit in range(64):
        flipped = plain ^ apply(here ^ random._signed(1 << bit))
        shares[bit] = torch.stack([(flipped >> out & 1).float().mean() for out in range(64)])
    assert (shares - 0.5).abs().max() < 5.5 * 0.5 / n**0.5
    assert abs(shares.mean() - 0.5) < 0.001

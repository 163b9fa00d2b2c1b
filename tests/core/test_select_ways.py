"""A mask is the same alone and in a stack, by the short way and the dense way, mapped and compiled."""

import pytest
import torch
from cases_core import INF, NAN, SELECTIONS, cases, stack
from hypothesis import HealthCheck, given, settings
from torch import Tensor

from regrow.core import select

every_selection = pytest.mark.parametrize("select_from", SELECTIONS.values(), ids=SELECTIONS)

# ---- members


@every_selection
@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("entries", [(1,), (7, 3), (40, 25)])
def test_a_stack_equals_its_members_alone(select_from, ties, entries):
    u, factor, coin, order = stack(6, *entries, ties=ties)
    together = select_from(u, factor, 1, coin, order)
    alone = [select_from(u[i], float(factor[i]), 0, coin[i], order[i]) for i in range(6)]
    assert torch.equal(together, torch.stack(alone))
    assert torch.equal(select_from(u[[4, 1]], factor[[4, 1]], 1, coin[[4, 1]], order[[4, 1]]), together[[4, 1]])
    by_two = select_from(
        *(x.reshape(2, 3, *x.shape[1:]) for x in (u, factor)), 2, coin.view(2, 3), order.view(2, 3, *entries)
    )
    assert torch.equal(by_two.view(together.shape), together)


@every_selection
@pytest.mark.parametrize("poison", [NAN, INF, 1e38, 0.0])
def test_a_neighbours_values_do_not_matter(select_from, poison):
    u, factor, coin, order = stack(6, 50)
    before = select_from(u, factor, 1, coin, order)
    u = u.clone()
    u[2], u[5, 7] = poison, poison
    rest = [0, 1, 3, 4]
    assert torch.equal(select_from(u, factor, 1, coin, order)[rest], before[rest])


# ---- the same masks whichever way they are computed


@given(case=cases())
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
def test_the_short_way_of_a_cpu_equals_the_dense_way(case):
    values, factor, members, uniform, order = case
    factor = factor if isinstance(factor, Tensor) else torch.full(values.shape[:members], factor, dtype=torch.float64)
    coin = torch.zeros(values.shape[:members]) if uniform is None else uniform
    for f in SELECTIONS.values():
        dense = torch.vmap(lambda u, a, c, o, f=f: f(u, a, members, c, o))(
            values[None], factor[None], coin[None], order[None]
        )
        assert torch.equal(dense[0], f(values, factor, members, coin, order))


@every_selection
def test_vmap_over_members_equals_the_stack(select_from):
    u, factor, coin, order = stack(5, 9, 11)
    want = select_from(u, factor, 1, coin, order)
    assert torch.equal(torch.vmap(lambda *x: select_from(x[0], x[1], 0, x[2], x[3]))(u, factor, coin, order), want)
    halves = [x.unsqueeze(1) for x in (u, factor, coin, order)]
    assert torch.equal(torch.vmap(lambda *x: select_from(x[0], x[1], 1, x[2], x[3]))(*halves)[:, 0], want)


def test_vmap_over_factor_and_coin_alone():
    u, factor, coin, order = stack(5, 20)
    by_factor = torch.vmap(lambda f: select.proportional(u[0], f, order=order[0]))(factor)
    assert torch.equal(by_factor, select.proportional(u[:1].expand(5, 20), factor, 1, order=order[:1].expand(5, 20)))
    by_coin = torch.vmap(lambda c: select.proportional(u[0], 0.31, uniform=c, order=order[0]))(coin)
    assert by_coin.sum(-1).unique().tolist() == [6, 7]


@every_selection
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiles_as_one_graph(select_from, backend):
    u, factor, coin, order = stack(5, 9, 11)
    torch.compiler.reset()
    compiled = torch.compile(select_from, fullgraph=True, backend=backend)
    assert torch.equal(compiled(u, factor, 1, coin, order), select_from(u, factor, 1, coin, order))
    assert torch.equal(compiled(u[0], 0.37, 0, None, order[0]), select_from(u[0], 0.37, 0, None, order[0]))

"""Dropout by keys: each member's own masks, with the mean kept; in attention too, and without one, torch's."""

import pytest
import torch
from torch.nn import functional as F

from regrow.lab.general.dropout import KeyedDropout


@pytest.mark.parametrize("form", ["plain", "causal", "bool", "float"])
def test_attention_with_dropout_is_torch_s_where_nothing_is_dropped(form):
    q, k, v = torch.randn(3, 2, 2, 5, 4, dtype=torch.float64)
    options = {
        "plain": {"scale": 0.3},
        "causal": {"is_causal": True},
        "bool": {"attn_mask": torch.ones(5, 5, dtype=torch.bool).tril(1)},
        "float": {"attn_mask": torch.randn(5, 5, dtype=torch.float64)},
    }[form]
    with KeyedDropout(0):
        own = F.scaled_dot_product_attention(q, k, v, dropout_p=1e-12, **options)
    torch.testing.assert_close(own, F.scaled_dot_product_attention(q, k, v, **options))


def test_dropout_keeps_the_mean_and_drops_its_share():
    x = torch.ones(200, 500)
    with KeyedDropout(3):
        once, again = F.dropout(x, 0.3), F.dropout(x, 0.3)
    assert (once == 0).double().mean() == pytest.approx(0.3, abs=5 * (0.3 * 0.7 / x.numel()) ** 0.5)
    assert once.unique().tolist() == [0.0, pytest.approx(1 / 0.7)]
    assert ((once == 0) & (again == 0)).double().mean() == pytest.approx(0.09, abs=0.005)
    with KeyedDropout(3):
        assert not F.dropout(x, 1.0).any() and torch.equal(F.dropout(x, 0.3, training=False), x)

"""Dropout whose masks belong to a network, not to its place in a stack.

Shapes: Q queries, K keys and values, D channels.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ...core import random


class KeyedDropout(TorchFunctionMode):
    """Within it `nn.Dropout`, and the dropout of scaled dot-product attention, draw by a key.

    x_i <- x_i * [u_i >= p] / (1 - p),  u from the counted random numbers of (key, number of the call, i)

    So the masks of a network are the same alone and in any stack, and torch's generators are not touched. Other random
    functions stay as they are.

    Args:
        key: of this forward pass; in `torch.vmap` one of each member. None: dropout is refused.

    Raises:
        ValueError: at a dropout in training mode, where there is no key.

    Example:
        >>> x = torch.ones(8)
        >>> with KeyedDropout(7):
        ...     print(F.dropout(x, 0.5))
        tensor([0., 0., 0., 0., 2., 0., 0., 2.])
    """

    def __init__(self, key: Tensor | int | None) -> None:
        super().__init__()
        self._key, self._calls = key, 0

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.dropout:
            x, p, training = _dropout_arguments(*args, **kwargs)
            return self._drop(x, p) if training and p else x
        if func is F.scaled_dot_product_attention and _drops(*args, **kwargs):
            return self._attend(*args, **kwargs)
        return func(*args, **kwargs)

    def _drop(self, x: Tensor, p: float) -> Tensor:
        if self._key is None:
            raise ValueError(
                f"`keys` must be given, one for each member, where dropout draws by them; got None and a dropout of "
                f"{p:g}: give regrow.core.random.key(seeds, step)"
            )
        self._calls += 1
        key = random.key(self._key, self._calls)
        u = random.uniform(random.bits(key, torch.arange(x.numel(), device=x.device))).view(x.shape)
        return x * (u >= p) * (1 / (1 - p) if p < 1 else 0.0)

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
    ) -> Tensor:
        """softmax(scale q k^T + mask) with dropout, times v."""
        score = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)  # (..., Q, K)
        if is_causal:
            attn_mask = torch.ones(score.shape[-2:], dtype=torch.bool, device=score.device).tril()
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            score = score.masked_fill(~attn_mask, -torch.inf)
        elif attn_mask is not None:
            score = score + attn_mask
        return self._drop(score.softmax(-1), dropout_p) @ value


def _dropout_arguments(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> tuple[Tensor, float, bool]:
    del inplace  # what is returned is what counts
    return input, p, training


def _drops(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0, *_: Any,
    enable_gqa: bool = False, **__: Any,
) -> bool:  # fmt: skip
    """Is there dropout in this attention? One head for several is left to torch, which then refuses to draw."""
    del query, key, value, attn_mask
    return dropout_p > 0 and not enable_gqa

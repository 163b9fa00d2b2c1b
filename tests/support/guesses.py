"""Modules whose weights were started anew, and the laws that are guessed for them with a warning."""

from collections.abc import Callable

import pytest
from torch import Tensor, nn

from regrow.laws import Law, init_laws

N256, N128 = 256, 128


def linear(start: Callable[[Tensor], object], *shape: int) -> nn.Linear:
    """A Linear(128, 256) whose weight was started anew, and whose bias is 0."""
    model = nn.Linear(*(shape or (N128, N256)))
    start(model.weight)
    nn.init.zeros_(model.bias)
    return model


def guessed(model: nn.Module, source: str = "auto") -> tuple[dict[str, Law], str]:
    """The laws, and the one warning that comes with them."""
    with pytest.warns(UserWarning) as caught:
        laws = init_laws(model, source)
    (warning,) = caught
    assert warning.filename == __file__
    return laws, str(warning.message)


def same(found: Law, law: Law) -> bool:
    """Equal up to the last digits of a formula."""
    numbers, wanted = found.to_dict(), law.to_dict()
    return numbers.pop("law") == wanted.pop("law") and numbers == pytest.approx(wanted, rel=1e-6)

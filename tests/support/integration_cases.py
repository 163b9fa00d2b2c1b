"""What the tests of all frameworks share: the maintainers they try, and how two runs are compared."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

import regrow

MAKERS = {
    "swr": lambda model, **more: regrow.SWR(model, every=3, factor=0.3, seed=0, track_overlap=True, **more),
    "cbp": lambda model, **more: regrow.ContinualBackprop(
        model, replacement_rate=0.1, maturity=1, decay=0.9, seed=0, **more
    ),
    "redo": lambda model, **more: regrow.ReDo(model, every=2, threshold=0.6, seed=0, **more),
    "swr-and-noise": lambda model, **more: [
        regrow.SWR(model, every=3, factor=0.3, seed=0),
        regrow.ShrinkPerturb(model, shrink=0.01, noise_variance=1e-6, seed=1),
    ],
}

EXAMPLES = {  # programs that draw a picture, and what they need
    "class_incremental": [],
    "cleanrl_ppo": ["gymnasium"],
    "hf_languages": ["transformers", "accelerate"],
    "lightning_digits": ["lightning"],
    "sb3_cartpole": ["stable_baselines3"],
}


def same(a: Any, b: Any) -> bool:
    """Are two nests of dicts, lists, tensors and numbers equal bit for bit?"""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    return type(a) is type(b) and a == b


def weights(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}

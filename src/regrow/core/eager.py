"""When may the host look at a tensor's values?"""

import numpy as np
import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor  # type: ignore[import]

# Entries worked on at once: the temporaries of a chunk stay in a core's cache, and bound the memory of a step.
CHUNK = 1 << 18


def looking_is_free(x: Tensor) -> bool:
    """True for a plain CPU tensor outside `torch.compile` and `torch.func`: reading it waits for nothing.

    There a function may take the short way (touch the selected entries only); everywhere else it
    takes the dense way. Both give the same bits, because every random number belongs to its entry.
    """
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and type(x) in (Tensor, torch.nn.Parameter)
        and not is_functorch_wrapped_tensor(x)
    )


def vmapped(x: Tensor) -> bool:
    """Is this a tensor of `torch.func`, outside `torch.compile`? Older versions of torch lack some rules for it."""
    return not torch.compiler.is_compiling() and is_functorch_wrapped_tensor(x)


# NumPy compares and counts with vector instructions: a sixth of torch's time on a CPU.


def selected(mask: Tensor) -> Tensor:
    """Indices of the True entries of a 1-D mask that may be looked at."""
    return torch.from_numpy(np.flatnonzero(mask.detach().numpy()))


def compare(test: np.ufunc, x: Tensor, y: Tensor) -> Tensor:
    """`test` of two tensors that broadcast: np.less, np.less_equal or np.equal, by NumPy where looking is free."""
    if looking_is_free(x) and looking_is_free(y) and torch.bfloat16 not in (x.dtype, y.dtype):  # NumPy has none
        return torch.from_numpy(np.asarray(test(x.detach().numpy(), y.detach().numpy())))
    return {np.less: torch.lt, np.less_equal: torch.le, np.equal: torch.eq}[test](x, y)


def count(mask: Tensor) -> Tensor:
    """Number of True entries, int64 of shape ()."""
    if looking_is_free(mask):
        return torch.tensor(np.count_nonzero(mask.detach().numpy()))
    return mask.sum() if vmapped(mask) else torch.count_nonzero(mask)  # torch 2.6 loops over the members to count

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


def selected(mask: Tensor) -> Tensor:
    """Indices of the True entries of a 1-D mask that may be looked at: NumPy finds them in a fifth of torch's time."""
    return torch.from_numpy(np.flatnonzero(mask.detach().numpy()))

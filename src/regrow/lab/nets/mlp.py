"""The network of permuted MNIST."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...laws import Law, Normal
from .initial import blank, fill, resting_laws


class MLP(nn.Module):
    """Three hidden layers of ReLU units, with or without layer norm.

    h <- norm(relu(W h + b)) three times, then W h + b; all weights from Normal(0, 2 / fan_in), all biases 0

    Args:
        hidden: units per hidden layer, 100 ("large") or 10 ("small") in the paper.
        layer_norm: normalise each hidden layer.
        ln_position: "after" the activation or "before" it.
        inputs, outputs: sizes of a row of input and of output.
        generator: source of the initial weights; None: torch's default generator.

    Raises:
        ValueError: for a size below 1 or an unknown `ln_position`.

    Example:
        >>> import torch
        >>> net = MLP(hidden=10, layer_norm=True)
        >>> sum(p.numel() for p in net.parameters())
        8240
        >>> net(torch.rand(30, 784)).shape
        torch.Size([30, 10])

    Reference:
        Hernandez-Garcia et al. 2025, section 3 and appendix B.
    """

    def __init__(
        self,
        hidden: int = 100,
        layer_norm: bool = False,
        ln_position: str = "after",
        inputs: int = 784,
        outputs: int = 10,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        for name, size in {"hidden": hidden, "inputs": inputs, "outputs": outputs}.items():
            if size < 1:
                raise ValueError(f"`{name}` must be at least 1; got {size}")
        if ln_position not in ("after", "before"):
            raise ValueError(f"`ln_position` must be 'after' or 'before' (the activation); got {ln_position!r}")
        self.ln_position = ln_position
        sizes = (inputs, hidden, hidden, hidden, outputs)
        self.fc1, self.fc2, self.fc3, self.out = (blank(nn.Linear, i, o) for i, o in pairwise(sizes))
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(hidden) if layer_norm else nn.Identity() for _ in range(3))
        self.reset_parameters(generator)

    def init_laws(self) -> dict[str, Law]:
        """The law of every parameter, by name."""
        laws = resting_laws(self)
        for name, linear in {"fc1": self.fc1, "fc2": self.fc2, "fc3": self.fc3, "out": self.out}.items():
            laws[f"{name}.weight"] = Normal(0.0, (2 / linear.in_features) ** 0.5)
        return laws

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw every parameter anew from its law."""
        fill(self, self.init_laws(), generator)

    def forward(self, x: Tensor) -> Tensor:
        for linear, norm in ((self.fc1, self.norm1), (self.fc2, self.norm2), (self.fc3, self.norm3)):
            x = norm(F.relu(linear(x))) if self.ln_position == "after" else F.relu(norm(linear(x)))
        return self.out(x)

"""Layer norm whose decay pulls the scale to 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from .laws import Law


class ReparamLayerNorm(nn.LayerNorm):
    """Layer norm with scale 1 + weight, both `weight` and `bias` 0 at first.

    y = (x - mean(x)) / sqrt(var(x) + eps) * (1 + weight) + bias

    Weight decay shrinks the scale of an ordinary layer norm to 0, and this one's to 1. In half precision the sum
    1 + weight is taken in float32, where a small weight is not rounded away.

    Args:
        normalized_shape: shape of the trailing dimensions that are normalised; an int for the last one alone.
        eps: > 0, added to the variance.
        elementwise_affine: False for a norm without `weight` and `bias`.
        bias: False for a norm without `bias`.
        device, dtype: of the parameters.

    Example:
        >>> import torch
        >>> norm = ReparamLayerNorm(2)
        >>> norm(torch.tensor([1.0, 3.0])).detach()
        tensor([-1.0000,  1.0000])
        >>> norm.weight.detach()
        tensor([0., 0.])

    Reference:
        Hernandez-Garcia et al. 2025, section 5.
    """

    def __init__(
        self,
        normalized_shape: int | list[int] | torch.Size,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(normalized_shape, eps, elementwise_affine, bias, device, dtype)
        self.register_forward_pre_hook(_keep_own_forward)

    def reset_parameters(self) -> None:
        """Set `weight` and `bias` to 0."""
        for parameter in self.parameters(recurse=False):
            nn.init.zeros_(parameter)

    def init_laws(self) -> dict[str, Law]:
        """The laws of `weight` and `bias`: 0."""
        from .laws import Constant

        return {name: Constant(0.0) for name, _ in self.named_parameters(recurse=False)}

    def forward(self, input: Tensor) -> Tensor:
        if self.weight is None or self.weight.dtype.itemsize > 2:
            weight = None if self.weight is None else 1 + self.weight
            return F.layer_norm(input, self.normalized_shape, weight, self.bias, self.eps)
        bias = None if self.bias is None else self.bias.float()
        y = F.layer_norm(input.float(), self.normalized_shape, 1 + self.weight.float(), bias, self.eps)
        return y.to(input.dtype)


def _keep_own_forward(module: nn.Module, args: tuple) -> None:
    """A hook that does nothing: torch's fused inference kernel for transformer layers keeps off modules with hooks.

    Without one it would read `weight` itself and take it for the scale, never calling `forward`.
    """


def reparametrize_layer_norms(model: nn.Module) -> int:
    """Turn every `nn.LayerNorm` of a model into a `ReparamLayerNorm`, in place.

    weight <- weight - 1, on the same Parameter objects

    The model computes what it did before (exactly where a scale is in [0.5, 2], to rounding elsewhere) and an
    optimizer that holds its parameters stays right: the gradients, and so its moments, are those of before. What
    differs is decay, which now pulls the scales to 1. Subclasses of `nn.LayerNorm` are left alone, so a second call
    converts nothing. Checkpoints written before the conversion hold the scales themselves: load them first.

    Args:
        model: any module, itself a layer norm or not.

    Returns:
        How many modules were converted.

    Raises:
        ValueError: where the scale of a layer norm is also used by something that is not converted.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4))
        >>> x = torch.randn(2, 4)
        >>> before = model(x)
        >>> reparametrize_layer_norms(model)
        1
        >>> torch.equal(model(x), before)
        True

    Reference:
        Hernandez-Garcia et al. 2025, section 5.
    """
    norms = [module for module in model.modules() if type(module) is nn.LayerNorm]
    scales = {id(norm.weight): norm.weight for norm in norms if norm.weight is not None}
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(prefix, recurse=False):
            if id(parameter) in scales and (type(module) is not nn.LayerNorm or parameter is not module.weight):
                raise ValueError(
                    f"a layer norm's scale must be its own to become 1 + weight; {name!r} ({type(module).__name__}) "
                    "shares it: untie them first"
                )
    with torch.no_grad():
        for scale in scales.values():
            scale -= 1
    for norm in norms:
        norm.__class__ = ReparamLayerNorm
        norm.register_forward_pre_hook(_keep_own_forward)
    return len(norms)

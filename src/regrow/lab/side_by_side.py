"""Small networks trained at once: each keeps its own weights, and together they cost little more than one.

Shapes: M networks, P inputs, B images a batch, O outputs.
"""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from .nets import MLP

_LAYERS = ("fc1", "fc2", "fc3", "out")


class SideBySide(nn.ModuleDict):
    """Groups of equal MLPs whose parameters are slices of stacked tensors.

    A network of 32 units a layer spends its time on the overhead of each call, so M of them are computed as one:
    forward and backward see one tensor of M weight matrices, an optimizer or a maintainer sees slices of it, which
    share its memory, gradients included. A group is one slice, with an axis of networks in front: `nets["l2"]` is a
    `ParameterDict` of `fc1_weight`, `fc1_bias`, … A group named in `apart` stays a list of networks, each with
    parameters of its own, as a maintainer needs that decides within each tensor. Each of these also passes its hidden
    activations through its own norm modules where anyone has hooked them, as unit methods do.

    Do not move, copy or cast it: that would part the slices from the stack.

    Args:
        groups: {name: networks}, all of one shape, without layer norm. Those of the groups in `apart` are kept, and
            their parameters become slices; of the others the values are taken.
        apart: names of groups.

    Example:
        >>> import torch
        >>> nets = SideBySide({"a": [MLP(hidden=4, inputs=6)], "b": [MLP(hidden=4, inputs=6)]}, apart=["b"])
        >>> [name for name, _ in nets.named_parameters()][7:9]
        ['a.out_bias', 'b.0.fc1.weight']
        >>> x = torch.rand(2, 6, 16)
        >>> nets(x).shape
        torch.Size([2, 10, 16])
        >>> torch.allclose(nets(x)[1], nets["b"][0](x[1].T).T, atol=1e-6)
        True
    """

    def __init__(self, groups: Mapping[str, Sequence[MLP]], apart: Collection[str] = ()) -> None:
        super().__init__(
            {name: nn.ModuleList(nets) if name in apart else nn.ParameterDict() for name, nets in groups.items()}
        )
        self._layers = [(self._stack(groups, layer, "weight"), self._stack(groups, layer, "bias")) for layer in _LAYERS]
        networks = [(name, net) for name, nets in groups.items() for net in nets]
        self._apart = [(place, net) for place, (name, net) in enumerate(networks) if name in apart]

    def _stack(self, groups: Mapping[str, Sequence[MLP]], layer: str, kind: str) -> Tensor:
        """One leaf tensor of which the parameters become the slices, their gradients slices of its gradient."""
        parameters = {name: [getattr(getattr(net, layer), kind) for net in nets] for name, nets in groups.items()}
        values = torch.cat([torch.stack(of_group).detach() for of_group in parameters.values()])
        slopes = torch.zeros_like(values)
        start = 0
        for name, of_group in parameters.items():
            group, stop = self[name], start + len(of_group)
            if isinstance(group, nn.ParameterDict):
                group[f"{layer}_{kind}"] = nn.Parameter(values[start:stop])
                group[f"{layer}_{kind}"].grad = slopes[start:stop]
            else:
                for parameter, value, slope in zip(of_group, values[start:stop], slopes[start:stop], strict=True):
                    parameter.data, parameter.grad = value, slope
            start = stop
        if kind == "bias":
            values, slopes = values.unsqueeze(2), slopes.unsqueeze(2)  # as the forward needs it: (M, O, 1)
        values.requires_grad_().grad = slopes
        return values

    def forward(self, x: Tensor) -> Tensor:
        """Logits (M, O, B) of inputs (M, P, B), networks in the order of the groups."""
        for i, (weight, bias) in enumerate(self._layers):
            if i > 0:
                x = x.relu()
                self._show(f"norm{i}", x)
            x = torch.baddbmm(bias, weight, x)
        return x

    def _show(self, norm: str, h: Tensor) -> None:
        """Let each network that is apart see its own activations (B, O)."""
        watched = [(place, module) for place, net in self._apart if (module := getattr(net, norm))._forward_pre_hooks]
        if watched:
            activations = h.detach().mT.unbind(0)
            for place, module in watched:
                module(activations[place])

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Zero all gradients in place; None would part them from the stack."""
        if set_to_none:
            raise ValueError("`set_to_none` must be False here: the gradients are slices of stacked tensors")
        for layer in self._layers:
            for stacked in layer:
                assert stacked.grad is not None
                stacked.grad.zero_()

"""Can modules be stacked? Only where they are of one structure."""

from torch import nn

from ...names import walk


def check_alike(modules: list[nn.Module]) -> None:
    """Refuse modules that are not of one structure."""
    if not modules or not all(isinstance(module, nn.Module) for module in modules):
        kinds = ", ".join(type(module).__name__ for module in modules) or "none"
        raise ValueError(f"`modules` must be at least one nn.Module; got {kinds}: give one for each member")
    first = _structure(modules[0])
    if not any(p.requires_grad for p in modules[0].parameters()):
        raise ValueError(
            f"`modules` must have parameters to train; got {type(modules[0]).__name__} without: unfreeze some"
        )
    if {entry.name for entry in walk(modules[0])} != {name for name, _ in modules[0].named_parameters()}:
        raise ValueError("`modules` must not be wrapped; got one that is: give what the wrapper wraps")
    for i, module in enumerate(modules[1:], 1):
        for name in (*first, *(other := _structure(module))):
            if first.get(name) != other.get(name):
                raise ValueError(
                    f"`modules` must be of one structure; member {i} differs from member 0 in {name!r}: "
                    f"{other.get(name, 'nothing')} and {first.get(name, 'nothing')}: build all with the same arguments"
                )


def _structure(module: nn.Module) -> dict[str, str]:
    """All that must agree, in words, by name."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    parts = {name: f"{part}" for name, part in module.named_modules() if not any(part.children())}
    return parts | {name: f"{t.dtype} {tuple(t.shape)}" for name, t in tensors.items()}

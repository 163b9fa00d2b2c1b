"""Give whole parameters fresh values, once: a head, the last layers, all of a model."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import LBFGS, Optimizer

from . import check
from .core import draw, random
from .laws import Law, Orthogonal, init_laws, resolve_laws
from .maintain.distributed import agreed_seed
from .names import Entry, descend, matches, walk
from .optimizer_state import reset_optimizer_state

_CHUNK = 1 << 22  # entries of a parameter that are hashed at a time


@torch.no_grad()
def reinitialize(
    model: nn.Module,
    only: str | Sequence[str] | None = None,
    *,
    laws: Mapping[str, Law | str] | nn.Module | str | None = None,
    share: float = 1.0,
    optimizer: Optimizer | None = None,
    seed: int | None = None,
) -> None:
    """Pull parameters to fresh values, or replace them: all of a model, its last layers, its head.

    theta <- (1 - share) * theta + share * draw,  draw from the law that theta was initialised from

    With `share=1` that is a reset; with less, shrink and perturb as Ash & Adams have it, once, its noise a fresh
    initialisation. Parameters with a constant law (norms, zero biases) move to it by the same share. Running
    statistics of batch norms move to mean 0 and variance 1 where all trainable parameters of the norm are covered (of
    a norm without parameters, where `only` names it). Other buffers, gradients and frozen parameters are left alone, a
    tied parameter changes once, and the padding row of an embedding is drawn as 0. A whole matrix with an `Orthogonal`
    law is drawn orthogonal. `share=0` changes nothing.

    The model is assumed to be trained, so its values do not show its laws: those of the module types are used. Where
    it was initialised in another way, take the laws when it is fresh, `laws = regrow.init_laws(model)`, and give them.

    Args:
        model: any module, wrapped or not; changed in place.
        only: name patterns of the parameters to change (`"head"`, a module's name, is all in it); None for all.
        laws: {name pattern: law}, as `init_laws` of the fresh model gives them; a fresh module of the same names; or a
            source, see `init_laws`. What is not given, and None, is "modules".
        share: of the fresh draw, in [0, 1].
        optimizer: holds changed parameters; what it remembers of them is forgotten, see `reset_optimizer_state`.
        seed: keys the draws, >= 0. None: `torch.initial_seed()` and the present values, so that every call draws
            anew; rank 0's on all ranks. torch's generator is not touched.

    Raises:
        ValueError, TypeError: for an argument out of its range, a pattern that matches nothing, no trainable parameter
            among those named, a complex or quantised one, one whose law is unknown, or an optimizer that holds
            none of them. Nothing has changed then.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
        >>> opt = torch.optim.Adam(model.parameters())
        >>> for task in range(3):
        ...     if task > 0:  # shrink and perturb at the boundary
        ...         reinitialize(model, share=0.4, optimizer=opt)
        ...     for _ in range(5):
        ...         opt.zero_grad()
        ...         model(torch.randn(4, 8)).square().mean().backward()
        ...         opt.step()
        >>> reinitialize(model, "2", optimizer=opt, seed=0)  # a new head
        >>> model[2].bias.data
        tensor([ 0.1075, -0.2258])

    Reference:
        Ash & Adams, "On warm-starting neural network training", NeurIPS 2020. Nikishin et al., "The primacy bias in
        deep reinforcement learning", ICML 2022: resets of the last layers.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` must be a torch.nn.Module; got {type(model).__name__}")
    share = check.number("share", share, 0, 1, "share of the fresh draw")
    if seed is not None:
        check.whole("seed", seed, 0, "random numbers are keyed by it")
    patterns = check.patterns("only", only)
    entries = walk(model)
    chosen = _chosen(model, entries, patterns)
    known = _laws(chosen, laws, entries)
    held = _held(optimizer, chosen)
    if share == 0:
        return
    seed = agreed_seed(_fingerprint(chosen)) if seed is None else seed
    for entry in chosen:
        _mix(entry.parameter, _fresh(entry, known[entry.name], seed), share)
    for norm in _covered_norms(model, {id(entry.parameter) for entry in chosen}, patterns):
        _mix(norm.running_mean, torch.zeros(()), share)
        _mix(norm.running_var, torch.ones(()), share)
        if share == 1 and norm.num_batches_tracked is not None:
            norm.num_batches_tracked.zero_()
    if optimizer is not None:
        reset_optimizer_state(optimizer, None if isinstance(optimizer, LBFGS) else held)


def _chosen(model: nn.Module, entries: list[Entry], patterns: tuple[str, ...]) -> list[Entry]:
    """The trainable parameters that the patterns name."""
    names = [home.name for entry in entries for home in (entry, *entry.aliases)]
    buffers = [f"{name}.running_mean".lstrip(".") for name, _ in _norms(model)]
    for pattern in patterns:
        if not any(matches(pattern, name) for name in names + buffers):
            shown = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
            raise ValueError(f"`only`: pattern {pattern!r} matches no parameter; names are {shown}")
    chosen = [e for e in entries if not patterns or any(e.matches(pattern) for pattern in patterns)]
    chosen = [e for e in chosen if e.parameter.requires_grad]
    if not chosen and not list(_covered_norms(model, set(), patterns)):
        raise ValueError("no trainable parameter to reinitialize: check `only` and requires_grad")
    for entry in chosen:
        _refuse(entry)
    return [e for e in chosen if e.parameter.numel()]


def _refuse(entry: Entry) -> None:
    w, name = entry.parameter, repr(entry.name)
    if is_lazy(w) or w.is_meta:
        raise ValueError(f"{name} has no values yet: run one batch through its lazy module, or move it off meta first")
    if w.is_complex() or w.element_size() < 2:
        kind = "complex" if w.is_complex() else "quantised"
        raise TypeError(f"{name} is {kind} ({w.dtype}) and no law is defined for it: leave it out with `only`")
    if hasattr(w, "placements"):
        raise TypeError(f"{name} is a shard (DTensor): reinitialize the model before it is sharded")


def _laws(chosen: list[Entry], laws: Any, entries: list[Entry]) -> dict[str, Law]:
    """The law of each parameter; what is not given comes from the modules."""
    if isinstance(laws, nn.Module):
        laws = init_laws(laws)
    if isinstance(laws, Mapping):
        laws = {**laws, **({} if "*" in laws else {"*": "modules"})}
    try:
        return resolve_laws(chosen, "modules" if laws is None else laws, among=entries)
    except ValueError as error:  # what follows the first two remedies is for those who can leave a parameter out
        raise ValueError(str(error).partition("; or, for a pre-trained")[0]) from None


def _held(optimizer: Optimizer | None, chosen: list[Entry]) -> Sequence[Tensor]:
    """Those of the parameters that the optimizer holds."""
    if optimizer is None:
        return []
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"`optimizer` must be a torch.optim.Optimizer or None; got {type(optimizer).__name__}")
    ids = {id(p) for group in optimizer.param_groups for p in group["params"]}
    held = [e.parameter for e in chosen if id(e.parameter) in ids]
    if chosen and not held:
        kind = type(optimizer).__name__
        raise ValueError(f"the {kind} holds none of the reinitialized parameters: is it this model's?")
    return held


def _fresh(entry: Entry, law: Law, seed: int) -> Tensor:
    """A draw for every entry of a parameter, float32, or one number where the law is constant."""
    w = entry.parameter
    homes = (home.module for home in (entry, *entry.aliases))
    padding = [m.padding_idx for m in homes if isinstance(m, (nn.Embedding, nn.EmbeddingBag))]
    padding = [row for row in padding if row is not None]
    key = random.key(seed, "reinitialize", entry.name)
    if law.std == 0:
        fresh = torch.full(w.shape if padding else (), law.mean, device=w.device)
    elif isinstance(law, Orthogonal) and w.dim() > 1 and law.size == max(len(w), w[0].numel()):
        fresh = _orthogonal(w.shape, key, law.gain).to(w.device)
    else:
        fresh = random.field(key, w.shape, law.draw, w.device)
    for row in padding:
        fresh[row] = 0
    return fresh


def _orthogonal(shape: torch.Size, key: int | Tensor, gain: float) -> Tensor:
    """A random orthogonal matrix as `torch.nn.init.orthogonal_` makes it, on the CPU in float64 and rounded."""
    device = torch.device("cpu")
    normal = random.field(key, shape, lambda words: draw.from_table(words, draw.normal_table(device)), device)
    flat = normal.double().flatten(1)
    q, r = torch.linalg.qr(flat if len(flat) >= flat.shape[1] else flat.T)
    q = q * r.diagonal().sign()
    return (gain * (q if len(flat) >= flat.shape[1] else q.T)).float().reshape(shape)


def _mix(w: Tensor, fresh: Tensor, share: float) -> None:
    """w <- (1 - share) w + share fresh, rounded once; with a share of 1 whatever w was is gone, a NaN too."""
    fresh = fresh.to(w.device)
    if share < 1:
        wide = torch.promote_types(w.dtype, torch.float32)
        fresh = w.to(wide) * (1 - share) + fresh.to(wide) * share
    w.copy_(fresh.expand(w.shape))


def _norms(model: nn.Module) -> list[tuple[str, Any]]:
    """Canonical name and module of each norm with running statistics."""
    norms = []
    for path, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.running_mean is not None:
            *_, (components, _) = descend(model, path.split(".") if path else [])
            norms.append((".".join(components), module))
    return norms


def _covered_norms(model: nn.Module, changed: set[int], patterns: tuple[str, ...]) -> list[Any]:
    """The norms whose running statistics are to change."""
    covered = []
    for name, norm in _norms(model):
        own = [p for p in norm.parameters(recurse=False) if p is not None]
        trainable = [p for p in own if p.requires_grad]
        named = not patterns or any(matches(pattern, f"{name}.running_mean".lstrip(".")) for pattern in patterns)
        if all(id(p) in changed for p in trainable) if trainable else named and not own:
            covered.append(norm)
    return covered


def _fingerprint(entries: list[Entry]) -> int:
    """A seed from torch's initial one and the present values."""
    parts: list[int] = []
    for entry in entries:
        flat = entry.parameter.detach().reshape(-1)
        bits = flat.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[flat.element_size()])
        total = 0
        for start in range(0, len(bits), _CHUNK):
            words = bits[start : start + _CHUNK].long()
            place = torch.arange(start, start + len(words), device=words.device)
            total += int(random.mix(words + (place << 32)).sum())
        parts.append(total)
    key = random.key(torch.initial_seed(), "reinitialize", *parts)
    assert isinstance(key, int)
    return key & ((1 << 63) - 1)

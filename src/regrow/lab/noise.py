"""Shrink and perturb, for members of a stack.

Shapes: C members, k of them perturbed, n entries of one member.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ..core import draw, random
from ..core.eager import CHUNK
from ..core.noise import Normals, parts, stretches
from . import kernels

_ENTRIES = 1 << 25  # normals drawn at once on a device


class CompiledNormals(Normals):
    """The same numbers in a third of the time.

    Example:
        >>> both = Normals(), CompiledNormals()
        >>> for normals in both:
        ...     normals.seed(0)
        >>> both[0].fill(torch.empty(6)).equal(both[1].fill(torch.empty(6)))
        True
    """

    def __init__(self) -> None:
        super().__init__()
        self._state = self._bits.state["state"]["state"]

    def seed(self, key: int) -> None:
        super().seed(key)
        self._state = self._bits.state["state"]["state"]

    def fill(self, out: Tensor) -> Tensor:
        for part in out.split(CHUNK):
            kernels.fill_normals(self._state, stretches(out.dtype).numpy(), part.numpy())
        return out


class ShrinkAndPerturb:
    """w <- (1 - decay) w + noise, as `regrow.ShrinkPerturb` does it for a single network.

    The gradient step and the noise are both added, so the noise may come first, right after the shrinking. On a CPU
    every update draws a stream of `Normals`, in the order of the parameters; elsewhere every entry has a counter-based
    random number of its own.

    Args:
        parameters: name -> (C, ...).
        decays: share of every weight that each member loses at an update.
        variances: of each member's noise, 0 for none.
        seeds: of each member.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        decays: Sequence[float],
        variances: Sequence[float],
        seeds: Sequence[int],
    ) -> None:
        self._parameters = list(parameters.values())
        self._decays, self._deviations = list(decays), [math.sqrt(v) for v in variances]
        self._noisy = [i for i, v in enumerate(variances) if v]
        runs = itertools.groupby(range(len(self._decays)), self._decays.__getitem__)  # equal neighbours: one call
        shrinking = ((decay, list(run)) for decay, run in runs if decay)
        self._shrinking = [(1 - decay, [w[run[0] : run[-1] + 1] for w in self._parameters]) for decay, run in shrinking]
        like = self._parameters[0]
        self._seeds = list(seeds)
        noisy_seeds = {seeds[i] for i in self._noisy}
        self._paired = {seed: [i for i in self._noisy if seeds[i] == seed] for seed in noisy_seeds}
        self._sizes = [w[0].numel() for w in self._parameters]
        self._host = like.device.type == "cpu"
        self._normals = CompiledNormals() if all(kernels.supports(w) for w in self._parameters) else Normals()
        self._noise = list(self._pieces()) if self._noisy and self._host else []
        if not self._host:
            self._keep = 1 - torch.tensor(self._decays, dtype=like.dtype, device=like.device)
            self._places = torch.tensor(self._noisy, dtype=torch.int64, device=like.device)
            self._scales = torch.tensor([self._deviations[i] for i in self._noisy], device=like.device).unsqueeze(1)
            self._keys_of = torch.tensor([self._seeds[i] for i in self._noisy], dtype=torch.int64, device=like.device)

    def __call__(self, step: int | Tensor) -> None:
        """Act at update `step`: an int, or on a device a tensor, which a captured CUDA graph can count up."""
        if self._host:
            for keep, weights in self._shrinking:
                torch._foreach_mul_(weights, keep)  # type: ignore[attr-defined]  # one call, since overhead dominates
            for seed, members in self._paired.items():
                self._perturb(seed, members, int(step))
            return
        if any(self._decays):
            for w in self._parameters:
                w.mul_(self._keep.view(-1, *[1] * (w.dim() - 1)))
        if self._noisy:
            self._perturb_all(step)

    def _pieces(self) -> Iterator[tuple[Tensor, list[Tensor], dict[int, list[Tensor]]]]:
        """Buffers for the normals of consecutive parameters, views of them by parameter, each member's parameters."""
        rest = iter(self._parameters)
        for part in parts([w[0] for w in self._parameters]):
            weights = list(itertools.islice(rest, len(part)))
            drawn = torch.cat([w.flatten() for w in part])
            views = [z.view_as(w) for z, w in zip(drawn.split([w.numel() for w in part]), part, strict=True)]
            yield drawn, views, {i: [w[i] for w in weights] for i in self._noisy}

    def _perturb(self, seed: int, members: Sequence[int], step: int) -> None:
        """Perturb the members of one seed by the same normals, drawn once."""
        key = random.key(seed, "shrink-perturb", 0, step)
        assert isinstance(key, int)
        self._normals.seed(key)
        for drawn, noise, own in self._noise:
            self._normals.fill(drawn)
            for i in members:
                torch._foreach_add_(own[i], noise, alpha=self._deviations[i])  # type: ignore[attr-defined]

    def _perturb_all(self, step: int | Tensor) -> None:
        start = 0
        keys = random.key(random.key(self._keys_of, "shrink-perturb", 0, step), 0)
        assert isinstance(keys, Tensor)
        for w, size in zip(self._parameters, self._sizes, strict=True):
            index = torch.arange(start, start + size, device=w.device)
            for rows in _chunks(len(self._noisy), max(1, _ENTRIES // size)):
                z = draw.from_table(random.bits(keys[rows].unsqueeze(1), index), draw.normal_table(w.device))
                w.index_add_(0, self._places[rows], (z * self._scales[rows]).view(-1, *w.shape[1:]).to(w.dtype))
            start += size


def _chunks(count: int, size: int) -> Iterable[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))

"""What a run of vision transformers may change: how large, how long, how exact."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from ... import check
from ..nets import ViT

PAPERS_EPOCHS, PAPERS_IMAGES = 100, 450  # of a task; of a class
_CHANNELS = 32  # of an attention head


@dataclass(frozen=True)
class Options:
    """Size, length and precision of a run of vision transformers; the defaults are the paper's.

    Raises:
        TypeError, ValueError: for a value out of its range.
    """

    precision: Literal["fp32", "tf32", "bf16", "fp64"] = "fp32"
    """precision of matrix products; tf32 needs CUDA, bf16 is mixed precision"""
    epochs_per_task: int = PAPERS_EPOCHS
    """passes over the images of a task"""
    images_per_class: int | None = None
    """training images of each class; default: all 450"""
    width: int = 384
    """channels per token, shared equally by attention heads of 32 or more; each MLP has 4 x width hidden units"""
    depth: int = 8
    """number of blocks"""
    flush_below: float = 0.0
    """weights of smaller magnitude become 0"""
    clip_at: float = math.inf
    """largest magnitude of a weight"""
    compiled: bool = False
    """compile the forward pass; needs CUDA"""
    graphs: bool = False
    """replay each update as a CUDA graph"""
    matched: bool = False
    """for a smaller run: choose decay and CBP's rate to change weights between tasks and renew units as the paper's"""

    def __post_init__(self) -> None:
        check.choice("precision", self.precision, get_args(Options.__annotations__["precision"]))
        check.whole("epochs_per_task", self.epochs_per_task, 1, "passes over the images of a task")
        check.whole("width", self.width, 1, "channels of a token")
        check.whole("depth", self.depth, 1, "blocks")
        check.number("flush_below", self.flush_below, 0, math.inf, "weights of smaller magnitude become 0")
        if not self.clip_at > self.flush_below:
            raise ValueError(
                f"`clip_at` must be above `flush_below` ({self.flush_below:g}), or no magnitude lies between them; got "
                f"{self.clip_at!r}"
            )

    def check_device(self, device: torch.device) -> None:
        """Refuse options that the device does not support."""
        if device.type != "cuda":
            needs = {"precision": self.precision == "tf32", "compiled": self.compiled, "graphs": self.graphs}
            for name, needed in needs.items():
                if needed:
                    value = getattr(self, name)
                    raise ValueError(f"`{name}` {value!r} needs a CUDA device; got {device.type}: leave it out")

    @property
    def dtype(self) -> torch.dtype:
        """The type of the parameters."""
        return torch.float64 if self.precision == "fp64" else torch.float32

    def network(self, norm: str, dropout: float, generator: torch.Generator) -> ViT:
        """A new network of this size.

        Example:
            >>> net = Options(width=96, depth=2).network("standard", 0.1, torch.Generator())
            >>> net.blocks[0].attention.heads, net.mlp
            (3, 384)
        """
        heads = next(h for h in range(max(1, self.width // _CHANNELS), 0, -1) if self.width % h == 0)
        return ViT(
            norm=norm, width=self.width, depth=self.depth, heads=heads, mlp=4 * self.width, dropout=dropout,
            generator=generator,
        )  # fmt: skip

    def ratio(self) -> float:
        """Updates per task, divided by the paper's."""
        images = self.images_per_class or PAPERS_IMAGES
        return self.epochs_per_task * images / (PAPERS_EPOCHS * PAPERS_IMAGES)

    def mixed(self, device: torch.device) -> torch.autocast:
        """Within it, a forward pass has this precision; use a new one for each pass: it caches rounded weights."""
        # A graph must not find casts of weights that were made outside of it.
        on = self.precision == "bf16"
        return torch.autocast(device.type, torch.bfloat16, enabled=on, cache_enabled=on and not self.graphs)

    @contextmanager
    def products(self) -> Iterator[None]:
        """Within it, products of 32-bit numbers have this precision."""
        before = torch.get_float32_matmul_precision()
        try:
            torch.set_float32_matmul_precision("high" if self.precision == "tf32" else "highest")
            yield
        finally:
            torch.set_float32_matmul_precision(before)

"""What a run of vision transformers may change: how large, how long, how exact."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from ... import check
from ..nets import ViT

PRECISIONS = ("fp32", "tf32", "bf16", "fp64")
PAPERS_EPOCHS, PAPERS_IMAGES = 100, 450  # of a task; of a class
_CHANNELS = 32  # of an attention head


@dataclass(frozen=True)
class Options:
    """The paper's, where nothing is said.

    precision: "fp32"; "tf32", products of fewer bits, CUDA only; "bf16", mixed; "fp64".
    epochs_per_task: >= 1.
    images_per_class: training images; None: all.
    width, depth: of the network. A head has 32 channels or a few more, an MLP four times the width.
    flush_below, clip_at: guards against underflow and overflow, see `regrow.lab.vit.optimizer.guard_`.
    compiled: compile the forward pass.
    graphs: replay an update's forward and backward pass as one CUDA graph.

    Raises:
        TypeError, ValueError: for a value out of its range.
    """

    precision: str = "fp32"
    epochs_per_task: int = PAPERS_EPOCHS
    images_per_class: int | None = None
    width: int = 384
    depth: int = 8
    flush_below: float = 0.0
    clip_at: float = math.inf
    compiled: bool = False
    graphs: bool = False

    def __post_init__(self) -> None:
        check.choice("precision", self.precision, PRECISIONS)
        check.whole("epochs_per_task", self.epochs_per_task, 1, "passes over the images of a task")
        check.whole("width", self.width, 1, "channels of a token")
        check.whole("depth", self.depth, 1, "blocks")
        check.number("flush_below", self.flush_below, 0, math.inf, "weights of smaller magnitude become 0")
        if not self.clip_at > self.flush_below:
            raise ValueError(
                f"`clip_at` must be above `flush_below` ({self.flush_below:g}), the largest magnitude of a weight; got "
                f"{self.clip_at!r}"
            )

    def check_device(self, device: torch.device) -> None:
        """Refuse what the device cannot do."""
        if device.type != "cuda":
            needs = {"precision": self.precision == "tf32", "compiled": self.compiled, "graphs": self.graphs}
            for name, needed in needs.items():
                if needed:
                    value = getattr(self, name)
                    raise ValueError(f"`{name}` {value!r} needs a CUDA device; got {device.type}: leave it out")

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters."""
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
        """Updates a task divided by the paper's."""
        images = self.images_per_class or PAPERS_IMAGES
        return self.epochs_per_task * images / (PAPERS_EPOCHS * PAPERS_IMAGES)

    def mixed(self, device: torch.device) -> torch.autocast:
        """Within it, a forward pass is of this precision; one a pass, for it remembers the weights it has rounded."""
        # A graph must not find casts of weights that were made outside of it.
        on = self.precision == "bf16"
        return torch.autocast(device.type, torch.bfloat16, enabled=on, cache_enabled=on and not self.graphs)

    @contextmanager
    def products(self) -> Iterator[None]:
        """Within it, products of 32-bit numbers are of this precision."""
        before = torch.get_float32_matmul_precision()
        try:
            torch.set_float32_matmul_precision("high" if self.precision == "tf32" else "highest")
            yield
        finally:
            torch.set_float32_matmul_precision(before)

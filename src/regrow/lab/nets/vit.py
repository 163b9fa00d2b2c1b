"""The vision transformer of class-incremental CIFAR-100.

Shapes: B images, T tokens (patches and the class token), C width, H heads.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...laws import Law, Normal
from ...laws.torch_defaults import symmetric
from ...nn import ReparamLayerNorm
from .initial import blank, fill, resting_laws

# The authors' reparametrized norm has an epsilon of its own.
NORMS = {"standard": (nn.LayerNorm, 1e-5), "reparam": (ReparamLayerNorm, 1e-6)}


class Attention(nn.Module):
    """Multi-head self-attention, the projections of queries, keys and values packed into one."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = blank(nn.Linear, width, 3 * width)
        self.out = blank(nn.Linear, width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)  # (B, H, T, C / H)
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and MLP, each behind a norm and added to the residual stream."""

    def __init__(self, width: int, heads: int, mlp: int, dropout: float, norm: str) -> None:
        super().__init__()
        kind, eps = NORMS[norm]
        self.norm1 = kind(width, eps)
        self.attention = Attention(width, heads, dropout)
        self.dropout = nn.Dropout(dropout)
        self.norm2 = kind(width, eps)
        self.mlp = nn.Sequential(
            OrderedDict(
                fc1=blank(nn.Linear, width, mlp),
                gelu=nn.GELU(),
                dropout1=nn.Dropout(dropout),
                fc2=blank(nn.Linear, mlp, width),
                dropout2=nn.Dropout(dropout),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Vision transformer: patches, class token, pre-norm blocks, linear head.

    x <- [class; patches] + position;  x <- x + attention(norm(x));  x <- x + mlp(norm(x));  y = head(norm(x)[class])

    Args:
        norm: "standard", scale 1 at first, or "reparam", scale 1 + weight (`regrow.ReparamLayerNorm`).
        image_size: side of the square images, in pixels; a multiple of `patch_size`.
        patch_size: side of a patch, in pixels.
        width: size of a token; a multiple of `heads`.
        depth: number of blocks.
        heads: attention heads in a block.
        mlp: hidden units of a block's MLP.
        classes: outputs.
        dropout: in [0, 1], of the first tokens, the attention's probabilities and output, and both MLP layers.
        generator: source of the initial weights; None: torch's default generator.

    Raises:
        ValueError: for a size below 1 or that does not divide, a `dropout` outside [0, 1] or an unknown `norm`.

    Example:
        >>> import torch
        >>> net = ViT(width=48, depth=2, heads=3, mlp=96)
        >>> net(torch.rand(5, 3, 32, 32)).shape
        torch.Size([5, 100])

    Reference:
        Hernandez-Garcia et al. 2025, section 5 and appendix D; Dosovitskiy et al. 2021.
    """

    def __init__(
        self,
        *,
        norm: str = "standard",
        image_size: int = 32,
        patch_size: int = 4,
        width: int = 384,
        depth: int = 8,
        heads: int = 12,
        mlp: int = 1536,
        classes: int = 100,
        dropout: float = 0.1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        sizes = {"image_size": image_size, "patch_size": patch_size, "width": width, "depth": depth, "heads": heads}
        _check(norm, dropout, {**sizes, "mlp": mlp, "classes": classes})
        self.width, self.mlp = width, mlp
        kind, eps = NORMS[norm]
        self.patch = blank(nn.Conv2d, 3, width, patch_size, stride=patch_size)
        self.class_token = nn.Parameter(torch.empty(1, 1, width))
        self.position = nn.Parameter(torch.empty(1, (image_size // patch_size) ** 2 + 1, width))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(Block(width, heads, mlp, dropout, norm) for _ in range(depth)))
        self.norm = kind(width, eps)
        self.head = blank(nn.Linear, width, classes)
        self.reset_parameters(generator)

    def init_laws(self) -> dict[str, Law]:
        """The law of every parameter, by name: the table of appendix D."""
        laws = resting_laws(self)
        laws["patch.weight"] = Normal(0.0, self.patch.weight[0].numel() ** -0.5)
        laws["position"] = Normal(0.0, 0.02)
        wide, narrow = symmetric(self.width**-0.5), symmetric(self.mlp**-0.5)
        block = {
            "attention.qkv.weight": symmetric((6 / (self.width + 3 * self.width)) ** 0.5),  # Glorot, of the packed one
            "attention.out.weight": wide,
            "mlp.fc1.weight": wide,
            "mlp.fc1.bias": wide,
            "mlp.fc2.weight": narrow,
            "mlp.fc2.bias": narrow,
        }
        for i in range(len(self.blocks)):
            laws |= {f"blocks.{i}.{name}": law for name, law in block.items()}
        return laws

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw every parameter anew from its law."""
        fill(self, self.init_laws(), generator)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch(images).flatten(2).transpose(1, 2)  # (B, T - 1, C)
        x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1) + self.position
        x = self.blocks(self.dropout(x))
        return self.head(self.norm(x)[:, 0])


def _check(norm: str, dropout: float, sizes: dict[str, int]) -> None:
    if norm not in NORMS:
        raise ValueError(f"`norm` must be {' or '.join(map(repr, NORMS))}; got {norm!r}")
    if not 0 <= dropout <= 1:
        raise ValueError(f"`dropout` must be in [0, 1], a share of the entries; got {dropout}")
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"`{name}` must be at least 1; got {size}")
    for whole, part in (("image_size", "patch_size"), ("width", "heads")):
        if sizes[whole] % sizes[part]:
            raise ValueError(f"`{whole}` must be a multiple of `{part}`; got {sizes[whole]} and {sizes[part]}")

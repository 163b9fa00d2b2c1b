"""The networks and batches on which the library and the general path are compared."""

import torch
from torch import Tensor, nn

CLASSES, TOKENS = 3, 20


def conv_net() -> nn.Sequential:
    """Convolutions, both batch norms and none of layer norm's; a bias before a norm would move by rounding alone."""
    return nn.Sequential(
        nn.Conv2d(1, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 4, 2), nn.ReLU(),
        nn.Flatten(), nn.Linear(16, 7), nn.Tanh(), nn.Linear(7, CLASSES),
    )  # fmt: skip


def normed_mlp() -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 9, bias=False), nn.BatchNorm1d(9), nn.ReLU(),
        nn.Linear(9, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, CLASSES),
    )  # fmt: skip


def vit(dropout: float = 0.0) -> nn.Module:
    from regrow.lab.nets import ViT

    return ViT(image_size=8, patch_size=4, width=8, depth=2, heads=2, mlp=12, classes=CLASSES, dropout=dropout)


class Tokens(nn.Module):
    """An embedding, one block of torch's own transformer, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, 16)
        self.block = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.embedding(x)).mean(1))


NETS = {"conv": conv_net, "mlp": normed_mlp, "vit": vit, "dropout": lambda: vit(0.3), "tokens": Tokens}


def made(net: str, seed: int) -> nn.Module:
    """A network of that kind, its initial weights by torch's own generator."""
    torch.manual_seed(seed)
    return NETS[net]()


def stream(net: str, seed: int, updates: int, batch: int) -> tuple[Tensor, Tensor]:
    """Inputs and labels, update by update: (updates, batch, ...)."""
    generator = torch.Generator().manual_seed(100 + seed)
    if net == "tokens":
        x = torch.randint(TOKENS - 2, (updates, batch, 6), generator=generator)  # the last two are never seen
    else:
        x = torch.randn(updates, batch, 3 if net in ("vit", "dropout") else 1, 8, 8, generator=generator)
    return x, torch.randint(CLASSES, (updates, batch), generator=generator)

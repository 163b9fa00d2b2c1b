"""Models of every kind whose units are looked for, each with an input: `name -> (model, args)`."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regrow import ReparamLayerNorm
from regrow.lab.nets import MLP, ViT
from regrow.wiring import Found


class Functional(nn.Module):
    """Activations as a function and as a method, a norm on either side."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3, self.fc4 = (nn.Linear(i, o) for i, o in ((5, 8), (8, 7), (7, 6), (6, 3)))
        self.bn, self.ln = nn.BatchNorm1d(8), ReparamLayerNorm(7)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.fc1(x)), inplace=True)
        x = self.ln(self.fc2(x).relu())
        x = 0.5 * F.dropout(torch.tanh(self.fc3(x)), 0.1, self.training)
        return self.fc4(x)


class LeNet(nn.Module):
    """Convolution, pooling, flatten, linear."""

    def __init__(self, how: str = "flatten") -> None:
        super().__init__()
        self.how = how
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 3)
        self.fc1, self.fc2 = nn.Linear(24, 10), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.avg_pool2d(F.relu(self.conv2(x)), (2, 2))
        if self.how == "flatten":
            x = torch.flatten(x, 1)
        elif self.how == "view":
            x = x.view(x.size(0), -1)
        elif self.how == "reshape":
            x = x.reshape(x.shape[0], 24)
        else:
            x = x.view(-1, 24)
        return self.fc2(self.fc1(x).relu_())


class Block(nn.Module):
    """A basic block of a residual network; one ReLU module serves twice."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels + 1, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels + 1)
        self.conv2 = nn.Conv2d(channels + 1, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x
        return self.relu(out)


class ResNet(nn.Module):
    """A stem, two blocks, global average pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.blocks = nn.Sequential(Block(4), Block(4))
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.flatten(self.pool(self.blocks(self.stem(x))), 1))


class GlobalPool(nn.Module):
    """Strided convolutions, group norm, mean over positions."""

    def __init__(self, how: str = "mean") -> None:
        super().__init__()
        self.how = how
        self.conv1, self.conv2 = nn.Conv2d(2, 6, 3), nn.Conv2d(6, 4, 3)
        self.norm, self.act, self.pool = nn.GroupNorm(2, 6), nn.SiLU(), nn.AdaptiveAvgPool2d((1, 1))
        self.drop, self.head = nn.Dropout2d(0.1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(F.gelu(self.norm(self.conv1(x))))
        x = self.act(self.conv2(x))
        x = x.mean((2, 3)) if self.how == "mean" else self.pool(x).squeeze(-1).squeeze(-1)
        return self.head(x)


class Gated(nn.Module):
    """SwiGLU from two layers, from one packed layer, and `nn.GLU` over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(4, 6, bias=False), nn.Linear(4, 6), nn.Linear(6, 4)
        self.packed, self.down2 = nn.Linear(4, 10), nn.Linear(5, 4)
        self.conv, self.glu, self.conv2 = nn.Conv1d(4, 8, 1), nn.GLU(dim=1), nn.Conv1d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.down(F.silu(self.gate(x)) * self.up(x))
        gate, up = self.packed(x).chunk(2, dim=-1)
        x = x + self.down2(F.gelu(gate) * up)
        return self.conv2(self.glu(self.conv(x.transpose(1, 2))))


class TimmMlp(nn.Module):
    """fc1, act, drop1, norm, fc2, drop2, as in timm."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.act, self.drop1 = nn.Linear(4, 8), nn.GELU(), nn.Dropout(0.1)
        self.norm, self.fc2, self.drop2 = nn.LayerNorm(8), nn.Linear(8, 4), nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop2(self.fc2(self.norm(self.drop1(self.act(self.fc1(x))))))


class ActorCritic(nn.Module):
    """A trunk with two readers."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 6), nn.Tanh())
        self.actor = nn.Sequential(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 2))
        self.critic = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.trunk(x)
        return self.actor(z), self.critic(z)


class CReLU(nn.Module):
    """Both halves of each unit: it owns two separate columns; and two layers side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.a, self.b, self.out = (
            nn.Linear(i, o) for i, o in ((5, 6), (12, 4), (4, 3), (4, 5), (8, 2))
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        x = self.fc2(torch.cat([F.relu(x), F.relu(-x)], dim=-1)).sigmoid()
        return self.out(torch.cat((F.relu(self.a(x)), self.b(x).tanh()), -1))


class Tokens(nn.Module):
    """Hidden units at every token, all tokens flattened for the next layer: columns of a unit lie apart."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.norm, self.fc2 = nn.Linear(4, 5), nn.BatchNorm1d(15), nn.Linear(15, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.norm(F.relu(self.fc1(x)).flatten(1)))


class Branches(nn.Module):
    """Convolutions side by side, one half of a third; resized, normalised with channels last, flattened either way."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(2, 6, 1)
        self.mid, self.norm = nn.Conv2d(10, 5, 1), nn.LayerNorm(5)
        self.up, self.last = nn.Upsample(scale_factor=2), nn.Conv2d(5, 3, 3)
        self.whole, self.out, self.side = nn.LayerNorm((3, 2, 2)), nn.Linear(12, 2), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        c1, c2 = F.relu(self.c(x)).split(3, dim=1)
        x = torch.cat([F.relu(self.a(x)), self.b(x).sigmoid(), c1], 1)
        x = F.relu(self.mid(x)).permute(0, 2, 3, 1)
        x = self.last(self.up(self.norm(x).permute(0, 3, 1, 2)))
        x = self.whole(F.relu(x)).permute(0, 2, 3, 1).flatten(1)
        return self.out(x), self.side(c2.flatten(2).mean(-1))


class Volumes(nn.Module):
    """One and three dimensions of space, concatenated maps flattened together."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.fc = nn.Conv3d(1, 2, 2), nn.Conv3d(1, 3, 2), nn.Linear(40, 4)
        self.one, self.pool, self.two = nn.Conv1d(1, 3, 2), nn.AdaptiveMaxPool1d(2), nn.Linear(6, 2)
        self.act = nn.LeakyReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.a(x), self.b(x)], 1)
        x = torch.tanh(self.fc(self.act(x).flatten(1)))
        return self.two(self.pool(F.elu(self.one(x.unsqueeze(1)))).flatten(1))


class Written(nn.Module):
    """Activations written out, with in-place arithmetic."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.prelu, self.fc2, self.fc3 = nn.Linear(4, 6), nn.PReLU(6), nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.fc1(x))
        x = self.fc2(x)
        x = 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.04 * torch.pow(x, 3.0))))
        x *= 2
        return self.fc3(x)


class Untraceable(nn.Module):
    """Branches on values; its MLP can be followed by itself, its own layers cannot."""

    def __init__(self, call: bool = True) -> None:
        super().__init__()
        self.first, self.last, self.call = nn.Linear(4, 4), nn.Linear(4, 2), call
        self.mlp = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        if x.sum() > 1e6:
            x = -x
        if self.call:
            x = self.mlp(x)
        else:
            for layer in self.mlp:  # skips around what looks like a plain sequence
                x = x + layer(x) if layer is self.mlp[2] else layer(x)
        return self.last(x)


class Around(nn.Module):
    """Can be followed but for one part."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.part, self.fc2, self.fc3 = nn.Linear(4, 6), Untraceable(), nn.Linear(2, 5), nn.Linear(5, 2)
        self.back = nn.Linear(6, 4)

    def forward(self, x: Tensor, scale: float = 1.0, mask: Tensor | None = None) -> Tensor:
        assert x.dim() == 2
        if mask is not None:
            x = x * mask
        x = self.part(self.back(F.relu(self.fc1(x))) * scale)
        return self.fc3(F.relu(self.fc2(x)))


def _sequential() -> nn.Module:
    inner = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.ReLU(), nn.Sequential(nn.Dropout(0.1), nn.Linear(8, 6)))
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.LayerNorm(8), inner, nn.GELU(), nn.RMSNorm(6), nn.Linear(6, 3))


def _sequential_conv() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.BatchNorm2d(3), nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 1), nn.InstanceNorm2d(4, affine=True), nn.ReLU(),
        nn.ConvTranspose2d(4, 2, 2), nn.ELU(), nn.Flatten(), nn.BatchNorm1d(32),
        nn.Linear(32, 6), nn.PReLU(), nn.Linear(6, 2),
    )  # fmt: skip


def _encoder(**options: object) -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True, **options)  # type: ignore[arg-type]
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


class _Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerDecoderLayer(8, 2, 12, dropout=0.0, activation="gelu", batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, x.flip(1))


class SelfAttention(nn.Module):
    """One `nn.MultiheadAttention` with all its options."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, **options)  # type: ignore[arg-type]
        self.values = nn.Linear(8, self.attention.vdim)

    def forward(self, x: Tensor) -> Tensor:
        key = x if self.attention.kdim == 8 else x[..., : self.attention.kdim]
        return self.attention(x, key, self.values(x), need_weights=False)[0]


def _images(channels: int, side: int) -> tuple[Tensor]:
    return (torch.randn(3, channels, side, side),)


ZOO: dict[str, Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]] = {
    "sequential": lambda: (_sequential(), (torch.randn(4, 5),)),
    "sequential conv": lambda: (_sequential_conv(), _images(1, 9)),
    "functional": lambda: (Functional(), (torch.randn(4, 5),)),
    "lenet flatten": lambda: (LeNet(), _images(1, 14)),
    "lenet view": lambda: (LeNet("view"), _images(1, 14)),
    "lenet reshape": lambda: (LeNet("reshape"), _images(1, 14)),
    "resnet": lambda: (ResNet(), _images(3, 8)),
    "global mean": lambda: (GlobalPool(), _images(2, 8)),
    "global pool": lambda: (GlobalPool("pool"), _images(2, 8)),
    "gated": lambda: (Gated(), (torch.randn(2, 3, 4),)),
    "timm mlp": lambda: (nn.Sequential(TimmMlp(), TimmMlp()), (torch.randn(2, 3, 4),)),
    "actor-critic": lambda: (ActorCritic(), (torch.randn(4, 5),)),
    "crelu": lambda: (CReLU(), (torch.randn(4, 5),)),
    "tokens": lambda: (Tokens(), (torch.randn(2, 3, 4),)),
    "branches": lambda: (Branches(), _images(2, 2)),
    "volumes": lambda: (Volumes(), (torch.randn(2, 1, 3, 3, 3),)),
    "written": lambda: (Written(), (torch.randn(3, 4),)),
    "encoder": lambda: (_encoder(), (torch.randn(2, 3, 8),)),
    "encoder gelu": lambda: (_encoder(activation=nn.GELU(), norm_first=True, bias=False), (torch.randn(2, 3, 8),)),
    "decoder": lambda: (_Decoder(), (torch.randn(2, 3, 8),)),
    "mlp": lambda: (MLP(10, inputs=6, outputs=3), (torch.randn(4, 6),)),
    "mlp norm after": lambda: (MLP(10, True, inputs=6, outputs=3), (torch.randn(4, 6),)),
    "mlp norm before": lambda: (MLP(10, True, "before", inputs=6, outputs=3), (torch.randn(4, 6),)),
    "vit": lambda: (
        ViT(norm="reparam", width=12, depth=2, heads=3, mlp=16, classes=5, image_size=8, dropout=0.0), _images(3, 8),
    ),
}  # fmt: skip

ATTENTION: dict[str, Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]] = {
    "packed": lambda: (SelfAttention(), (torch.randn(2, 3, 8),)),
    "separate": lambda: (SelfAttention(kdim=6, vdim=5, add_bias_kv=True, add_zero_attn=True), (torch.randn(2, 3, 8),)),
    "encoder": ZOO["encoder"],
    "encoder without biases": ZOO["encoder gelu"],
    "decoder": ZOO["decoder"],
    "vit": ZOO["vit"],
}


def hugging_face() -> dict[str, Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]]:
    """Tiny models with random weights; needs transformers."""
    import transformers as hf

    tokens = (torch.arange(10).view(2, 5),)
    ids = {"vocab_size": 11, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    small = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
    kinds = {
        "llama": (hf.LlamaConfig, hf.LlamaForCausalLM),
        "mistral": (hf.MistralConfig, hf.MistralForCausalLM),
        "qwen2": (hf.Qwen2Config, hf.Qwen2ForCausalLM),
    }
    zoo: dict[str, Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]] = {
        f"{name} {heads}": lambda c=config, m=model, h=heads: (m(c(num_key_value_heads=h, **small, **ids)), tokens)
        for name, (config, model) in kinds.items()
        for heads in (4, 2, 1)
    }
    zoo["gpt2"] = lambda: (
        hf.GPT2LMHeadModel(hf.GPT2Config(n_embd=16, n_layer=2, n_head=4, n_positions=8, **ids)),
        tokens,
    )
    zoo["vit"] = lambda: (
        hf.ViTForImageClassification(hf.ViTConfig(image_size=8, patch_size=4, **small)),
        (torch.randn(2, 3, 8, 8),),
    )
    return zoo


class Net(nn.Module):
    """Four square layers and whatever else, used by the forward that a test gives."""

    def __init__(self, forward, **extra: nn.Module) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(6, 6) for _ in range(4))
        for name, module in extra.items():
            self.add_module(name, module)
        self._forward = forward

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self, x)


def layers(found: Found) -> list[str]:
    return [units.weight_in[0].name.rpartition(".")[0] for units in found]

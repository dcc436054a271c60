"""Modules for the export of training graphs: what a plan can express and what it cannot."""

from __future__ import annotations

import torch
from torch import nn

torch.set_num_threads(1)  # the tests run side by side


class Grouped(nn.Module):
    """Groups, depthwise, dilation, strides that leave rows unread, transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, 2, 1)
        self.b = nn.Conv2d(8, 12, (3, 2), (2, 3), (1, 0), groups=4)
        self.up = nn.ConvTranspose2d(12, 6, 3, 2, 1, output_padding=1)
        self.c = nn.Conv2d(6, 12, 3, padding=2, dilation=2, groups=6, bias=False)
        self.big = nn.Conv2d(12, 5, 8, padding=4)
        self.fc = nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.a(x))
        x = self.up(torch.tanh(self.b(x)))
        return self.fc(self.big(torch.relu(self.c(x))).mean((2, 3)))


class Normed(nn.Module):
    """Every norm, with and without weights; pools with padding; tied weights; a constant buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 6, 5, padding=2)
        self.bn = nn.BatchNorm1d(6, momentum=0.3)
        self.plain = nn.BatchNorm1d(6, affine=False)
        self.gn = nn.GroupNorm(3, 6)
        self.ln = nn.LayerNorm([6, 6])
        self.fc = nn.Linear(6, 6)
        self.register_buffer("scale", torch.linspace(0.5, 2.0, 6)[:, None])
        self.frozen = nn.Parameter(torch.full((6,), 0.3), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.plain(torch.relu_(self.bn(self.conv(x))) * self.scale)
        x = nn.functional.max_pool1d(self.gn(x), 3, 2, 1)
        x = nn.functional.avg_pool1d(self.ln(x), 3, 2, 1).mean(2) + self.frozen
        y = 2.0 * torch.relu(self.fc(x))
        y += x
        return self.fc(y)  # the same weights again


class Activated(nn.Module):
    """One activation after another."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 24)
        self.acts = nn.Sequential(
            nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Hardswish(), nn.PReLU(), nn.ELU(),
            nn.Softplus(), nn.Hardsigmoid(), nn.ReLU6(), nn.LeakyReLU(0.2), nn.Tanh(),
            nn.Sigmoid(), nn.Mish(), nn.SELU(),
        )  # fmt: skip
        self.out = nn.Linear(24, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.acts(3 * self.fc(x)))


class Scaled(nn.Module):
    """Nearest up-sampling, concatenation, adaptive pooling, a gate, 2-D dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.gate = nn.Linear(4, 4)
        self.drop = nn.Dropout2d(0.4)
        self.fc = nn.Linear(28, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.a(x))
        x = x * torch.sigmoid(self.gate(x.mean((2, 3))))[:, :, None, None]
        x = nn.functional.interpolate(self.drop(x), scale_factor=2, mode="nearest")
        x = torch.cat([nn.functional.adaptive_avg_pool2d(x, (2, 3)), x[:, :, :2, :1]], 3)
        return self.fc(x[:, :, :, :3].flatten(1).repeat(1, 2)[:, :28])


class Recurrent(nn.Module):
    """A GRU over a window."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 12, batch_first=True)
        self.fc = nn.Linear(12, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.gru(x.transpose(1, 2))[0][:, -1])


class Transformer(nn.Module):
    """Tokens, positions, one encoder layer with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 16)
        self.position = nn.Parameter(0.1 * torch.randn(7, 16))
        self.encoder = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.fc = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embedding(x.long()) + self.position
        return self.fc(self.encoder(x).mean(1))


class Causal(nn.Module):
    """Attention of torch's own with a causal mask; vectors alone before the batch-norm."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(4, 24)
        self.fc = nn.Linear(8, 3)
        self.bn = nn.BatchNorm1d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        x = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.bn(self.fc(x[:, -1]))


MODULES = {
    Grouped: (3, 17, 16),
    Normed: (2, 11),
    Activated: (5,),
    Scaled: (3, 4, 6),
    Recurrent: (3, 6),
    Transformer: (7,),
    Causal: (5, 4),
}

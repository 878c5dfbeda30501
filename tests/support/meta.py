"""DINOv2 as its authors wrote it: names of their state dict, their rule for positions. Written from its definition."""

import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        batch, length, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        return self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, width))


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * self.gamma


class Mlp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = Attention(width, heads), Mlp(width)
        self.ls1, self.ls2 = Scale(width), Scale(width)

    def forward(self, x):
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class Patches(nn.Module):
    def __init__(self, width, patch):
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, stride=patch)


class Dino(nn.Module):
    """Blocks' outputs through the last norm, without the class token."""

    def __init__(self, width, depth, heads, *, patch=14, side=37):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, side * side + 1, width))
        self.patch_embed = Patches(width, patch)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def positions(self, rows, cols):
        count = self.pos_embed.shape[1] - 1
        side = int(count**0.5)
        if (rows, cols) == (side, side):
            return self.pos_embed
        square = self.pos_embed[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        factors = (float(rows + 0.1) / side, float(cols + 0.1) / side)
        grown = F.interpolate(square, scale_factor=factors, mode="bicubic")
        assert grown.shape[-2:] == (rows, cols)
        return torch.cat([self.pos_embed[:, :1], grown.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)

    def forward(self, images, taps):
        maps = self.patch_embed.proj(images)
        x = torch.cat([self.cls_token.expand(len(images), -1, -1), maps.flatten(2).transpose(1, 2)], dim=1)
        x = x + self.positions(*maps.shape[-2:])
        kept = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in taps:
                kept.append(self.norm(x)[:, 1:].transpose(1, 2).unflatten(2, maps.shape[-2:]))
        return kept


def drawn(width, depth, heads, **sizes):
    """One with random numbers everywhere."""
    torch.manual_seed(21)
    net = Dino(width, depth, heads, **sizes).eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("gamma") or ("norm" in name and name.endswith("weight")):
                parameter.uniform_(0.5, 1.5)
            elif parameter.ndim > 1 and "proj" not in name and "fc" not in name and "qkv" not in name:
                parameter.normal_(0, 0.5)
            elif parameter.ndim == 1:
                parameter.normal_(0, 0.1)
    return net

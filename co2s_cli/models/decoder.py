"""The guided decoder: similarity of pixels and class vectors → spatial pyramid → attention over classes → upsampling.

Each class of each image is one item of the batch (B·N, …), so that no parameter depends on the number of classes. The
skips do not depend on the class: they are convolved once for each image and added by broadcasting. As convolution is
linear, that equals convolving the concatenation, up to rounding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from co2s_cli.models.manifest import DecoderSpec
from co2s_cli.models.taps import Taps

POOL = 4
"""Side in patches of the pooling cells in which the classes attend to one another."""


class GuidedDecoder(nn.Module):
    """Logits (B, N, 4g, 4g) from taps on a g × g grid and N class vectors."""

    def __init__(self, spec: DecoderSpec, *, skip_width: int, guidance_width: int) -> None:
        super().__init__()
        width = spec.width
        self.embed = nn.Conv2d(1, width, 7, padding=3)
        self.pyramid = Pyramid(width)
        self.text = nn.Linear(guidance_width, width)
        self.mixers = nn.ModuleList(ClassMixer(width) for _ in range(2))
        self.skips = nn.ModuleList(nn.Conv2d(skip_width, channels, 3, padding=1) for channels in spec.skips)
        first, second = spec.ups
        self.up1 = UpBlock(width, first, skip=spec.skips[0])
        self.up2 = UpBlock(first, second, skip=spec.skips[1])
        self.head = nn.Conv2d(second, 1, 3, padding=1)
        self.normed_skips = spec.normed_skips
        self.scale = None if spec.similarity is None else nn.Parameter(torch.tensor(spec.similarity))

    def forward(self, taps: Taps, vectors: Tensor) -> Tensor:
        """Logits (B, N, 4g, 4g); `vectors` (N, width) are the class vectors."""
        vectors = F.normalize(vectors, dim=-1)
        batch, classes = taps.semantic.shape[0], len(vectors)
        similarity = torch.einsum("bdhw,nd->bnhw", F.normalize(taps.semantic, dim=1), vectors.to(taps.semantic.dtype))
        x = self.embed(similarity.flatten(0, 1).unsqueeze(1))
        x = x + self.pyramid(x)
        words = F.relu(self.text(vectors))
        for mixer in self.mixers:
            x = x + mixer(x, words, batch)
        deep, shallow = (over_channels(tap) if self.normed_skips else tap for tap in (taps.deep, taps.shallow))
        x = self.up1(x, F.relu(self.skips[0](deep)))
        x = self.up2(x, F.relu(self.skips[1](shallow)))
        logits: Tensor = self.head(x).reshape(batch, classes, *x.shape[-2:])
        if self.scale is None:
            return logits
        return logits + self.scale * F.interpolate(similarity, size=logits.shape[-2:], mode="bilinear")


def over_channels(tap: Tensor) -> Tensor:
    """The map (B, channels, h, w), normalised to mean 0 and variance 1 over the channels at each position."""
    return F.layer_norm(tap.movedim(1, -1), tap.shape[1:2]).movedim(-1, 1)


class Pyramid(nn.Module):
    """Atrous spatial pyramid: one 1×1, three dilated 3×3 and one global branch, projected back to `width`."""

    DILATIONS = (6, 12, 18)

    def __init__(self, width: int) -> None:
        super().__init__()
        point = nn.Conv2d(width, width, 1, bias=False)
        dilated = [nn.Conv2d(width, width, 3, padding=d, dilation=d, bias=False) for d in self.DILATIONS]
        self.convs = nn.ModuleList([point, *dilated, nn.Conv2d(width, width, 1, bias=False)])
        self.norms = nn.ModuleList(group_norm(width) for _ in self.convs)
        self.project = nn.Conv2d(width * len(self.convs), width, 1, bias=False)
        self.project_norm = group_norm(width)

    def forward(self, x: Tensor) -> Tensor:
        """Context features of each position, of the shape of `x`."""
        *local_branches, global_branch = zip(self.convs, self.norms, strict=True)
        local_features = torch.cat([F.relu(norm(dilated(conv, x))) for conv, norm in local_branches], dim=1)
        conv, norm = global_branch
        global_features = F.relu(norm(conv(x.mean(dim=(-2, -1), keepdim=True))))
        split = local_features.shape[1]
        weight = self.project.weight
        # the global features are constant over the map: they are projected once and added everywhere
        mixed = F.conv2d(local_features, weight[:, :split]) + F.conv2d(global_features, weight[:, split:])
        return F.relu(self.project_norm(mixed))


def dilated(conv: nn.Module, x: Tensor) -> Tensor:
    """`conv(x)` for a dilated 3 × 3 kernel; if the dilation exceeds the map, only the kernel's centre is computed."""
    if min(conv.dilation) >= max(x.shape[-2:]):  # type: ignore[arg-type]
        return F.conv2d(x, conv.weight[:, :, 1:2, 1:2])  # type: ignore[index]
    return conv(x)  # type: ignore[no-any-return]


class ClassMixer(nn.Module):
    """A transformer layer over classes instead of space: at each pooled position the classes attend to one another."""

    HEADS = 4

    def __init__(self, width: int) -> None:
        super().__init__()
        both = 2 * width
        self.width = width
        self.norm1 = nn.LayerNorm(both)
        self.attention = nn.MultiheadAttention(both, self.HEADS, batch_first=True)
        self.norm2 = nn.LayerNorm(both)
        self.expand = nn.Linear(both, 2 * both)
        self.reduce = nn.Linear(2 * both, both)

    def forward(self, x: Tensor, words: Tensor, batch: int) -> Tensor:
        """The mixed features (B·N, width, g, g) for `x` of this shape and `words` (N, width), the class embeddings."""
        size, classes = x.shape[-2:], len(words)
        pooled = F.avg_pool2d(x, POOL)
        rows, cols = pooled.shape[-2:]
        cells = pooled.reshape(batch, classes, self.width, rows, cols).permute(0, 3, 4, 1, 2).flatten(0, 2)
        tokens = torch.cat([cells, words.to(cells.dtype).expand(cells.shape[0], -1, -1)], dim=-1)
        normed = self.norm1(tokens)
        tokens = tokens + self.attention(normed, normed, normed, need_weights=False)[0]
        hidden = F.gelu(self.expand(self.norm2(tokens)))
        # the layer returns only the visual half of the tokens, so that only its rows of the last matrix are computed
        half = slice(None, self.width)
        visual = tokens[..., half] + F.linear(hidden, self.reduce.weight[half], self.reduce.bias[half])
        pooled = visual.reshape(batch, rows, cols, classes, self.width).permute(0, 3, 4, 1, 2).flatten(0, 1)
        return F.interpolate(pooled, size=size, mode="bilinear", align_corners=True)


class UpBlock(nn.Module):
    """Doubles the resolution: a transposed convolution, then two 3×3 convolutions of its output and a skip."""

    def __init__(self, width: int, out: int, *, skip: int) -> None:
        super().__init__()
        self.up_width = width - skip
        self.up = nn.ConvTranspose2d(width, self.up_width, 2, stride=2)
        self.conv1 = nn.Conv2d(width, out, 3, padding=1, bias=False)
        self.norm1 = group_norm(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.norm2 = group_norm(out)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B·N, width, g, g) and the skip (B, channels, h, w) of any size → (B·N, out, 2g, 2g)."""
        x = self.up(x)
        skip = F.interpolate(skip, size=x.shape[-2:], mode="bilinear", align_corners=True)
        weight = self.conv1.weight
        by_class = F.conv2d(x, weight[:, : self.up_width], padding=1)
        by_image = F.conv2d(skip, weight[:, self.up_width :], padding=1)
        x = (by_class.view(skip.shape[0], -1, *by_class.shape[1:]) + by_image.unsqueeze(1)).flatten(0, 1)
        x = F.relu(self.norm1(x))
        return F.relu(self.norm2(self.conv2(x)))


def group_norm(width: int) -> nn.GroupNorm:
    """A group norm with groups of 16 channels, as published; one group if there are fewer than 16 channels."""
    return nn.GroupNorm(max(width // 16, 1), width)

"""The DPT head against a plain one written from its definition, and its published size."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from co2s_cli.models.dpt import DptHead
from co2s_cli.models.manifest import HeadSpec

SMALL = HeadSpec(features=64, widths=(48, 96, 192, 384))
TINY = HeadSpec(features=8, widths=(4, 6, 8, 10))
DEAD_UNIT = 2 * (64 * 64 * 9 + 64)
"""The residual unit of the coarsest block that the released head holds and never runs."""


def oracle(head: DptHead, taps, patch: int):
    """The released head step by step, in its own order, with the weights of `head`."""
    state = dict(head.named_parameters())

    def conv(name, x, **options):
        return F.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), **options)

    def unit(name, x):
        return x + conv(f"{name}.conv2", F.relu(conv(f"{name}.conv1", F.relu(x), padding=1)), padding=1)

    layers = [conv(f"project.{index}", tap) for index, tap in enumerate(taps)]
    for index, stride in ((0, 4), (1, 2)):
        weight, bias = state[f"rescale.{index}.weight"], state[f"rescale.{index}.bias"]
        layers[index] = F.conv_transpose2d(layers[index], weight, bias, stride=stride)
    layers[3] = conv("rescale.3", layers[3], stride=2, padding=1)
    layers = [conv(f"lateral.{index}", layer, padding=1) for index, layer in enumerate(layers)]
    path = None
    for index in (3, 2, 1, 0):
        path = layers[index] if path is None else path + unit(f"blocks.{index}.enter", layers[index])
        path = unit(f"blocks.{index}.refine", path)
        if index:
            path = F.interpolate(path, layers[index - 1].shape[-2:], mode="bilinear", align_corners=True)
        else:
            path = F.interpolate(path, scale_factor=2, mode="bilinear", align_corners=True)
        path = conv(f"blocks.{index}.out", path)
    logits = conv("out.2", F.relu(conv("out.0", path, padding=1)))
    size = [patch * side for side in taps[0].shape[-2:]]
    return F.interpolate(logits, size, mode="bilinear", align_corners=True)


def drawn(*grid, width=12, batch=2):
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(batch, width, *grid, generator=generator) for _ in range(4)]


@pytest.fixture
def head():
    torch.manual_seed(6)
    return DptHead(TINY, width=12, classes=5)


@pytest.mark.parametrize("grid", [(8, 8), (5, 9), (37, 37), (1, 1), (2, 1)])
@torch.no_grad()
def test_it_says_what_the_released_head_says(head, grid):
    taps = drawn(*grid)
    logits = head(taps)
    assert logits.shape == (2, 5, 8 * grid[0], 8 * grid[1])
    full = F.interpolate(logits, [14 * side for side in grid], mode="bilinear", align_corners=True)
    wanted = oracle(head, taps, 14)
    assert wanted.abs().max() > 0.1
    torch.testing.assert_close(full, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("classes", "published"), [(6, 2_738_086), (7, 2_738_151)])
def test_it_has_the_published_size_less_the_unit_that_never_runs(classes, published):
    with torch.device("meta"):
        head = DptHead(SMALL, width=384, classes=classes)
    assert sum(p.numel() for p in head.parameters()) == published - DEAD_UNIT
    assert not [module for module in head.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.Dropout)]


def test_every_weight_learns(head):
    (head(drawn(6, 4)) * torch.randn(2, 5, 48, 32)).mean().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in head.parameters())

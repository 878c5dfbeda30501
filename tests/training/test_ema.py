"""The running mean of the weights."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from co2s_cli.training.ema import Ema, kept_share


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def changed(net, seed):
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn_like(parameter))
    net.train()(torch.randn(2, 3, 8, 8))
    return net


def test_the_share_rises_to_the_decay():
    shares = [kept_share(step, 0.996) for step in range(300)]
    assert shares[:3] == pytest.approx([0, 1 / 2, 2 / 3])
    assert shares[248] < 0.996
    assert shares[249:] == pytest.approx([0.996] * 51)


def test_after_the_first_step_both_are_equal_to_the_last_bit():
    net = model()
    ema = Ema(net, 0.996)
    ema.update_parameters(changed(net, 1))
    for name, value in net.state_dict().items():
        assert torch.equal(ema.module.state_dict()[name], value), name


def test_parameters_and_buffers_follow_by_the_rule():
    net = model()
    ema, wanted = Ema(net, 0.6), None
    for step, kept in enumerate((0, 0.5, 0.6, 0.6)):
        changed(net, step)
        ema.update_parameters(net)
        now = {name: value.clone() for name, value in net.state_dict().items()}
        wanted = now if wanted is None else {
            name: kept * wanted[name] + (1 - kept) * now[name] if now[name].is_floating_point() else now[name]
            for name in now
        }  # fmt: skip
    assert any("running_mean" in name for name in wanted)
    for name, value in ema.module.state_dict().items():
        torch.testing.assert_close(value, wanted[name])


@given(st.floats(-1e6, 1e6, width=32), st.integers(0, 10_000))
def test_what_does_not_change_never_drifts(value, step):
    net = nn.Module()
    net.register_buffer("constant", torch.tensor([value]), persistent=False)
    ema = Ema(net, 0.996)
    ema.n_averaged.fill_(step)
    ema.update_parameters(net)
    assert torch.equal(ema.module.constant, net.constant)


def test_it_has_no_gradient_and_is_a_copy():
    net = model()
    ema = Ema(net, 0.9)
    assert not any(parameter.requires_grad for parameter in ema.module.parameters())
    assert all(parameter.requires_grad for parameter in net.parameters())
    before = ema.module[0].weight.clone()
    changed(net, 1)
    assert torch.equal(ema.module[0].weight, before)
    assert not ema.module.training

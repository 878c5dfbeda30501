"""Devices and number formats."""

import pytest
import torch
from torch import nn

from co2s_cli.errors import ConfigError, ResourceError
from co2s_cli.inference import model
from co2s_cli.inference.model import lower, pick_device, pick_precision, processor_flags

CPU = torch.device("cpu")


def test_auto_is_bf16_where_the_processor_is_quick_at_it(monkeypatch):
    for flags, wanted in [({"avx512_bf16"}, "bf16"), ({"amx_bf16", "sse"}, "bf16"), ({"avx2"}, "fp32")]:
        monkeypatch.setattr(model, "processor_flags", lambda flags=flags: frozenset(flags))
        assert pick_precision("auto", CPU) == wanted


def test_a_named_precision_is_kept():
    assert [pick_precision(name, CPU) for name in ("fp32", "bf16", "fp16")] == ["fp32", "bf16", "fp16"]


def test_processor_flags_come_from_the_system_or_are_none(tmp_path):
    told = tmp_path / "cpuinfo"
    told.write_text("processor : 0\nflags\t\t: fpu avx512_bf16\n")
    assert processor_flags(told) == {"fpu", "avx512_bf16"}
    assert processor_flags(tmp_path / "missing") == frozenset()


def test_devices_that_are_not_there_are_refused():
    assert pick_device("cpu") == CPU
    with pytest.raises(ResourceError, match="CUDA devices"):
        pick_device("cuda:99")
    with pytest.raises(ConfigError, match="wants auto"):
        pick_device("toaster")
    with pytest.raises(ResourceError, match="not on this machine"):
        pick_device("meta")


def test_weights_rounded_once_give_what_autocast_gives():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.GELU(), nn.Flatten(2), nn.Linear(36, 5))
    image = torch.rand(1, 3, 8, 8)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        before = model(image)
        lower(model, "bf16")
        torch.testing.assert_close(model(image), before, rtol=0, atol=0)
    assert model[0].weight.dtype == torch.bfloat16
    assert model[1].weight.dtype == torch.float32


def test_fp32_leaves_a_model_alone():
    model = nn.Linear(2, 2)
    lower(model, "fp32")
    assert model.weight.dtype == torch.float32

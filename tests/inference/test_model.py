"""Devices and number formats."""

import pytest
import torch
from torch import nn

from co2s_cli.errors import ConfigError, ResourceError
from co2s_cli.inference import model
from co2s_cli.inference.model import cast_weights, pick_device, pick_precision, processor_flags

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
        cast_weights(model, "bf16")
        torch.testing.assert_close(model(image), before, rtol=0, atol=0)
    assert model[0].weight.dtype == torch.bfloat16
    assert model[1].weight.dtype == torch.float32


def test_fp32_leaves_a_model_alone():
    model = nn.Linear(2, 2)
    cast_weights(model, "fp32")
    assert model.weight.dtype == torch.float32


@pytest.fixture
def eight_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)


@pytest.mark.usefixtures("eight_gpus")
def test_workers_take_the_gpus_from_the_named_one_on():
    assert [pick_device("cuda:5", worker=n, workers=3).index for n in range(3)] == [5, 6, 7]
    assert [pick_device("auto", worker=n, workers=9).index for n in (0, 7, 8)] == [0, 7, 0]


@pytest.mark.usefixtures("eight_gpus")
def test_more_workers_than_gpus_from_the_named_one_on_are_refused():
    with pytest.raises(ResourceError, match=r"--device cuda:6 --workers 3: wants cuda:6 to cuda:8, .* 8 CUDA devices"):
        pick_device("cuda:6", workers=3)


def test_cuda_without_a_cuda_driver_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ResourceError, match="0 CUDA devices"):
        pick_device("cuda")

"""Each check tells the truth where it can be known, and says what to do where something is missing."""

import math

import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import brentq

from co2s_cli.geo import installation
from co2s_cli.health import caches, geodata, machine, software, speed
from co2s_cli.models import hub


def by_name(check):
    return {finding.name: finding for finding in check()}


def test_python_and_libraries_are_told():
    assert by_name(software.python)["Python"].found.split()[0].count(".") == 2
    assert torch.__version__ in by_name(software.libraries)["torch"].found


def test_a_driver_that_torch_cannot_use_is_a_note(monkeypatch, tmp_path):
    monkeypatch.setattr(software, "_DRIVER", tmp_path)
    monkeypatch.setattr(torch.version, "cuda", None)
    finding = by_name(software.libraries)["torch"]
    assert (finding.state, "pip install torch" in finding.advice) == ("note", True)
    monkeypatch.setattr(software, "_DRIVER", tmp_path / "none")
    assert by_name(software.libraries)["torch"].state == "ok"


def test_a_machine_without_a_gpu_is_sent_to_the_small_preset(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert "--preset small" in by_name(machine.device)["GPU"].advice


@pytest.mark.parametrize(("free", "state"), [(10**9, "note"), (10**11, "ok")])
def test_little_memory_and_disk_are_notes(monkeypatch, free, state):
    monkeypatch.setattr("co2s_cli.resources.available", lambda: free)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": free})())
    assert by_name(machine.memory)["memory"].state == state
    assert by_name(machine.disk)["disk"].state == state


def test_a_driver_that_is_wanted_is_missing_and_another_a_note(monkeypatch):
    assert {finding.state for finding in geodata.gdal()} == {"ok"}
    known = installation.drivers()
    monkeypatch.setattr(installation, "drivers", lambda: known - {"COG", "JP2OpenJPEG"})
    missing, note, _ = geodata.gdal()
    assert (missing.state, missing.found) == ("missing", "no driver COG, for maps")
    assert (note.state, note.found) == ("note", "no driver JP2OpenJPEG, for JPEG 2000 scenes (.jp2)")


def test_the_place_that_proj_is_asked_for_lies_at_its_meridian_arc():
    axis, flattening = 6378137.0, 1 / 298.257223563
    square = flattening * (2 - flattening)

    def arc(latitude):
        return quad(lambda p: axis * (1 - square) / (1 - square * math.sin(p) ** 2) ** 1.5, 0, latitude)[0]

    latitude = math.degrees(brentq(lambda value: arc(value) - 5_500_000 / 0.9996, 0.5, 1.2))
    assert pytest.approx((15, latitude), abs=1e-6) == installation._EXPECTED_LONLAT
    assert installation.proj_problem() is None


def test_a_proj_that_is_wrong_is_missing(monkeypatch):
    monkeypatch.setattr(installation, "transform", lambda *_: ([15.1], [49.652543]))
    (finding,) = geodata.proj()
    assert finding.state == "missing"
    assert finding.found.startswith("rasterio transforms 500,000 5,500,000 in EPSG:32633 to 15.1")
    assert "PROJ_LIB" in finding.advice


@pytest.mark.parametrize(("online", "said"), [(True, "co2s fetch default (941 MB)"), (False, "no network")])
def test_weights_that_are_not_cached_are_a_note(monkeypatch, tmp_path, online, said):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "reachable", lambda address: online)
    (finding,) = caches.pretrained()
    assert finding.state == "note"
    assert said in finding.advice
    for name in [*hub.groups()["default"], "vit_small_patch14_dinov2.lvd142m"]:
        folder = hub.find_weights(name).folder
        folder.mkdir(parents=True)
        (folder / "model.safetensors").touch()
        (folder / "open_clip_model.safetensors").touch()
    ours, others = caches.pretrained()
    assert (ours.state, others.found) == ("ok", "also cached: vit_small_patch14_dinov2.lvd142m")


def test_the_speed_is_that_of_whole_windows(monkeypatch):
    ticks = iter([0.0, 1.0, 3.0, 4.0])
    ran = []
    monkeypatch.setattr(speed, "_run", ran.append)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(ticks))
    rate, device = speed.pixels_per_second(2.0)
    assert len(ran) == 3, "one to warm up, two within the time"
    assert rate == 2 * 256**2 / 4.0
    assert device in ("cpu", "cuda:0", "mps")


def test_the_model_itself_runs(monkeypatch):
    monkeypatch.setattr(speed, "PROBE_SECONDS", 0.0)
    (finding,) = speed.speed()
    assert "million pixels a second" in finding.found

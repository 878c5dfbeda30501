"""The bodies of the checks and measurements, which are meant for a GPU, do on a CPU what they say."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.rasters import write_raster

from co2s_cli.jobs.gpu import figures, maps, runs
from co2s_cli.jobs.gpu.bench import Bench, NotMetError, SkippedError, values_of


@pytest.fixture
def bench(tmp_path):
    return Bench(torch.device("cpu"), tmp_path, side=64, tile=64, crop=64)


@pytest.mark.parametrize("name", ["predict fp32", "predict bf16", "same bytes", "batch auto", "staging"])
def test_maps_pass(bench, name):
    maps.CHECKS[name](bench)


def test_a_batch_that_is_too_large_is_halved_until_it_fits(bench):
    facts = maps.out_of_memory(bench)
    assert facts["windows_at_a_time"] == 4
    assert facts["apart"] < 1e-5
    assert len(facts["notes"]) == 2


def test_a_map_of_another_device_that_differs_fails(bench, monkeypatch):
    def predict(self, scene, name, **changes):
        path = write_raster(bench.folder / f"{name}.tif", np.full((1, 8, 8), changes.get("device") == "cpu", np.uint8))
        return type("Made", (), {"outputs": {"class": path}})

    monkeypatch.setattr(Bench, "predict", predict)
    with pytest.raises(NotMetError, match=r"100\.00% of the pixels differ"):
        maps.fp32(bench)


def test_what_means_nothing_on_a_cpu_is_skipped(bench):
    with pytest.raises(SkippedError):
        maps.device_mem(bench)


def test_one_rank_makes_the_step_of_a_process_alone(bench):
    assert runs.one_rank(bench)["apart"] < 1e-4


def test_a_repeated_scene_holds_the_piece_again_and_again(bench, monkeypatch):
    piece = values_of(bench.sample().scene)
    wide = replace(bench, side=150)
    monkeypatch.setattr(
        Bench, "sample", lambda self, **_: type("Sample", (), {"scene": bench.folder / "land-64-uint8-3/scene.tif"})
    )
    tiled = np.tile(piece, (3, 3))[:150, :150]
    np.testing.assert_array_equal(values_of(wide.repeated()), tiled)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train resume", "distill"])
def test_runs_pass(bench, name):
    runs.CHECKS[name](bench)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in figures.FIGURES if name != "MONAI"])
def test_measurements_tell_numbers(bench, name):
    told = {}
    figures.FIGURES[name](bench, lambda figure, values: told.update({figure: values}))
    assert told
    assert all(isinstance(value, int | float | None) for values in told.values() for value in values.values())

"""Models as ONNX files: the probabilities of torch, and what other programs read of them."""

import importlib
import json

import numpy as np
import onnxruntime
import pytest
import torch
from support.models import NAMES, drawn_single, save_tiny

from co2s_cli.classes import ClassMap
from co2s_cli.config.export import ExportConfig
from co2s_cli.errors import ModelError, OutputError, ResourceError
from co2s_cli.jobs import export
from co2s_cli.models import catalog, fresh, weights
from co2s_cli.models.manifest import Manifest, ModelScaling

pytestmark = pytest.mark.filterwarnings("ignore")  # the exporter's about its own parts


def local(path, bands=("red", "green", "blue", "nir"), **changes):
    """A `local` student for several bands of uint16."""
    high = (2_000.0, 2_000.0, 2_000.0, 5_000.0)[: len(bands)]
    manifest = Manifest(
        classes=tuple(ClassMap.of(NAMES).plain()),
        bands=bands,
        scaling=ModelScaling(dtype="uint16", low=(100.0,) * len(bands), high=high),
        students={"local": catalog.local_student(bands)},
        tile=32,
        **changes,
    )
    torch.manual_seed(0)
    weights.save(fresh.new_ensemble(manifest), path)
    return path


@pytest.mark.slow
def test_windows_of_a_fixed_side_as_deepness_scales_them_get_the_probabilities_of_predict(tmp_path):
    model = local(tmp_path / "model.safetensors", ground_resolution=10.0)
    out = tmp_path / "model.onnx"
    result = export.run(ExportConfig(model=model, onnx=out, tile=48))
    assert result.apart < 1e-4
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == session.get_outputs()[0].shape == ["batch", 4, 48, 48]
    told = {name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}
    assert told["model_type"] == "Segmentor"
    assert told["class_names"] == {str(index): name for index, name in enumerate(NAMES)}
    assert (told["resolution"], told["tile_size"], told["tiles_overlap"]) == (1000.0, 48, 25)
    assert told["bands"] == ["red", "green", "blue", "nir"]

    values = np.random.default_rng(0).integers(0, 6_000, (2, 4, 48, 48))
    mean, std = (np.array(told[f"standardization_{name}"])[:, None, None] for name in ("mean", "std"))
    (theirs,) = session.run(None, {"input": ((np.float32(values / 255) - mean) / std).astype(np.float32)})
    low, high = np.full(4, 100.0)[:, None, None], np.array([2e3, 2e3, 2e3, 5e3])[:, None, None]
    scaled = torch.from_numpy(((values - low) / (high - low)).clip(0, 1)).float()
    with torch.inference_mode():
        ours = weights.load(model).probabilities(scaled)
    np.testing.assert_allclose(theirs, ours, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pair", "dense"])
def test_transformers_give_the_probabilities_of_torch(tmp_path, kind):
    model = tmp_path / "model.safetensors"
    if kind == "pair":
        save_tiny(model)
    else:
        weights.save(drawn_single(), model)
    assert export.run(ExportConfig(model=model, onnx=tmp_path / "model.onnx")).apart < 1e-4


def test_a_band_of_an_empty_range_is_a_half(tmp_path):
    manifest = weights.read_manifest(local(tmp_path / "model.safetensors"))
    scaling = ModelScaling(dtype="uint16", low=(7.0,) * 4, high=(7.0,) * 4)
    told = export.metadata(manifest.model_copy(update={"scaling": scaling}), 32)
    mean, std = (np.array(json.loads(told[f"standardization_{name}"])) for name in ("mean", "std"))
    np.testing.assert_allclose((7 / 255 - mean) / std, 0.5, atol=1e-6)


def test_a_file_that_differs_from_torch_does_not_appear(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_write", lambda module, path, **_: path.touch())
    monkeypatch.setattr(export, "_largest_difference", lambda *_, **__: float("nan"))
    with pytest.raises(ModelError, match="differ by nan"):
        export.run(ExportConfig(model=local(tmp_path / "model.safetensors"), onnx=tmp_path / "model.onnx"))
    assert not list(tmp_path.glob("*.onnx"))


def test_what_exists_stays_and_a_model_that_is_too_large_is_refused(tmp_path, monkeypatch):
    model, out = local(tmp_path / "model.safetensors"), tmp_path / "model.onnx"
    monkeypatch.setattr(export, "_LARGEST", 1000)
    with pytest.raises(ModelError, match="one ONNX file holds"):
        export.run(ExportConfig(model=model, onnx=out))
    out.touch()
    with pytest.raises(OutputError, match="exists"):
        export.run(ExportConfig(model=model, onnx=out))


def test_missing_packages_are_named_with_how_to_get_them(tmp_path, monkeypatch):
    def absent(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ResourceError, match="'onnx'") as caught:
        export.run(ExportConfig(model=tmp_path / "model.safetensors", onnx=tmp_path / "model.onnx"))
    assert caught.value.hint == "pip install 'co2s_cli[onnx]'"

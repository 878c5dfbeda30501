"""Export of a model to ONNX: scaled images to fused class probabilities, compared with torch before it appears."""

from __future__ import annotations

import importlib
import json
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from co2s_cli import __version__
from co2s_cli.config.export import ExportConfig
from co2s_cli.config.units import show_bytes
from co2s_cli.errors import ModelError, ResourceError
from co2s_cli.files import atomic_file, check_output
from co2s_cli.models import weights
from co2s_cli.models.ensemble import Ensemble
from co2s_cli.models.manifest import Manifest

log = logging.getLogger(__name__)

PACKAGES = ("onnx", "onnxscript", "onnxruntime")

INPUT, OUTPUT = "input", "probabilities"

OPSET = 18
"""ONNX operator set; the newest that runtimes of 2023 read."""

MAX_DIFFERENCE = 1e-4
"""Largest accepted difference of a probability from torch's."""

_LARGEST = 2**31 - 2**24
"""Bytes of weights that fit into one file: the format is limited to 2 GiB."""

_EMPTY_SPAN = 1e9
"""Used as span of a band whose range is empty: every value is scaled to about 0.5."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The written file."""

    out: Path
    tile: int
    bands: tuple[str, ...]
    apart: float
    """Largest difference of a probability from torch's, on windows of noise."""
    metadata: dict[str, str]
    """The metadata of the file."""


class _Probabilities(nn.Module):
    """Fused probabilities (B, N, tile, tile) of images (B, bands, tile, tile), clamped to [0, 1] as in predict."""

    def __init__(self, model: Ensemble) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.probabilities(images.clamp(0, 1))


def run(settings: ExportConfig) -> ExportResult:
    """Write the file; it appears only if onnxruntime and torch give the same probabilities.

    Raises:
        OutputError: the file exists, or cannot be written.
        ModelError: the model is damaged, too large for one file, or gives other probabilities in ONNX.
        ResourceError: packages that only this command needs are missing.
    """
    check_output(settings.onnx, overwrite=settings.overwrite)
    runtime = _imported_runtime()
    model = weights.load(settings.model).eval().requires_grad_(False)
    _check_size(settings.model, model)
    manifest, tile = model.manifest, settings.tile or model.manifest.tile
    if tile_gap := manifest.tile_gap(tile):
        log.warning("%s: %s", settings.onnx, tile_gap)
    facts = {**metadata(manifest, tile), "co2s_model": json.dumps(model.digest)}
    probabilities = _Probabilities(model)
    with atomic_file(settings.onnx) as temporary:
        _write(probabilities, temporary, bands=len(manifest.bands), tile=tile, facts=facts)
        apart = _largest_difference(runtime, temporary, probabilities, bands=len(manifest.bands), tile=tile)
        if not apart <= MAX_DIFFERENCE:
            raise ModelError(
                f"{settings.model}: its probabilities in ONNX differ by {apart:.1e}, up to {MAX_DIFFERENCE:.0e} may"
            )
    log.info("%s: windows of %d pixels, probabilities within %.1e of torch's", settings.onnx, tile, apart)
    return ExportResult(settings.onnx, tile, manifest.bands, apart, facts)


def metadata(manifest: Manifest, tile: int) -> dict[str, str]:
    """Metadata of the file, each value as JSON; the first names are those that the QGIS plugin Deepness reads.

    Deepness divides the values of a raster by 255, whatever their type, subtracts the mean and divides by the
    standard deviation. Mean and deviation are chosen so that the result equals the model's own scaling.
    """
    low, high = manifest.scaling.low, manifest.scaling.high
    spans = [end - start for start, end in zip(low, high, strict=True)]
    means = [start if span else -_EMPTY_SPAN / 2 for start, span in zip(low, spans, strict=True)]
    values: dict[str, Any] = {
        "model_type": "Segmentor",
        "class_names": {str(index): name for index, name in enumerate(manifest.class_map.names)},
        "tile_size": tile,
        "tiles_overlap": round(100 * manifest.overlap),
        "seg_thresh": 0.0,  # every pixel gets its most probable class
        "standardization_mean": [mean / 255 for mean in means],
        "standardization_std": [(span or _EMPTY_SPAN) / 255 for span in spans],
        "bands": list(manifest.bands),
        "co2s_version": __version__,
        "licence": manifest.licence,
        "trained_on": manifest.trained_on,
    }
    if manifest.ground_resolution is not None:
        values["resolution"] = manifest.ground_resolution * 100  # centimetres per pixel
    return {name: json.dumps(value) for name, value in values.items()}


def _imported_runtime() -> Any:
    """The module onnxruntime, after all `PACKAGES` have been imported."""
    try:
        *_, runtime = (importlib.import_module(name) for name in PACKAGES)
    except ImportError as error:
        raise ResourceError(
            f"co2s export wants the packages {', '.join(PACKAGES)} ({error})", hint="pip install 'co2s_cli[onnx]'"
        ) from error
    return runtime


def _check_size(path: Path, model: Ensemble) -> None:
    size = sum(tensor.numel() * 4 for tensor in model.state_dict().values())
    if size > _LARGEST:
        raise ModelError(f"{path}: {show_bytes(size)} of weights, one ONNX file holds at most {show_bytes(_LARGEST)}")


def _write(module: nn.Module, path: Path, *, bands: int, tile: int, facts: dict[str, str]) -> None:
    """Write the file; its batch size is free, its window size is `tile`."""
    example = torch.rand(2, bands, tile, tile)  # two windows: a batch size of 1 would be exported as a constant
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        program: Any = torch.onnx.export(
            module,
            (example,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    program.model.metadata_props.update(facts)
    program.save(str(path), external_data=False)


def _largest_difference(runtime: Any, path: Path, module: nn.Module, *, bands: int, tile: int) -> float:
    """Largest difference of probabilities between onnxruntime and torch, on batches of one and of three windows."""
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    generator, apart = torch.Generator().manual_seed(0), 0.0
    for count in (1, 3):
        images = (
            torch.rand(count, bands, tile, tile, generator=generator) * 1.2 - 0.1
        )  # beyond [0, 1], to test the clamp
        (onnx_probabilities,) = session.run([OUTPUT], {INPUT: images.numpy()})
        with torch.inference_mode():
            torch_probabilities = module(images).numpy()
        apart = max(apart, float(np.abs(onnx_probabilities - torch_probabilities).max()))
    return apart

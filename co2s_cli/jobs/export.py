"""A model as an ONNX file: images in, fused class probabilities out, checked against torch before it appears."""

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
"""The newest that ONNX runtimes of 2023 read."""

APART = 1e-4
"""By how much probabilities of the file may differ from torch's."""

OVERLAP_PERCENT = 25
"""Of windows, as `co2s predict` has it."""

_LARGEST = 2**31 - 2**24
"""Bytes of weights that one file holds: the format ends at 2 GiB."""

_EMPTY_SPAN = 1e9
"""Stands for the span of a band whose range is empty: every value becomes a half."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was written."""

    out: Path
    tile: int
    bands: tuple[str, ...]
    apart: float
    """Largest difference of a probability from torch's, over windows of noise."""
    metadata: dict[str, str]
    """What the file says of itself, by the names that programs look for."""


class _Probabilities(nn.Module):
    """Fused probabilities (B, N, tile, tile) of scaled images (B, bands, tile, tile), cut to [0, 1] as in predict."""

    def __init__(self, model: Ensemble) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.probabilities(images.clamp(0, 1))


def run(settings: ExportConfig) -> ExportResult:
    """Write the file; it appears once onnxruntime gives the probabilities that torch gives.

    Raises:
        OutputError: the file exists, or cannot be written.
        ModelError: a model that is broken, too large for one file, or not the same in ONNX.
        ResourceError: packages that this command alone needs are missing.
    """
    check_output(settings.onnx, overwrite=settings.overwrite)
    runtime = _imported()
    model = weights.load(settings.model).eval().requires_grad_(False)
    _check_size(settings.model, model)
    manifest, tile = model.manifest, settings.tile or model.manifest.tile
    facts = {**metadata(manifest, tile), "co2s_model": json.dumps(model.digest)}
    probabilities = _Probabilities(model)
    with atomic_file(settings.onnx) as temporary:
        _write(probabilities, temporary, bands=len(manifest.bands), tile=tile, facts=facts)
        apart = _largest_difference(runtime, temporary, probabilities, bands=len(manifest.bands), tile=tile)
        if not apart <= APART:
            raise ModelError(f"{settings.model}: its probabilities in ONNX differ by {apart:.1e}, {APART:.0e} may")
    log.info("%s: windows of %d pixels, probabilities within %.1e of torch's", settings.onnx, tile, apart)
    return ExportResult(settings.onnx, tile, manifest.bands, apart, facts)


def metadata(manifest: Manifest, tile: int) -> dict[str, str]:
    """What the file says of itself, each value as JSON; the first names are those that QGIS's Deepness reads.

    Deepness divides the values of a raster by 255, whatever their type, takes the mean off and divides by the
    deviation: both are chosen so that the model's own scaling comes out.
    """
    low, high = manifest.scaling.low, manifest.scaling.high
    spans = [end - start for start, end in zip(low, high, strict=True)]
    means = [start if span else -_EMPTY_SPAN / 2 for start, span in zip(low, spans, strict=True)]
    values: dict[str, Any] = {
        "model_type": "Segmentor",
        "class_names": {str(index): name for index, name in enumerate(manifest.class_map.names)},
        "tile_size": tile,
        "tiles_overlap": OVERLAP_PERCENT,
        "seg_thresh": 0.0,  # the most probable class, however sure
        "standardization_mean": [mean / 255 for mean in means],
        "standardization_std": [(span or _EMPTY_SPAN) / 255 for span in spans],
        "bands": list(manifest.bands),
        "co2s_version": __version__,
        "licence": manifest.licence,
        "trained_on": manifest.trained_on,
    }
    if manifest.ground_resolution is not None:
        values["resolution"] = manifest.ground_resolution * 100  # centimetres a pixel
    return {name: json.dumps(value) for name, value in values.items()}


def _imported() -> Any:
    """onnxruntime; the other packages are there, too."""
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
        raise ModelError(f"{path}: {show_bytes(size)} of weights, one ONNX file holds {show_bytes(_LARGEST)}")


def _write(module: nn.Module, path: Path, *, bands: int, tile: int, facts: dict[str, str]) -> None:
    """Write the file; the batch may have any size, the window has this one."""
    example = torch.rand(2, bands, tile, tile)  # of two windows: a batch of one would be taken for a constant
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's about its own parts
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
    """How far probabilities by onnxruntime are from torch's, over batches of one and of three windows."""
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    generator, apart = torch.Generator().manual_seed(0), 0.0
    for count in (1, 3):
        images = torch.rand(count, bands, tile, tile, generator=generator) * 1.2 - 0.1  # some of it is cut off
        (theirs,) = session.run([OUTPUT], {INPUT: images.numpy()})
        with torch.inference_mode():
            ours = module(images).numpy()
        apart = max(apart, float(np.abs(theirs - ours).max()))
    return apart

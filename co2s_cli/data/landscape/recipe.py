"""The commented data.yaml of a synthetic scene."""

from __future__ import annotations

from typing import Any

import yaml

from co2s_cli.classes import ClassMap
from co2s_cli.config.sample import SampleConfig
from co2s_cli.data.landscape.landscape import GROUND_RESOLUTION
from co2s_cli.data.landscape.palette import BANDS
from co2s_cli.tiling import Window

SCALING = {"uint8": (0, 255), "uint16": (0, 4500)}
"""Digital numbers that are scaled to 0 and 1, by sample type; 45 % reflectance is the brightest but for a few cars."""

_TEXT = """\
# A made-up landscape by `co2s sample`, seed {seed}; paths are relative to this file.
# The position of a class in this list is its id in the label rasters; 255 is "not labelled".
{classes}
# The labels to train with, a few percent of the pixels. few.gpkg holds the same labels as polygons: `labels: few.gpkg`
# with `attribute: class` (the name of the class) can replace the raster.
{labeled}
# Scenes to learn from without labels; their crops never touch the val windows of the same image.
{unlabeled}
# Labels for validation: windows [row, column, height, width] in pixels of the image. No training label or training
# crop touches them.
{val}
# Names of the bands in the order of the file, the digital numbers that become 0 and 1 in each, metres per pixel.
{sensor}"""


def data_yaml(settings: SampleConfig, classes: ClassMap, val: list[Window]) -> str:
    """The text of the data.yaml; `val` are the windows for validation."""
    bands = BANDS[: settings.bands]
    low, high = SCALING[settings.dtype]
    windows = [[window.row, window.col, window.height, window.width] for window in val]
    sensor = {
        "bands": list(bands),
        "scaling": {"dtype": settings.dtype, "low": [low] * len(bands), "high": [high] * len(bands)},
        "ground_resolution": GROUND_RESOLUTION,
    }
    return _TEXT.format(
        seed=settings.seed,
        classes=_lines({"classes": classes.plain()}),
        labeled=_lines({"labeled": [{"image": "scene.tif", "labels": "few.tif"}]}),
        unlabeled=_lines({"unlabeled": ["scene.tif"]}),
        val=_lines({"val": [{"image": "scene.tif", "labels": "labels.tif", "windows": windows}]}),
        sensor=_lines(sensor),
    )


def _lines(part: dict[str, Any]) -> str:
    return yaml.safe_dump(part, sort_keys=False, default_flow_style=None, allow_unicode=True, width=110)

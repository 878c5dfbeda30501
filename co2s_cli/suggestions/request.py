"""The files that a request for suggestions names: the output file of boxes, and the existing labels."""

from __future__ import annotations

from co2s_cli.config.suggest import SuggestConfig
from co2s_cli.errors import ConfigError
from co2s_cli.files import check_output
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.labels.labelled_mask import LabelledMask, open_mask

_EDITABLE = (".gpkg", ".fgb", ".geojson")
"""Formats in which boxes can be edited and read back."""


def check_boxes(settings: SuggestConfig) -> None:
    """Refuse an output of boxes, or its style, that exists or cannot be written, or a format that cannot be edited.

    Raises:
        Co2sError: names the file and the next step.
    """
    if settings.out.suffix.lower() not in _EDITABLE:
        raise ConfigError(
            f"{settings.out}: boxes need a format that can be edited, wanted is one of {' '.join(_EDITABLE)}"
        )
    for path in (settings.out, settings.out.with_suffix(".qml")):
        check_output(path, overwrite=settings.overwrite)


def open_labelled(settings: SuggestConfig, grid: Grid) -> LabelledMask | None:
    """Mask of the pixels of a scene on `grid` that are labelled already; None if the settings name no labels."""
    if settings.labels is None:
        return None
    return open_mask(settings.labels, grid, attribute=settings.attribute, values=settings.values)

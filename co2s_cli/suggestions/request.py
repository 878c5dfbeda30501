"""What a request for suggestions names: the file of boxes, and the labels that are there already."""

from __future__ import annotations

from co2s_cli.config.suggest import SuggestConfig
from co2s_cli.errors import ConfigError
from co2s_cli.files import check_output
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.labels.labelled_mask import LabelledMask, open_mask

_EDITABLE = (".gpkg", ".fgb", ".geojson")
"""Formats in which boxes can be edited and read back."""


def check_boxes(settings: SuggestConfig) -> None:
    """Refuse boxes, or a style of them, that exist, or could not be written or edited.

    Raises:
        Co2sError: which file, and what to do.
    """
    if settings.out.suffix.lower() not in _EDITABLE:
        raise ConfigError(f"{settings.out}: boxes are written to be edited, wanted is one of {' '.join(_EDITABLE)}")
    for path in (settings.out, settings.out.with_suffix(".qml")):
        check_output(path, overwrite=settings.overwrite)


def open_labelled(settings: SuggestConfig, grid: Grid) -> LabelledMask | None:
    """What is labelled already of a scene on `grid`; None where no labels are named."""
    if settings.labels is None:
        return None
    return open_mask(settings.labels, grid, attribute=settings.attribute, values=settings.values)

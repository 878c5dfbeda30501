"""A picture of a map: the classes over the image, with legend, scale bar and areas; from decimated reads only."""

from __future__ import annotations

from pathlib import Path

from co2s_cli.classes import ClassMap
from co2s_cli.geo.scene import Scene


def write_preview(path: Path, *, scene: Scene, map_path: Path, classes: ClassMap, max_size: int = 1200) -> None:
    """Draw the map at `map_path` over its scene as a PNG whose image part measures at most `max_size` pixels."""
    raise NotImplementedError

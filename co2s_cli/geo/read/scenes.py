"""Tell scenes from maps and labels that co2s itself has written, among the rasters that a command line names."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from co2s_cli.errors import InputError
from co2s_cli.geo.gdal import reading
from co2s_cli.geo.sources import expand_sources, is_local

log = logging.getLogger(__name__)


def scene_sources(arguments: Iterable[str]) -> list[str]:
    """Every scene that the arguments name, as `expand_sources`, without maps and labels that co2s itself has written.

    A folder or a glob may contain such outputs; a raster that is named alone is always taken as a scene.
    """
    sources = expand_sources(arguments)
    outputs = _written_by_co2s(sources)
    return [source for source in sources if source not in outputs]


def tell_left_out(arguments: Iterable[str]) -> None:
    """Log which rasters `scene_sources` leaves out."""
    outputs = _written_by_co2s(expand_sources(arguments))
    if outputs:
        few = ", ".join(outputs[:3]) + (f" and {len(outputs) - 3} more" if len(outputs) > 3 else "")
        log.warning("not read as scenes, because co2s wrote them as maps or labels: %s", few)


def _written_by_co2s(sources: Sequence[str]) -> list[str]:
    """The sources that co2s has written; none if there is a single source, or if co2s has written all of them."""
    if len(sources) < 2:
        return []
    outputs = [source for source in sources if is_local(source) and _is_output(source)]
    return outputs if len(outputs) < len(sources) else []


def _is_output(source: str) -> bool:
    """Whether a raster has one band and a tag of co2s; False if it cannot be read, which is reported elsewhere."""
    try:
        with reading(source) as dataset:
            return dataset.count == 1 and any(name.lower().startswith("co2s_") for name in dataset.tags())
    except InputError:
        return False

"""Which of the rasters that a command line names are scenes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from co2s_cli.errors import InputError
from co2s_cli.geo.gdal import reading
from co2s_cli.geo.sources import expand_sources, is_local

log = logging.getLogger(__name__)


def scene_sources(arguments: Iterable[str]) -> list[str]:
    """Every scene that the arguments name, as `expand_sources`, without maps and labels that co2s itself has written.

    A glob over a folder takes these in; a raster that is named alone is taken for what the user says it is.
    """
    sources = expand_sources(arguments)
    made = _made_among(sources)
    return [source for source in sources if source not in made]


def tell_left_out(arguments: Iterable[str]) -> None:
    """Log which rasters `scene_sources` leaves out."""
    made = _made_among(expand_sources(arguments))
    if made:
        few = ", ".join(made[:3]) + (f" and {len(made) - 3} more" if len(made) > 3 else "")
        log.warning("left out, because co2s made %s as map or labels: %s", "it" if len(made) == 1 else "them", few)


def _made_among(sources: Sequence[str]) -> list[str]:
    """Those of several sources that co2s has written; none where it has written all of them."""
    if len(sources) < 2:
        return []
    made = [source for source in sources if is_local(source) and _is_made(source)]
    return made if len(made) < len(sources) else []


def _is_made(source: str) -> bool:
    """Whether a raster has one band and says that co2s has written it; one that cannot be read is told in its turn."""
    try:
        with reading(source) as dataset:
            return dataset.count == 1 and any(name.lower().startswith("co2s_") for name in dataset.tags())
    except InputError:
        return False

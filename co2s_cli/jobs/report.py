"""Write the HTML page of a map or of a training run."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from co2s_cli import __version__
from co2s_cli.config.report import ReportConfig
from co2s_cli.config.units import show_bytes
from co2s_cli.errors import ConfigError, InputError
from co2s_cli.files import check_output, write_text
from co2s_cli.geo.gdal import environment
from co2s_cli.geo.grid import Grid, grid_problem
from co2s_cli.geo.polygons.class_raster import ClassRaster, confidence_scale
from co2s_cli.geo.read.picture import north_up, picture_shape, read_class_ids, read_fractions, read_photo
from co2s_cli.geo.read.scene import Scene
from co2s_cli.jobs.paths import check_outputs
from co2s_cli.pages.document import document, escaped, facts_list
from co2s_cli.pages.map_page import Amounts, MapContent, map_section
from co2s_cli.progress import SILENT, Progress
from co2s_cli.scoring.strata import ClassTotals, strips

log = logging.getLogger(__name__)


PICTURE_SIZE = 2400
"""Longer side of the pictures of a map, in pixels."""

MOST_BYTES = 9_500_000
"""Maximum size of a page; its pictures are made coarser until it fits."""

_COARSEST = 8
"""Largest factor by which pictures are made coarser."""


@dataclass(frozen=True, slots=True)
class ReportResult:
    """The written page."""

    source: str
    out: Path
    bytes: int


def run(settings: ReportConfig, progress: Progress = SILENT) -> ReportResult:
    """Write the page.

    Raises:
        Co2sError: what is wrong with the settings, the inputs or the output.
    """
    if settings.out.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"{settings.out}: a page is written, so a name that ends in .html is wanted")
    check_outputs(settings)
    check_output(settings.out, overwrite=settings.overwrite)
    with environment():
        page = _page_of_run(settings) if Path(settings.source).is_dir() else _page_of_map(settings, progress)
    progress.close()
    write_text(settings.out, page)
    size = settings.out.stat().st_size
    log.info("%s: %s", settings.out, show_bytes(size))
    return ReportResult(settings.source, settings.out, size)


def _page_of_run(settings: ReportConfig) -> str:
    map_flags = [f"--{name}" for name in ("image", "confidence", "disagreement") if getattr(settings, name) is not None]
    if map_flags:
        raise ConfigError(f"{', '.join(map_flags)}: for the page of a map, {settings.source} is the folder of a run")
    from co2s_cli.jobs.report_run import run_content  # these import torch, which the page of a map does not need
    from co2s_cli.pages.run_page import run_sections

    folder = Path(settings.source)
    title = f"Training run {folder.resolve().name}"
    sections = "\n".join(run_sections(run_content(folder)))
    return document(title, [f"<header><h1>{escaped(title)}</h1></header><main>{sections}</main>"], {})


def _page_of_map(settings: ReportConfig, progress: Progress) -> str:
    raster = ClassRaster.open(settings.source)
    content = _content(settings, raster, progress)
    title = Path(settings.source).name
    head = f"<header><h1>{escaped(title)}</h1>{facts_list(_facts(settings, raster))}</header>"
    coarseness = 1
    while True:
        section, data = map_section(content, coarseness)
        page = document(title, [head, f"<main>{section}</main>"], {"map": data})
        if len(page.encode()) <= MOST_BYTES or coarseness >= _COARSEST:
            return page
        coarseness += 1


def _content(settings: ReportConfig, raster: ClassRaster, progress: Progress) -> MapContent:
    scene = None if settings.image is None else _scene(settings.image, raster)
    amounts = _amounts(settings, raster)
    totals = ClassTotals.empty(raster.grid.pixel_areas())
    with raster.reader() as reader:
        for top, labels in strips(reader, raster.grid.shape, progress):
            totals.add(top, labels)
    if not totals.occurring:
        raise InputError(f"{settings.source}: has no class anywhere, all of it is nodata")
    progress.start("pictures", 1 + (scene is not None), "picture")
    shape = picture_shape(raster.grid, PICTURE_SIZE)
    image, valid = (None, None) if scene is None else read_photo(scene, PICTURE_SIZE)
    progress.advance()
    return MapContent(
        grid=north_up(raster.grid),
        classes=raster.legend.class_map([*range(raster.legend.named_count), *totals.occurring]),
        totals=totals,
        labels=read_class_ids(settings.source, shape),
        image=image,
        valid=valid,
        amounts=amounts,
    )


def _scene(source: str, raster: ClassRaster) -> Scene:
    """The image of --image; refused if its grid is not that of the map."""
    scene = Scene.open(source)
    problem = grid_problem(source, scene.original, raster.grid, of="map", kind="the image's pixels")
    if problem is not None:
        raise problem
    return scene


def _amounts(settings: ReportConfig, raster: ClassRaster) -> tuple[Amounts, ...]:
    """The pictures of confidence and disagreement, as far as the settings name them."""
    shape = picture_shape(raster.grid, PICTURE_SIZE)
    layers = (
        ("confidence", "Confidence", "unsure", "sure", settings.confidence),
        ("disagreement", "Disagreement", "the students agree", "they differ", settings.disagreement),
    )
    for source in (settings.confidence, settings.disagreement):
        if source is not None:
            confidence_scale(source, raster.grid)  # refuses rasters on another grid or without values in [0, 1]
    return tuple(
        Amounts(name, label, low, high, read_fractions(source, shape))
        for name, label, low, high, source in layers
        if source is not None
    )


def _facts(settings: ReportConfig, raster: ClassRaster) -> dict[str, str]:
    """Facts of the map for the head of the page, by their labels."""
    grid: Grid = raster.grid
    ground = grid.ground_size()
    facts = {"Size": f"{grid.width:,} × {grid.height:,} pixels"}
    if ground is not None:
        facts["Pixel"] = f"{ground[0]:.3g} × {ground[1]:.3g} m"
    if grid.crs is not None:
        facts["Coordinates"] = grid.crs.to_string()
    if settings.image is not None:
        facts["Image"] = Path(settings.image).name
    return {**facts, "Made with": f"co2s {__version__}"}

"""`co2s vectorize`."""

from pathlib import Path
from typing import Annotated

import typer

from co2s_cli.cli import app
from co2s_cli.cli.bars import watcher
from co2s_cli.cli.common import Config, Json, Overwrite, command, echo_result, flag
from co2s_cli.config import given, load
from co2s_cli.config.vectorize import VectorizeConfig


@command(app, "vectorize")
def vectorize(
    raster: Annotated[str, typer.Argument(help="Class raster: one band of bytes, 255 is nodata.")],
    out: Annotated[Path, flag(VectorizeConfig, "out", "--out", "-o", "--output")],
    min_area: Annotated[str | None, flag(VectorizeConfig, "min_area")] = None,
    simplify: Annotated[str | None, flag(VectorizeConfig, "simplify")] = None,
    classes: Annotated[str | None, flag(VectorizeConfig, "classes")] = None,
    exclude: Annotated[str | None, flag(VectorizeConfig, "exclude")] = None,
    confidence: Annotated[str | None, flag(VectorizeConfig, "confidence")] = None,
    dst_crs: Annotated[str | None, flag(VectorizeConfig, "dst_crs")] = None,
    layer: Annotated[str | None, flag(VectorizeConfig, "layer")] = None,
    sieved: Annotated[Path | None, flag(VectorizeConfig, "sieved")] = None,
    mem_limit: Annotated[str | None, flag(VectorizeConfig, "mem_limit")] = None,
    workers: Annotated[int | None, flag(VectorizeConfig, "workers")] = None,
    config: Config = None,
    overwrite: Overwrite = None,
    as_json: Json = False,
) -> None:
    """Make polygons of the class raster RASTER that fit together: no gap, no overlap, at any size."""
    flags = given(
        raster=raster, out=out, min_area=min_area, simplify=simplify, classes=classes, exclude=exclude,
        confidence=confidence, dst_crs=dst_crs, layer=layer, sieved=sieved, mem_limit=mem_limit, workers=workers,
        overwrite=overwrite,
    )  # fmt: skip
    settings = load(VectorizeConfig, config, flags)
    from co2s_cli.jobs import vectorize as job  # after parsing: --help must not wait for GDAL

    result = job.run(settings, progress=watcher())
    if str(out) != "-":  # standard output is the features' then
        echo_result(result, as_json=as_json, text=str(result.out))

"""What the commands share that run a model over scenes: their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from co2s_cli.cli.common import flag
from co2s_cli.config.mapping import MapConfig


def options(kind: type[MapConfig]) -> dict[str, Any]:
    """Options of every such run, by the name of their setting, with the defaults of `kind`."""
    return {
        "tile": Annotated[int | None, flag(kind, "tile", "--tile", "--patch-size")],
        "overlap": Annotated[float | None, flag(kind, "overlap")],
        "batch": Annotated[str | None, flag(kind, "batch", "--batch", "--batch-size")],
        "device": Annotated[str | None, flag(kind, "device")],
        "precision": Annotated[str | None, flag(kind, "precision")],
        "compile": Annotated[bool | None, flag(kind, "compile", "--compile")],
        "tta": Annotated[str | None, flag(kind, "tta")],
        "bands": Annotated[list[str] | None, flag(kind, "bands", "--bands", "--bidx", "-b")],
        "scale": Annotated[str | None, flag(kind, "scale")],
        "nodata": Annotated[str | None, flag(kind, "nodata")],
        "aoi": Annotated[Path | None, flag(kind, "aoi")],
        "bounds": Annotated[str | None, flag(kind, "bounds", "--bounds", "--bbox")],
        "res": Annotated[float | None, flag(kind, "res", "--res", "-r")],
        "mem_limit": Annotated[str | None, flag(kind, "mem_limit")],
        "device_mem": Annotated[str | None, flag(kind, "device_mem")],
        "workers": Annotated[int | None, flag(kind, "workers", "--workers", "-j", "--jobs")],
        "resume": Annotated[bool | None, flag(kind, "resume", "--resume")],
        "dry_run": Annotated[bool | None, flag(kind, "dry_run", "--dry-run")],
        "co": Annotated[list[str] | None, flag(kind, "co", metavar="K=V")],
    }

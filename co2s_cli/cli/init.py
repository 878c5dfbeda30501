"""`co2s init`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from co2s_cli.cli import app
from co2s_cli.cli.common import echo_result, table
from co2s_cli.cli.options import Config, Json, command
from co2s_cli.config import load
from co2s_cli.config.init import InitConfig
from co2s_cli.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from co2s_cli.jobs.init import InitResult, SceneLine


@command(app, "init", InitConfig, example="co2s init scene.tif --labels polygons.gpkg --attribute class")
def init(flags: dict[str, Any], config: Config = None, as_json: Json = False) -> None:
    """Write a data.yaml to train on SCENEs and a file of their labels; count labels, warn where they are few."""
    settings = load(InitConfig, config, flags)
    from co2s_cli.jobs import init as job  # after parsing: --help must not wait for rasterio

    result = job.run(settings)
    echo_result(result, as_json=as_json, text="" if as_json else described(result))


def described(result: InitResult) -> str:
    """The result as text for people; the last line is the path of the file that was written."""
    lines = [_of_scene(scene, result.noun) for scene in result.scenes]
    lines += ["", *table(_rows(result)), ""]
    lines += [f"note: {remark}" for remark in result.remarks]
    lines += [f"thin: {line}" for line in result.thin]
    lines += [f"next: co2s train {result.out} --out runs/first --preset small", str(result.out)]
    return printable("\n".join(lines))


def _of_scene(scene: SceneLine, noun: str) -> str:
    size = f"{scene.width} × {scene.height} px"
    resolution = f" of {scene.ground_resolution:.3g} m" if scene.ground_resolution else ""
    bands = f"{len(scene.bands)} band{'s' * (len(scene.bands) != 1)} ({', '.join(scene.bands)})"
    labels = f"{scene.polygons or ''} {noun}".strip() if scene.labelled else f"no {noun}"
    return f"{scene.source}: {size}{resolution}, {bands}; {labels}"


def _rows(result: InitResult) -> Iterator[tuple[str, ...]]:
    counted = [result.noun] if result.attribute else []
    yield (result.attribute or "class", "color", *counted, "pixels", "train", "validate")
    for item in result.classes:
        color = "#{:02x}{:02x}{:02x}".format(*item.color)
        counts = (item.polygons, item.pixels, item.train_pixels, item.val_pixels)
        yield (item.name, color, *(f"{count:,}" for count in counts if count is not None))

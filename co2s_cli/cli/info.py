"""`co2s info`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from co2s_cli.cli import app
from co2s_cli.cli.common import echo_result, table
from co2s_cli.cli.options import Config, Json, command
from co2s_cli.config import load
from co2s_cli.config.info import InfoConfig
from co2s_cli.config.units import show_bytes
from co2s_cli.errors import InputError, printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from co2s_cli.jobs.info import InfoResult, ModelFacts, SceneFacts


@command(app, "info", InfoConfig, example="co2s info scene.tif --model model.safetensors")
def info(flags: dict[str, Any], config: Config = None, as_json: Json = False) -> None:
    """Describe a scene or a model; with --model, check whether the scene fits the model."""
    settings = load(InfoConfig, config, flags)
    from co2s_cli.jobs import info as job  # rasterio is slow to import: after the settings are checked

    result = job.run(settings)
    echo_result(result, as_json=as_json, text=described(result))
    if result.fits is False:
        count = len(result.problems)
        raise InputError(f"{result.source}: does not fit {settings.model}, {count} reason{'s' * (count > 1)} above")


def described(result: InfoResult) -> str:
    """The result as text for people."""
    lines = [f"{result.source}: {result.kind}"]
    if result.scene is not None:
        lines += table(_of_scene(result.scene))
    if result.model is not None:
        lines += [] if result.scene is None else ["model"]
        lines += table(_of_model(result.model))
    lines += [f"note: {remark}" for remark in result.remarks]
    lines += [f"does not fit: {problem}" for problem in result.problems]
    return printable("\n".join([*lines, "scene and model fit"] if result.fits else lines))


def _of_scene(facts: SceneFacts) -> list[tuple[str, str]]:
    bounds = "none" if facts.bounds is None else ", ".join(f"{value:.8g}" for value in facts.bounds)
    return [
        ("size", f"{facts.width} × {facts.height} px"),
        ("bands", f"{len(facts.bands)}: {_few(facts.bands)}"),
        ("samples", facts.dtype),
        ("masked by", facts.masked_by),
        ("CRS", facts.crs or "none"),
        ("bounds", bounds),
        ("resolution", _metres(facts.ground_resolution)),
    ]


def _of_model(facts: ModelFacts) -> list[tuple[str, str]]:
    return [
        ("students", ", ".join(f"{name} ({backbone})" for name, backbone in facts.students.items())),
        *([("fusion", facts.fusion)] if len(facts.students) > 1 else []),
        *([("taught by", ", ".join(facts.taught_by))] if facts.taught_by else []),
        ("classes", f"{len(facts.classes)}: {', '.join(facts.classes)}"),
        ("bands", f"{len(facts.bands)}: {', '.join(facts.bands)}"),
        ("samples", f"{facts.dtype}, {_few(_ranges(facts))}"),
        ("resolution", _metres(facts.ground_resolution)),
        ("tile", f"{facts.tile} px"),
        ("trained on", facts.trained_on or "not stated"),
        ("licence", facts.licence or "not stated"),
        ("file", show_bytes(facts.size)),
    ]


def _ranges(facts: ModelFacts) -> list[str]:
    return list(dict.fromkeys(f"{low:g} to {high:g}" for low, high in zip(facts.low, facts.high, strict=True)))


def _metres(resolution: float | None) -> str:
    return "not known" if resolution is None else f"{resolution:.3g} m per pixel"


def _few(items: Iterable[str]) -> str:
    items = list(items)
    return ", ".join(items[:8]) + (", …" if len(items) > 8 else "")

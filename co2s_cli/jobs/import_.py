"""Convert published checkpoints to one model file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from co2s_cli.config.import_ import ImportConfig
from co2s_cli.config.protocol import find_protocol
from co2s_cli.jobs.early import check_import
from co2s_cli.models import published, weights


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The written model file."""

    out: Path
    digest: str
    students: tuple[str, ...]
    classes: tuple[str, ...]
    parameters: int


def run(settings: ImportConfig) -> ImportResult:
    """Read the checkpoints, check them against the data set, write the model file."""
    check_import(settings)
    protocol = find_protocol(settings.dataset)
    checkpoints = [published.read(path) for path in settings.checkpoints]
    pair = published.assemble(
        checkpoints,
        classes=protocol.class_map,
        tile=protocol.training.crop,
        trained_on=protocol.title,
        ground_resolution=protocol.shown_resolution(protocol.training.eval_resize),
    )
    return ImportResult(
        out=settings.out,
        digest=weights.save(pair, settings.out),
        students=tuple(pair.students),
        classes=protocol.class_map.names,
        parameters=sum(parameter.numel() for parameter in pair.parameters()),
    )

"""Published checkpoints → one model file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from co2s_cli.config.import_ import ImportConfig
from co2s_cli.config.protocol import find_protocol
from co2s_cli.jobs.early import check_import
from co2s_cli.models import published, weights


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What was written."""

    out: Path
    digest: str
    students: tuple[str, ...]
    classes: tuple[str, ...]
    parameters: int


def run(settings: ImportConfig) -> ImportResult:
    """Read the checkpoints, check them against the data set, write the model file."""
    check_import(settings)
    known = find_protocol(settings.dataset)
    checkpoints = [published.read(path) for path in settings.checkpoints]
    pair = published.assemble(
        checkpoints,
        classes=known.class_map,
        tile=known.training.crop,
        trained_on=known.title,
        ground_resolution=known.shown_resolution(known.training.eval_resize),
    )
    return ImportResult(
        out=settings.out,
        digest=weights.save(pair, settings.out),
        students=tuple(pair.students),
        classes=known.class_map.names,
        parameters=sum(parameter.numel() for parameter in pair.parameters()),
    )

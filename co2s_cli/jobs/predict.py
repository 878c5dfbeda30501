"""Label every pixel of scenes: each becomes a map, whole or not at all, by work that may be interrupted anywhere."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from co2s_cli.config.predict import PredictConfig
from co2s_cli.config.vectorize import VectorizeConfig
from co2s_cli.inference.estimate import Estimate, estimate
from co2s_cli.inference.loading import product_of
from co2s_cli.inference.made import Made
from co2s_cli.inference.mapping import Mapper
from co2s_cli.inference.setup import Setup
from co2s_cli.inference.subject import Subject
from co2s_cli.inference.targets import Target, targets_of
from co2s_cli.inference.workers import rank_of_torchrun
from co2s_cli.jobs.scenes import Failure, check, each
from co2s_cli.models import weights
from co2s_cli.models.manifest import Manifest
from co2s_cli.progress import SILENT, Progress

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PredictResult:
    """What became of every scene."""

    model: Path
    maps: tuple[Made, ...] = ()
    estimates: tuple[Estimate, ...] = ()
    """Instead of maps, where only that was wanted."""
    failed: tuple[Failure, ...] = ()

    def text(self) -> str:
        """The maps, one a line; or the estimates."""
        return "\n".join([*(str(made.outputs["class"]) for made in self.maps), *(one.text() for one in self.estimates)])

    def check(self) -> None:
        """Raise where some scenes failed, with a list of them."""
        check(self.failed, len(self.failed) + len(self.maps) + len(self.estimates))


def run(settings: PredictConfig, progress: Progress = SILENT) -> PredictResult:
    """Make the maps, one scene after the other; of several scenes a failing one does not stop the others.

    Raises:
        Co2sError: what is wrong with the settings, the model, or with the only scene.
        InterruptError: Ctrl-C; what is finished of a map stays for the next run of the same command.
    """
    model = settings.model or weights.default_path()
    manifest = weights.read_manifest(model)
    if settings.model is None:
        log.info("model: %s, trained on %s", model.name, manifest.trained_on or "data that it does not name")
    product = product_of(settings, manifest)
    targets = targets_of(settings.scenes, settings.out, settings.beside())
    rank = rank_of_torchrun()
    mapper = Mapper(Setup(settings, model, manifest, rank), product, rank, progress)

    def finish(target: Target, subject: Subject) -> None:
        _beside(target, subject, settings, manifest, progress)

    maps: list[Made] = []
    estimates: list[Estimate] = []

    def make(target: Target) -> None:
        if settings.dry_run:
            estimates.append(estimate(mapper, target))
        else:
            maps.append(mapper.make(target, finish))

    failed = each(targets, make, progress)
    return PredictResult(model, tuple(maps), tuple(estimates), failed)


def _beside(target: Target, subject: Subject, settings: PredictConfig, manifest: Manifest, progress: Progress) -> None:
    """Polygons and picture of a map that is whole; their libraries take 90 MB, which a plain map has no use for."""
    if "vector" in target.beside:
        from co2s_cli.jobs import vectorize

        polygons = VectorizeConfig(
            raster=str(target.out),
            out=target.beside["vector"],
            confidence=str(target.beside["confidence"]) if "confidence" in target.beside else None,
            workers=settings.workers or 1,
            overwrite=True,
        )
        vectorize.run(polygons, progress)
    if "preview" in target.beside:
        from co2s_cli.geo.write.preview import write_preview

        write_preview(target.beside["preview"], scene=subject.scene, map_path=target.out, classes=manifest.class_map)

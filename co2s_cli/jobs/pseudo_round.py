"""The second half of pseudo-labelling, once all candidates are there: thresholds, labels, figures, data.yaml."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from co2s_cli import __version__
from co2s_cli.config.data import ScalingEntry
from co2s_cli.config.pseudo_label import DEFAULT_THRESHOLD, PseudoLabelConfig
from co2s_cli.data.rounds import HumanLabels, PseudoLabelled, next_round, text_of
from co2s_cli.files import appearing
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.labels.labels import Labels, open_labels
from co2s_cli.geo.polygons.class_raster import ClassRaster
from co2s_cli.geo.read.features import VECTORS
from co2s_cli.geo.read.scaling import scaling_for, widest
from co2s_cli.geo.read.scene import Scene
from co2s_cli.geo.sources import SUFFIXES
from co2s_cli.geo.write.raster import cog_options
from co2s_cli.inference import memory
from co2s_cli.inference.mapping import KEY_TAG
from co2s_cli.inference.targets import Target, open_scene
from co2s_cli.jobs.scenes import Failure, each
from co2s_cli.models.manifest import Manifest
from co2s_cli.progress import Progress
from co2s_cli.pseudo.candidates import AgreeRule
from co2s_cli.pseudo.cut import CutRule, LabelCounts, LabelSummary, balanced_thresholds, no_levels
from co2s_cli.pseudo.labelling import Labeller, SceneCandidates, count_levels
from co2s_cli.pseudo.names import LABELS, WEIGHTS
from co2s_cli.pseudo.round_folder import RULE_TAG, RoundFolder, tags_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SceneLabels:
    """What became of one scene."""

    source: str
    outputs: dict[str, Path]
    """Labels, mask and weights, and what they were cut from: candidates, confidence, disagreement."""
    truth: str | None
    """What was measured with."""
    summary: LabelSummary


@dataclass(frozen=True, slots=True)
class RoundResult:
    """What became of all of them."""

    scenes: tuple[SceneLabels, ...]
    total: LabelSummary
    data: Path | None
    """The data.yaml; None where nothing was labelled at all."""
    failed: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class LabellingRound:
    """All that the scenes of one round share."""

    settings: PseudoLabelConfig
    model: Path
    manifest: Manifest
    agree: AgreeRule
    human: HumanLabels
    folder: RoundFolder
    progress: Progress
    alone: bool
    """Whether only one scene was named: then its failure is the run's."""

    def label(self, targets: Sequence[Target], failed: tuple[Failure, ...]) -> RoundResult:
        """Label the scenes whose candidates are there, and write what is known of all; `failed` are the others."""
        names = self.manifest.class_map.names
        scenes: list[SceneLabels] = []
        counts: list[LabelCounts] = []

        def label(target: Target) -> None:
            scene, found = self._labelled(target, bounds)
            scenes.append(scene)
            counts.append(found)

        self.folder.open_again()
        bounds, unread = self._thresholds(targets)
        lost = {failure.source for failure in unread}
        left = [target for target in targets if target.source not in lost]
        failed = (*failed, *unread, *each(left, label, self.progress, alone=self.alone))
        self.progress.close()
        total = LabelSummary.of(reduce(LabelCounts.plus, counts, LabelCounts.none(len(names))), names, bounds)
        self._tell(total)
        self._write_report(scenes, total, failed, bounds)
        return RoundResult(tuple(scenes), total, self._write_data(scenes), failed)

    def _thresholds(self, targets: Sequence[Target]) -> tuple[NDArray[np.float64], tuple[Failure, ...]]:
        """Threshold of each class, and the scenes that could not be read for it."""
        names, given = self.manifest.class_map.names, self.settings.threshold_per_class
        if given != "auto":
            usual = DEFAULT_THRESHOLD if self.settings.threshold is None else self.settings.threshold
            return np.array([given.get(name, usual) for name in names]), ()
        levels = no_levels(len(names))

        def count(target: Target) -> None:
            material = self._material(target)
            self.progress.start("counting", material.grid.height, "row")
            count_levels(material, levels, limit=self._limit, step=self.progress.advance)

        failed = each(targets, count, self.progress, alone=self.alone)
        return balanced_thresholds(levels, self.settings.share), failed

    @property
    def _limit(self) -> int:
        return self.settings.mem_limit or min(memory.DEFAULT_LIMIT, memory.available() // 2)

    def _material(self, target: Target) -> SceneCandidates:
        """The candidates of a scene with the labels that are known of it."""
        grid = ClassRaster.open(str(target.out)).grid
        truth = self._truth(target, grid) or self.human.truth_of(target.source)
        return SceneCandidates(target.outputs, grid, self.human.labels_of(target.source), truth)

    def check(self, target: Target) -> None:
        """Refuse true labels that do not fit a scene before anything is made of it; say where there are none."""
        if self.settings.truth and self._truth(target, Scene.open(target.source).original) is None:
            log.warning("%s: %s holds no true labels of this name", target.source, self.settings.truth)

    def _truth(self, target: Target, grid: Grid) -> Labels | None:
        """The true labels of a scene that --truth names."""
        path = self.settings.truth
        if path is not None and path.is_dir():
            beside = sorted(path.glob(f"{target.out.stem}.*"))
            path = next((one for one in beside if one.suffix.lower() in SUFFIXES | VECTORS), None)
        if path is None:
            return None
        return open_labels(
            path, grid, self.manifest.class_map, attribute=self.settings.attribute, values=self.settings.values
        )

    def _labelled(self, target: Target, bounds: NDArray[np.float64]) -> tuple[SceneLabels, LabelCounts]:
        """Cut one scene."""
        material, classes = self._material(target), self.manifest.class_map
        labelling = Labeller(
            cut=CutRule(bounds, self.settings.weight, self.settings.min_area),
            classes=classes,
            tags={**_origin(target.out), RULE_TAG: json.dumps(self._rule(bounds))},
            creation=cog_options(self.settings.co),
            limit=self._limit,
        )
        self.progress.start("labelling", material.grid.height, "row")
        counts = labelling.write(material, self.folder.cut_of(target), self.progress.advance)
        summary = LabelSummary.of(counts, classes.names, bounds)
        truth = material.truth.source if material.truth else None
        return SceneLabels(target.source, self.folder.all_of(target), truth, summary), counts

    def _rule(self, bounds: NDArray[np.float64]) -> dict[str, Any]:
        """What decided which pixels are labelled."""
        settings = self.settings
        return {
            "agree": self.agree,
            "thresholds": dict(zip(self.manifest.class_map.names, bounds.tolist(), strict=True)),
            "share": settings.share if settings.threshold_per_class == "auto" else None,
            "min_area": settings.min_area,
            "weight": settings.weight,
        }

    def _tell(self, total: LabelSummary) -> None:
        """One line for all, one for each class."""
        log.info("%s of %d pixels labelled%s", _percent(total.coverage), total.pixels, _told(total.precision))
        for name, one in total.classes.items():
            log.info(
                "  %s: %s of %d candidates, from confidence %.4g on%s",
                name, _percent(one.coverage), one.candidates, one.threshold, _told(one.precision),
            )  # fmt: skip

    def _write_report(
        self, scenes: Sequence[SceneLabels], total: LabelSummary, failed: Sequence[Failure], bounds: NDArray[np.float64]
    ) -> None:
        content = {
            "co2s": __version__,
            "model": str(self.model),
            "keep_labels": str(self.settings.keep_labels) if self.settings.keep_labels else None,
            "rule": self._rule(bounds),
            "total": asdict(total),
            "scenes": [asdict(self._with_names(scene)) for scene in scenes],
            "failed": [asdict(failure) for failure in failed],
        }
        with appearing(self.folder.report) as temporary:
            temporary.write_text(json.dumps(content, indent=1, default=str), encoding="utf-8")

    def _with_names(self, scene: SceneLabels) -> SceneLabels:
        """A scene with its rasters as seen from the folder of the round."""
        names = {name: path.relative_to(self.folder.path) for name, path in scene.outputs.items()}
        return replace(scene, outputs=names)

    def _write_data(self, scenes: Sequence[SceneLabels]) -> Path | None:
        """The data.yaml of the next round, last: who finds it finds everything that it names."""
        if not scenes:
            return None
        made = [
            PseudoLabelled(
                image=scene.source,
                labels=scene.outputs[LABELS],
                weights=scene.outputs[WEIGHTS],
                empty=not scene.summary.labelled,
                bands=tuple(self.settings.bands),
                nodata=self.settings.nodata,
            )
            for scene in scenes
        ]
        if all(one.empty for one in made):
            left = ", and no data.yaml" if self.human.config is None else ": data.yaml holds the human labels alone"
            log.warning(
                "not one pixel is sure enough: there are no pseudo-labels to train on%s; a lower --threshold, or "
                "--threshold-per-class auto, keeps some",
                left,
            )
        for scene in scenes:
            if scene.summary.labelled and self.human.validates(scene.source):
                log.warning(
                    "%s: all of it validates in %s: nobody trains on its pseudo-labels",
                    scene.source, self.settings.keep_labels,
                )  # fmt: skip
        config = next_round(self.human, self.manifest, made, self.folder.path, self._scaling(scenes))
        if not config.labeled:
            return None
        if self.human.config is None:
            log.warning(
                "%s: without --keep-labels a share of the pseudo-labels themselves validates, "
                "which measures agreement with this model",
                self.folder.data,
            )
        with appearing(self.folder.data) as temporary:
            temporary.write_text(text_of(config), encoding="utf-8")
        return self.folder.data

    def _scaling(self, scenes: Sequence[SceneLabels]) -> ScalingEntry | None:
        """How the model saw the scenes; None where that is its own way, or the last data.yaml says how to train."""
        if self.settings.scale == "model" or self.human.config is not None:
            return None
        opened = [open_scene(scene.source, self.manifest, self.settings) for scene in scenes]
        found = [scaling_for(scene, self.settings.scale, self.manifest.scaling) for scene in opened]
        one = widest(found)
        if any((own.low, own.high) != (one.low, one.high) for own in found):
            log.warning(
                "%s: --scale %s gave each scene ranges of its own; training takes one for all, the widest",
                self.folder.data, self.settings.scale,
            )  # fmt: skip
        return ScalingEntry(dtype=opened[0].dtype, low=one.low, high=one.high)


def _origin(candidates: Path) -> dict[str, str]:
    """How the candidates came about, by their own tags."""
    return {name: text for name, text in tags_of(candidates).items() if name.startswith("CO2S_") and name != KEY_TAG}


def _percent(share: float | None) -> str:
    return "nothing" if share is None else f"{share:.1%}"


def _told(precision: float | None) -> str:
    return "" if precision is None else f", {precision:.1%} of what can be checked is right"

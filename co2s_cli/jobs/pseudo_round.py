"""Second half of pseudo-labelling, after all candidate maps are made: thresholds, labels, report, data.yaml."""

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
from co2s_cli.files import atomic_file
from co2s_cli.geo.grid import Grid
from co2s_cli.geo.labels.labels import Labels, open_labels
from co2s_cli.geo.polygons.class_raster import ClassRaster
from co2s_cli.geo.read.features import VECTORS
from co2s_cli.geo.read.scaling import scaling_for, widest
from co2s_cli.geo.read.scene import Scene
from co2s_cli.geo.sources import SUFFIXES
from co2s_cli.geo.write.raster import cog_options
from co2s_cli.inference.mapping import KEY_TAG
from co2s_cli.inference.memory import DEFAULT_LIMIT
from co2s_cli.inference.targets import Target, open_scene
from co2s_cli.jobs.scenes import Failure, run_each
from co2s_cli.models.manifest import Manifest
from co2s_cli.progress import Progress
from co2s_cli.pseudo.candidates import AgreeRule
from co2s_cli.pseudo.cut import CutRule, LabelCounts, LabelSummary, balanced_thresholds, no_levels
from co2s_cli.pseudo.labelling import Labeller, SceneCandidates, count_levels
from co2s_cli.pseudo.names import LABELS, WEIGHTS
from co2s_cli.pseudo.round_folder import RULE_TAG, RoundFolder, read_tags
from co2s_cli.resources import available

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SceneLabels:
    """Outputs and figures of one labelled scene."""

    source: str
    outputs: dict[str, Path]
    """Labels, mask and weights, and the rasters they were made from: candidates, confidence, disagreement."""
    truth: str | None
    """The true labels by which precision was measured; None: there are none."""
    summary: LabelSummary


@dataclass(frozen=True, slots=True)
class RoundResult:
    """Outputs and figures of all scenes of a round."""

    scenes: tuple[SceneLabels, ...]
    total: LabelSummary
    data: Path | None
    """The data.yaml; None if no pixel was labelled."""
    failed: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class LabellingRound:
    """Settings and inputs that all scenes of one round share; labels the scenes."""

    settings: PseudoLabelConfig
    model: Path
    manifest: Manifest
    agree: AgreeRule
    human: HumanLabels
    folder: RoundFolder
    progress: Progress
    single_scene: bool
    """Whether the user named only one scene, whose error is then raised."""

    def label(self, targets: Sequence[Target], failed: tuple[Failure, ...]) -> RoundResult:
        """Label the scenes of `targets`, whose candidates exist, and write report and data.yaml.

        `failed` are the scenes without candidates, for the report.
        """
        names = self.manifest.class_map.names
        scenes: list[SceneLabels] = []
        counts: list[LabelCounts] = []

        def label(target: Target) -> None:
            scene, scene_counts = self._labelled(target, thresholds)
            scenes.append(scene)
            counts.append(scene_counts)

        self.folder.remove_data_yaml()
        thresholds, unread = self._thresholds(targets)
        unread_sources = {failure.source for failure in unread}
        readable = [target for target in targets if target.source not in unread_sources]
        failed = (*failed, *unread, *run_each(readable, label, self.progress, single_scene=self.single_scene))
        self.progress.close()
        total = LabelSummary.of(reduce(LabelCounts.plus, counts, LabelCounts.none(len(names))), names, thresholds)
        self._log_summary(total)
        self._write_report(scenes, total, failed, thresholds)
        return RoundResult(tuple(scenes), total, self._write_data(scenes), failed)

    def _thresholds(self, targets: Sequence[Target]) -> tuple[NDArray[np.float64], tuple[Failure, ...]]:
        """Confidence threshold of each class, (classes,), and the scenes that could not be read to compute it."""
        names, per_class = self.manifest.class_map.names, self.settings.threshold_per_class
        if per_class != "auto":
            default = DEFAULT_THRESHOLD if self.settings.threshold is None else self.settings.threshold
            return np.array([per_class.get(name, default) for name in names]), ()
        levels = no_levels(len(names))

        def count(target: Target) -> None:
            candidates = self._scene_candidates(target)
            self.progress.start("counting", candidates.grid.height, "row")
            count_levels(candidates, levels, limit=self._limit, step=self.progress.advance)

        failed = run_each(targets, count, self.progress, single_scene=self.single_scene)
        return balanced_thresholds(levels, self.settings.share), failed

    @property
    def _limit(self) -> int:
        """Memory limit in bytes."""
        return self.settings.mem_limit or min(DEFAULT_LIMIT, available() // 2)

    def _scene_candidates(self, target: Target) -> SceneCandidates:
        """The candidates of a scene, with its human labels and its true labels."""
        grid = ClassRaster.open(str(target.out)).grid
        truth = self._truth(target, grid) or self.human.truth_of(target.source)
        return SceneCandidates(target.outputs, grid, self.human.labels_of(target.source), truth)

    def check(self, target: Target) -> None:
        """Before a scene is mapped, refuse true labels that do not fit it; warn if --truth has none for it."""
        if self.settings.truth and self._truth(target, Scene.open(target.source).original) is None:
            log.warning("%s: %s holds no true labels of this name", target.source, self.settings.truth)

    def _truth(self, target: Target, grid: Grid) -> Labels | None:
        """The true labels of a scene by --truth: the file, or the file in the folder that is named like the scene."""
        path = self.settings.truth
        if path is not None and path.is_dir():
            same_name = sorted(path.glob(f"{target.out.stem}.*"))
            path = next((file for file in same_name if file.suffix.lower() in SUFFIXES | VECTORS), None)
        if path is None:
            return None
        return open_labels(
            path, grid, self.manifest.class_map, attribute=self.settings.attribute, values=self.settings.values
        )

    def _labelled(self, target: Target, thresholds: NDArray[np.float64]) -> tuple[SceneLabels, LabelCounts]:
        """Write the pseudo-labels of one scene, with `thresholds` (classes,)."""
        candidates, classes = self._scene_candidates(target), self.manifest.class_map
        labeller = Labeller(
            cut=CutRule(thresholds, self.settings.weight, self.settings.min_area),
            classes=classes,
            tags={**_origin(target.out), RULE_TAG: json.dumps(self._rule(thresholds))},
            creation=cog_options(self.settings.co),
            limit=self._limit,
        )
        self.progress.start("labelling", candidates.grid.height, "row")
        counts = labeller.write(candidates, self.folder.label_rasters(target), self.progress.advance)
        summary = LabelSummary.of(counts, classes.names, thresholds)
        truth = candidates.truth.source if candidates.truth else None
        return SceneLabels(target.source, self.folder.all_rasters(target), truth, summary), counts

    def _rule(self, thresholds: NDArray[np.float64]) -> dict[str, Any]:
        """The settings that decide which pixels are labelled, for the report and the tags of the labels."""
        settings = self.settings
        return {
            "agree": self.agree,
            "thresholds": dict(zip(self.manifest.class_map.names, thresholds.tolist(), strict=True)),
            "share": settings.share if settings.threshold_per_class == "auto" else None,
            "min_area": settings.min_area,
            "weight": settings.weight,
        }

    def _log_summary(self, total: LabelSummary) -> None:
        """Log one line for all classes together and one for each."""
        log.info("%s of %d pixels labelled%s", _percent(total.coverage), total.pixels, _precision_text(total.precision))
        for name, summary in total.classes.items():
            log.info(
                "  %s: %s of %d candidates, from confidence %.4g on%s",
                name, _percent(summary.coverage), summary.candidates, summary.threshold,
                _precision_text(summary.precision),
            )  # fmt: skip

    def _write_report(
        self,
        scenes: Sequence[SceneLabels],
        total: LabelSummary,
        failed: Sequence[Failure],
        thresholds: NDArray[np.float64],
    ) -> None:
        content = {
            "co2s": __version__,
            "model": str(self.model),
            "keep_labels": str(self.settings.keep_labels) if self.settings.keep_labels else None,
            "rule": self._rule(thresholds),
            "total": asdict(total),
            "scenes": [asdict(self._with_names(scene)) for scene in scenes],
            "failed": [asdict(failure) for failure in failed],
        }
        with atomic_file(self.folder.report) as temporary:
            temporary.write_text(json.dumps(content, indent=1, default=str), encoding="utf-8")

    def _with_names(self, scene: SceneLabels) -> SceneLabels:
        """The scene with the paths of its rasters relative to the folder of the round."""
        names = {name: path.relative_to(self.folder.path) for name, path in scene.outputs.items()}
        return replace(scene, outputs=names)

    def _write_data(self, scenes: Sequence[SceneLabels]) -> Path | None:
        """Write the data.yaml of the next round; last, so that the files it names exist whenever it exists."""
        if not scenes:
            return None
        labelled = [
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
        if all(scene.empty for scene in labelled):
            consequence = ", and no data.yaml" if self.human.config is None else "; data.yaml holds human labels only"
            log.warning(
                "no pixel reaches its confidence threshold: there are no pseudo-labels to train on%s; lower "
                "--threshold, or use --threshold-per-class auto",
                consequence,
            )
        for scene in scenes:
            if scene.summary.labelled and self.human.validates(scene.source):
                log.warning(
                    "%s: all of it is validation data in %s: its pseudo-labels are not trained on",
                    scene.source, self.settings.keep_labels,
                )  # fmt: skip
        config = next_round(self.human, self.manifest, labelled, self.folder.path, self._scaling(scenes))
        if not config.labeled:
            return None
        if self.human.config is None:
            log.warning(
                "%s: without --keep-labels part of the pseudo-labels is used for validation, "
                "which measures agreement with this model, not accuracy",
                self.folder.data,
            )
        with atomic_file(self.folder.data) as temporary:
            temporary.write_text(text_of(config), encoding="utf-8")
        return self.folder.data

    def _scaling(self, scenes: Sequence[SceneLabels]) -> ScalingEntry | None:
        """The scaling for training on the scenes.

        None if --scale is the model's own scaling, or if the data.yaml of --keep-labels decides it.
        """
        if self.settings.scale == "model" or self.human.config is not None:
            return None
        opened = [open_scene(scene.source, self.manifest, self.settings) for scene in scenes]
        scalings = [scaling_for(scene, self.settings.scale, self.manifest.scaling) for scene in opened]
        common = widest(scalings)
        if any((scaling.low, scaling.high) != (common.low, common.high) for scaling in scalings):
            log.warning(
                "%s: --scale %s gave each scene ranges of its own; training uses the widest range for all scenes",
                self.folder.data, self.settings.scale,
            )  # fmt: skip
        return ScalingEntry(dtype=opened[0].dtype, low=common.low, high=common.high)


def _origin(candidates: Path) -> dict[str, str]:
    """The tags of a candidate map that say how it was made."""
    return {name: text for name, text in read_tags(candidates).items() if name.startswith("CO2S_") and name != KEY_TAG}


def _percent(share: float | None) -> str:
    return "nothing" if share is None else f"{share:.1%}"


def _precision_text(precision: float | None) -> str:
    return "" if precision is None else f", {precision:.1%} of those with a true label are right"

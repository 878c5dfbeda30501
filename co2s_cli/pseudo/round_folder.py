"""The output folder of a round of pseudo-labelling, and checks of what may be overwritten in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from co2s_cli.errors import OutputError
from co2s_cli.files import check_writable
from co2s_cli.geo.gdal import reading
from co2s_cli.inference.names import CLASS
from co2s_cli.inference.targets import Target, targets_in
from co2s_cli.pseudo.names import LABELS, MASK, WEIGHTS

CANDIDATES = "candidates"

RULE_TAG = "CO2S_RULE"
"""Tag of every raster of pseudo-labels; a raster with it was written by co2s and may be replaced."""


@dataclass(frozen=True, slots=True)
class RoundFolder:
    """The folder of a round: a subfolder for each kind of raster, with a file for each scene, named as the scene."""

    path: Path

    @property
    def data(self) -> Path:
        """The data.yaml on which the next round trains; written last."""
        return self.path / "data.yaml"

    @property
    def report(self) -> Path:
        """The report with the figures of all scenes."""
        return self.path / "pseudo.json"

    def targets(self, scenes: Iterable[str], beside: Iterable[str], scratch: Path | None = None) -> list[Target]:
        """The target of each scene: its raster of candidates, and further rasters of the kinds `beside`."""
        return targets_in(scenes, self.path / CANDIDATES, {name: self.path / name for name in beside}, scratch)

    def label_rasters(self, target: Target) -> dict[str, Path]:
        """Paths of a scene's labels, mask of reasons and weights, which are made from its candidates, by name."""
        return {name: self.path / name / target.out.name for name in (LABELS, MASK, WEIGHTS)}

    def all_rasters(self, target: Target) -> dict[str, Path]:
        """Paths of every raster of a scene by name, those of its candidates included."""
        return {**self.label_rasters(target), **{CANDIDATES if n == CLASS else n: p for n, p in target.outputs.items()}}

    def outputs(self, targets: Sequence[Target]) -> list[Path]:
        """Every output except the candidates: data.yaml, report, and labels, masks and weights of all scenes."""
        return [self.data, self.report, *(path for target in targets for path in self.label_rasters(target).values())]

    def check(self, targets: Sequence[Target], *, overwrite: bool, resume: bool) -> None:
        """Refuse to overwrite a finished round, and rasters that co2s has not written.

        Raises:
            OutputError: names the existing file.
        """
        rasters = [path for target in targets for path in self.label_rasters(target).values()]
        is_resumed = resume and self.report.exists()
        if self.data.exists() and not (overwrite or is_resumed):
            raise OutputError(
                f"{self.data}: exists and is not overwritten", hint="add --overwrite, or choose another --out"
            )
        foreign = [path for path in rasters if path.exists() and not overwrite and not _is_ours(path)]
        if foreign:
            raise OutputError(
                f"{foreign[0]}: exists, and is no pseudo-label that co2s has written",
                hint="choose another --out, or add --overwrite",
            )

    def remove_data_yaml(self) -> None:
        """Remove the data.yaml of an earlier run, because it names rasters that are about to change."""
        self.data.unlink(missing_ok=True)

    def make_subfolders(self, targets: Sequence[Target]) -> None:
        """Create a subfolder for each kind of raster."""
        folders = {path.parent for target in targets for path in self.all_rasters(target).values()}
        for folder in sorted(folders):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(f"{folder}: cannot be made into a folder ({error.strerror})") from error
            check_writable(folder)


def read_tags(path: Path) -> Mapping[str, str]:
    """The tags of a raster."""
    with reading(str(path)) as dataset:
        return dict(dataset.tags())


def _is_ours(path: Path) -> bool:
    """Whether co2s has written a raster as part of a round."""
    return RULE_TAG in read_tags(path)

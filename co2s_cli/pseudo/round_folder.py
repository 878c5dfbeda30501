"""Where a round of pseudo-labelling writes, and what it must not write over."""

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
"""In every raster that was cut: by it such a raster is known to be ours to replace."""


@dataclass(frozen=True, slots=True)
class RoundFolder:
    """The folder of a round: a subfolder for each kind of raster, in it a file for each scene, named as the scene."""

    path: Path

    @property
    def data(self) -> Path:
        """What the next round trains on; written last."""
        return self.path / "data.yaml"

    @property
    def report(self) -> Path:
        """All figures."""
        return self.path / "pseudo.json"

    def targets(self, scenes: Iterable[str], beside: Iterable[str], scratch: Path | None = None) -> list[Target]:
        """What is written for each scene: its candidates, and the rasters of the kinds `beside`."""
        return targets_in(scenes, self.path / CANDIDATES, {name: self.path / name for name in beside}, scratch)

    def cut_of(self, target: Target) -> dict[str, Path]:
        """The rasters that are cut from a scene's candidates."""
        return {name: self.path / name / target.out.name for name in (LABELS, MASK, WEIGHTS)}

    def all_of(self, target: Target) -> dict[str, Path]:
        """Every raster of a scene."""
        return {**self.cut_of(target), **{CANDIDATES if n == CLASS else n: p for n, p in target.outputs.items()}}

    def outputs(self, targets: Sequence[Target]) -> list[Path]:
        """What is written beside the candidates."""
        return [self.data, self.report, *(path for target in targets for path in self.cut_of(target).values())]

    def check(self, targets: Sequence[Target], *, overwrite: bool, resume: bool) -> None:
        """Refuse to write over a round that is whole, and over rasters of other origin.

        Raises:
            OutputError: what is there, and what can be done.
        """
        cut = [path for target in targets for path in self.cut_of(target).values()]
        ours = resume and self.report.exists()
        if self.data.exists() and not (overwrite or ours):
            raise OutputError(
                f"{self.data}: exists and is not overwritten", hint="add --overwrite, or choose another --out"
            )
        foreign = [path for path in cut if path.exists() and not overwrite and not _is_ours(path)]
        if foreign:
            raise OutputError(
                f"{foreign[0]}: exists, and is no pseudo-label of an unfinished run",
                hint="choose another --out, or add --overwrite",
            )

    def open_again(self) -> None:
        """Remove the data.yaml of an earlier cut: it names rasters that are about to change."""
        self.data.unlink(missing_ok=True)

    def make(self, targets: Sequence[Target]) -> None:
        """Make all folders."""
        kinds = {path.parent for target in targets for path in self.all_of(target).values()}
        for folder in sorted(kinds):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(f"{folder}: cannot be made into a folder ({error.strerror})") from error
            check_writable(folder)


def tags_of(path: Path) -> Mapping[str, str]:
    """The tags of a raster."""
    with reading(str(path)) as dataset:
        return dict(dataset.tags())


def _is_ours(path: Path) -> bool:
    return RULE_TAG in tags_of(path)

"""Settings of `co2s predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from co2s_cli.addresses import address_of, has_file_suffix
from co2s_cli.config.flags import Flag
from co2s_cli.config.mapping import MapConfig
from co2s_cli.students import Fusion


def _is_folder(path: Path) -> bool:
    """Whether an output path is a folder; in object storage, whether the name has no suffix."""
    address = address_of(path)
    return path.is_dir() if address is None else not has_file_suffix(address)


class PredictConfig(MapConfig):
    """Settings of `co2s predict`: one map per scene."""

    remote_outputs = frozenset({"out", "confidence", "probabilities", "disagreement", "vector", "preview"})

    out: Annotated[Path, Flag("--out", "-o", "--output", panel="Output")]
    """Map to write: a file, or an address s3://, gs://, az://; for several scenes a folder."""
    fusion: Annotated[Fusion | None, Flag(panel="Model")] = None
    """How the students' probabilities are combined: mean, per pixel the surer student (confident), or one student
    alone. Default: as the model file says."""
    min_confidence: Annotated[float, Flag("--min-confidence", "--min-conf", panel="Output")] = Field(0.0, ge=0, le=1)
    """Pixels with less confidence get no class (255)."""
    confidence: Annotated[Path | None, Flag(panel="Output")] = None
    """Also write a raster with the confidence of each pixel, 0 to 1."""
    probabilities: Annotated[Path | None, Flag(panel="Output")] = None
    """Also write a raster with all class probabilities, one band per class."""
    probability_type: Annotated[Literal["uint8", "float32"], Flag(panel="Output")] = "uint8"
    """Data type of the --probabilities raster; uint8 is scaled."""
    disagreement: Annotated[Path | None, Flag(panel="Output")] = None
    """Also write a raster with the distance between the students' probabilities, 0 to 1."""
    vector: Annotated[Path | None, Flag(panel="Output")] = None
    """Also write the map as polygons (.gpkg .fgb .parquet .geojson)."""
    preview: Annotated[Path | None, Flag(panel="Output")] = None
    """Also write a PNG of the map over the image, with legend, scale bar and areas."""
    stac: Annotated[bool, Flag(panel="Output")] = False
    """Also write a STAC item next to each map, with the same name and suffix .json."""

    @model_validator(mode="after")
    def _outputs_differ(self) -> PredictConfig:
        outputs = [path for path in (self.out, *self.extra_outputs().values()) if path is not None]
        repeated = {str(path) for path in outputs if outputs.count(path) > 1 and not _is_folder(path)}
        if repeated:
            raise ValueError(f"outputs must differ, {', '.join(sorted(repeated))} is named twice")
        return self

    def extra_outputs(self) -> dict[str, Path | None]:
        """Path of each output other than the map, by its setting; None if it is not asked for."""
        names = ("confidence", "probabilities", "disagreement", "vector", "preview")
        item = (self.out if _is_folder(self.out) else self.out.with_suffix(".json")) if self.stac else None
        return {**{name: getattr(self, name) for name in names}, "stac": item}

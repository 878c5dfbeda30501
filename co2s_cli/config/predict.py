"""Settings of `co2s predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from co2s_cli.addresses import address_of, names_a_file
from co2s_cli.config.flags import Flag
from co2s_cli.config.mapping import MapConfig
from co2s_cli.students import Fusion


def _is_folder(path: Path) -> bool:
    """Whether an output is the folder of several; in object storage a name without suffix is one."""
    address = address_of(path)
    return path.is_dir() if address is None else not names_a_file(address)


class PredictConfig(MapConfig):
    """A map for every scene."""

    remote_outputs = frozenset({"out", "confidence", "probabilities", "disagreement", "vector", "preview"})

    out: Annotated[Path, Flag("--out", "-o", "--output", panel="Output")]
    """Map to write, a file or s3://, gs://, az://; a folder where there are several scenes."""
    fusion: Annotated[Fusion | None, Flag(panel="Model")] = None
    """How the students become one: mean, the surer one per pixel (confident), or one alone; else as the model says."""
    min_confidence: Annotated[float, Flag("--min-confidence", "--min-conf", panel="Output")] = Field(0.0, ge=0, le=1)
    """Pixels that are less sure get no class (255)."""
    confidence: Annotated[Path | None, Flag(panel="Output")] = None
    """Raster of how sure each pixel is, 0 to 1."""
    probabilities: Annotated[Path | None, Flag(panel="Output")] = None
    """Raster of all class probabilities, one band a class."""
    probability_type: Annotated[Literal["uint8", "float32"], Flag(panel="Output")] = "uint8"
    """How probabilities are stored; uint8 is scaled."""
    disagreement: Annotated[Path | None, Flag(panel="Output")] = None
    """Raster of how far the two students are apart, 0 to 1."""
    vector: Annotated[Path | None, Flag(panel="Output")] = None
    """Polygons of the map (.gpkg .fgb .parquet .geojson)."""
    preview: Annotated[Path | None, Flag(panel="Output")] = None
    """PNG with the map over the image, legend, scale and areas."""
    stac: Annotated[bool, Flag(panel="Output")] = False
    """Write a STAC item beside each map, called as the map is (.json)."""

    @model_validator(mode="after")
    def _outputs_differ(self) -> PredictConfig:
        outputs = [path for path in (self.out, *self.beside().values()) if path is not None]
        repeated = {str(path) for path in outputs if outputs.count(path) > 1 and not _is_folder(path)}
        if repeated:
            raise ValueError(f"outputs must differ, {', '.join(sorted(repeated))} is named twice")
        return self

    def beside(self) -> dict[str, Path | None]:
        """What is written beside the map, by name."""
        names = ("confidence", "probabilities", "disagreement", "vector", "preview")
        item = (self.out if _is_folder(self.out) else self.out.with_suffix(".json")) if self.stac else None
        return {**{name: getattr(self, name) for name in names}, "stac": item}

"""Settings that are shared by all commands that run a model over scenes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from co2s_cli.config.base import Settings
from co2s_cli.config.flags import BANDS_FLAG, Argument, Flag
from co2s_cli.config.shard import ShardOf
from co2s_cli.config.units import Bands, Bytes, Nodata


def parse_bounds(value: Any) -> Any:
    """Four numbers from a comma-separated text; any other value as it is."""
    if not isinstance(value, str):
        return value
    try:
        west, south, east, north = (float(part) for part in value.split(","))
    except ValueError:
        raise ValueError("wants W,S,E,N: four numbers with commas between") from None
    return west, south, east, north


def parse_names(value: Any) -> Any:
    """List of the names in one or several comma-separated texts; any other value as it is."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        return value
    return [name.strip() for text in texts for name in text.split(",") if name.strip()]


def parse_batch(value: Any) -> Any:
    """None for 'auto', any other value as it is."""
    return None if str(value).strip().lower() == "auto" else value


class ModelRunConfig(Settings):
    """How a model is run over a scene, whichever outputs are made from its probabilities."""

    model: Annotated[Path | None, Flag("--model", "-m", panel="Model")] = None
    """Model file, as a path or an address. Default: $CO2S_MODEL, else the demonstration model."""
    tile: Annotated[int | None, Flag("--tile", "--patch-size", panel="Model")] = Field(None, ge=16, le=16384)
    """Side of a window in pixels. Default: as the model file says: the size that it learnt."""
    overlap: Annotated[float | None, Flag(panel="Model")] = Field(None, ge=0, le=0.9)
    """Share of a window's side that overlaps the next window. Default: as the model file says, mostly 0.25."""
    batch: Annotated[
        int | None, Field(ge=1, le=65_536), BeforeValidator(parse_batch), Flag("--batch", "--batch-size", panel="Speed")
    ] = None
    """Windows per batch, or auto: 1 on a CPU, on a GPU what suits model and device. Default: auto."""
    device: Annotated[str, Flag(panel="Speed")] = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    precision: Annotated[Literal["auto", "fp32", "bf16", "fp16"], Flag(panel="Speed")] = "auto"
    """Number format; auto: bf16 if the device is fast at it, else fp32."""
    compile: Annotated[bool, Flag(panel="Speed")] = False
    """Compile the model with torch.compile: takes minutes at the start, then maps faster."""
    tta: Annotated[Literal["none", "flips", "d4"], Flag(panel="Model")] = "none"
    """Test-time augmentation: average over 4 flipped views (flips) or 8 flipped and turned views (d4) of each
    window."""
    bands: Annotated[Bands, BANDS_FLAG] = Field([])
    """Bands of the scene in the model's order: 3,2,1 or red,green,blue or 1..3. Default: all but alpha."""
    scale: Annotated[str, Flag(panel="Input")] = "model"
    """Scaling of the scene's values to [0, 1]: model (as the model file says), auto (by sample type and statistics of
    the scene), LO,HI (these two values), p2-98 (these percentiles) or none."""
    nodata: Annotated[Nodata, Flag(panel="Input", metavar="NUMBER|none")] = None
    """Nodata value of the scene; overrides the one in the file. none: every value is data."""
    aoi: Annotated[Path | None, Flag(panel="Input")] = None
    """Area of interest: polygons in any vector format and CRS; pixels outside get no class."""
    bounds: Annotated[
        Annotated[tuple[float, float, float, float] | None, BeforeValidator(parse_bounds)],
        Flag("--bounds", "--bbox", panel="Input", metavar="W,S,E,N"),
    ] = None
    """Bounding box west,south,east,north in the scene's CRS; pixels outside get no class."""
    res: Annotated[float | None, Flag("--res", "-r", panel="Input")] = Field(None, gt=0)
    """Metres per pixel to which the scene is resampled for the model; the map keeps the scene's grid."""
    mem_limit: Annotated[Bytes | None, Flag(panel="Speed", metavar="SIZE")] = None
    """Most memory of all processes together, such as 4GB. Default: half of the free memory, at most 8 GB."""
    device_mem: Annotated[Bytes | None, Flag(panel="Speed", metavar="SIZE")] = None
    """Most memory to use on the GPU. Default: 90 % of the free memory."""
    workers: Annotated[int | None, Flag("--workers", "-j", "--jobs", panel="Speed")] = Field(None, ge=1, le=1024)
    """Processes that share one scene. Default: 1, or one per GPU."""


class MapConfig(ModelRunConfig):
    """How a model is run over several scenes."""

    remote_inputs = frozenset({"model", "aoi"})

    _lists: tuple[str, ...] = PrivateAttr(())

    def naming(self, scenes: list[str]) -> Self:
        """A copy with single `scenes`, to which the lists, globs and catalogues of these settings were expanded."""
        expanded = self.model_copy(update={"scenes": scenes, "assets": []})
        expanded._lists = (*self._lists, *(name for name in self.scenes if name not in scenes))
        return expanded

    @property
    def lists(self) -> tuple[str, ...]:
        """The lists, globs and catalogues as the user named them, which `naming` has expanded to scenes."""
        return self._lists

    scenes: Annotated[list[str], Argument("SCENE", repeats=True)] = Field(min_length=1)
    """Rasters (GeoTIFF, COG, VRT, JPEG2000, any that GDAL opens) as paths, /vsi…, https://, s3://, gs:// or az://; or a
    folder, a glob (also of a bucket), @list.txt, or STAC (.json)."""
    assets: Annotated[list[str], BeforeValidator(parse_names), Flag(panel="Input", metavar="NAME,…", repeats=True)] = (
        Field([])
    )
    """STAC only: assets that become the bands, in this order, by key or common name: red,green,blue."""
    shard: Annotated[ShardOf, Flag(panel="Speed", metavar="K/N|auto|auto/N")] = None
    """Map only the K-th of N shares of the scenes; auto: take K (and N) from SLURM, AWS Batch or Kubernetes."""
    engine: Annotated[Literal["local", "ray"], Flag(panel="Speed")] = "local"
    """local: processes on this machine; ray: actors on a Ray cluster, --workers of them, else one per GPU or core."""
    address: Annotated[str | None, Flag(panel="Speed", metavar="auto|HOST:PORT|ray://…")] = None
    """Ray cluster to connect to. Default: start Ray on this machine."""
    scratch: Annotated[Path | None, Flag(panel="Output")] = None
    """Folder for unfinished maps, and for outputs before their upload. Default: next to the map; for outputs in object
    storage, the user's cache."""
    overwrite: Annotated[bool, Flag(panel="Output")] = False
    """Replace existing outputs, and discard unfinished work that was begun with other settings."""
    resume: Annotated[bool, Flag(panel="Output")] = False
    """Skip outputs that are complete and were made with the same settings."""
    dry_run: Annotated[bool, Flag(panel="Output")] = False
    """Print what would be made and the memory, disk space and time that it takes; write nothing."""
    co: Annotated[list[str], Flag(panel="Output", metavar="K=V", repeats=True)] = Field([])
    """Creation option of GDAL's COG driver, K=V; may be repeated."""

    @model_validator(mode="after")
    def _address_needs_ray(self) -> MapConfig:
        if self.address is not None and self.engine != "ray":
            raise ValueError("--address belongs to --engine ray")
        return self

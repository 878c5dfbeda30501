"""Settings that all commands share which run a model over scenes: where, how, and with how much memory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from co2s_cli.config.base import Settings
from co2s_cli.config.flags import Argument, Flag
from co2s_cli.config.shard import ShardOf
from co2s_cli.config.units import Bytes, Nodata
from co2s_cli.limits import MAX_BANDS

_MAX_DIGITS = 9
"""Of a band's number; longer ones name no band."""


def parse_bands(value: Any) -> Any:
    """Band numbers and names of '3,2,1', 'red,green,blue', '1..3' or several of these."""
    texts = value if isinstance(value, list | tuple) else [value]
    return [band for text in texts for part in str(text).split(",") if part.strip() for band in _band(part.strip())]


def _band(text: str) -> list[int | str]:
    span = re.fullmatch(r"(\d+)\.\.(\d+)", text)
    if span is None:
        return [int(text) if text.isdecimal() and len(text) <= _MAX_DIGITS else text]
    first, last = (int(end[:_MAX_DIGITS]) for end in span.groups())
    if abs(last - first) >= MAX_BANDS:
        raise ValueError(f"wants at most {MAX_BANDS} bands")
    step = 1 if last >= first else -1
    return list(range(first, last + step, step))


def parse_bounds(value: Any) -> Any:
    """Four numbers, also as one text with commas."""
    if not isinstance(value, str):
        return value
    try:
        west, south, east, north = (float(part) for part in value.split(","))
    except ValueError:
        raise ValueError("wants W,S,E,N: four numbers with commas between") from None
    return west, south, east, north


def parse_names(value: Any) -> Any:
    """Names with commas between, of one text or several."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        return value
    return [name.strip() for text in texts for name in text.split(",") if name.strip()]


def parse_batch(value: Any) -> Any:
    """A number of windows; 'auto' is None."""
    return None if str(value).strip().lower() == "auto" else value


class ModelRunConfig(Settings):
    """How a model is run over a scene, whatever is made of what it says."""

    model: Annotated[Path | None, Flag("--model", "-m", panel="Model")] = None
    """Model file or its address; $CO2S_MODEL where nothing is said, else the demonstration model."""
    tile: Annotated[int | None, Flag("--tile", "--patch-size", panel="Model")] = Field(None, ge=16, le=16384)
    """Side of a window in pixels; the model's own (mostly 512) where nothing is said."""
    overlap: Annotated[float, Flag(panel="Model")] = Field(0.25, ge=0, le=0.9)
    """Part of a window that it shares with its neighbours."""
    batch: Annotated[
        int | None, Field(ge=1, le=65_536), BeforeValidator(parse_batch), Flag("--batch", "--batch-size", panel="Speed")
    ] = None
    """Windows in a batch, or auto: 1 on a CPU, on a GPU what suits the model and the device."""
    device: Annotated[str, Flag(panel="Speed")] = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    precision: Annotated[Literal["auto", "fp32", "bf16", "fp16"], Flag(panel="Speed")] = "auto"
    """auto: bf16 where the device is quick at it, else fp32."""
    compile: Annotated[bool, Flag(panel="Speed")] = False
    """Compile the model first: minutes at the start, fewer later."""
    tta: Annotated[Literal["none", "flips", "d4"], Flag(panel="Model")] = "none"
    """Average over 4 flipped or 8 flipped and turned views of each window."""
    bands: Annotated[
        list[int | str],
        BeforeValidator(parse_bands),
        Flag("--bands", "--bidx", "-b", panel="Input", metavar="BAND,…", repeats=True),
    ] = Field([])
    """Bands in the model's order: 3,2,1, red,green,blue, 1..3; all but alpha where nothing is said."""
    scale: Annotated[str, Flag(panel="Input")] = "model"
    """Values to [0, 1]: model, auto (type and statistics of the scene), LO,HI, p2-98 (percentiles) or none."""
    nodata: Annotated[Nodata, Flag(panel="Input", metavar="NUMBER|none")] = None
    """Value without data, whatever the file says; none: every value is data."""
    aoi: Annotated[Path | None, Flag(panel="Input")] = None
    """Polygons, in any vector format and CRS; outside there is no class."""
    bounds: Annotated[
        Annotated[tuple[float, float, float, float] | None, BeforeValidator(parse_bounds)],
        Flag("--bounds", "--bbox", panel="Input", metavar="W,S,E,N"),
    ] = None
    """W,S,E,N in the scene's CRS; outside there is no class."""
    res: Annotated[float | None, Flag("--res", "-r", panel="Input")] = Field(None, gt=0)
    """Metres per pixel that the model sees; the map keeps the scene's pixels."""
    mem_limit: Annotated[Bytes | None, Flag(panel="Speed", metavar="SIZE")] = None
    """Memory of all processes together, such as 4GB; half of what is free, at most 8 GB, where nothing is said."""
    device_mem: Annotated[Bytes | None, Flag(panel="Speed", metavar="SIZE")] = None
    """Memory to take on the GPU; 90 % of what is free where nothing is said."""
    workers: Annotated[int | None, Flag("--workers", "-j", "--jobs", panel="Speed")] = Field(None, ge=1, le=1024)
    """Processes for one scene; one where nothing is said, or one for each GPU."""


class MapConfig(ModelRunConfig):
    """A model over every scene."""

    remote_inputs = frozenset({"model", "aoi"})

    _lists: tuple[str, ...] = PrivateAttr(())

    def naming(self, scenes: list[str]) -> Self:
        """The same settings, whose scenes are these, as found in what they were named by."""
        found = self.model_copy(update={"scenes": scenes, "assets": []})
        found._lists = (*self._lists, *(name for name in self.scenes if name not in scenes))
        return found

    @property
    def lists(self) -> tuple[str, ...]:
        """What the scenes were named by: lists, globs, catalogues."""
        return self._lists

    scenes: Annotated[list[str], Argument("SCENE", repeats=True)] = Field(min_length=1)
    """GeoTIFF, COG, VRT, JPEG2000, anything GDAL opens, /vsi…, https://, s3://, gs://, az://, a folder, a glob (of a
    bucket too), @list.txt, STAC (.json)."""
    assets: Annotated[list[str], BeforeValidator(parse_names), Flag(panel="Input", metavar="NAME,…", repeats=True)] = (
        Field([])
    )
    """Of STAC items the assets that become the bands, in this order, by key or common name: red,green,blue."""
    shard: Annotated[ShardOf, Flag(panel="Speed", metavar="K/N|auto|auto/N")] = None
    """Make the K-th of N shares of the scenes; auto: which one, SLURM, AWS Batch or Kubernetes tells."""
    engine: Annotated[Literal["local", "ray"], Flag(panel="Speed")] = "local"
    """local: processes of this command; ray: actors of a Ray cluster, --workers of them, or one a GPU or a core."""
    address: Annotated[str | None, Flag(panel="Speed", metavar="auto|HOST:PORT|ray://…")] = None
    """Ray cluster to use; where nothing is said, Ray is started on this machine."""
    scratch: Annotated[Path | None, Flag(panel="Output")] = None
    """Folder for unfinished work, and for outputs before they are uploaded; beside the map where nothing is said, or in
    the user's cache for outputs in object storage."""
    overwrite: Annotated[bool, Flag(panel="Output")] = False
    """Replace outputs that exist, and begin anew where unfinished work has other settings."""
    resume: Annotated[bool, Flag(panel="Output")] = False
    """Take what is whole and was made with the same settings as done."""
    dry_run: Annotated[bool, Flag(panel="Output")] = False
    """Say what would be done and what it takes, write nothing."""
    co: Annotated[list[str], Flag(panel="Output", metavar="K=V", repeats=True)] = Field([])
    """Creation option of the COG driver, K=V."""

    @model_validator(mode="after")
    def _address_of_ray(self) -> MapConfig:
        if self.address is not None and self.engine != "ray":
            raise ValueError("--address belongs to --engine ray")
        return self

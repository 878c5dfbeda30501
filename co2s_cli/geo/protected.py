"""Refuse outputs that would overwrite an input, also where the input is reached through links or virtual rasters."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from co2s_cli.addresses import address_of
from co2s_cli.errors import ConfigError
from co2s_cli.geo.stac import SCENE, read_scene

Named = tuple[str, str | Path]
"""Name of a flag or an argument, and the file that is its value."""

_VRT = re.compile(r"<VRTDataset\b", re.IGNORECASE)
_VRT_WITHIN = 1 << 16
"""Bytes from the start of a file in which the tag `<VRTDataset` must stand; only comments may precede it."""
_LARGEST_VRT = 100_000_000
"""Largest size in bytes of a file that is searched for sources of a virtual raster."""
_VRT_SOURCE = re.compile(
    r"<(?:SourceFilename|SourceDataset)\b([^>]*)>\s*(?:<!\[CDATA\[(.*?)\]\]>|([^<]*))", re.IGNORECASE | re.DOTALL
)
"""A source of a virtual raster, as GDAL reads XML: tags in any case, text plain or as CDATA."""
_RELATIVE = re.compile(r"relativeToVRT\s*=\s*[\"']1", re.IGNORECASE)
_SEPARATORS = re.compile(r"[@:,=\"'?&]|/vsi[a-z0-9_]+/")
"""What separates a file name from the other parts of a dataset name such as `NETCDF:"FILE":VARIABLE`."""


def check_apart(inputs: Iterable[Named], outputs: Iterable[Named]) -> None:
    """Refuse an output that is also an input or a source of one, and two outputs that are the same file.

    Links are resolved. The files of which a virtual raster is made count as inputs, also those of nested virtual
    rasters; a folder as an input stands for all files directly in it. Pixels are not read.

    Raises:
        ConfigError: names the output and the input, or both outputs.
    """
    input_by_file: dict[object, str] = {}
    for flag, source in inputs:
        for path in files_behind(str(source)):
            via = "" if path == Path(source) else f", by way of {path}"
            input_by_file.setdefault(_identity(path), f"{flag} {source}{via}")
    flag_by_file: dict[object, str] = {}
    for flag, output in outputs:
        path = Path(output)
        overwritten = input_by_file.get(_identity(path)) or input_by_file.get(_identity(path.parent))
        if overwritten is not None:
            raise ConfigError(
                f"{flag} {output}: would overwrite an input of this command ({overwritten})",
                hint="choose another name",
            )
        first_flag = flag_by_file.setdefault(_identity(path), flag)
        if first_flag != flag:
            raise ConfigError(f"{flag} {output}: {first_flag} writes the same file", hint="choose another name")


def leads_to_file(text: str) -> bool:
    """Whether a text is the name of an existing file, or contains one, so that a setting may read that file."""
    return any(os.path.isfile(path) for path in files_behind(text))


def _identity(path: Path) -> object:
    """A key that is equal for two names of the same file or folder, whether it exists or not."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # does not exist, or no valid file name
        return os.path.realpath(path)
    return status.st_dev, status.st_ino


def files_behind(source: str) -> Iterator[Path]:
    """Files and folders to which a name leads, also through virtual rasters and STAC items; addresses become paths."""
    seen: set[str] = set()
    names = [source]
    while names:
        name = names.pop()
        if name in seen:
            continue
        seen.add(name)
        if address_of(name):
            yield Path(name)
            continue
        if _is_vrt(name):  # the XML of a virtual raster in place of a file name
            names += _sources(name, Path())
            continue
        for path in _paths_in(name):
            yield path
            if path.suffix == SCENE and path.is_file():
                names += [asset["href"] for asset in read_scene(str(path))["assets"].values()]
            else:
                names += _sources(_text_of_vrt(path), path.parent)


def _paths_in(name: str) -> list[Path]:
    """The paths in a name: the name itself, or the files in names like `@list`, `/vsizip/…`, `DRIVER:"FILE":PART`."""
    if not name or os.path.exists(name) or not _SEPARATORS.search(name):
        return [Path(name)] if name else []
    paths = []
    for piece in filter(None, _SEPARATORS.split(name)):
        paths += [path for path in (Path(piece), *Path(piece).parents) if _is_file(path)][:1]
    return paths


def _text_of_vrt(path: Path) -> str:
    """The text of a virtual raster; empty if the file is something else."""
    try:
        if not os.path.isfile(path) or path.stat().st_size > _LARGEST_VRT:
            return ""
        with path.open("rb") as file:
            start = file.read(_VRT_WITHIN)
            text = start + file.read() if _VRT.search(os.fsdecode(start)) else b""
    except OSError:
        return ""
    return os.fsdecode(text)


def _is_vrt(name: str) -> bool:
    """Whether a name is itself the XML of a virtual raster."""
    return name.lstrip().startswith("<") and _VRT.search(name) is not None


def _is_file(path: Path) -> bool:
    """Whether a path exists and is no folder: a file, a pipe or a device."""
    return os.path.exists(path) and not os.path.isdir(path)


def _sources(vrt: str, folder: Path) -> list[str]:
    """The names of the rasters of which the virtual raster with the text `vrt`, in `folder`, is made."""
    names = []
    for attributes, cdata, text in _VRT_SOURCE.findall(vrt):
        name = cdata.strip() or html.unescape(text).strip()
        if name:
            names.append(str(folder / name) if _RELATIVE.search(attributes) and not _is_vrt(name) else name)
    return names

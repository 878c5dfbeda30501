"""Inputs are never outputs: every file that a command reads is told from every file that it writes."""

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
"""A flag or an argument, and the file that it names."""

_VRT = re.compile(r"<VRTDataset\b", re.IGNORECASE)
_VRT_WITHIN = 1 << 16
"""Bytes from the start in which a virtual raster says that it is one; what stands before are comments."""
_LARGEST_VRT = 100_000_000
_VRT_SOURCE = re.compile(
    r"<(?:SourceFilename|SourceDataset)\b([^>]*)>\s*(?:<!\[CDATA\[(.*?)\]\]>|([^<]*))", re.IGNORECASE | re.DOTALL
)
"""As GDAL reads XML: names in any case, text plain or as CDATA."""
_RELATIVE = re.compile(r"relativeToVRT\s*=\s*[\"']1", re.IGNORECASE)
_SEPARATORS = re.compile(r"[@:,=\"'?&]|/vsi[a-z0-9_]+/")
"""Between the file in a name that only GDAL or a setting resolves, and what else the name says."""


def check_apart(inputs: Iterable[Named], outputs: Iterable[Named]) -> None:
    """Refuse an output that is an input or lies behind one, and two outputs of one name; only names are looked at.

    Links are resolved. Of a virtual raster the files that it is made of count as inputs, those of nested ones as well;
    a folder stands for all files right in it.

    Raises:
        ConfigError: names the output and the input.
    """
    read: dict[object, str] = {}
    for flag, source in inputs:
        for path in files_behind(str(source)):
            behind = "" if path == Path(source) else f", by way of {path}"
            read.setdefault(_identity(path), f"{flag} {source}{behind}")
    written: dict[object, str] = {}
    for flag, output in outputs:
        path = Path(output)
        origin = read.get(_identity(path)) or read.get(_identity(path.parent))
        if origin is not None:
            raise ConfigError(
                f"{flag} {output}: would be written over what this very command reads ({origin})",
                hint="choose another name",
            )
        other = written.setdefault(_identity(path), flag)
        if other != flag:
            raise ConfigError(f"{flag} {output}: {other} writes the same file", hint="choose another name")


def leads_to_file(text: str) -> bool:
    """Whether a text is the name of a file, or holds one, so that it may be what a setting reads."""
    return any(os.path.isfile(path) for path in files_behind(text))


def _identity(path: Path) -> object:
    """Equal for two names of one file or folder, whether it is there or not."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # not there, or no possible name
        return os.path.realpath(path)
    return status.st_dev, status.st_ino


def files_behind(source: str) -> Iterator[Path]:
    """The files and folders of this machine that a name leads to, through virtual rasters and items of STAC too."""
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
        if _is_vrt(name):  # the raster itself in place of its name
            names += _sources(name, Path())
            continue
        for path in _paths_in(name):
            yield path
            if path.suffix == SCENE and path.is_file():
                names += [asset["href"] for asset in read_scene(str(path))["assets"].values()]
            else:
                names += _sources(_text_of_vrt(path), path.parent)


def _paths_in(name: str) -> list[Path]:
    """The paths that a name holds: itself, or of `@list`, `/vsizip/…`, `DRIVER:"FILE":PART` and the like the files."""
    if not name or os.path.exists(name) or not _SEPARATORS.search(name):
        return [Path(name)] if name else []
    paths = []
    for piece in filter(None, _SEPARATORS.split(name)):
        paths += [path for path in (Path(piece), *Path(piece).parents) if _is_file(path)][:1]
    return paths


def _text_of_vrt(path: Path) -> str:
    """The text of a virtual raster; nothing where the file is something else."""
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
    """Whether a name is a virtual raster itself."""
    return name.lstrip().startswith("<") and _VRT.search(name) is not None


def _is_file(path: Path) -> bool:
    """Whether something is there that is no folder: a file, or what must not be opened as one."""
    return os.path.exists(path) and not os.path.isdir(path)


def _sources(vrt: str, folder: Path) -> list[str]:
    """The names of what a virtual raster in a folder is made of."""
    found = []
    for options, verbatim, text in _VRT_SOURCE.findall(vrt):
        name = verbatim.strip() or html.unescape(text).strip()
        if name:
            found.append(str(folder / name) if _RELATIVE.search(options) and not _is_vrt(name) else name)
    return found

"""Scenes as people name them on a command line: files, folders, globs, lists and addresses."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from co2s_cli.errors import InputError, shown
from co2s_cli.files import read_text

SUFFIXES = frozenset({".tif", ".tiff", ".gtiff", ".vrt", ".jp2", ".j2k", ".img", ".ntf", ".png", ".jpg", ".jpeg"})
"""What counts as a scene inside a folder."""


def expand_sources(arguments: Iterable[str]) -> list[str]:
    """Every scene that the arguments name, in their order, none twice.

    A folder stands for the rasters right in it, a glob for its matches (both sorted by name), `@list.txt` for the
    arguments in its lines (empty lines and those that begin with # are skipped). Addresses (`/vsi…`, `s3://…`,
    `https://…`) and plain file names are kept as they are, also where no such file exists: opening it tells that.
    """
    sources: dict[str, None] = {}
    for argument in arguments:
        sources.update(dict.fromkeys(_expand(str(argument))))
    return list(sources)


def is_local(source: str) -> bool:
    """Whether `source` is a path of this machine's file system rather than an address that only GDAL resolves."""
    return "://" not in source and not source.startswith("/vsi")


def _expand(argument: str) -> list[str]:
    if not is_local(argument):
        return [argument]
    if argument.startswith("@"):
        return [source for line in _lines(Path(argument[1:])) for source in _expand(line)]
    path = Path(argument)
    if path.is_dir():
        return _rasters(path)
    if path.exists() or not glob.has_magic(argument):
        return [argument]
    matches = sorted(match for match in glob.glob(argument, recursive=True) if Path(match).is_file())
    if not matches:
        raise InputError(f"{argument}: matches no file")
    return matches


def _rasters(folder: Path) -> list[str]:
    found = sorted(
        str(path)
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    )
    if not found:
        raise InputError(f"{folder}: holds no raster", hint=f"known suffixes: {' '.join(sorted(SUFFIXES))}")
    return found


def _lines(path: Path) -> list[str]:
    """The scenes that a list names, one a line; a list names no other list."""
    lines = [line.strip() for line in read_text(path).splitlines()]
    sources = [line for line in lines if line and not line.startswith("#")]
    if not sources:
        raise InputError(f"{path}: lists no scene")
    for line in sources:
        if line.startswith("@"):
            raise InputError(f"{path}: lists another list, {shown(line)}", hint="list its scenes themselves")
        if "\0" in line:
            raise InputError(f"{path}: is no list of scenes, a line is {shown(line)}")
    return sources

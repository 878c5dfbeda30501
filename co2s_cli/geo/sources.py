"""Expand the scenes that a command line names: files, folders, globs, lists, addresses and STAC documents."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath, PurePosixPath

from co2s_cli.addresses import address_of, is_bucket, split_bucket
from co2s_cli.cloud import cache_folder, list_objects
from co2s_cli.errors import ConfigError, InputError, shown
from co2s_cli.files import read_text
from co2s_cli.geo import stac

SUFFIXES = frozenset({".tif", ".tiff", ".gtiff", ".vrt", ".jp2", ".j2k", ".img", ".ntf", ".png", ".jpg", ".jpeg"})
"""Suffixes of the files in a folder that count as scenes."""

_KNOWN = f"known suffixes: {' '.join(sorted(SUFFIXES))}"


def expand_sources(arguments: Iterable[str], assets: Sequence[str] = (), folder: Path | None = None) -> list[str]:
    """Every scene that the arguments name, in the order of the arguments, without repetition.

    - A folder stands for the rasters directly in it and a glob for its matches, both sorted by name; so do folders
      (`s3://bucket/2026/`) and globs of buckets.
    - `@list.txt` stands for the arguments in its lines; empty lines and lines that begin with # are skipped.
    - A STAC document stands for its items; each becomes a file in `folder` that names the rasters of `assets`.
    - Other addresses (`/vsi…`, `https://…`) and plain file names are kept as they are, even if no such file exists:
      the error comes when it is opened.

    Expanding the resulting names again gives the same names.
    """
    sources: dict[str, None] = {}
    for argument in arguments:
        for source in _expand(str(argument)):
            if stac.is_stac(source):
                sources.update(dict.fromkeys(stac.scenes_of(source, assets, folder or cache_folder() / "items")))
            else:
                sources[source if not source.startswith("@") else f"./{source}"] = None
    if assets and not any(source.endswith(stac.SCENE) for source in sources):
        raise ConfigError(f"--assets {','.join(assets)}: none of the scenes is a STAC item (.json)")
    return list(sources)


def is_local(source: str) -> bool:
    """Whether `source` is a path of this machine's file system rather than an address that only GDAL resolves."""
    return "://" not in source and not source.startswith("/vsi")


def _expand(argument: str) -> list[str]:
    """The scenes or STAC documents that one argument names."""
    if not is_local(argument):
        return _in_bucket(argument)
    if argument.startswith("@"):
        return [source for line in _lines(Path(argument[1:])) for source in _expand(line)]
    path = Path(argument)
    if path.is_dir():
        return _rasters(path)
    if path.exists() or not glob.has_magic(argument):
        return [argument]
    matches = sorted(match for match in glob.glob(argument, recursive=True) if Path(match).is_file())
    if not matches:
        raise InputError(f"{argument}: this pattern matches no file")
    return matches


def _in_bucket(address: str) -> list[str]:
    """The objects that a folder or a glob of a bucket stands for; any other address stands for itself."""
    if address_of(address) is None or not is_bucket(address):
        return [address]
    scheme, bucket, key = split_bucket(address)
    if not key or key.endswith("/"):
        rasters = [name for name in list_objects(address, deep=False) if _is_raster(PurePosixPath(name))]
        if not rasters:
            raise InputError(f"{address}: holds no raster", hint=_KNOWN)
        return rasters
    if not glob.has_magic(key):
        return [address]
    folder = re.split(r"[*?\[]", key, maxsplit=1)[0].rpartition("/")[0]
    names = list_objects(f"{scheme}://{bucket}/{folder}", deep=True)
    pattern = re.compile(f"{re.escape(f'{scheme}://{bucket}/')}{_pattern(key)}")
    matches = [address] if address in names else [name for name in names if pattern.fullmatch(name)]
    if not matches:
        raise InputError(f"{address}: this pattern matches no object")
    return matches


def _pattern(key: str) -> str:
    """A glob as a regular expression: `**/` matches any number of folders, other wildcards stay within one folder."""
    parts = re.split(r"(\*\*/|\*+|\?|\[!?[^]/]+\])", key)
    wildcards = {"**/": "(?:.*/)?", "?": "[^/]"}
    return "".join(
        wildcards.get(part)
        or ("[^/]*" if part[0] == "*" else part.replace("[!", "[^") if part[0] == "[" else "")
        or re.escape(part)
        for part in parts
        if part
    )


def _is_raster(path: PurePath) -> bool:
    """Whether a file counts as a scene: by its suffix, and not hidden."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _rasters(folder: Path) -> list[str]:
    """The rasters directly in a folder, sorted by name."""
    rasters = sorted(str(path) for path in folder.iterdir() if _is_raster(path) and path.is_file())
    if not rasters:
        raise InputError(f"{folder}: holds no raster", hint=_KNOWN)
    return rasters


def _lines(path: Path) -> list[str]:
    """The arguments in the lines of a list; a list must not name another list."""
    lines = [line.strip() for line in read_text(path).splitlines()]
    sources = [line for line in lines if line and not line.startswith("#")]
    if not sources:
        raise InputError(f"{path}: lists no scene")
    for line in sources:
        if line.startswith("@"):
            raise InputError(
                f"{path}: lists another list, {shown(line)}", hint="copy the lines of that list into this one"
            )
        if "\0" in line:
            raise InputError(f"{path}: is no list of scenes: the line {shown(line)} is no file name")
    return sources

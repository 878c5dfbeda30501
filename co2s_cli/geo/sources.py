"""Scenes as people name them on a command line: files, folders, globs, lists and addresses."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath, PurePosixPath

from co2s_cli.addresses import address_of, is_bucket, split_bucket
from co2s_cli.cloud import cache_folder, listed
from co2s_cli.errors import ConfigError, InputError, shown
from co2s_cli.files import read_text
from co2s_cli.geo import stac

SUFFIXES = frozenset({".tif", ".tiff", ".gtiff", ".vrt", ".jp2", ".j2k", ".img", ".ntf", ".png", ".jpg", ".jpeg"})
"""What counts as a scene inside a folder."""

_KNOWN = f"known suffixes: {' '.join(sorted(SUFFIXES))}"


def expand_sources(arguments: Iterable[str], assets: Sequence[str] = (), folder: Path | None = None) -> list[str]:
    """Every scene that the arguments name, in their order, none twice; these names stand for themselves.

    A folder stands for the rasters right in it, a glob for its matches (both sorted by name), `@list.txt` for the
    arguments in its lines (empty lines and those that begin with # are skipped); folders (`s3://bucket/2026/`) and
    globs of buckets likewise. Other addresses (`/vsi…`, `https://…`) and plain file names are kept as they are, also
    where no such file exists: opening it tells that. A STAC document stands for its items, each as a file in `folder`
    that names the rasters of `assets`.
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
        raise InputError(f"{argument}: matches no file")
    return matches


def _in_bucket(address: str) -> list[str]:
    """What a folder or a glob of a bucket stands for; any other address is itself."""
    if address_of(address) is None or not is_bucket(address):
        return [address]
    scheme, bucket, key = split_bucket(address)
    if not key or key.endswith("/"):
        found = [name for name in listed(address, deep=False) if _is_raster(PurePosixPath(name))]
        if not found:
            raise InputError(f"{address}: holds no raster", hint=_KNOWN)
        return found
    if not glob.has_magic(key):
        return [address]
    folder = re.split(r"[*?\[]", key, maxsplit=1)[0].rpartition("/")[0]
    names = listed(f"{scheme}://{bucket}/{folder}", deep=True)
    matches = re.compile(f"{re.escape(f'{scheme}://{bucket}/')}{_pattern(key)}")
    found = [address] if address in names else [name for name in names if matches.fullmatch(name)]
    if not found:
        raise InputError(f"{address}: matches no object")
    return found


def _pattern(key: str) -> str:
    """A glob as a regular expression: `**/` is any number of folders, other marks stay within one."""
    parts = re.split(r"(\*\*/|\*+|\?|\[!?[^]/]+\])", key)
    marks = {"**/": "(?:.*/)?", "?": "[^/]"}
    return "".join(
        marks.get(part)
        or ("[^/]*" if part[0] == "*" else part.replace("[!", "[^") if part[0] == "[" else "")
        or re.escape(part)
        for part in parts
        if part
    )


def _is_raster(path: PurePath) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _rasters(folder: Path) -> list[str]:
    found = sorted(str(path) for path in folder.iterdir() if _is_raster(path) and path.is_file())
    if not found:
        raise InputError(f"{folder}: holds no raster", hint=_KNOWN)
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

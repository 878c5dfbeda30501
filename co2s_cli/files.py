"""Outputs that appear whole under their final name or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from co2s_cli.errors import OutputError


def check_output(path: Path, *, overwrite: bool) -> None:
    """Refuse, before any work, an output that exists, or whose folder is missing or read-only."""
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"{path}: folder {folder} does not exist", hint=f"mkdir -p {folder}")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder, a file name is wanted")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists and is not overwritten", hint="add --overwrite, or choose another name")
    check_writable(folder)


def check_writable(folder: Path) -> None:
    """Refuse a folder in which no file can be made (permission bits do not tell on read-only mounts, a try does)."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"{folder}: cannot write here ({error.strerror})") from error


@contextlib.contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Give a temporary name in the folder of `path`; rename it to `path` at the end, remove it after an exception.

    The suffix is kept, because writers choose their format by it. The file gets the permissions of any new file in
    the folder: some writers would keep it from everybody but its owner.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        temporary.touch()
        permissions = temporary.stat().st_mode
        temporary.unlink()
        yield temporary
        temporary.chmod(permissions)
        temporary.replace(path)
    except OSError as error:
        if error.errno is None:  # GDAL's, which may be about what was read
            raise
        raise OutputError(f"{path}: could not be written ({error.strerror})") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with appearing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")

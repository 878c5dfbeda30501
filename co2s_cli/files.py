"""Checks of input files, and atomic output files, which appear whole under their final name or not at all."""

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from co2s_cli.errors import InputError, OutputError, shown
from co2s_cli.limits import MAX_TEXT_BYTES

TEMPORARY = ".co2s."
"""Prefix of the names of all temporary folders."""

_LOCK = ".lock"
"""Name of the file in a temporary folder that is locked as long as its process lives."""


_COMPANION_SUFFIXES = (".aux.xml", ".ovr", ".msk", "-journal", "-wal", "-shm")
"""Appended to the name of a file by GDAL and SQLite to find files that they open with it."""


def check_readable(path: Path | str) -> None:
    """Refuse a path that is neither a regular file nor a folder: missing, a pipe, a device, no valid file name.

    Opening a pipe would wait for a writer, and reading a device may never end.

    Raises:
        InputError: the path is refused.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{shown(str(path))}: cannot be read ({getattr(error, 'strerror', error)})") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(f"{path}: cannot be read (not a regular file)")


def check_companions(path: Path | str) -> None:
    """Refuse a file beside which lies a pipe or a device with a name that GDAL or SQLite would open along with it.

    Raises:
        InputError: names that pipe or device.
    """
    for suffix in _COMPANION_SUFFIXES:
        if os.path.lexists(f"{path}{suffix}"):
            check_readable(f"{path}{suffix}")


def read_text(path: Path) -> str:
    """The text of a small file in UTF-8.

    Raises:
        InputError: the file is missing, not regular, larger than 10 MB, or no text in UTF-8.
    """
    check_readable(path)
    try:
        size = path.stat().st_size
        if size > MAX_TEXT_BYTES:
            raise InputError(f"{path}: has {size} bytes, text files of at most {MAX_TEXT_BYTES} are read")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read (not UTF-8 text)") from error


def check_output(path: Path, *, overwrite: bool, hint: str = "add --overwrite, or choose another name") -> None:
    """Refuse, before any work, an output that exists, or whose folder is missing or read-only.

    Temporary files that killed processes left of this output are removed.

    Raises:
        OutputError: the output is refused.
    """
    folder = path.parent
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise OutputError(f"{path}: the name of an output must be UTF-8 text") from None
    if not folder.is_dir():
        raise OutputError(f"{path}: folder {folder} does not exist", hint=f"mkdir -p {folder}")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder, the name of a file is wanted")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists and is not overwritten", hint=hint)
    check_writable(folder)
    clear_leftovers(path)


def check_writable(folder: Path) -> None:
    """Refuse a folder in which no file can be created.

    A file is created to find out, because permission bits say nothing about read-only mounts.

    Raises:
        OutputError: the folder is refused.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"{folder}: cannot write to this folder ({error.strerror})") from error


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; at the end of the `with` block the file is renamed to `path`.

    After an exception the temporary file is removed. It has the name of `path`, in a temporary folder, because writers
    choose the format by it. Its permissions are those of any new file; some writers would let only the owner read it.

    Raises:
        OutputError: the file cannot be written.
    """
    with _translated_errors(path), temporary_folder(path) as folder:
        temporary = folder / path.name
        temporary.touch()
        permissions = temporary.stat().st_mode
        temporary.unlink()
        yield temporary
        temporary.chmod(permissions)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # else the renamed file may be empty after a power cut
        temporary.replace(path)


@contextlib.contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Give a new folder beside the output `path`; it is removed at the end of the `with` block.

    Only this user may enter the folder and its name is random, so that nobody can place a link in it. A lock that ends
    with the process distinguishes it from folders that killed processes left.
    """
    folder = Path(tempfile.mkdtemp(prefix=_prefix(path), dir=path.parent))
    try:
        with (folder / _LOCK).open("w") as lock:
            with contextlib.suppress(
                OSError
            ):  # some file systems have no locks; `clear_leftovers` removes nothing there
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a new folder beside `path`; at the end of the `with` block it is renamed to `path` and replaces an old one.

    After an exception the new folder is removed and the old one stays.

    Raises:
        OutputError: the folder cannot be written.
    """
    with _translated_errors(path), temporary_folder(path) as folder:
        new, old = folder / "new", folder / "old"
        new.mkdir()
        yield new
        if path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise


@contextlib.contextmanager
def _translated_errors(path: Path) -> Iterator[None]:
    """Turn errors of the operating system into `OutputError`: `path` could not be written."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # an error of GDAL, which may be about an input
            raise
        raise OutputError(f"{path}: could not be written ({error.strerror})") from error


def clear_leftovers(path: Path) -> None:
    """Remove temporary folders that killed processes left of the output `path`."""
    for folder in path.parent.glob(f"{_prefix(path)}*"):
        with contextlib.suppress(OSError), (folder / _LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while the process lives
            shutil.rmtree(folder, ignore_errors=True)  # rmtree follows no links


def _prefix(path: Path) -> str:
    """Prefix of the temporary folders of `path`, with a hash: the name itself may be as long as a name can be."""
    return f"{TEMPORARY}{zlib.crc32(os.fsencode(path.name)):08x}."


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")

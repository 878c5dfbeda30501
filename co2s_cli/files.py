"""Files: inputs that can be read to their end, and outputs that appear whole under their name or not at all."""

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
"""How the names of all temporary folders begin."""

_IN_USE = ".lock"
"""In a temporary folder: the file that is locked as long as its process lives."""


_OPENED_WITH = (".aux.xml", ".ovr", ".msk", "-journal", "-wal", "-shm")


def check_readable(path: Path | str) -> None:
    """Refuse what is neither a file nor a folder: missing, a pipe, a device, a name that no file can have.

    Opening a pipe waits for whoever writes into it, and a device may never end.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{shown(str(path))}: cannot be read ({getattr(error, 'strerror', error)})") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(f"{path}: cannot be read (no regular file)")


def check_beside(path: Path | str) -> None:
    """Refuse pipes and devices that lie beside a file under names that GDAL and SQLite open with it.

    Raises:
        InputError: one of them is no regular file.
    """
    for suffix in _OPENED_WITH:
        if os.path.lexists(f"{path}{suffix}"):
            check_readable(f"{path}{suffix}")


def read_text(path: Path) -> str:
    """The text of a small file in UTF-8.

    Raises:
        InputError: missing, no regular file, larger than 10 MB, or no text.
    """
    check_readable(path)
    try:
        size = path.stat().st_size
        if size > MAX_TEXT_BYTES:
            raise InputError(f"{path}: has {size} bytes, a text that is read here has at most {MAX_TEXT_BYTES}")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read (no text in UTF-8)") from error


def check_output(path: Path, *, overwrite: bool, hint: str = "add --overwrite, or choose another name") -> None:
    """Refuse, before any work, an output that exists, or whose folder is missing or read-only.

    What killed processes left of it is removed.
    """
    folder = path.parent
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise OutputError(f"{path}: is no text in UTF-8, as the name of an output has to be") from None
    if not folder.is_dir():
        raise OutputError(f"{path}: folder {folder} does not exist", hint=f"mkdir -p {folder}")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder, a file name is wanted")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists and is not overwritten", hint=hint)
    check_writable(folder)
    clear_leftovers(path)


def check_writable(folder: Path) -> None:
    """Refuse a folder in which no file can be made (permission bits do not tell on read-only mounts, a try does)."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"{folder}: cannot write here ({error.strerror})") from error


@contextlib.contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` at the end, remove it after an exception.

    The file keeps its own name, because writers choose their format by it, and gets the permissions of any new file:
    some writers would keep it from everybody but its owner.
    """
    with _told(path), folder_beside(path) as folder:
        temporary = folder / path.name
        temporary.touch()
        permissions = temporary.stat().st_mode
        temporary.unlink()
        yield temporary
        temporary.chmod(permissions)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # else a file that has its name may be empty after a power cut
        temporary.replace(path)


@contextlib.contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """A new folder beside an output for what becomes of it; it is removed at the end.

    Only this user may enter it and nobody can guess its name, so that no link can wait there. A lock that ends with
    the process tells it from what a killed one has left.
    """
    folder = Path(tempfile.mkdtemp(prefix=_prefix(path), dir=path.parent))
    try:
        with (folder / _IN_USE).open("w") as lock:
            with contextlib.suppress(OSError):  # some file systems have no locks: nothing is cleared there
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def appearing_folder(path: Path) -> Iterator[Path]:
    """Give a new folder beside `path`; rename it to `path` at the end, in place of one that is there."""
    with _told(path), folder_beside(path) as folder:
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
def _told(path: Path) -> Iterator[None]:
    """Say of what the system refuses that `path` could not be written."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # GDAL's, which may be about what was read
            raise
        raise OutputError(f"{path}: could not be written ({error.strerror})") from error


def clear_leftovers(path: Path) -> None:
    """Remove what killed processes left of a file of this name."""
    for folder in path.parent.glob(f"{_prefix(path)}*"):
        with contextlib.suppress(OSError), (folder / _IN_USE).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while the process lives
            shutil.rmtree(folder, ignore_errors=True)  # which follows no links


def _prefix(path: Path) -> str:
    """Of the folders in which `path` is written: short, since the name itself may be as long as names can be."""
    return f"{TEMPORARY}{zlib.crc32(os.fsencode(path.name)):08x}."


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with appearing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")

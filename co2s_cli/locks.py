"""One writer at a time in a folder: the kernel's lock, or a file that names the process where there is none."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil

from co2s_cli.errors import InUseError, OutputError

log = logging.getLogger(__name__)

LOCK, OWNER = ".co2s.lock", ".co2s.owner"

_NO_FLOCK = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""Errors of a file system on which flock does not work."""


@contextlib.contextmanager
def only_writer(folder: Path, output: Path | None = None) -> Iterator[None]:
    """While the block runs, this process alone writes into a folder, which is made where it is missing.

    The kernel releases the lock when the process ends, however that happens. Where the file system has no such lock,
    a file with the host and the process takes its place. Folders that were made and stay empty are removed at the end.
    `output` is what messages name, if not the folder itself.

    Raises:
        OutputError: another process writes there, or the folder cannot be made.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    handle = _lock(folder, output or folder)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / OWNER).unlink(missing_ok=True)
            (folder / LOCK).unlink(missing_ok=True)
            for path in missing:
                path.rmdir()
        os.close(handle)


def check_free(folder: Path) -> None:
    """Refuse a folder into which another process writes just now; nothing is made.

    Raises:
        OutputError: as `only_writer`.
    """
    if (folder / LOCK).exists():
        with only_writer(folder):
            pass


def _lock(folder: Path, output: Path) -> int:
    """A handle that holds the lock; tried again where another process removed folder or lock in between."""
    path = folder / LOCK
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder}: cannot be made into a folder ({error.strerror})") from error
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise OutputError(f"{folder}: cannot write here ({error.strerror})") from error
        try:
            _hold(handle, folder, output)
            if os.fstat(handle).st_ino == path.stat().st_ino:
                return handle
        except FileNotFoundError:
            pass
        except OutputError:
            os.close(handle)
            raise
        os.close(handle)


def _hold(handle: int, folder: Path, output: Path) -> None:
    """Lock an open file by the kernel, or its folder by an owner file where the file system has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _in_use(output) from error
    except OSError as error:
        if error.errno not in _NO_FLOCK:
            raise OutputError(f"{folder}: cannot be locked ({error.strerror})") from error
        log.warning("%s: this file system has no locks (%s); a file %s is used instead", folder, error.strerror, OWNER)
        try:
            _own(folder / OWNER, output)
        except OSError as failure:
            raise OutputError(f"{folder / OWNER}: cannot be written ({failure.strerror})") from failure


def _own(path: Path, output: Path) -> None:
    """Create the owner file, in place of one whose process on this host has ended."""
    while True:
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(_owner(os.getpid()))
        except FileExistsError:
            host, _, process = path.read_text(encoding="utf-8", errors="replace").rpartition(" ")
            if host != socket.gethostname():
                raise OutputError(
                    f"{output}: process {process} on {host or 'another host'} is writing it",
                    hint=f"if that process has ended, remove {path}",
                ) from None
            if _runs(process):
                raise _in_use(output) from None
            path.unlink(missing_ok=True)
        else:
            return


def _owner(pid: int) -> str:
    """Host, number and start time of a process: numbers are given out again."""
    return f"{socket.gethostname()} {pid}@{psutil.Process(pid).create_time():.2f}"


def _runs(process: str) -> bool:
    """Whether a process of this host, as `_owner` names it, still runs."""
    pid = process.partition("@")[0]
    try:
        return pid.isdecimal() and _owner(int(pid)).endswith(f" {process}")
    except psutil.Error:
        return False


def _in_use(output: Path) -> InUseError:
    return InUseError(f"{output}: another process is writing it", hint="wait for it to end, or choose another name")

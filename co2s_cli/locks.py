"""Let one process at a time write into a folder, by a kernel lock, or by an owner file where there are no locks."""

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
"""Names of the file that is locked, and of the file that names the writing process."""

_NO_FLOCK = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""Error numbers of flock on file systems that do not support it."""


@contextlib.contextmanager
def only_writer(folder: Path, output: Path | None = None) -> Iterator[None]:
    """Make sure that during the `with` block no other process that uses this function writes into `folder`.

    The kernel releases the lock when the process ends, however it ends. On file systems without locks, a file with host
    and process is used instead. Missing folders are created, and removed at the end if they are still empty. Messages
    name `output`, or the folder if that is None.

    Raises:
        OutputError: another process is writing into the folder, or the folder cannot be created.
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
    """Refuse a folder into which another process is writing; a missing folder is not created.

    Raises:
        OutputError: another process is writing into the folder.
    """
    if (folder / LOCK).exists():
        with only_writer(folder):
            pass


def _lock(folder: Path, output: Path) -> int:
    """A file handle that holds the lock; repeated if another process removes folder or lock file in between."""
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
            raise OutputError(f"{folder}: cannot write to this folder ({error.strerror})") from error
        try:
            _acquire(handle, folder, output)
            if os.fstat(handle).st_ino == path.stat().st_ino:
                return handle
        except FileNotFoundError:
            pass
        except OutputError:
            os.close(handle)
            raise
        os.close(handle)


def _acquire(handle: int, folder: Path, output: Path) -> None:
    """Lock an open file by the kernel, or `folder` by an owner file if its file system has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _in_use(output) from error
    except OSError as error:
        if error.errno not in _NO_FLOCK:
            raise OutputError(f"{folder}: cannot be locked ({error.strerror})") from error
        log.warning(
            "%s: this file system has no locks (%s); the file %s is used instead", folder, error.strerror, OWNER
        )
        try:
            _create_owner_file(folder / OWNER, output)
        except OSError as failure:
            raise OutputError(f"{folder / OWNER}: cannot be written ({failure.strerror})") from failure


def _create_owner_file(path: Path, output: Path) -> None:
    """Create the owner file; one whose process on this host has ended is replaced."""
    while True:
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(_process_label(os.getpid()))
        except FileExistsError:
            host, _, process = path.read_text(encoding="utf-8", errors="replace").rpartition(" ")
            if host != socket.gethostname():
                raise OutputError(
                    f"{output}: process {process} on {host or 'another host'} is writing it",
                    hint=f"if that process has ended, remove {path}",
                ) from None
            if _is_running(process):
                raise _in_use(output) from None
            path.unlink(missing_ok=True)
        else:
            return


def _process_label(pid: int) -> str:
    """Host, number and start time of a process; the start time is needed because numbers are reused."""
    return f"{socket.gethostname()} {pid}@{psutil.Process(pid).create_time():.2f}"


def _is_running(process: str) -> bool:
    """Whether a process of this host, number and start time as in `_process_label`, is still running."""
    pid = process.partition("@")[0]
    try:
        return pid.isdecimal() and _process_label(int(pid)).endswith(f" {process}")
    except psutil.Error:
        return False


def _in_use(output: Path) -> InUseError:
    return InUseError(f"{output}: another process is writing it", hint="wait for it to end, or choose another name")

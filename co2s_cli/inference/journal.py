"""The folder of unfinished work beside an output: its lock, its journal, its parts."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from co2s_cli.errors import OutputError

JOURNAL, LOCK = "journal.json", "lock"


def key_of(facts: Mapping[str, Any]) -> str:
    """What tells one run's pixels from another's: a digest of everything that decides them."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Journal:
    """What a later run, or another worker, must know to go on."""

    facts: dict[str, Any]
    """Everything that decides the pixels."""
    band: int
    """Rows of a unit of work."""
    panel: int
    """Columns of a unit of work."""
    notes: tuple[str, ...] = field(default=())
    """What happened that may have changed last bits."""

    @property
    def key(self) -> str:
        """The digest of the facts."""
        return key_of(self.facts)

    @classmethod
    def read(cls, folder: Path) -> Journal | None:
        """The journal in a folder; None where there is none, or one that was cut off while it was made."""
        try:
            plain = json.loads((folder / JOURNAL).read_text(encoding="utf-8"))
            return cls(dict(plain["facts"]), int(plain["band"]), int(plain["panel"]), tuple(plain["notes"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, folder: Path) -> None:
        """Replace the journal in a folder, in one step."""
        temporary = folder / f"{JOURNAL}.{os.getpid()}.tmp"
        try:
            temporary.write_text(json.dumps(asdict(self), indent=1, default=str), encoding="utf-8")
            temporary.replace(folder / JOURNAL)
        except OSError as error:
            raise OutputError(f"{folder}: could not be written ({error.strerror})") from error

    def noted(self, note: str) -> Journal:
        """The same with one more note, unless it is there already."""
        return self if note in self.notes else replace(self, notes=(*self.notes, note))


def folder_of(out: Path) -> Path:
    """Where the unfinished work of an output lies."""
    return out.with_name(f"{out.name}.parts")


@contextlib.contextmanager
def locked(out: Path) -> Iterator[Path]:
    """The folder of an output's unfinished work, made if need be, held by this process alone.

    The lock is the kernel's: it goes with the process, however that ends. A folder in which nothing was begun is
    removed again.
    """
    folder = folder_of(out)
    handle = _lock(folder, out)
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):
            if {path.name for path in folder.iterdir()} == {LOCK}:
                shutil.rmtree(folder)
        os.close(handle)


def _lock(folder: Path, out: Path) -> int:
    """A handle that holds the lock; again, when another process removed the folder just before."""
    path = folder / LOCK
    while True:
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder}: cannot be made ({error.strerror})") from error
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise OutputError(f"{folder}: cannot write here ({error.strerror})") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(handle).st_ino == path.stat().st_ino:
                return handle
        except FileNotFoundError:
            pass
        except OSError as error:
            os.close(handle)
            raise OutputError(
                f"{out}: another process is writing it", hint="wait for it to end, or choose another name"
            ) from error
        os.close(handle)


def clear(folder: Path) -> None:
    """Remove everything but the lock."""
    for path in folder.iterdir():
        if path.name != LOCK:
            path.unlink(missing_ok=True)


def forget(folder: Path) -> None:
    """Remove the folder: its output is whole."""
    shutil.rmtree(folder, ignore_errors=True)

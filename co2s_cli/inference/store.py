"""The folder of unfinished work beside an output: its lock, its journal, and the finished units of work."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from co2s_cli.errors import InputError, OutputError
from co2s_cli.geo.write.mosaic import read_tile, tile_tags, write_tile
from co2s_cli.inference.products import Plane
from co2s_cli.inference.targets import folder_of
from co2s_cli.tiling import Window, spans

log = logging.getLogger(__name__)

JOURNAL, LOCK, OWNER = "journal.json", "lock", "lock.owner"

COUNTS_TAG = "CO2S_COUNTS"
"""Of a part with classes: how often each id from 0 to 255 occurs."""

PIECE_ROWS = 64
"""Rows that are read from a part at a time."""

_NO_FLOCK = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""Errors of a file system on which flock does not work."""


def key_of(facts: Mapping[str, Any]) -> str:
    """Digest of everything that decides the pixels of a map."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Journal:
    """What a later run must know to continue unfinished work."""

    facts: dict[str, Any]
    """Everything that decides the pixels."""
    band: int
    """Rows of a unit of work."""
    panel: int
    """Columns of a unit of work."""
    notes: tuple[str, ...] = field(default=())
    """Events that may have changed last bits."""

    @property
    def key(self) -> str:
        """The digest of the facts."""
        return key_of(self.facts)

    @classmethod
    def read(cls, folder: Path) -> Journal | None:
        """The journal in a folder; None where there is none, or a file that is no whole journal."""
        try:
            plain = json.loads((folder / JOURNAL).read_text(encoding="utf-8"))
            return cls(dict(plain["facts"]), int(plain["band"]), int(plain["panel"]), tuple(plain["notes"]))
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
        """The same journal with one more note, unless it holds that already."""
        return self if note in self.notes else replace(self, notes=(*self.notes, note))


class JournalNotes:
    """Logs the notes of a run and keeps them in its journal, from any thread of the process that holds the lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writing = threading.Lock()
        self._texts: list[str] = []

    def __call__(self, text: str) -> None:
        """Log a note and add it to the journal, if that is written yet."""
        log.warning("%s", text)
        with self._writing:
            self._texts.append(text)
            journal = Journal.read(self.folder)
            if journal is not None:
                self.added(journal).write(self.folder)

    def added(self, journal: Journal) -> Journal:
        """A journal with all notes so far."""
        for text in self._texts:
            journal = journal.noted(text)
        return journal


@contextlib.contextmanager
def locked(out: Path) -> Iterator[Path]:
    """The folder of an output's unfinished work, made where it is missing, while this process alone holds its lock.

    The kernel releases the lock when the process ends, however that happens. Where the file system has no such lock,
    a file with the host and the process takes its place. A folder without unfinished work is removed at the end.

    Raises:
        OutputError: another process writes the output, or the folder cannot be made.
    """
    folder = folder_of(out)
    handle = _lock(folder, out)
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):
            (folder / OWNER).unlink(missing_ok=True)
            if {path.name for path in folder.iterdir()} == {LOCK}:
                shutil.rmtree(folder)
        os.close(handle)


def _lock(folder: Path, out: Path) -> int:
    """A handle that holds the lock; tried again where another process removed the folder in between."""
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
            _hold(handle, folder, out)
            if os.fstat(handle).st_ino == path.stat().st_ino:
                return handle
        except FileNotFoundError:
            pass
        except OutputError:
            os.close(handle)
            raise
        os.close(handle)


def _hold(handle: int, folder: Path, out: Path) -> None:
    """Lock an open file by the kernel, or its folder by an owner file where the file system has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _in_use(out) from error
    except OSError as error:
        if error.errno not in _NO_FLOCK:
            raise OutputError(f"{folder}: cannot be locked ({error.strerror})") from error
        log.warning("%s: this file system has no locks (%s); a file %s is used instead", folder, error.strerror, OWNER)
        _own(folder / OWNER, out)


def _own(path: Path, out: Path) -> None:
    """Create the owner file, or take it over from a process of this host that has ended."""
    owner = f"{socket.gethostname()}:{os.getpid()}"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(owner)
    except FileExistsError:
        host, _, pid = path.read_text(encoding="utf-8").rpartition(":")
        if host != socket.gethostname():
            raise OutputError(
                f"{out}: process {pid} on {host or 'another host'} is writing it",
                hint=f"if that process has ended, remove {path}",
            ) from None
        if pid.isdecimal() and int(pid) != os.getpid() and psutil.pid_exists(int(pid)):
            raise _in_use(out) from None
        path.write_text(owner, encoding="utf-8")


def _in_use(out: Path) -> OutputError:
    return OutputError(f"{out}: another process is writing it", hint="wait for it to end, or choose another name")


def clear(folder: Path) -> None:
    """Remove everything but the lock."""
    for path in folder.iterdir():
        if path.name not in (LOCK, OWNER):
            path.unlink(missing_ok=True)


def forget(folder: Path) -> None:
    """Remove the folder of an output that is whole."""
    shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Parts:
    """The finished units of one output: a folder with a GeoTIFF for each unit and plane."""

    folder: Path
    planes: tuple[Plane, ...]

    def path(self, unit: Window, plane: Plane) -> Path:
        """The file of a plane of a unit; its name says where the unit lies."""
        return self.folder / f"{unit.row}-{unit.col}-{unit.height}x{unit.width}.{plane.name}.tif"

    def tiles(self, units: Iterable[Window], plane: Plane) -> dict[Window, Path]:
        """The files of one plane, by unit."""
        return {unit: self.path(unit, plane) for unit in units}

    def has(self, unit: Window) -> bool:
        """Whether a unit is finished: all its files are there and whole."""
        return all(tile_tags(self.path(unit, plane)) is not None for plane in self.planes)

    def keep_only(self, units: Sequence[Window]) -> None:
        """Remove unfinished files of a killed run, and units that are not among these."""
        wanted = {self.path(unit, plane) for unit in units for plane in self.planes}
        for path in self.folder.glob("*.*"):
            if path.suffix in (".tif", ".tmp") and path not in wanted:
                path.unlink(missing_ok=True)

    def write(self, unit: Window, planes: Mapping[str, NDArray[Any]]) -> None:
        """Store a unit from its planes, each (bands, rows, columns); a file appears whole under its name."""
        for plane in self.planes:
            path, bands = self.path(unit, plane), planes[plane.name]
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            tags = {COUNTS_TAG: json.dumps(_counts(bands).tolist())} if plane.kind == "class" else {}
            try:
                write_tile(temporary, bands, nodata=plane.blank, tags=tags)
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
                temporary.replace(path)
            except OSError as error:
                raise OutputError(f"{path}: could not be written ({error.strerror})") from error
            finally:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)

    def counts(self, units: Iterable[Window], plane: Plane) -> NDArray[np.int64]:
        """How often each class id occurs in a plane of classes, (256,)."""
        total = np.zeros(256, np.int64)
        for path in self.tiles(units, plane).values():
            tags = tile_tags(path)
            if tags is None:
                raise _damaged(path)
            total += np.array(json.loads(tags[COUNTS_TAG]), np.int64)
        return total

    def strips(self, units: Sequence[Window], plane: Plane) -> Iterator[tuple[int, NDArray[Any]]]:
        """Full rows of a plane from top to bottom: (first row, array (bands, rows, width)), few at a time."""
        for row, band in _bands(units):
            for top, bottom in spans(band[0].height, PIECE_ROWS):
                try:
                    pieces = [read_tile(self.path(unit, plane), top, bottom) for unit in band]
                except InputError as error:
                    raise _damaged(self.path(band[0], plane)) from error
                yield row + top, np.concatenate(pieces, axis=2)


def _damaged(path: Path) -> OutputError:
    return OutputError(f"{path}: a finished part cannot be read again", hint="run the command again with --overwrite")


def _counts(class_ids: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.bincount(class_ids.ravel(), minlength=256)


def _bands(units: Iterable[Window]) -> list[tuple[int, list[Window]]]:
    """Units by their first row, left to right."""
    rows: dict[int, list[Window]] = {}
    for unit in sorted(units, key=lambda unit: (unit.row, unit.col)):
        rows.setdefault(unit.row, []).append(unit)
    return list(rows.items())


class UnitBuilder:
    """Collects strips into the units of a chain; a unit is complete with its last row."""

    def __init__(self, planes: Sequence[Plane], chain: Sequence[Window]) -> None:
        self._planes = planes
        self._chain = list(chain)
        self._open = self._blank()

    def add(self, row: int, strip: Mapping[str, NDArray[Any]] | None, rows: int) -> Iterator[tuple[Window, Any]]:
        """Take `rows` rows from scene row `row`, as planes (bands, rows, width) or None for blank ones."""
        done = 0
        while done < rows:
            unit = self._chain[0]
            count = min(rows - done, unit.bottom - row - done)
            at = row + done - unit.row
            if strip is not None:
                for name, array in strip.items():
                    self._open[name][:, at : at + count] = array[:, done : done + count]
            done += count
            if row + done == unit.bottom:
                yield self._chain.pop(0), self._open
                self._open = self._blank()

    def _blank(self) -> dict[str, NDArray[Any]]:
        if not self._chain:
            return {}
        unit = self._chain[0]
        return {
            plane.name: np.full((plane.bands, unit.height, unit.width), plane.blank, plane.dtype)
            for plane in self._planes
        }

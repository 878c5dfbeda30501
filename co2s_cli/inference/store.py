"""The folder of unfinished work of an output: its lock, its journal, and its finished units."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from co2s_cli.errors import InputError, OutputError
from co2s_cli.files import TEMPORARY, atomic_file, write_text
from co2s_cli.geo.checksum import checksum_holds
from co2s_cli.geo.write.mosaic import read_tile, tile_tags, write_tile
from co2s_cli.inference.products import Plane
from co2s_cli.inference.targets import folder_of
from co2s_cli.locks import LOCK, OWNER, only_writer
from co2s_cli.tiling import Window, spans

log = logging.getLogger(__name__)

JOURNAL = "journal.json"

COUNTS_TAG = "CO2S_COUNTS"
"""Tag of a part that holds classes: pixels of each id from 0 to 255."""

PART_TAG = "CO2S_PART"
"""Tag of a part: its file name and the key of the map that it belongs to."""

PIECE_ROWS = 64
"""Rows that are read from a part at a time."""

_DIGEST = "digest"
"""Key in the journal of the digest of its other content."""

_PART = re.compile(r"\d+-\d+-\d+x\d+\.[a-z0-9_]+\.tif")


def key_of(facts: Mapping[str, Any]) -> str:
    """Digest of everything that decides the pixels of a map."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Journal:
    """What a later run needs to know to continue unfinished work."""

    facts: dict[str, Any]
    """Everything that decides the pixels of the map."""
    band: int
    """Rows of a unit of work."""
    panel: int
    """Columns of a unit of work."""
    notes: tuple[str, ...] = field(default=())
    """Events that may have changed the last bits of the values."""

    @property
    def key(self) -> str:
        """The digest of the facts."""
        return key_of(self.facts)

    @classmethod
    def read(cls, folder: Path) -> Journal | None:
        """The journal in a folder; None if there is none.

        Raises:
            OutputError: the file is damaged, or is not a journal.
        """
        path = folder / JOURNAL
        if not path.exists():
            return None
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop(_DIGEST) == key_of(content):
                return cls(content["facts"], content["band"], content["panel"], tuple(content["notes"]))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            pass  # not a journal
        raise OutputError(
            f"{path}: is damaged, or is not a journal of unfinished work",
            hint=f"move {folder} away, and run the same command again",
        )

    def write(self, folder: Path) -> None:
        """Replace the journal in a folder, atomically."""
        content = json.loads(json.dumps(asdict(self), default=str))
        write_text(folder / JOURNAL, json.dumps({**content, _DIGEST: key_of(content)}, indent=1))

    def noted(self, note: str) -> Journal:
        """This journal with one more note, unless it already holds the note."""
        return self if note in self.notes else replace(self, notes=(*self.notes, note))


class JournalNotes:
    """Logs notes and adds them to the journal; for all threads of the process that holds the folder's lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._write_lock = threading.Lock()
        self._texts: list[str] = []

    def __call__(self, text: str) -> None:
        """Log a note and add it to the journal, if there is one already."""
        log.warning("%s", text)
        with self._write_lock:
            self._texts.append(text)
            journal = Journal.read(self.folder)
            if journal is not None:
                self.added(journal).write(self.folder)

    def added(self, journal: Journal) -> Journal:
        """`journal` with all notes of this run so far."""
        for text in self._texts:
            journal = journal.noted(text)
        return journal


@contextlib.contextmanager
def locked(out: Path, folder: Path | None = None) -> Iterator[Path]:
    """Create and lock the folder of an output's unfinished work; it is removed at the end if it is empty.

    Without `folder` it lies beside the output.

    Raises:
        OutputError: another process writes the output, or the folder cannot be made or holds files of other origin.
    """
    work = folder or folder_of(out)
    if folder is None and not work.parent.is_dir():
        raise OutputError(f"{work}: cannot be made, there is no folder {work.parent}")
    _check_no_foreign_files(work)
    with only_writer(work, out):
        yield work
    with contextlib.suppress(OSError):
        work.rmdir()
        if folder is not None:  # its parent is a folder for this output alone
            work.parent.rmdir()


def _check_no_foreign_files(folder: Path) -> None:
    """Refuse a link, and a folder without a journal that holds more than the lock and temporary files of a run."""
    if folder.is_symlink():
        raise OutputError(f"{folder}: is a link, a folder for unfinished work is wanted", hint="remove the link")
    if not folder.is_dir() or (folder / JOURNAL).is_file():
        return
    foreign = sorted(path.name for path in folder.iterdir() if not path.name.startswith(TEMPORARY))
    if foreign:
        raise OutputError(
            f"{folder}: is not a folder of unfinished work, it holds {foreign[0]}",
            hint="move that folder, or choose another name for the map",
        )


def _is_work_file(path: Path) -> bool:
    """Whether, by its name, a file in a folder of unfinished work was written by this program."""
    return path.name == JOURNAL or path.name.startswith(TEMPORARY) or bool(_PART.fullmatch(path.name))


def clear(folder: Path) -> None:
    """Remove all unfinished work in a folder; its lock and foreign files stay.

    The journal is removed last: after a kill in between, a folder with parts but no journal would be refused.
    """
    work_files = [path for path in folder.iterdir() if _is_work_file(path) and path.name not in (LOCK, OWNER)]
    for path in sorted(work_files, key=lambda path: path.name == JOURNAL):
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Parts:
    """The finished units of one output: a folder with a GeoTIFF for each unit and plane."""

    folder: Path
    planes: tuple[Plane, ...]
    key: str
    """Digest of everything that decides the pixels of the map."""

    def path(self, unit: Window, plane: Plane) -> Path:
        """The file of one plane of a unit; its name holds position and size of the unit."""
        return self.folder / f"{unit.row}-{unit.col}-{unit.height}x{unit.width}.{plane.name}.tif"

    def tiles(self, units: Iterable[Window], plane: Plane) -> dict[Window, Path]:
        """The files of one plane, by unit."""
        return {unit: self.path(unit, plane) for unit in units}

    def has(self, unit: Window) -> bool:
        """Whether a unit is finished: all its files exist, are undamaged and belong to this unit of this map."""
        return all(self._is_whole(self.path(unit, plane)) for plane in self.planes)

    def _is_whole(self, path: Path) -> bool:
        tags = tile_tags(path)
        return tags is not None and tags.get(PART_TAG) == self._identity(path) and checksum_holds(path)

    def _identity(self, path: Path) -> str:
        return f"{path.name} {self.key}"

    def keep_only(self, units: Sequence[Window]) -> None:
        """Remove temporary files of a killed run, and the files of all other units than `units`."""
        needed = {self.path(unit, plane) for unit in units for plane in self.planes}
        for path in self.folder.iterdir():
            if _PART.fullmatch(path.name) and path not in needed:
                path.unlink(missing_ok=True)
            elif path.name.startswith(TEMPORARY) and path.name not in (LOCK, OWNER):
                _remove(path)

    def write(self, unit: Window, planes: Mapping[str, NDArray[Any]]) -> None:
        """Store a unit from its planes, each (bands, rows, columns); a file gets its name only when it is complete."""
        for plane in self.planes:
            path, bands = self.path(unit, plane), planes[plane.name]
            counts = {COUNTS_TAG: json.dumps(_counts(bands).tolist())} if plane.kind == "class" else {}
            with atomic_file(path) as temporary:
                write_tile(temporary, bands, nodata=plane.blank, tags={PART_TAG: self._identity(path), **counts})

    def counts(self, units: Iterable[Window], plane: Plane) -> NDArray[np.int64]:
        """Pixels of each class id in a plane of classes, (256,)."""
        total = np.zeros(256, np.int64)
        for path in self.tiles(units, plane).values():
            tags = tile_tags(path)
            if tags is None:
                raise _damaged(path)
            total += np.array(json.loads(tags[COUNTS_TAG]), np.int64)
        return total

    def strips(self, units: Sequence[Window], plane: Plane) -> Iterator[tuple[int, NDArray[Any]]]:
        """Rows of a plane over the full width, top to bottom: (first row, array (bands, up to `PIECE_ROWS`, width))."""
        for row, band in _bands(units):
            for top, bottom in spans(band[0].height, PIECE_ROWS):
                try:
                    pieces = [read_tile(self.path(unit, plane), top, bottom) for unit in band]
                except InputError as error:
                    raise _damaged(self.path(band[0], plane)) from error
                yield row + top, np.concatenate(pieces, axis=2)


def _damaged(path: Path) -> OutputError:
    return OutputError(
        f"{path}: a finished part cannot be read again", hint="run the same command again: it makes the part anew"
    )


def _counts(class_ids: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.bincount(class_ids.ravel(), minlength=256)


def _bands(units: Iterable[Window]) -> list[tuple[int, list[Window]]]:
    """First row of each band of units, top to bottom, with the band's units from left to right."""
    units_by_row: dict[int, list[Window]] = {}
    for unit in sorted(units, key=lambda unit: (unit.row, unit.col)):
        units_by_row.setdefault(unit.row, []).append(unit)
    return list(units_by_row.items())


class UnitBuilder:
    """Fills the units of a chain, one below the other, with strips; a unit is complete with its last row."""

    def __init__(self, planes: Sequence[Plane], chain: Sequence[Window]) -> None:
        self._planes = planes
        self._chain = list(chain)
        self._open = self._blank()

    def add(self, row: int, strip: Mapping[str, NDArray[Any]] | None, rows: int) -> Iterator[tuple[Window, Any]]:
        """Add `rows` rows from scene row `row` on, planes (bands, rows, width) or None for blank ones.

        Yields each unit that gets complete, with its planes (bands, rows, columns) by name.
        """
        done = 0
        while done < rows:
            unit = self._chain[0]
            count = min(rows - done, unit.bottom - row - done)
            unit_row = row + done - unit.row
            if strip is not None:
                for name, array in strip.items():
                    self._open[name][:, unit_row : unit_row + count] = array[:, done : done + count]
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

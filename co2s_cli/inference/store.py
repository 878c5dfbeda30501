"""The folder of unfinished work beside an output: its lock, its journal, and the finished units of work."""

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
"""Of a part with classes: how often each id from 0 to 255 occurs."""

PART_TAG = "CO2S_PART"
"""Of a part: its name and the key of the map that it belongs to."""

PIECE_ROWS = 64
"""Rows that are read from a part at a time."""

_DIGEST = "digest"
"""Of a journal: digest of all else in it."""

_PART = re.compile(r"\d+-\d+-\d+x\d+\.[a-z0-9_]+\.tif")


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
        """The journal in a folder; None where there is none.

        Raises:
            OutputError: it is damaged, or a file of another kind.
        """
        path = folder / JOURNAL
        if not path.exists():
            return None
        try:
            plain = json.loads(path.read_text(encoding="utf-8"))
            if plain.pop(_DIGEST) == key_of(plain):
                return cls(plain["facts"], plain["band"], plain["panel"], tuple(plain["notes"]))
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            pass  # a file of another kind
        raise OutputError(
            f"{path}: is damaged, or no journal of unfinished work",
            hint=f"move {folder} away, and run the same command again",
        )

    def write(self, folder: Path) -> None:
        """Replace the journal in a folder, in one step."""
        plain = json.loads(json.dumps(asdict(self), default=str))
        write_text(folder / JOURNAL, json.dumps({**plain, _DIGEST: key_of(plain)}, indent=1))

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
def locked(out: Path, folder: Path | None = None) -> Iterator[Path]:
    """The folder of an output's unfinished work, made where it is missing, while this process alone holds its lock.

    It lies beside the output where no other `folder` is named. A folder without unfinished work is removed at the end.

    Raises:
        OutputError: another process writes the output, or the folder cannot be made or is not of this program.
    """
    place = folder or folder_of(out)
    if folder is None and not place.parent.is_dir():
        raise OutputError(f"{place}: cannot be made, there is no folder {place.parent}")
    _check_ours(place)
    with only_writer(place, out):
        yield place
    with contextlib.suppress(OSError):
        place.rmdir()
        if folder is not None:  # which lies in a folder of the output's own
            place.parent.rmdir()


def _check_ours(folder: Path) -> None:
    """Refuse a link, and a folder without a journal that holds more than the lock and temporary files of a run."""
    if folder.is_symlink():
        raise OutputError(f"{folder}: is a link, a folder for unfinished work is wanted", hint="remove the link")
    if not folder.is_dir() or (folder / JOURNAL).is_file():
        return
    foreign = sorted(path.name for path in folder.iterdir() if not path.name.startswith(TEMPORARY))
    if foreign:
        raise OutputError(
            f"{folder}: is no folder of unfinished work, it holds {foreign[0]}",
            hint="move that folder, or choose another name for the map",
        )


def _is_ours(path: Path) -> bool:
    """Whether a file in a folder of unfinished work is part of that, by its name."""
    return path.name == JOURNAL or path.name.startswith(TEMPORARY) or bool(_PART.fullmatch(path.name))


def clear(folder: Path) -> None:
    """Remove all of the unfinished work in a folder; its lock and foreign files stay.

    The journal goes last: without it parts that are left of a kill in between would be nobody's.
    """
    ours = [path for path in folder.iterdir() if _is_ours(path) and path.name not in (LOCK, OWNER)]
    for path in sorted(ours, key=lambda path: path.name == JOURNAL):
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
        """The file of a plane of a unit; its name says where the unit lies."""
        return self.folder / f"{unit.row}-{unit.col}-{unit.height}x{unit.width}.{plane.name}.tif"

    def tiles(self, units: Iterable[Window], plane: Plane) -> dict[Window, Path]:
        """The files of one plane, by unit."""
        return {unit: self.path(unit, plane) for unit in units}

    def has(self, unit: Window) -> bool:
        """Whether a unit is finished: all its files are there, whole, and of this unit of this map."""
        return all(self._is_whole(self.path(unit, plane)) for plane in self.planes)

    def _is_whole(self, path: Path) -> bool:
        tags = tile_tags(path)
        return tags is not None and tags.get(PART_TAG) == self._identity(path) and checksum_holds(path)

    def _identity(self, path: Path) -> str:
        return f"{path.name} {self.key}"

    def keep_only(self, units: Sequence[Window]) -> None:
        """Remove unfinished files of a killed run, and units that are not among these."""
        wanted = {self.path(unit, plane) for unit in units for plane in self.planes}
        for path in self.folder.iterdir():
            if _PART.fullmatch(path.name) and path not in wanted:
                path.unlink(missing_ok=True)
            elif path.name.startswith(TEMPORARY) and path.name not in (LOCK, OWNER):
                _remove(path)

    def write(self, unit: Window, planes: Mapping[str, NDArray[Any]]) -> None:
        """Store a unit from its planes, each (bands, rows, columns); a file appears whole under its name."""
        for plane in self.planes:
            path, bands = self.path(unit, plane), planes[plane.name]
            counts = {COUNTS_TAG: json.dumps(_counts(bands).tolist())} if plane.kind == "class" else {}
            with atomic_file(path) as temporary:
                write_tile(temporary, bands, nodata=plane.blank, tags={PART_TAG: self._identity(path), **counts})

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
    return OutputError(
        f"{path}: a finished part cannot be read again", hint="run the same command again: it is made anew"
    )


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

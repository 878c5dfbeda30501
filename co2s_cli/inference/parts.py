"""Finished units of work on disk: small files that appear whole, and are read again in strips of full rows."""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from co2s_cli.errors import OutputError
from co2s_cli.inference.products import Plane
from co2s_cli.tiling import Window, spans

LEVEL = 1
"""Of zlib: class maps shrink to a few percent at the quickest level already."""

LINES = 64
"""Rows that are read again at a time."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The units of one output that are finished: a folder with one file each."""

    folder: Path
    planes: tuple[Plane, ...]

    def path(self, unit: Window) -> Path:
        """The file of a unit; its name says where the unit lies."""
        return self.folder / f"{unit.row}-{unit.col}-{unit.height}x{unit.width}.part"

    def has(self, unit: Window) -> bool:
        """Whether the unit is finished and its file is as long as it says."""
        try:
            with self.path(unit).open("rb") as file:
                lengths = _header(file)
                return os.fstat(file.fileno()).st_size == file.tell() + sum(lengths.values())
        except (OSError, ValueError):
            return False

    def keep_only(self, units: Sequence[Window]) -> None:
        """Remove what a killed run left half-written, and units of another cut."""
        wanted = {self.path(unit) for unit in units}
        for path in self.folder.glob("*.*"):
            if path.suffix in (".part", ".tmp") and path not in wanted:
                path.unlink(missing_ok=True)

    def write(self, unit: Window, planes: Mapping[str, NDArray[Any]]) -> None:
        """Keep a unit's planes, each (bands, rows, columns)."""
        packed = {plane.name: _packed(planes[plane.name]) for plane in self.planes}
        header = json.dumps({name: len(data) for name, data in packed.items()})
        path = self.path(unit)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(header.encode() + b"\n")
                file.writelines(packed.values())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise OutputError(f"{path}: could not be written ({error.strerror})") from error

    def read(self, unit: Window, plane: Plane) -> Iterator[NDArray[Any]]:
        """One plane of a unit, as pieces (bands, rows, columns) of at most `LINES` rows."""
        path = self.path(unit)
        try:
            with path.open("rb") as file:
                lengths = _header(file)
                names = list(lengths)
                file.seek(sum(lengths[name] for name in names[: names.index(plane.name)]), os.SEEK_CUR)
                packed = file.read(lengths[plane.name])
            yield from _unpacked(packed, unit, plane)
        except (OSError, ValueError, zlib.error) as error:
            raise OutputError(
                f"{path}: a finished part cannot be read again ({error})", hint="run the command again with --overwrite"
            ) from error

    def strips(self, units: Sequence[Window], plane: Plane) -> Iterator[tuple[int, NDArray[Any]]]:
        """Full rows of a plane from top to bottom: (first row, array (bands, rows, width)), few at a time."""
        for row, band in _bands(units):
            top = row
            for pieces in zip(*(self.read(unit, plane) for unit in band), strict=True):
                yield top, np.concatenate(pieces, axis=2)
                top += pieces[0].shape[1]


def _packed(plane: NDArray[Any]) -> bytes:
    """Row after row, all bands of a row together, so that a few rows can be had without the rest."""
    return zlib.compress(np.ascontiguousarray(plane.transpose(1, 0, 2)).data, LEVEL)


def _unpacked(packed: bytes, unit: Window, plane: Plane) -> Iterator[NDArray[Any]]:
    unpack = zlib.decompressobj()
    for top, bottom in spans(unit.height, LINES):
        wanted = (bottom - top) * unit.width * plane.pixel_bytes
        data = bytearray()
        while len(data) < wanted:
            more = unpack.decompress(packed, wanted - len(data))
            packed = unpack.unconsumed_tail
            if not more:
                raise ValueError(f"{wanted - len(data)} bytes are missing")
            data += more
        yield np.frombuffer(data, plane.dtype).reshape(bottom - top, plane.bands, unit.width).transpose(1, 0, 2)
    if unpack.decompress(packed) or not unpack.eof:  # the checksum comes last
        raise ValueError("not as long as it should be")


def _header(file: Any) -> dict[str, int]:
    """Length of each plane's data, from the first line."""
    return {str(name): int(length) for name, length in json.loads(file.readline(10_000)).items()}


def _bands(units: Iterable[Window]) -> list[tuple[int, list[Window]]]:
    """Units by their first row, left to right."""
    rows: dict[int, list[Window]] = {}
    for unit in sorted(units, key=lambda unit: (unit.row, unit.col)):
        rows.setdefault(unit.row, []).append(unit)
    return list(rows.items())


class Builder:
    """Collects the strips of a chain of units; a unit leaves when its last row has come."""

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

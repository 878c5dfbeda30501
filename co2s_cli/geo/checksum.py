"""GeoTIFFs that hold a checksum of themselves, by which a damaged or changed file is known."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

CHECKSUM_TAG = "CO2S_SHA256"
"""Metadata item of the file: SHA-256, in hexadecimal, of all its bytes but these digits."""

UNSET = "0" * 64
"""Its value while the file is written; a digest takes the same room."""

_ITEM = f'<Item name="{CHECKSUM_TAG}">'.encode()
_CHUNK = 1 << 20


def store_checksum(path: Path) -> None:
    """Put the checksum into a closed file that was written with the tag `CHECKSUM_TAG`: `UNSET`."""
    with path.open("r+b") as file:
        position = _position(file)
        if position is None:
            raise ValueError(f"{path} has no room for a checksum")
        digits = _digest(file, position)
        file.seek(position)
        file.write(digits)


def checksum_holds(path: Path) -> bool:
    """Whether a file holds a checksum, and that of its bytes; False where it cannot be read."""
    try:
        with path.open("rb") as file:
            position = _position(file)
            if position is None:
                return False
            file.seek(position)
            stored = file.read(len(UNSET))
            return stored == _digest(file, position)
    except OSError:
        return False


def was_changed(path: Path) -> bool:
    """Whether a file holds a checksum which is not that of its bytes."""
    try:
        with path.open("rb") as file:
            if _position(file) is None:
                return False
    except OSError:
        return False
    return not checksum_holds(path)


def _position(file: BinaryIO) -> int | None:
    """Where the digits begin; None where there are none."""
    file.seek(0)
    offset, window = 0, b""  # of the window in the file
    while chunk := file.read(_CHUNK):
        window += chunk
        index = window.find(_ITEM)
        if index >= 0:
            return offset + index + len(_ITEM)
        kept = window[-len(_ITEM) :]  # the item may lie across two chunks
        offset, window = offset + len(window) - len(kept), kept
    return None


def _digest(file: BinaryIO, position: int) -> bytes:
    """The digits for a file that holds them at `position`."""
    total = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(min(_CHUNK, max(0, position - file.tell()))):
        total.update(chunk)
    file.seek(position + len(UNSET))
    while chunk := file.read(_CHUNK):
        total.update(chunk)
    return total.hexdigest().encode()
